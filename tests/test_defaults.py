"""What the program does when the configuration says no more than whom to ask.

Each default is seen at work, in the program as it is built from a configuration: nothing here reads
one. Upstreams are simulated, and time is a clock's.
"""

from __future__ import annotations

import os
import socket
import sys
from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs

from staggerdns.chain import Chain
from staggerdns.config import parse_config
from staggerdns.journal import Journal, LogShape
from staggerdns.metrics import Metrics
from staggerdns.querylog.querylog import QueryLog
from staggerdns.server import openlistener
from staggerdns.server.answered import AnswerHub
from staggerdns.server.hosts import Hosts
from staggerdns.service import StaggerService
from staggerdns.upstream.members import Members
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.judge import Judge
from staggerdns.wire.question import make_question
from tests.kit.acts import SILENT, TXT, A, Act, name, negative, says, says_own
from tests.kit.answered import Hand, Reactor, answered
from tests.kit.clients import addresses, parse
from tests.kit.connections import Connection
from tests.kit.factory import pool
from tests.kit.messages import client_query
from tests.kit.probing import established
from tests.kit.simulated import START, Launch, SimulatedUpstream, milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from staggerdns.settings.addresses import Endpoint, UpstreamAddress
    from staggerdns.settings.upstreams import UpstreamSettings
    from tests.kit.factory import MemoryServer

CLIENT = "10.0.0.7"
"""A client that may ask."""
NO_RANKING = "ranking: {enabled: false}"


class Program:
    """A service with simulated upstreams, asked by clients on a clock; times are milliseconds."""

    def __init__(
        self,
        *acts: Act,
        upstream: str = "",
        more: str = NO_RANKING,
        chance: Callable[[int], bytes] = bytes,
    ) -> None:
        self.clock = MemoryReactorClock()
        self.clock.advance(START)
        self.launched: list[Launch] = []
        self.upstreams: list[SimulatedUpstream] = []
        self.connected: list[str] = []
        servers = ", ".join(f"192.0.2.{index + 1}" for index in range(len(acts)))
        text = f"upstream: {{servers: [{servers}]{upstream}}}\n{more}\n"

        def connect(address: UpstreamAddress, settings: UpstreamSettings, **others: Any) -> object:
            self.connected.append(address.endpoint.host)
            host = address.endpoint.host.removeprefix("192.0.2.")
            asked = host.isdigit()  # the others resolve names of upstreams
            number = int(host) - 1 if asked else len(acts)
            made = SimulatedUpstream(
                number,
                acts[number] if asked else SILENT,
                cast("Any", self.clock),
                self.launched,
                others["metrics"],
                awake=others["clock"],
                health=settings.health,
                budget=settings.budget,
            )
            if asked:
                self.upstreams.append(made)
            return made

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules[Members.__module__], "Upstream", connect)
            self.service = StaggerService(parse_config(text), self.clock, chance)

    def ask(self, qname: str = "www.example.", rdtype: str = "A", **more: Any) -> Asked:
        """Have a client ask over UDP."""
        return Asked(self, client_query(qname, rdtype, **more))

    def at(self, milliseconds_after: float) -> None:
        """Let time pass until then, each call at its own time."""
        end = START + milliseconds_after / 1000
        while self.clock.calls and self.clock.calls[0].getTime() <= end:
            self.clock.rightNow = max(self.clock.calls[0].getTime(), self.clock.rightNow)
            self.clock.advance(0)
        self.clock.rightNow = end

    @property
    def launches(self) -> list[tuple[float, int]]:
        """Every query that went out: when, and to which upstream."""
        return [(one.at, one.upstream) for one in self.launched]


class Asked:
    """A client's query and its reply, if it has come."""

    def __init__(self, program: Program, query: bytes, host: str = CLIENT) -> None:
        self._program = program
        self.at: float | None = None
        self._reply: bytes | None = None
        reply = program.service.factory.serve(query, host, "udp", program.clock.seconds())
        if isinstance(reply, Deferred):
            reply.addCallback(self._take)
        elif reply is not None:
            self._take(reply)

    def _take(self, reply: bytes) -> None:
        self.at = milliseconds(self._program.clock.seconds())
        self._reply = reply

    @property
    def answered(self) -> bool:
        """Whether the reply has come."""
        return self._reply is not None

    @property
    def octets(self) -> bytes:
        """The reply that must have come."""
        assert self._reply is not None
        return self._reply

    @property
    def reply(self) -> dns.message.Message:
        """The same, as dnspython reads it."""
        return parse(self.octets)

    @property
    def rcode(self) -> str:
        """Its code."""
        return dns.rcode.to_text(self.reply.rcode())

    @property
    def ttl(self) -> int:
        """The TTL of its first record."""
        return self.reply.answer[0].ttl


def chain(
    more: str = "",
    *,
    clock: MemoryReactorClock | None = None,
    chance: Callable[[int], bytes] = bytes,
    metrics: Metrics | None = None,
) -> Chain:
    """Return the resolver chain of a program, with real upstreams."""
    config = parse_config(f"upstream: {{servers: [192.0.2.1]}}\n{more}\n")
    return Chain(config, clock or MemoryReactorClock(), rng=chance, metrics=metrics)


def ten_answers() -> list[Act]:
    """Upstreams that answer after 5 ms, each with an address of its own."""
    return [says_own(index, 5) for index in range(10)]


# server


def test_where_it_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Port 5300 of loopback for queries, 9153 for the metrics."""
    wanted: dict[socket.SocketKind, list[tuple[str, int]]] = {}
    opened = []

    def open_socket(endpoint: Endpoint, kind: socket.SocketKind, *_: object) -> socket.socket:
        wanted.setdefault(kind, []).append((endpoint.host, endpoint.port))
        opened.append(socket.socket(socket.AF_INET, kind))
        return opened[-1]

    monkeypatch.setattr(openlistener, "open_socket", open_socket)
    Program(SILENT).service.bind()
    for each in opened:
        each.close()
    both = [("127.0.0.1", 5300), ("::1", 5300)]
    page = [("127.0.0.1", 9153)]
    assert wanted == {socket.SOCK_DGRAM: both, socket.SOCK_STREAM: both + page}


@pytest.mark.parametrize(
    ("network", "outside"),
    [
        ("127.0.0.0 127.255.255.255", "126.255.255.255 128.0.0.0"),
        ("::1", "::2"),
        ("10.0.0.0 10.255.255.255", "9.255.255.255 11.0.0.0"),
        ("172.16.0.0 172.31.255.255", "172.15.255.255 172.32.0.0"),
        ("192.168.0.0 192.168.255.255", "192.167.255.255 192.169.0.0"),
        ("169.254.0.0 169.254.255.255", "169.253.255.255 169.255.0.0"),
        ("fc00:: fdff::1", "fbff::1 fe00::"),
        ("fe80:: febf::1", "fe7f::1 fec0::"),
    ],
)
def test_who_may_ask(network: str, outside: str) -> None:
    """This machine, private networks and the link, and nobody beside them."""
    program = Program(SILENT)
    query = client_query("localhost.")
    assert [Asked(program, query, host).rcode for host in network.split()] == ["NOERROR"] * len(
        network.split()
    )
    assert [Asked(program, query, host).rcode for host in outside.split()] == ["REFUSED"] * len(
        outside.split()
    )


def connect(program: Program, host: str) -> Connection:
    """Have a client connect over TCP."""
    return Connection(cast("MemoryServer", program.service), host)


def test_an_idle_connection() -> None:
    """It is closed after ten seconds."""
    program = Program(SILENT)
    connection = connect(program, CLIENT)
    program.at(9_999)
    assert not connection.closing()
    program.at(10_001)
    assert connection.closing()


def test_connections_of_one_client() -> None:
    """There may be 64, and the next makes the first one go."""
    program = Program(SILENT)
    connections = [connect(program, CLIENT) for _ in range(64)]
    assert not any(one.closing() or one.aborted() for one in connections)
    connections.append(connect(program, CLIENT))
    assert [one.closing() or one.aborted() for one in connections] == [True] + [False] * 64


def test_connections_in_all() -> None:
    """There may be 256, and the next makes the first one go."""
    program = Program(SILENT)
    connections = [connect(program, f"10.0.{index >> 6}.1") for index in range(256)]
    assert not any(one.closing() or one.aborted() for one in connections)
    connections.append(connect(program, "10.1.0.1"))
    assert [one.closing() or one.aborted() for one in connections] == [True] + [False] * 256


def test_queries_that_wait_of_one_client() -> None:
    """There may be 1,000, and for the next one the first is let down."""
    program = Program(SILENT)
    asked = [program.ask() for _ in range(1_000)]
    assert not any(one.answered for one in asked)
    asked.append(program.ask())
    assert [one.answered for one in asked] == [True] + [False] * 1_000
    assert asked[0].rcode == "SERVFAIL"


def test_queries_that_wait_in_all() -> None:
    """There may be 10,000, and for the next one the first is let down."""
    program = Program(SILENT)
    query = client_query()
    asked = [Asked(program, query, f"10.0.{index % 50}.1") for index in range(10_000)]
    assert not any(one.answered for one in asked)
    asked.append(Asked(program, query, "10.1.0.1"))
    assert [one.answered for one in asked] == [True] + [False] * 10_000


def test_the_size_of_a_datagram() -> None:
    """Replies over UDP have 1,232 octets at the most, whatever the client would take: with 74
    addresses this one would have 1,233.
    """
    many = [f"203.0.113.{index}" for index in range(100)]
    program = Program(says(1, *many), upstream=", parallel: {max_pool_size: 100}")
    asked = program.ask("www.aaaaaaaa.example.", payload=4096)
    program.at(1)
    assert len(asked.octets) == 1233 - 16
    assert len(addresses(asked.reply)) == 73


def test_no_rate_limit() -> None:
    """Clients may ask over UDP as often as they like."""
    assert Program(SILENT).service.factory.limiter is None


def test_a_rate_limit() -> None:
    """One that is wanted lets a hundred queries go at once, and answers each one beyond that."""
    program = Program(SILENT, more="server: {rate_limit: {queries_per_second: 1}}")
    factory, now = program.service.factory, program.clock.seconds()
    assert factory.limiter is not None
    within, beyond = factory.limiter.screen([(client_query(), (CLIENT, 53))] * 110, now)
    assert (len(within), len(beyond)) == (100, 10)
    slipped = [factory.serve_beyond_limit(client_query(), CLIENT, "udp", now) for _ in beyond]
    assert all(isinstance(one, bytes) and parse(one).flags & dns.flags.TC for one in slipped)


def test_cookies_for_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client gets one, made with a secret by chance."""
    own = dns.edns.CookieOption(b"8 octets", b"")

    def cookie(secret: bytes) -> bytes:
        monkeypatch.setattr("staggerdns.assembly.time", SimpleNamespace(time=lambda: 1_800_000_000))
        program = Program(SILENT, chance=lambda size: secret * size)
        (option,) = program.ask("localhost.", options=[own]).reply.options
        assert isinstance(option, dns.edns.CookieOption)
        return option.server

    assert len(cookie(b"a")) == 16
    assert cookie(b"a") == cookie(b"a")
    assert cookie(b"a") != cookie(b"b")


# local


def test_the_hosts_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the system is read."""
    read: list[str] = []

    class NotedHosts(Hosts):
        def __init__(self, path: str, *others: Any) -> None:
            read.append(path)
            super().__init__(path, *others)

    monkeypatch.setattr("staggerdns.assembly.Hosts", NotedHosts)
    Program(SILENT)
    assert read == ["/etc/hosts"]


# upstream


def test_who_resolves_the_names_of_upstreams() -> None:
    """Two public resolvers."""
    assert Program(SILENT).connected == ["1.1.1.1", "8.8.8.8", "192.0.2.1"]


def test_strategy_and_profile() -> None:
    """Two at once, then two each 50 ms from the first answer on, as `balanced` says."""
    program = Program(*ten_answers())
    asked = program.ask()
    program.at(3_000)
    assert asked.at == 5
    batches = (0, 50, 100, 150, 200)
    assert [at for at, _ in program.launches] == [at for at in batches for _ in range(2)]


@pytest.mark.parametrize(
    ("profile", "active", "fallback", "delay", "total"),
    [("latency", 3, 200, 30, 2000), ("completeness", 2, 500, 100, 5000)],
)
def test_profiles(profile: str, active: int, fallback: float, delay: float, total: float) -> None:
    """Who is asked at once, when the others, in batches of two, and when the end is."""
    program = Program(*[SILENT] * 10, upstream=f", profile: {profile}, timeout: 10s")
    asked = program.ask()
    program.at(fallback + 6 * delay)
    batches = [fallback + delay * (number // 2) for number in range(10 - active)]
    assert [at for at, _ in program.launches] == [0] * active + batches
    program.at(total - 1)
    assert not asked.answered
    program.at(total)
    assert asked.rcode == "SERVFAIL"


def test_timeout() -> None:
    """An upstream has three seconds, and a question that is asked one by one twice as many."""
    program = Program(SILENT, upstream=", strategy: sequential")
    asked = program.ask()
    program.at(2_999)
    assert program.upstreams[0].marks == 0
    program.at(3_001)
    assert program.upstreams[0].marks == 1
    program.at(5_999)
    assert not asked.answered
    program.at(6_001)
    assert asked.rcode == "SERVFAIL"


def test_latency() -> None:
    """A measurement moves the average of an upstream by a fifth of the difference."""
    program = Program(says_own(0, 100))
    program.ask("one.example.")
    program.at(101)
    program.upstreams[0].script.act = says_own(0, 200)
    program.ask("two.example.")
    program.at(302)
    mean = program.upstreams[0].latency.mean(program.clock.seconds())
    assert mean == pytest.approx(0.12, abs=0.0005)


def test_a_race() -> None:
    """Four queries of one name are under way at the most."""
    program = Program(*[SILENT] * 10, upstream=", strategy: racing")
    program.ask()
    program.at(900)
    assert len(program.launches) == 4


def test_what_tells_a_forged_reply() -> None:
    """Queries over UDP have random case and a cookie."""
    (upstream,) = chain(chance=b"\xff".__mul__).upstreams
    query = parse(b"\0\0" + upstream.dialect.compose(make_question(name("www.example"), TXT), 0))
    assert str(query.question[0].name) == "WWW.EXAMPLE."
    assert [option.otype for option in query.options] == [dns.edns.OptionType.COOKIE]


def launch(upstream: SimulatedUpstream, count: int) -> None:
    """Send so many queries at once."""
    for _ in range(count):
        upstream.ask(Judge(make_question(name("www.example"), TXT)), "active", START)


def test_queries_in_flight() -> None:
    """A thousand may be under way to one upstream; half of them without a client that waits."""
    (upstream,) = Program(SILENT).upstreams
    launch(upstream, 499)
    assert upstream.has_room(START, first=False)
    launch(upstream, 1)
    assert not upstream.has_room(START, first=False)
    launch(upstream, 499)
    assert upstream.has_room(START, first=True)
    launch(upstream, 1)
    assert not upstream.has_room(START, first=True)


@pytest.mark.parametrize(("more", "room"), [("", True), ("queries_per_second: 1", False)])
def test_queries_per_second(more: str, room: bool) -> None:
    """There is no limit; one that is wanted lets a hundred queries go at once."""
    (upstream,) = Program(SILENT, upstream=f", budget: {{{more}}}").upstreams
    launch(upstream, 99)
    assert upstream.has_room(START, first=True)
    launch(upstream, 1)
    assert upstream.has_room(START, first=True) == room


# rebinding


def test_private_addresses() -> None:
    """They are given to clients, and stripped for every name if that is wanted."""
    for more, count in ((NO_RANKING, 1), (f"{NO_RANKING}\nrebinding: {{strip: true}}", 0)):
        program = Program(says(1, "10.0.0.1"), more=more)
        asked = program.ask("www.example.")
        program.at(3_000)
        assert len(addresses(asked.reply)) == count


# local


@pytest.mark.parametrize(
    ("more", "given"),
    [("", ["203.0.113.1"]), ("local: {records: {www.example: 192.0.2.7}}", ["192.0.2.7"])],
)
def test_records_of_our_own(more: str, given: list[str]) -> None:
    """There are none; one that is there is the answer."""
    program = Program(says(1, "203.0.113.1"), more=f"{NO_RANKING}\n{more}")
    asked = program.ask("www.example.")
    program.at(3_000)
    assert addresses(asked.reply) == given


# addresses


@pytest.mark.parametrize(
    ("more", "rcode"),
    [
        ("", dns.rcode.NOERROR),
        ("addresses: {ignore: [0.0.0.0/0]}", dns.rcode.SERVFAIL),
        ("addresses: {bogus_nxdomain: [0.0.0.0/0]}", dns.rcode.NXDOMAIN),
    ],
)
def test_rules_about_addresses(more: str, rcode: int) -> None:
    """There are none; with one for all addresses nothing is left of an answer."""
    program = Program(says(1, "203.0.113.1"), more=f"{NO_RANKING}\n{more}")
    asked = program.ask("www.example.")
    program.at(3_000)
    assert asked.reply.rcode() == rcode


# cache


def test_a_ttl_of_nothing() -> None:
    """It is given as it came."""
    program = Program(says(1, "203.0.113.1", ttl=0))
    asked = program.ask()
    program.at(2)
    assert asked.reply.answer[0].ttl == 0


def test_a_long_ttl() -> None:
    """A day is the most."""
    assert chain().cache.freshness.admit(pool(ttl=100_000)).ttl == 86_400


def test_a_long_negative_ttl() -> None:
    """Five minutes are the most."""
    program = Program(negative(1, ttl=5_000, minimum=5_000))
    asked = program.ask()
    program.at(2)
    assert asked.reply.authority[0].ttl == 300


@pytest.mark.parametrize(("later", "given"), [(3_599.9, True), (3_600.1, False)])
def test_a_stale_answer(later: float, given: bool) -> None:
    """It is given for an hour after its end."""
    program = Program(says(0, "203.0.113.1", ttl=300))
    program.ask()
    program.at(5_000)
    program.upstreams[0].script.act = SILENT
    program.at((300 + later) * 1000)
    assert program.ask().answered == given


@pytest.mark.parametrize(
    ("hits", "at", "asked"),
    [((0.5, 1.5, 2.5), 270, 2), ((0.5, 1.5, 2.5), 269.8, 1), ((0.5,), 270, 1)],
)
def test_a_name_in_demand(hits: tuple[float, ...], at: float, asked: int) -> None:
    """One asked for in three seconds of its life is asked for again in the last tenth of it."""
    program = Program(says(0, "203.0.113.1", ttl=300))
    program.ask()
    for age in (*hits, at):
        program.at(age * 1000 + 100)
        program.ask()
    assert len(program.launched) == asked


def test_entries() -> None:
    """There may be 50,000."""
    cache, answer = chain().cache, pool()
    for number in range(50_001):
        cache.commit(number.to_bytes(9, "big"), 1, answer, START)
        if number == 49_999:
            assert len(cache) == 50_000
    assert len(cache) == 50_000


@pytest.mark.parametrize(("beyond", "kept"), [(0, 17), (16, 16)])
def test_octets(beyond: int, kept: int) -> None:
    """They may take 128 MiB, and not a block of 16 more."""
    cache, answer = chain().cache, pool()
    cache.commit(b"", 1, answer, START)
    each = cache.octets
    cache.commit(b"", 2, pool(ttl=0), START)
    sizes = [8 * 1024**2 - 112 * number for number in range(16)]  # no two keys are the same
    sizes.append(128 * 1024**2 + beyond - sum(sizes))
    for size in sizes:
        cache.commit(bytes(size - each), 1, answer, START)
    assert len(cache) == kept


# ranking


WWW = make_question(name("www.example"), A)
TCP = "ranking: {probes: ['tcp:443']}"
"""Without ICMP, which would open sockets. The rest is what it is by default."""


class Ranked:
    """A resolver chain that ranks what a test gives it."""

    def __init__(self, more: str = TCP) -> None:
        self.clock = MemoryReactorClock()
        self.metrics = Metrics()
        self.cache = chain(more, clock=self.clock, metrics=self.metrics).cache

    def rank(self, *addresses: str, qname: str = "www.example") -> int:
        """Give it an answer; return how many connections it has opened at once."""
        packed = tuple(ip_address(address).packed for address in addresses)
        key = make_question(name(qname), A).key
        self.cache.commit(key, 1, AddressPool((), packed, 3_600, False), self.clock.seconds())
        self.cache.complete(key, 1)
        self.clock.advance(0)
        return len(self.clock.tcpClients)

    def connect_all(self) -> int:
        """Have all connections succeed; return how many there were in the end."""
        seen = 0
        while seen < len(self.clock.tcpClients):
            factory = self.clock.tcpClients[seen][2]
            seen += 1
            self.clock.advance(0.001)
            established(factory)
            self.clock.advance(0)
        return seen


PAIR = "203.0.113.1", "203.0.113.2"


def test_ways_of_probing(monkeypatch: pytest.MonkeyPatch) -> None:
    """ICMP, and TCP to two ports, each a quarter of a second behind the one before."""
    pinged: list[bytes] = []

    class NotedPinger:
        def __init__(self, *_: object) -> None: ...

        def ping(self, address: bytes) -> Deferred[float]:
            pinged.append(address)
            return Deferred()

        def close(self) -> None: ...

    monkeypatch.setattr("staggerdns.ranking.probes.Pinger", NotedPinger)
    ranked = Ranked("")
    assert ranked.rank(*PAIR) == 0
    assert len(pinged) == 2
    seen = []
    for _ in range(30):
        ranked.clock.advance(0.025)
        seen.append(sorted({client[1] for client in ranked.clock.tcpClients}))
    assert [seen.count(ports) for ports in ([], [443], [80, 443])] == [10, 10, 10]


def test_samples_and_their_age() -> None:
    """Each address is measured three times, and that counts for 300 seconds."""
    ranked = Ranked()
    ranked.rank(*PAIR)
    assert ranked.connect_all() == 6
    entry = ranked.cache.lookup(WWW.key, ranked.clock.seconds())
    assert entry is not None
    assert entry.sorted_at is not None
    for age, ttl in ((299.9, 301), (300.1, 5)):
        assert ranked.cache.reply_ttl(entry, entry.sorted_at + age) == ttl


def test_a_probe_takes_a_second() -> None:
    """So long a connection has."""
    ranked = Ranked()
    ranked.rank(*PAIR)
    assert {client[3] for client in ranked.clock.tcpClients} == {1}


def test_probes_at_once() -> None:
    """A hundred and twenty-eight addresses are measured at the same time."""
    ranked = Ranked()
    assert ranked.rank(*[f"203.0.113.{index}" for index in range(100)]) == 100
    others = [f"203.0.112.{index}" for index in range(100)]
    assert ranked.rank(*others, qname="other.example") == 128


def test_probes_per_second() -> None:
    """Half of five hundred go at once, and five hundred in each second."""
    ranked = Ranked("ranking: {probes: ['tcp:443'], concurrency: 1000}")
    for number in range(40):
        addresses = [f"203.0.{number}.{index}" for index in range(30)]
        ranked.rank(*addresses, qname=f"n{number}.example")
    sent = []
    for _ in range(1002):
        ranked.clock.advance(0.001)
        sent.append(len(ranked.clock.tcpClients))
    assert (sent[1], sent[-1]) == (250, 750)


def test_sorts_at_once() -> None:
    """Two hundred may be under way."""
    ranked = Ranked()
    for number in range(201):
        first = ip_address("203.0.112.0") + 2 * number
        ranked.rank(str(first), str(first + 1), qname=f"n{number}.example")
        assert ranked.metrics.sorts.cell("queue_full").value == (number == 200)


def test_all_addresses_are_given() -> None:
    """However many they are."""
    ranked = Ranked()
    ranked.rank(*[f"203.0.113.{index}" for index in range(100)])
    entry = ranked.cache.lookup(WWW.key, ranked.clock.seconds())
    assert entry is not None
    assert len(ranked.cache.living(entry, ranked.clock.seconds()).addresses) == 100


def test_private_addresses_are_not_probed() -> None:
    """Nobody wants to be knocked at from the inside."""
    assert Ranked().rank("10.0.0.1", "10.0.0.2") == 0


# query_log


def test_query_log(tmp_path: Path) -> None:
    """Nothing is written; into a file, whole addresses, 100 MiB in each, and 5 older ones."""
    reactor = Reactor()
    hub = AnswerHub(reactor.seconds, Journal(), reactor)
    log = QueryLog(hub, reactor, Metrics(), Journal(), cast("Any", Hand))
    log.use(parse_config("upstream: {servers: [192.0.2.1]}").query_log)
    assert not hub.active
    path = tmp_path / "queries"
    text = f"upstream: {{servers: [192.0.2.1]}}\nquery_log: {{file: {path}}}"
    log.use(parse_config(text).query_log)
    hub.publish(answered())
    log.reopen()
    line = path.read_bytes()
    assert b"192.0.2.77" in line
    for _ in range(7):
        os.truncate(path, 100 * 1024 * 1024 - len(line))  # there is nothing in it, nor on the disk
        for _ in range(2):
            hub.publish(answered())
            log.reopen()
    log.close()
    expected = ["queries", *(f"queries.{number}" for number in range(1, 6))]
    assert sorted(found.name for found in tmp_path.iterdir()) == expected
    assert {found.stat().st_size for found in tmp_path.glob("queries.*")} == {100 * 1024 * 1024}


# log


def test_log() -> None:
    """Nothing is told of single queries."""
    program = Program(*ten_answers())
    with capturedLogs() as events:
        program.ask()
        program.at(3_000)
    assert events == []


def test_log_lines() -> None:
    """They are for people."""
    shape = LogShape(Journal(), parse_config("upstream: {servers: [192.0.2.1]}").log)
    with capturedLogs() as events:
        Journal().info("up")
    assert (shape.format_event(events[0]) or "").endswith(" [staggerdns#info] up\n")
