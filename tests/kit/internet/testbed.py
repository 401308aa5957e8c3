"""A program that ranks, with its scripted upstreams, inside the test internet."""

from __future__ import annotations

import selectors
import socket
import time
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

import dns.message
import dns.rrset

from tests.kit import behaviours as b
from tests.kit import program
from tests.kit.clients import Reply, check_belongs, eventually, parse, question
from tests.kit.internet.hosts import by_distance, milliseconds
from tests.kit.program import Samples, merged
from tests.kit.scripted import Send
from tests.kit.testbed import Testbed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from tests.kit.internet.world import World
    from tests.kit.ports import Endpoint
    from tests.kit.scripted import Action, Behaviour, Query

SHORT = 5
"""Seconds: the most that a client gets of an answer that is not ranked yet."""
CONTENDERS = 3
"""Addresses of a pool that get more samples than one, at most."""
NOISE = 25
"""Milliseconds by which a single sample may be off."""
UPSTREAM_TTL = 300
"""Seconds: what the upstreams say unless a test wants something else."""


def check_order(addresses: Sequence[str], wanted: Collection[str]) -> None:
    """Check that ``addresses`` are those that are ``wanted``, the nearest first, then by distance.

    What has one sample each is in order as far as that can tell on a machine that is busy.
    """
    assert sorted(addresses) == sorted(wanted)
    distances = [milliseconds(address) for address in addresses]
    assert distances[0] == min(distances)
    for place, distance in enumerate(distances):
        assert distance >= max(distances[:place], default=0) - NOISE, addresses


class InternetTestbed(Testbed):
    """Upstreams and a program with ranking on, all in ``world``.

    ``prefix``: a command that starts the program. ``options``: of twistd itself.
    """

    def __init__(
        self,
        world: World,
        directory: Path,
        settings: Mapping[str, Any] | None = None,
        *,
        upstreams: int = 5,
        prefix: Sequence[str] = (),
        options: Sequence[str] = (),
        listen: Endpoint | None = None,
    ) -> None:
        self.world = world
        self._prefix = prefix
        self._options = options
        loud = {"ranking": {"enabled": True}, "log": {"level": "debug"}}
        with world.inside():
            super().__init__(
                directory, [b.nodata()] * upstreams, merged(loud, settings or {}), listen=listen
            )

    def __enter__(self) -> Self:
        command = program.command

        def started(configuration: Path, runner: Sequence[str]) -> list[str]:
            twistd, *rest = command(configuration, runner)
            return [*self._prefix, twistd, *self._options, *rest]

        # Never outside: it sends probes.
        with self.world.inside(), mock.patch.object(program, "command", started):
            super().__enter__()
        return self

    # Names.

    def spread(
        self,
        label: str,
        addresses: Sequence[str],
        *,
        after: float = 0.01,
        late: float | None = None,
        ttl: int = UPSTREAM_TTL,
    ) -> str:
        """Make a name whose ``addresses`` the upstreams know in turn, each its share.

        With too few to go round they are dealt again: an active tier that knows none would
        agree that there are none. The upstreams answer ``after`` so many seconds, all but the
        first two after ``late``.
        """
        count = len(self.endpoints)
        dealt = [addresses[index % len(addresses)] for index in range(max(count, len(addresses)))]
        shares = [dealt[index::count] for index in range(count)]
        return self.route(
            label,
            *(
                b.answers(*share, after=after if index < 2 or late is None else late, ttl=ttl)
                for index, share in enumerate(shares)
            ),
        )

    def everywhere(self, label: str, behaviour: Behaviour) -> str:
        """Make a name for which every upstream behaves in the same way."""
        return self.route(label, behaviour)

    # Looking.

    def ranked(
        self, name: str, order: Sequence[str], rdtype: str = "A", timeout: float = 6.0
    ) -> Reply:
        """Ask until the answer is ``order``, with a long TTL; AssertionError if it never is."""
        wanted = list(order)
        return eventually(
            lambda: self.ask(name, rdtype, payload=1232),
            lambda reply: reply.addresses == wanted and reply.ttl > SHORT,
            timeout,
        )

    def settled(
        self, name: str, addresses: Collection[str], rdtype: str = "A", timeout: float = 6.0
    ) -> Reply:
        """Ask until the answer holds ``addresses``, ranked: then check that nearest comes first."""
        reply = eventually(
            lambda: self.ask(name, rdtype, payload=1232),
            lambda reply: set(reply.addresses) == set(addresses) and reply.ttl > SHORT,
            timeout,
        )
        check_order(reply.addresses, addresses)
        return reply

    def sorts(self, trigger: str) -> float:
        """How many sorts this trigger has started so far, as `/metrics` has it."""
        return self.program.metrics().value("staggerdns_sorts_total", trigger=trigger)

    def probed_once(self, addresses: Sequence[str], samples: int = 3) -> None:
        """Check that each of ``addresses`` got a sample by ICMP, the nearest ``samples`` of them,
        and that there was next to nothing else.

        A machine that is busy for a moment has an echo repeated, and a probe over TCP join.
        """
        seen = self.world.probes(addresses)
        assert all(1 <= seen["icmp", address] <= samples + 1 for address in addresses), seen
        assert seen["icmp", by_distance([*addresses])[0]] >= samples
        assert seen.total() <= len(addresses) + CONTENDERS * (samples - 1) + 2, seen

    def idle(self, timeout: float = 6.0) -> Samples:
        """Wait until no collection, no sort and no probe is under way; the metrics then."""
        return eventually(
            self.program.metrics,
            lambda seen: (
                not any(
                    seen.value(f"staggerdns_{name}")
                    for name in ("collections_running", "sorts_running", "addresses_measuring")
                )
            ),
            timeout,
        )

    def at_once(
        self,
        names: Sequence[str],
        rdtype: str = "A",
        timeout: float = 5.0,
        payload: int = 1232,
    ) -> list[Reply]:
        """Ask all ``names`` at once, from several sockets; the replies in the same order.

        Replies are read before they are looked at, so that ``seconds`` is the program's time.
        """
        queries = [question(name, rdtype, payload=payload) for name in names]
        for number, query in enumerate(queries):
            query.id = number
        wires = [query.to_wire() for query in queries]
        came: dict[int, tuple[float, bytes]] = {}
        sent: list[float] = []
        selector = selectors.DefaultSelector()
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(8)]
        try:
            for sock in sockets:
                sock.setblocking(False)
                sock.connect(self.program.endpoint)
                selector.register(sock, selectors.EVENT_READ)
            for number, wire in enumerate(wires):
                sent.append(time.monotonic())
                sockets[number % len(sockets)].send(wire)
                _collect(selector, came, 0)
            deadline = time.monotonic() + timeout
            while len(came) < len(names):
                assert time.monotonic() < deadline, f"{len(came)} of {len(names)} were answered"
                _collect(selector, came, 0.1)
        finally:
            selector.close()
            for sock in sockets:
                sock.close()
        replies = []
        for number, query in enumerate(queries):
            at, wire = came[number]
            replies.append(Reply(wire, parse(wire), at - sent[number]))
            check_belongs(query, replies[-1])
        return replies


def _collect(
    selector: selectors.BaseSelector, came: dict[int, tuple[float, bytes]], wait: float
) -> None:
    for key, _ in selector.select(wait):
        sock = key.fileobj
        assert isinstance(sock, socket.socket)
        wire = sock.recv(65_535)
        came[int.from_bytes(wire[:2], "big")] = time.monotonic(), wire


def listed(*addresses: str, after: float = 0.0, ttl: int = UPSTREAM_TTL) -> Behaviour:
    """Answer with ``addresses`` in this very order; dnspython shuffles those of one RRset."""

    def behave(query: Query) -> list[Action]:
        message = dns.message.make_response(query.parsed, recursion_available=True)
        name = message.question[0].name
        for address in addresses:
            if query.rdtype == ("AAAA" if ":" in address else "A"):
                message.answer.append(dns.rrset.from_text(name, ttl, "IN", query.rdtype, address))
        return [Send(message.to_wire(), after)]

    return behave


def owners(reply: Reply) -> list[str]:
    """The owner names of the answer section's RRsets, in order."""
    return [rrset.name.to_text() for rrset in reply.message.answer]
