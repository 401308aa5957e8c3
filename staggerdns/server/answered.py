"""Replies as they leave, for whoever wants to hear of them: the page, watchers, the query log.

While nobody listens nothing is made, and ready replies leave as they always do
(`staggerdns.server.ready`). With the first listener they become invisible to the ports, so that
each message comes to the factory, which reports what it replies. An event holds octets; names,
types and addresses are read by whoever wants them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from socket import AF_INET, AF_INET6, inet_ntop

from staggerdns.journal import Journal
from staggerdns.server.request import Request
from staggerdns.settings.addresses import Listener
from staggerdns.wire.constants import HEADER_SIZE, RCODE, RECORD_SIZE, Rcode, Type, type_text
from staggerdns.wire.names import skip_name, to_text
from staggerdns.wire.records import outlines, read_fields

CACHE = "cache"
STALE = "stale"
UPSTREAM = "upstream"
LOCAL = "local"
BLOCKED = "blocked"
REFUSED = "refused"
SOURCES = (CACHE, STALE, UPSTREAM, LOCAL, BLOCKED, REFUSED)
"""Where replies come from: an answer that lives, or has expired; upstreams that were waited for;
names and rules of ours; a list; or it is an error of ours.
"""
_ONE_QUESTION = b"\0\1"
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

    # Each of these reads the reply, which is ours and has the question of a query that could be
    # read.

    @property
    def name(self) -> bytes:
        """The name asked for, in wire form and lower case; empty if the query had none."""
        reply = self.reply
        if reply[4:6] != _ONE_QUESTION:
            return b""
        return reply[HEADER_SIZE : skip_name(reply, HEADER_SIZE)].lower()

    @property
    def qtype(self) -> int:
        """The type asked for, 0 if there was no question."""
        reply = self.reply
        if reply[4:6] != _ONE_QUESTION:
            return 0
        end = skip_name(reply, HEADER_SIZE)
        return reply[end] << 8 | reply[end + 1]

    @property
    def rcode(self) -> int:
        """The response code, with the part of it that an OPT record has."""
        reply = self.reply
        code = reply[3] & RCODE
        if self.source == REFUSED:  # no other reply has one
            for rtype, ttl, _, _ in outlines(reply):
                if rtype == Type.OPT:
                    code |= ttl >> 24 << 4
        return code

    @property
    def name_text(self) -> str:
        """The name in presentation form with a final dot; empty if there was none."""
        name = self.name
        return to_text(name) if name else ""

    @property
    def type_text(self) -> str:
        """The name of the type; empty if there was no question."""
        qtype = self.qtype
        return type_text(qtype) if self.reply[4:6] == _ONE_QUESTION else ""

    @property
    def rcode_text(self) -> str:
        """The name of the response code."""
        return rcode_text(self.rcode)

    @property
    def addresses(self) -> list[str]:
        """The addresses in the answer section, in their order."""
        reply = self.reply
        count = reply[6] << 8 | reply[7]
        position = HEADER_SIZE
        if count and reply[4:6] == _ONE_QUESTION:
            position = skip_name(reply, HEADER_SIZE) + 4
        found = []
        for _ in range(count):
            position = skip_name(reply, position)
            rtype, _, _, length = read_fields(reply, position)
            position += RECORD_SIZE + length
            family = _FAMILIES.get(rtype)
            if family is not None:
                found.append(inet_ntop(family, reply[position - length : position]))
        return found


def rcode_text(rcode: int) -> str:
    """Return the name of a response code, or its number behind ``RCODE``."""
    return Rcode(rcode).name if rcode in Rcode._value2member_map_ else f"RCODE{rcode}"


Listen = Callable[[Answered], object]
"""What hears of replies; it is called before they are sent, so it has to be quick."""


class AnswerHub:
    """Tells those who listen of every reply. ``active``: whether anybody listens; ``wall``: the
    time in seconds since 1970.
    """

    def __init__(self, wall: Callable[[], float], journal: Journal) -> None:
        self.active = False
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
        self.publish(
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
        listener: Listener | None,
        seconds: float,
    ) -> None:
        """Tell of a reply that was ready."""
        wall = self._wall()
        self.publish(Answered(wall, host, transport, listener, query, reply, CACHE, seconds))

    def publish(self, answered: Answered) -> None:
        """Tell of a reply; nothing that a listener does keeps it from leaving."""
        for key, listener in tuple(self._listeners.items()):
            try:
                listener(answered)
            except Exception:  # noqa: BLE001 (a defect must not cost a reply)
                self._journal.failure("a listener of answers has failed, and hears of no more")
                self._leave(key)

    def _leave(self, key: object) -> None:
        self._listeners.pop(key, None)
        self._look()

    def _look(self) -> None:
        active = bool(self._listeners)
        if active != self.active:
            self.active = active
            self._switch(active)


def _do_nothing(_: bool) -> None:
    """Do nothing: nobody has to be told yet."""
