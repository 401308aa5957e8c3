"""Odd servers on a `task.Clock`, in front of real upstreams, strategies and forwarder.

Each kind of oddity is a function from a query to the reply of an honest server, or to nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

from twisted.internet.task import Clock

from staggerdns.upstream.edns import BARE, FULL, PLAIN
from staggerdns.upstream.exchange import Exchange
from staggerdns.upstream.reason import Reason
from tests.kit.acts import FORMERR, NXDOMAIN, REFUSED, SERVFAIL, A, own, says
from tests.kit.simulated import Client, SimulatedResolver

NOTIMP, BADVERS = 4, 16
RTT = 0.02
OPT = b"\0\0\x29\x04\xd0"


class Seen:
    """A query as a server sees it: its question section, how much EDNS it has, its OPT record."""

    def __init__(self, exchange: Exchange, *, tcp: bool) -> None:
        self.tcp = tcp
        self.message_id = exchange.message_id
        self.question = exchange.question
        size = len(exchange.question.section)
        self.section = exchange.query[10 : 10 + size]
        self.opt = exchange.query[10 + size :]
        self.level = PLAIN if not self.opt else FULL if len(self.opt) > 11 else BARE
        self.ad = bool(exchange.query[1] & 0x20)
        self.mixed = self.section != exchange.question.section
        self.do = bool(self.opt) and self.opt[7] == 0x80

    def reply(
        self,
        data: bytes = b"",
        rcode: int = 0,
        *,
        opt: bytes | None = None,
        section: bytes | None = None,
    ) -> bytes:
        """A reply with one record, or an error; ``opt``: not the usual record but this."""
        section = self.section if section is None else section
        upper = bytes((rcode >> 4, 0, 0, 0))
        if opt is None:
            opt = OPT + upper + b"\0\0" if self.opt else b""
        answer = (
            b"\xc0\x0c" + section[-4:] + struct.pack("!IH", 300, len(data)) + data if data else b""
        )
        counts = (bool(section), bool(data), 0, bool(opt))
        header = struct.pack("!6H", 0, 0x8180 | rcode & 15, *counts)
        return header + section + answer + opt


Server = Callable[[Seen], "bytes | None"]
EXISTS = b"\xcb\x00\x71\x07"


def good(seen: Seen) -> bytes:
    """Answer as a plain modern server does: all names exist."""
    return seen.reply(EXISTS)


def complains(rcode: int, above: int, *, echo: bool = False, bare: bool = False) -> Server:
    """Answer with an error what has more EDNS than that; ``echo``: with our own OPT record, else
    without one, but for codes that need it; ``bare``: the header alone.
    """

    def serve(seen: Seen) -> bytes:
        if seen.level <= above:
            return good(seen)
        if bare:
            return seen.reply(rcode=rcode, opt=b"", section=b"")
        opt = seen.opt if echo else None if rcode > 15 else b""
        return seen.reply(rcode=rcode, opt=opt)

    return serve


def drops(above: int) -> Server:
    """Answer nothing that has more EDNS than that."""
    return lambda seen: good(seen) if seen.level <= above else None


def compares(rcode: int) -> Server:
    """Know names in lower case only."""
    return lambda seen: seen.reply(rcode=rcode) if seen.mixed else good(seen)


def drops_capitals(seen: Seen) -> bytes | None:
    """Answer nothing to names that are not all lower case."""
    return None if seen.mixed else good(seen)


def lowers(seen: Seen) -> bytes:
    """Write the question in lower case."""
    return seen.reply(EXISTS, section=seen.question.section)


def knows_no_ad(rcode: int | None) -> Server:
    """Answer queries with the AD flag (RFC 8906 section 8.1.3) with that error, or not at all."""

    def serve(seen: Seen) -> bytes | None:
        if not seen.ad:
            return good(seen)
        return None if rcode is None else seen.reply(rcode=rcode)

    return serve


def changes(after: int, later: Server) -> Server:
    """Be good for so many queries, and then like another one."""
    count = [0]

    def serve(seen: Seen) -> bytes | None:
        count[0] += 1
        return good(seen) if count[0] <= after else later(seen)

    return serve


def forgetful(seed: int) -> Server:
    """Give a cookie for a while, and then none any more."""
    count = [seed]

    def serve(seen: Seen) -> bytes:
        count[0] += 1
        if count[0] > seed + 5 or seen.level < FULL:
            return good(seen)
        option = b"\0\x0a\0\x10" + seen.opt[15:23] + b"severals"
        return seen.reply(EXISTS, opt=OPT + bytes(4) + b"\0\x14" + option)

    return serve


def both(first: Server, then: Server) -> Server:
    """Have two oddities: what the first answers with an error, or not at all, stays so."""

    def serve(seen: Seen) -> bytes | None:
        reply = first(seen)
        return then(seen) if reply == good(seen) else reply

    return serve


KINDS: dict[str, Server] = {
    **{
        f"{word} to {name}{' echoing' * echo}": complains(rcode, above, echo=echo)
        for word, rcode in (
            ("FORMERR", FORMERR), ("NOTIMP", NOTIMP), ("REFUSED", REFUSED), ("SERVFAIL", SERVFAIL),
        )
        for name, above in (("options", BARE), ("EDNS", PLAIN))
        for echo in (False, True)
    },
    "BADVERS to options": complains(BADVERS, BARE),
    "BADVERS to EDNS": complains(BADVERS, PLAIN),
    "bare FORMERR": complains(FORMERR, PLAIN, bare=True),
    "bare NOTIMP": complains(NOTIMP, PLAIN, bare=True),
    "bare SERVFAIL": complains(SERVFAIL, PLAIN, bare=True),
    "silence to options": drops(BARE),
    "silence to EDNS": drops(PLAIN),
    "silence to AD": knows_no_ad(None),
    "FORMERR to AD": knows_no_ad(FORMERR),
    "NXDOMAIN to capitals": compares(NXDOMAIN),
    "NODATA to capitals": compares(0),
    "REFUSED to capitals": compares(REFUSED),
    "SERVFAIL to capitals": compares(SERVFAIL),
    "silence to capitals": drops_capitals,
    "lower case": lowers,
    "no cookie any more": forgetful(0),
    "FORMERR to options, lower case": both(complains(FORMERR, BARE), lowers),
    "SERVFAIL to EDNS, NXDOMAIN to capitals": both(complains(SERVFAIL, PLAIN), compares(NXDOMAIN)),
}  # fmt: skip


class Wire:
    """UDP or TCP to a server, which answers after a round trip; ``works``: anybody listens."""

    def __init__(self, clock: Clock, server: Server, *, tcp: bool, works: str) -> None:
        self.seen: list[Seen] = []
        self.waiting: list[Exchange] = []
        self.server = server
        self._clock = clock
        self._tcp = tcp
        self._works = works

    def send(self, exchange: Exchange) -> None:
        """Answer a query, refuse it, or leave it waiting."""
        if self._works == "refused":
            exchange.error(Reason.CONNECTION_REFUSED)
            return
        seen = Seen(exchange, tcp=self._tcp)
        self.seen.append(seen)
        self.waiting.append(exchange)
        reply = self.server(seen) if self._works == "works" else None
        if reply is None:
            exchange.forget = lambda exchange, *, timed_out: None
            return
        call = self._clock.callLater(RTT, self._deliver, exchange, reply)
        exchange.forget = lambda exchange, *, timed_out: call.cancel()

    def close(self) -> None:
        """Nothing is open."""

    def answer_all(self, server: Server) -> None:
        """Answer now what still waits, as that server does."""
        for exchange in self.waiting:
            if not exchange.over:
                reply = server(Seen(exchange, tcp=self._tcp))
                assert reply is not None
                self._deliver(exchange, reply)

    def _deliver(self, exchange: Exchange, reply: bytes) -> None:
        exchange.forget = None
        still = exchange.owner.received(exchange, reply, over_stream=self._tcp)
        if still and exchange.forget is None:
            exchange.forget = lambda exchange, *, timed_out: None


class OddServersResolver(SimulatedResolver):
    """Upstreams over UDP with ``servers``, whose TCP is as ``tcp`` says."""

    def __init__(self, *servers: Server, tcp: str = "works", strategy: str = "parallel") -> None:
        super().__init__(*[says(5, own(0))] * len(servers), strategy=strategy)
        self.wires: list[tuple[Wire, Wire]] = []
        random = Random(1)
        for upstream, server in zip(self.upstreams, servers, strict=True):
            pair = (
                Wire(self.clock, server, tcp=False, works="works"),
                Wire(self.clock, server, tcp=True, works=tcp),
            )
            self.wires.append(pair)
            upstream.carry_by(*pair, random.randbytes)

    def sent(self, index: int) -> list[Seen]:
        """What one upstream was asked so far, over UDP and TCP."""
        udp, tcp = self.wires[index]
        return udp.seen + tcp.seen

    def ask_all(self, count: int, label: str, *, do: bool = False) -> list[Client]:
        """Ask so many names, one after the other."""
        clients = []
        for number in range(count):
            clients.append(self.ask(self.question(f"{label}{number}.example", A, do=do)))
            self.run()
        return clients
