"""Recorded queries and what comes of them: ``python -m tests.kit.recorded QUERIES``.

The whole program but its reactor, on a simulated clock, with the sockets of upstreams ending here:
whoever runs this with the same number sees the same queries, the same chance and the same times. It
prints a digest of each thousand replies, and at the end how many there were of each kind.
"""

from __future__ import annotations

import _socket
import functools
import hashlib
import heapq
import json
import random
import socket
import struct
import sys
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.testing import MemoryReactorClock

from staggerdns.chain import Chain
from staggerdns.compiled import is_compiled
from staggerdns.config import parse_config
from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.server.access import Access
from staggerdns.server.answered import AnswerHub
from staggerdns.server.clientgroups import ClientGroups
from staggerdns.server.cookies import Cookies
from staggerdns.server.datagram import DatagramPort
from staggerdns.server.factory import StaggerServerFactory
from staggerdns.server.local import LocalNames
from staggerdns.server.ratelimit import RateLimiter
from staggerdns.server.request import TCP
from staggerdns.server.serving import Serving
from tests.kit.octets import opt, option, record

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 20_260_707
EPOCH = 1_800_000_000
NAMES = 5_000
TYPES = ("A", "AAAA", "TXT", "MX", "HTTPS", "SOA", "ANY")
NUMBERS = {"A": 1, "AAAA": 28, "TXT": 16, "MX": 15, "HTTPS": 65, "SOA": 6, "ANY": 255}
CONFIG = """
server:
  allow: [192.0.2.0/24, 2001:db8::/32]
  rate_limit: {queries_per_second: 200, burst: 200}
upstream: {servers: [198.51.100.1, 198.51.100.2, 198.51.100.3], timeout: 1s}
cache: {max_entries: 3000, max_stale: 20}
ranking: {enabled: false}
local: {hosts: null}
metrics: {listen: null}
"""
TURN = 0.004
"""Seconds between two turns of the loop."""


class Wire(socket.socket):
    """Stands where a UDP socket connected to an upstream would be; ``theirs`` is the other end."""

    opened: list[Wire] = []  # noqa: RUF012 (the program makes them, and this is where to find them)

    def __init__(self, family: int, kind: int) -> None:
        ours, self.theirs = _socket.socketpair(_socket.AF_UNIX, kind, 0)
        super().__init__(_socket.AF_UNIX, kind, 0, ours.detach())
        self.upstream = 0
        self.opened.append(self)

    def bind(self, address: Any) -> None:
        """Any port will do."""

    def connect(self, address: Any) -> None:
        """Be connected to this one of the upstreams."""
        self.upstream = int(address[0].rpartition(".")[2])

    def getsockname(self) -> Any:
        """Our address."""
        return "192.0.2.200", 4711


class Upstreams:
    """The other ends of all wires: what each upstream says of a name is the same each time."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Wire, bytes]] = []
        self._count = 0

    def read(self, now: float) -> None:
        """Read what was asked, and plan the replies."""
        Wire.opened[:] = [wire for wire in Wire.opened if wire.fileno() >= 0]
        for wire in Wire.opened:
            while True:
                try:
                    query = wire.theirs.recv(4096)
                except BlockingIOError:
                    break
                reply = _reply(query, wire.upstream)
                if reply is not None:
                    self._count += 1
                    late = (5, 20, 60)[wire.upstream - 1] + zlib_of(query[12:20]) % 9
                    heapq.heappush(self._due, (now + late / 1000, self._count, wire, reply))

    def write(self, now: float) -> None:
        """Send what is due."""
        while self._due and self._due[0][0] <= now:
            _, _, wire, reply = heapq.heappop(self._due)
            if wire.fileno() >= 0:
                wire.theirs.send(reply)


def zlib_of(octets: bytes) -> int:
    """A number that belongs to these octets, whatever the case of their letters."""
    return int.from_bytes(hashlib.blake2b(octets.lower(), digest_size=4).digest(), "big")


def _reply(query: bytes, upstream: int) -> bytes | None:
    """What an upstream says, `None` if nothing."""
    end = query.index(b"\0", 12) + 5
    edns = bool(query[11])
    said = _said(query[12:end].lower(), upstream, edns=edns, do=edns and query[end + 7] >= 0x80)
    return None if said is None else query[:2] + said[0] + query[12:end] + said[1]


@functools.cache
def _said(section: bytes, upstream: int, *, edns: bool, do: bool) -> tuple[bytes, bytes] | None:
    """What stands before and behind the question in a reply."""
    name, rtype = section[:-4], int.from_bytes(section[-4:-2], "big")
    kind, salt = zlib_of(name) % 20, zlib_of(name + bytes([upstream]))
    ttl = 2 + zlib_of(name) % 40
    rcode, truncated, answers, authority = 0, 0, [], []
    soa = _record(b"\xc0\x0c", 6, b"\0\0" + struct.pack("!5I", 1, 2, 3, 4, 1 + ttl), ttl)
    if kind == 11:
        rcode, authority = 3, [soa]
    elif kind == 12:
        authority = [soa]
    elif kind == 13 or (kind == 14 and upstream == 1):
        rcode = 2 if kind == 13 else 5
    elif kind == 16 and (upstream == 1 or salt % 5 == 0):
        return None
    elif kind == 19 and upstream != 3:
        truncated = 0x0200
    else:
        owner = b"\xc0\x0c"
        if kind in (9, 10):
            target = b"\5other" + name
            answers.append(_record(owner, 5, target, ttl))
            owner = target
        answers += [_record(owner, rtype, data, ttl) for data in _data(rtype, kind, salt)]
        if rtype == 255:
            answers = [_record(owner, 1, b"\xcb\0\x71\1", ttl)]
    if do and answers:
        covered = struct.pack("!HBBIIIH", rtype, 8, 2, ttl, EPOCH + 9**6, EPOCH, 4711)
        answers.append(_record(b"\xc0\x0c", 46, covered + b"\0" + bytes(64), ttl))
    flags = 0x8180 | truncated | rcode
    head = struct.pack("!HHHHH", flags, 1, len(answers), len(authority), edns)
    tail = b"".join(answers + authority) + opt(flags=0x8000 * do) * edns
    return head, tail[:-3] if kind == 18 and upstream == 1 else tail


def _record(owner: bytes, rtype: int, data: bytes, ttl: int) -> bytes:
    made = record(owner, rtype, data)
    at = len(owner) + 4
    return made[:at] + struct.pack("!I", ttl) + made[at + 4 :]


def _data(rtype: int, kind: int, salt: int) -> list[bytes]:
    """What records of this type say: a few, or more than fit into a datagram."""
    count = 90 if kind == 15 else 1 + salt % 4
    if rtype == 1:
        first = b"\x0a\0" if kind == 17 else b"\xcb\0"
        return [first + struct.pack("!H", (salt + number) & 0xFFFF) for number in range(count)]
    if rtype == 28:
        return [b"\x2a\0" + struct.pack("!QIH", salt, number, 1) for number in range(count)]
    if rtype == 16:
        return [b"\x20" + bytes([65 + number % 26]) * 32 for number in range(count)]
    if rtype == 15:
        return [struct.pack("!H", number) + b"\4mail\xc0\x0c" for number in range(min(count, 4))]
    return []


def queries(count: int) -> Iterator[tuple[bytes, str, bool]]:
    """Yield so many queries: the message, who sends it, and whether over TCP."""
    rng = random.Random(SEED)
    names = [b"\4h%03d\4z%03d\7example\0" % (n % 1000, n // 1000) for n in range(NAMES)]
    weights = list(accumulate(1 / (rank + 1) for rank in range(NAMES)))
    for name in rng.choices(names, cum_weights=weights, k=count):
        rtype = NUMBERS[rng.choices(TYPES, (50, 25, 8, 4, 8, 3, 2))[0]]
        drawn = rng.random()
        asked = name if drawn > 0.1 else name.upper()
        if drawn < 0.01:
            asked = rng.choice((b"\0", b"\7version\4bind\0", b"\x09localhost\0", b"\1x\4onion\0"))
        klass = 3 if asked.startswith(b"\7version") else 1
        flags = rng.choices((0x0100, 0x0120, 0x0110, 0x0000, 0x2100), (90, 4, 3, 2, 1))[0]
        edns = b""
        if rng.random() < 0.7:
            options = b""
            if rng.random() < 0.15:
                options += option(10, rng.randbytes(8))
            if rng.random() < 0.05:
                options += option(12, bytes(rng.randrange(40)))
            edns = opt(
                rng.choice((512, 1232, 4096, 65535)),
                version=rng.random() < 0.01,
                flags=0x8000 * (rng.random() < 0.2),
                options=options,
            )
        head = rng.randbytes(2) + struct.pack("!5H", flags, 1, 0, 0, bool(edns))
        message = head + asked + struct.pack("!HH", rtype, klass) + edns
        if rng.random() < 0.03:
            message = _mutated(rng, message)
        host = f"192.0.2.{rng.randrange(250)}" if rng.random() < 0.9 else "2001:db8::7"
        yield message, host if rng.random() < 0.995 else "203.0.113.9", rng.random() < 0.1


def _mutated(rng: random.Random, message: bytes) -> bytes:
    if rng.random() < 0.3:
        return message[: rng.randrange(len(message))]
    at = rng.randrange(2, len(message))
    return message[:at] + rng.randbytes(1) + message[at + 1 :] + rng.randbytes(rng.randrange(3))


class Load:
    """Has queries served, and digests the replies."""

    def __init__(self, port: DatagramPort, factory: StaggerServerFactory) -> None:
        self._factory = factory
        self._port = port
        port.socket = cast("Any", self)  # it reads from here, and writes here
        self._waiting: list[tuple[bytes, tuple[str, int]]] = []
        self._digest = hashlib.sha256()
        self.kinds: Counter[str] = Counter()

    def ask(self, message: bytes, host: str, *, tcp: bool) -> None:
        """Send one query, over UDP at the end of the turn."""
        self.kinds["tcp" if tcp else "udp"] += 1
        if not tcp:
            self._waiting.append((message, (host, 4711)))
            return
        reply = self._factory.ready[TCP].reply(message, host, self._factory.clock.seconds())
        self._got(reply) if reply else self._serve(message, host)

    def _serve(self, message: bytes, host: str) -> None:
        reply = self._factory.serve(message, host, TCP, self._factory.clock.seconds())
        if reply is None or isinstance(reply, bytes):
            self._got(reply)
        else:
            reply.addCallback(self._got)

    def turn(self) -> None:
        """Let the server read its socket."""
        while self._waiting:
            self._port.doRead()

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        """As a socket has it."""
        if not self._waiting:
            raise BlockingIOError
        return self._waiting.pop(0)

    def sendto(self, reply: bytes, address: tuple[str, int]) -> None:
        """As a socket has it."""
        self._digest.update(f"{address}".encode())
        self._got(reply)

    def _got(self, reply: bytes | None) -> None:
        if reply is None:
            self.kinds["nothing"] += 1
            return
        self._digest.update(len(reply).to_bytes(2, "big") + reply)
        self.kinds["replies"] += 1
        self.kinds[f"rcode {reply[3] & 15}"] += 1
        self.kinds["truncated"] += bool(reply[2] & 2)
        self.kinds["signed"] += b"\xc0\x0c\0\x2e\0\1" in reply
        if not self.kinds["replies"] % 1000:
            self.print_digest()

    def print_digest(self) -> None:
        """Print the digest so far."""
        print(self.kinds["replies"], self._digest.hexdigest()[:32])  # noqa: T201 (who started us reads)


def main() -> None:
    """Ask so many queries as the command line says."""
    count = int(sys.argv[1])
    socket.socket = Wire  # type: ignore[assignment, misc]
    rng = random.Random(SEED).randbytes
    reactor: Any = MemoryReactorClock()
    config = parse_config(CONFIG)
    metrics, journal = Metrics(), Journal("error")
    chain = Chain(config, reactor, clock=reactor, rng=rng, metrics=metrics, journal=journal)
    groups = ClientGroups(config.server.client)
    factory = StaggerServerFactory(
        caches=[chain.caching],
        clients=[chain.forwarding],
        rules=Serving(
            settings=config.server,
            access=Access(config.server.allow),
            local=LocalNames(config.local, None),
            client_groups=groups,
            cookies=Cookies(reactor.seconds(), lambda: EPOCH + reactor.seconds(), rng, None),
            limiter=RateLimiter(config.server.rate_limit, groups),
        ),
        clock=reactor,
        metrics=metrics,
        journal=journal,
        answers=AnswerHub(reactor.seconds, journal, reactor),
    )
    upstreams = Upstreams()
    load = Load(DatagramPort(0, "192.0.2.200", reactor, factory), factory)
    pace = random.Random(SEED)
    left = pace.randrange(40)

    def turn() -> None:
        load.turn()
        upstreams.read(reactor.seconds())
        upstreams.write(reactor.seconds())
        for reader in list(reactor.getReaders()):
            reader.doRead()
        reactor.advance(TURN)

    for message, host, tcp in queries(count):
        load.ask(message, host, tcp=tcp)
        left -= 1
        if left <= 0:
            left = pace.randrange(40)
            turn()
    for _ in range(500):
        turn()
    load.print_digest()
    load.kinds["from the cache"] = metrics.answer_seconds.counts()["cache",]
    print(json.dumps({"compiled": is_compiled()} | load.kinds))  # noqa: T201


if __name__ == "__main__":
    main()
