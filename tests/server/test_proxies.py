"""Proxies that say for whom they ask, over UDP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import dns.edns
import pytest
from twisted.internet.testing import MemoryReactor

from staggerdns.metrics import Metrics
from staggerdns.server import proxies
from staggerdns.server.datagram import DatagramPort
from staggerdns.server.proxies import Proxies
from staggerdns.settings.networks import Network
from staggerdns.settings.sections import RateLimitSettings, ServerSettings
from tests.kit.clients import parse
from tests.kit.factory import FRIEND, MemoryServer, pool
from tests.kit.messages import ask, client_query
from tests.kit.proxied import LOCAL, MAGIC, extension, header, speaking_for
from tests.kit.routed import NO_RANKING, RoutedProgram

if TYPE_CHECKING:
    import dns.message

    from staggerdns.server.answered import Answered

PROXY = "198.51.100.7"
"""A proxy, which may not ask itself."""
OTHER = "192.0.2.78"


class Wire:
    """A socket with datagrams to read, that keeps what is sent."""

    def __init__(self, datagrams: list[tuple[bytes, tuple[str, int]]]) -> None:
        self.waiting = datagrams
        self.sent: list[tuple[dns.message.Message, tuple[str, int]]] = []

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        """Give the next datagram."""
        if not self.waiting:
            raise BlockingIOError
        return self.waiting.pop(0)

    def sendto(self, message: bytes, address: tuple[str, int]) -> None:
        """Note a datagram."""
        self.sent.append((parse(message), address))


class Behind:
    """A port behind a proxy, and what is said there."""

    def __init__(self, server: MemoryServer | None = None) -> None:
        self.server = server or MemoryServer()
        self.factory = self.server.factory
        self.factory.proxies = Proxies([Network(PROXY)], self.server.metrics)
        self.port = DatagramPort(0, "127.0.0.1", cast("Any", MemoryReactor()), self.factory)

    def reads(self, *datagrams: bytes | tuple[bytes, str]) -> Wire:
        """Read these at one wake-up, from the proxy unless it is said from where."""
        wire = Wire(
            [
                (one, (PROXY, 5353)) if isinstance(one, bytes) else (one[0], (one[1], 53))
                for one in datagrams
            ]
        )
        self.port.socket = cast("Any", wire)
        self.port.doRead()
        return wire

    def dropped(self) -> dict[str, int]:
        """How many messages got no reply, by reason."""
        values = self.server.metrics.dropped.values()
        return {reason: count for (name, reason), count in values.items() if name == "udp"}

    def ready_hits(self) -> int:
        """How many replies were ready."""
        return int(self.server.metrics.hit("udp", 1, 0).value)


@pytest.fixture
def behind() -> Behind:
    """A port whose server knows one name."""
    made = Behind()
    made.server.commit(ask(), pool())
    return made


def rcodes(wire: Wire) -> list[int]:
    """The codes of what was sent, in its order."""
    return [int(message.rcode()) for message, _ in wire.sent]


def test_the_client_counts(behind: Behind) -> None:
    """Whether it may ask is decided by the address in the header; the proxy gets the reply."""
    wire = behind.reads(
        speaking_for(FRIEND) + client_query(id=1),
        speaking_for("203.0.113.1") + client_query(id=2),
        speaking_for("2001:db8::5") + client_query(id=3),
    )
    assert {message.id: int(message.rcode()) for message, _ in wire.sent} == {1: 0, 2: 5, 3: 0}
    assert {address for _, address in wire.sent} == {(PROXY, 5353)}


def test_hits_are_ready(behind: Behind) -> None:
    """The header is cut first: what is ready is ready for clients of a proxy, whatever their
    ports and extensions, and not for those who may not ask.
    """
    behind.reads(speaking_for(FRIEND) + client_query(id=1))
    before = behind.ready_hits()
    more = speaking_for(FRIEND, more=extension(5, b"other")) + client_query(id=2)
    wire = behind.reads(speaking_for("203.0.113.1") + client_query(id=3), more)
    assert behind.ready_hits() == before + 1
    assert [message.id for message, _ in wire.sent] == [2, 3]  # what is ready leaves first
    assert rcodes(wire) == [0, 5]


def test_who_asks_himself(behind: Behind) -> None:
    """A client that is no proxy needs no header, and its reply comes to it."""
    wire = behind.reads((client_query(id=1), FRIEND), speaking_for(OTHER) + client_query(id=2))
    assert [(message.id, address) for message, address in wire.sent] == [
        (1, (FRIEND, 53)),
        (2, (PROXY, 5353)),
    ]


@pytest.mark.parametrize("given", [LOCAL, header(0, 0x12, bytes(12)), header(1, 0, b"")])
def test_the_proxy_itself(behind: Behind, given: bytes) -> None:
    """A proxy that speaks for itself is a client like any other: it may ask, or not."""
    assert rcodes(behind.reads(given + client_query())) == [5]
    behind.factory.access = type(behind.factory.access)([Network(PROXY)])
    assert rcodes(behind.reads(given + client_query())) == [0]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (client_query(), "proxy_missing"),
        (b"", "proxy_missing"),
        (MAGIC[:5], "proxy_cut"),
        (speaking_for(FRIEND)[:-1], "proxy_cut"),
        (header(1, 0x12, b"", length=12) + client_query()[:11], "proxy_cut"),
        (header(1, 0x12, bytes(11)) + client_query(), "proxy_invalid"),
        (header(1, 0x12, bytes(12), version=1) + client_query(), "proxy_invalid"),
        (header(0, 0, bytes(1009)) + client_query(), "proxy_invalid"),
        (speaking_for(FRIEND) + speaking_for(FRIEND) + client_query(), "proxy_unexpected"),
        (speaking_for(FRIEND), "unanswerable"),
    ],
)
def test_what_is_dropped(behind: Behind, given: bytes, reason: str) -> None:
    """Without a header that can be believed there is no reply, not even from the ready ones."""
    behind.reads(speaking_for(PROXY) + client_query(), speaking_for(FRIEND) + client_query())
    wire = behind.reads(given, speaking_for(FRIEND) + client_query(id=9))
    assert [message.id for message, _ in wire.sent] == [9]
    assert behind.dropped() == {reason: 1}


@pytest.mark.parametrize("known", [True, False])
def test_a_header_from_elsewhere(behind: Behind, known: bool) -> None:
    """Nobody else may send one, whether there are proxies or none; nothing is answered."""
    if not known:
        behind.factory.proxies = None
    message = speaking_for(FRIEND) + client_query()
    wire = behind.reads((message, FRIEND), (message, "203.0.113.8"), (LOCAL, FRIEND))
    assert wire.sent == []
    assert behind.dropped() == {"proxy_unexpected": 3}


def test_limits_are_the_clients() -> None:
    """Each client behind the proxy has a rate of its own, and what is beyond goes to the proxy."""
    behind = Behind(MemoryServer(rate=RateLimitSettings(queries_per_second=1, burst=3)))
    behind.server.commit(ask(), pool())
    greedy = [speaking_for(FRIEND) + client_query(id=number) for number in range(5)]
    wire = behind.reads(*greedy, speaking_for(OTHER) + client_query(id=9))
    answers = {message.id: len(message.answer) for message, _ in wire.sent}
    assert answers == {0: 1, 1: 1, 2: 1, 3: 0, 4: 0, 9: 1}
    assert {address for _, address in wire.sent} == {(PROXY, 5353)}


def test_who_waits_is_the_client() -> None:
    """Each client behind the proxy may have so many queries that wait: one more lets down its own
    oldest, and the proxy itself has no limit of all its clients together.
    """
    behind = Behind(MemoryServer(ServerSettings(max_pending_per_client=2)))
    queries = [client_query(f"n{number}.example.", id=number) for number in range(6)]
    two, three, four = speaking_for(FRIEND), speaking_for(OTHER), speaking_for("2001:db8::5")
    headers = [two, two, three, three, four, four]
    wire = behind.reads(*(given + query for given, query in zip(headers, queries, strict=True)))
    assert wire.sent == []
    more = behind.reads(three + client_query("one.more.example.", id=9))
    ((message, address),) = wire.sent + more.sent
    assert (message.id, int(message.rcode()), address) == (2, 2, (PROXY, 5353))
    assert behind.server.metrics.evicted_queries.cell("pending_per_client").value == 1


def test_cookies_are_the_clients(behind: Behind) -> None:
    """A cookie that a client got through the proxy is valid for that client alone."""
    cookies = behind.server.cookies
    assert cookies is not None
    query = client_query(options=[dns.edns.CookieOption(b"12345678", b"")])
    ((message, _),) = behind.reads(speaking_for(FRIEND) + query).sent
    (option,) = message.options
    made = option.client + option.server
    assert cookies.is_valid(made, FRIEND, 0)
    assert not cookies.is_valid(made, PROXY, 0)


def test_what_is_told_of_it(behind: Behind) -> None:
    """Who hears of replies (page, watchers, query log) hears of the client, ready or not."""
    heard: list[Answered] = []
    behind.factory.answers.subscribe(heard.append)
    for number in range(2):
        behind.reads(speaking_for(FRIEND) + client_query(id=number))
    behind.server.clock.advance(0)
    assert [(one.client, one.query[:2]) for one in heard] == [(FRIEND, b"\0\0"), (FRIEND, b"\0\1")]


def test_the_long_way(behind: Behind) -> None:
    """What has no answer yet finds its way to the proxy, though there is none any more."""
    wire = behind.reads(speaking_for(FRIEND) + client_query("later.example.", id=6))
    behind.factory.proxies = None
    behind.server.forwarder.waiting[0].callback(behind.server.entry(pool()))
    ((message, address),) = wire.sent
    assert (message.id, address) == (6, (PROXY, 5353))


def test_a_reload() -> None:
    """Who is a proxy follows the configuration, at once and for ports that stay."""
    program = RoutedProgram("")
    port = DatagramPort(0, "127.0.0.1", cast("Any", MemoryReactor()), program.service.factory)
    query = client_query("localhost.")
    given = speaking_for("10.0.0.1") + query

    def answered(message: bytes) -> int:
        wire = Wire([(message, (PROXY, 5353)), (message, ("127.0.0.1", 53))])
        port.socket = cast("Any", wire)
        port.doRead()
        return sum(reply.rcode() == 0 for reply, _ in wire.sent)

    proxies = f"server: {{proxy_protocol: [{PROXY}]}}\n"
    for more, plain, behind in (("", 1, 0), (proxies, 1, 1), ("", 1, 0)):
        program.change(more=NO_RANKING + more)
        assert (answered(query), answered(given)) == (plain, behind)


@pytest.mark.parametrize(
    ("host", "is_proxy"),
    [
        ("10.0.0.1", True),
        ("::ffff:10.0.0.1", True),
        ("10.0.0.2", False),
        ("192.0.2.7", True),
        ("192.0.3.0", False),
        ("2001:db8::1", True),
        ("2001:db8::2", False),
        ("fe80::1%eth0", True),
        ("fe80::2%eth0", False),
    ],
)
def test_who_is_one(host: str, is_proxy: bool) -> None:
    """Single addresses and networks of both families, with a zone or without."""
    networks = ["10.0.0.1", "192.0.2.0/24", "2001:db8::1", "fe80::1"]
    known = Proxies([Network(text) for text in networks], Metrics())
    assert [known.includes(host) for _ in range(2)] == [is_proxy] * 2


def test_peers_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forged sources take no more memory than that."""
    monkeypatch.setattr(proxies, "MAX_REMEMBERED", 3)
    known = Proxies([Network(PROXY)], Metrics())
    for number in range(3):
        known.includes(f"192.0.2.{number}")
    assert len(known) == 3
    known.includes(PROXY)
    assert len(known) == 1
    known.includes(PROXY)
    assert len(known) == 1
