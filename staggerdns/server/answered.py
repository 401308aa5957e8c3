"""Replies as they leave, for whoever wants to hear of them: the page, watchers, the query log.

While nobody listens nothing is made, and ready replies leave as they always do
(`staggerdns.server.ready`). With the first listener they become invisible to the ports, so that
each message comes to the factory, which reports what it replies. An event holds octets; names,
types and addresses are read by whoever wants them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from socket import AF_INET, AF_INET6, inet_ntop
from typing import NamedTuple

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from staggerdns.journal import Journal
from staggerdns.server.listenercontext import ListenerContext
from staggerdns.server.request import Request
from staggerdns.server.sources import BLOCKED, CACHE, REFUSED
from staggerdns.settings.addresses import Listener
from staggerdns.wire.constants import HEADER_SIZE, RCODE, RECORD_SIZE, Rcode, Type, type_text
from staggerdns.wire.names import skip_name, to_text
from staggerdns.wire.records import outlines, read_fields

REMEMBERED = 1_024
"""Replies of which is remembered what they say."""
REMEMBERED_SIZE = 512
"""Octets of those at most."""
_ONE_QUESTION = b"\0\1"
_RCODES = {int(rcode): rcode.name for rcode in Rcode}
_FAMILIES = {int(Type.A): AF_INET, int(Type.AAAA): AF_INET6}


class Answered:
    """A reply that has left.

    ``time``: when, in seconds since 1970; ``client``: the address that asked; ``transport``: over
    what; ``listener``: that of the configuration that the query came in by, if any; ``query`` and
    ``reply``: their octets; ``source``: one of `SOURCES`; ``seconds`` that it took; ``list``: the
    one that blocks the name, empty if none does.
    """

    __slots__ = (
        "time",
        "client",
        "transport",
        "listener",
        "query",
        "reply",
        "source",
        "seconds",
        "list",
    )

    def __init__(
        self,
        time: float,
        client: str,
        transport: str,
        listener: Listener | None,
        query: bytes,
        reply: bytes,
        source: str,
        seconds: float,
        list: str = "",
    ) -> None:
        self.time = time
        self.client = client
        self.transport = transport
        self.listener = listener
        self.query = query
        self.reply = reply
        self.source = source
        self.seconds = seconds
        self.list = list

    @property
    def read(self) -> Read:
        """What the reply says, if that is wanted."""
        tail = self.reply[2:]
        extended = self.source == REFUSED  # no other reply has more of a code than the header
        return (
            _read_again(tail, extended) if len(tail) <= REMEMBERED_SIZE else _read(tail, extended)
        )

    @property
    def name(self) -> bytes:
        """The name asked for, in wire form and lower case; empty if the query had none."""
        return self.read.name

    @property
    def name_text(self) -> str:
        """The name in presentation form with a final dot; empty if there was none."""
        return self.read.name_text

    @property
    def qtype(self) -> int:
        """The type asked for, 0 if there was no question."""
        return self.read.qtype

    @property
    def type_text(self) -> str:
        """The name of the type; empty if there was no question."""
        return self.read.type_text

    @property
    def rcode(self) -> int:
        """The response code."""
        return self.read.rcode

    @property
    def rcode_text(self) -> str:
        """The name of the response code."""
        return self.read.rcode_text

    @property
    def addresses(self) -> list[str]:
        """The addresses in the answer section, in their order."""
        return [*self.read.addresses]


class Read(NamedTuple):
    """What a reply says: ``rcode`` with the part of it that an OPT record has, and the rest as
    `Answered` has it.
    """

    name: bytes
    name_text: str
    qtype: int
    type_text: str
    rcode: int
    rcode_text: str
    addresses: tuple[str, ...]


@lru_cache(REMEMBERED)
def _read_question(octets: bytes) -> tuple[bytes, str, int, str]:
    """Return name and type in a question, each as they are and as they are shown."""
    name = octets[:-4].lower()
    qtype = int.from_bytes(octets[-4:-2], "big")
    return name, to_text(name), qtype, type_text(qtype)


def _read(tail: bytes, extended: bool) -> Read:
    """Read one of our replies, of which the ID is left out; if its query had a legible question,
    that is there. ``extended``: whether the code may have a part in an OPT record.
    """
    reply = b"\0\0" + tail
    name, shown, qtype, shown_type = b"", "", 0, ""
    position = HEADER_SIZE
    if reply[4:6] == _ONE_QUESTION:
        position = skip_name(reply, HEADER_SIZE) + 4
        name, shown, qtype, shown_type = _read_question(reply[HEADER_SIZE:position])
    addresses = []
    for _ in range(reply[6] << 8 | reply[7]):
        position = skip_name(reply, position)
        rtype, _, _, length = read_fields(reply, position)
        position += RECORD_SIZE + length
        family = _FAMILIES.get(rtype)
        if family is not None:
            addresses.append(inet_ntop(family, reply[position - length : position]))
    rcode = reply[3] & RCODE
    if extended:
        for rtype, ttl, _, _ in outlines(reply):
            if rtype == Type.OPT:
                rcode |= ttl >> 24 << 4
    return Read(
        name,
        shown,
        qtype,
        shown_type,
        rcode,
        _RCODES.get(rcode) or f"RCODE{rcode}",
        tuple(addresses),
    )


_read_again = lru_cache(REMEMBERED)(_read)  # names in demand are asked for again and again


Listen = Callable[[Answered], object]
"""What hears of replies; other queries wait meanwhile, so it has to be quick."""


class AnswerHub:
    """Tells those who listen of every reply, when all that came with its query have been sent: a
    client that is woken up by each of many costs more than what is done here. ``active``: whether
    anybody listens; ``wall``: the time in seconds since 1970.
    """

    def __init__(self, wall: Callable[[], float], journal: Journal, clock: IReactorTime) -> None:
        self.active = False
        self._clock = clock
        self._left: list[Answered] = []  # in this turn of the reactor
        self._timer: IDelayedCall | None = None
        self._wall = wall
        self._journal = journal
        self._listeners: dict[object, Listen] = {}
        self._switch: Callable[[bool], object] = _do_nothing

    def on_switch(self, callback: Callable[[bool], object]) -> None:
        """Have ``callback`` called whenever `active` has another value."""
        self._switch = callback

    def subscribe(self, listener: Listen) -> Callable[[], None]:
        """Have ``listener`` hear of all replies from now on, until what this returns is called,
        once or more often. One that raises hears of no more.
        """
        key = object()
        self._listeners[key] = listener
        self._look()
        return partial(self._leave, key)

    def report(self, request: Request, reply: bytes, source: str, now: float) -> None:
        """Tell of a reply to ``request`` that leaves at ``now``, by the server's clock."""
        block = request.block
        self._add(
            Answered(
                self._wall(),
                request.host,
                request.transport,
                request.listener.listener,
                request.query.message,
                reply,
                source if block is None else BLOCKED,
                now - request.started,
                "" if block is None else block.list,
            )
        )

    def report_ready(
        self,
        query: bytes,
        reply: bytes,
        host: str,
        transport: str,
        context: ListenerContext,
        seconds: float,
    ) -> None:
        """Tell of a reply that was ready."""
        wall, listener = self._wall(), context.listener
        self._add(Answered(wall, host, transport, listener, query, reply, CACHE, seconds))

    def _add(self, answered: Answered) -> None:
        self._left.append(answered)
        if self._timer is None:
            self._timer = self._clock.callLater(0, self._tell_all)

    def _tell_all(self) -> None:
        self._timer = None
        left, self._left = self._left, []
        for answered in left:
            self.publish(answered)

    def publish(self, answered: Answered) -> None:
        """Tell of a reply; nothing that a listener does keeps it from leaving."""
        for key, listener in tuple(self._listeners.items()):
            try:
                listener(answered)
            except Exception:  # noqa: BLE001 (a defect must not cost a reply)
                self._journal.failure("a listener of answers has failed, and hears of no more")
                self._leave(key)

    def _leave(self, key: object) -> None:
        if self._timer is not None:  # what has left by now is for whoever leaves, too
            self._timer.cancel()
            self._tell_all()
        self._listeners.pop(key, None)
        self._look()

    def _look(self) -> None:
        active = bool(self._listeners)
        if active != self.active:
            self.active = active
            self._switch(active)


def _do_nothing(_: bool) -> None:
    """Do nothing: nobody has to be told yet."""
