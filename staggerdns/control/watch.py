"""Answers as they happen, over the control socket (docs/control.rst, ``watch``).

What somebody wants to see of them is encoded at once, held for a moment and written together. A
client that does not read holds up nobody: beyond `MAX_HELD` octets, and while the connection takes
no more, answers are counted, and the stream has a line with how many are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from staggerdns.control.peers import Streamed
from staggerdns.control.protocol import (
    BAD_REQUEST,
    NOT_ALLOWED,
    Refused,
    RequestId,
    WatchRequest,
    encode_event,
    parse_name,
)
from staggerdns.querylog.clients import FULL, IPV4_PREFIX, IPV6_PREFIX, PREFIX
from staggerdns.querylog.entry import shown
from staggerdns.server.answered import Answered, AnswerHub
from staggerdns.server.sources import SOURCES
from staggerdns.settings.document import one_line
from staggerdns.wire.names import is_below

MAX_HELD = 262_144
"""Octets that wait to be written together."""
WRITE_AFTER = 0.05
"""Seconds for which they wait."""
KEEP_ALIVE = 15.0
"""Seconds from one line to the next at most: a line says that none are missing if nothing else has
happened. So both ends notice that the other one has gone.
"""
_Network = IPv4Network | IPv6Network


class AnswerFilter:
    """Which answers somebody wants to see: those to ``networks``, any if there are none; of
    ``name``, and of all names ``below`` a domain, in wire form; from ``sources``, any if there are
    none.
    """

    def __init__(
        self,
        networks: Collection[_Network] = (),
        name: bytes | None = None,
        below: bytes | None = None,
        sources: Collection[str] = (),
    ) -> None:
        self._networks = networks
        self._name = name
        self._below = below
        self._sources = sources

    def passes(self, answered: Answered) -> bool:
        """Return whether this is one of them."""
        if self._sources and answered.source not in self._sources:
            return False
        if self._networks:
            address = _address(answered.client)
            if not any(address in network for network in self._networks):
                return False
        if self._name is not None and answered.name != self._name:
            return False
        return self._below is None or is_below(answered.name, self._below)


class Watch:
    """One who watches what ``answers`` tell. `start` begins, `stop` ends it."""

    def __init__(
        self, answers: AnswerHub, wanted: AnswerFilter, clients: str, clock: IReactorTime
    ) -> None:
        self._answers = answers
        self._wanted = wanted
        self._clients = clients
        self._clock = clock
        self._id: RequestId = None
        self._held: list[bytes] = []
        self._size = 0
        self._lost = 0
        self._paused = False
        self._soon = False  # something is written soon
        self._timer: IDelayedCall | None = None
        self._leave: Callable[[], None] | None = None
        self._write: Callable[[bytes], object] = _write_nothing

    def start(self, request_id: RequestId, write: Callable[[bytes], object]) -> None:
        """Give ``write`` what there is to see from now on."""
        self._id = request_id
        self._write = write
        self._leave = self._answers.subscribe(self._hear)
        self._timer = self._clock.callLater(KEEP_ALIVE, self._flush)

    def pause(self) -> None:
        """Write no more: the connection is full."""
        self._paused = True

    def resume(self) -> None:
        """Write again."""
        self._paused = False
        if self._timer is not None:
            self._timer.reset(0)

    def stop(self) -> None:
        """End, once or more often."""
        if self._leave is not None:
            self._leave()
            self._leave = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._held.clear()

    def _hear(self, answered: Answered) -> None:
        if not self._wanted.passes(answered):
            return
        if self._paused or self._size >= MAX_HELD:
            self._lost += 1
        else:
            line = encode_event(self._id, "answer", shown(answered, self._clients))
            self._held.append(line)
            self._size += len(line)
        if not self._soon:
            self._soon = True
            assert self._timer is not None
            self._timer.reset(WRITE_AFTER)

    def _flush(self) -> None:
        """Write what is held, and behind it how many are missing."""
        self._soon = False
        self._timer = self._clock.callLater(KEEP_ALIVE, self._flush)
        if self._paused:
            return
        held, self._held = self._held, []
        self._size = 0
        lost, self._lost = self._lost, 0
        if lost or not held:
            held.append(encode_event(self._id, "lost", lost))
        self._write(b"".join(held))


def make_watch(
    request: WatchRequest, answers: AnswerHub, clock: IReactorTime, *, private: bool
) -> Streamed:
    """Return what shows somebody what he has asked for. ``private``: he may see whole addresses of
    clients. Raises `Refused`.
    """
    networks = [_network(text, private=private) for text in request.clients]
    unknown = [source for source in request.sources if source not in SOURCES]
    if unknown:
        expected = ", ".join(SOURCES)
        raise Refused(
            BAD_REQUEST, f"expected sources of {expected}, got {one_line(unknown[0])[:40]!r}"
        )
    wanted = AnswerFilter(
        networks,
        None if request.name is None else parse_name(request.name),
        None if request.below is None else parse_name(request.below),
        frozenset(request.sources),
    )
    clients = FULL if private else PREFIX
    return Streamed({"clients": clients}, Watch(answers, wanted, clients, clock))


def _network(text: str, *, private: bool) -> _Network:
    """Return the network that clients are to be in. Raises `Refused`: for one that is none, and for
    one by which clients could be told apart who may not be.
    """
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise Refused(
            BAD_REQUEST, f"expected an address or a network, got {one_line(text)[:80]!r}"
        ) from None
    most = IPV4_PREFIX if network.version == 4 else IPV6_PREFIX
    if not private and network.prefixlen > most:
        raise Refused(
            NOT_ALLOWED,
            "single clients are for root and the user that runs the program: expected a network "
            f"like {network.supernet(new_prefix=most)}",
        )
    return network


@lru_cache(4_096)
def _address(host: str) -> Any:
    """Return the address of a client, to be looked for in networks."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _write_nothing(_: bytes) -> None:
    """Do nothing: it has not begun."""
