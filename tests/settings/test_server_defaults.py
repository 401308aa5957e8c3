"""What clients meet where the configuration says nothing: every default, by its effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import dns.edns
import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger

from staggerdns import listeners as listeners_module
from staggerdns import service as service_module
from staggerdns.config import parse_config
from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.server.access import Access
from staggerdns.server.clientgroups import ClientGroups
from staggerdns.server.local import LocalNames
from staggerdns.server.pending import Pending
from staggerdns.server.ratelimit import RateLimiter
from staggerdns.server.request import Request
from staggerdns.service import StaggerService
from staggerdns.settings.sections import (
    ClientSettings,
    LocalSettings,
    RateLimitSettings,
    ServerSettings,
)
from staggerdns.wire.query import parse_query
from tests.kit.clients import addresses, parse, question
from tests.kit.connections import Connection
from tests.kit.factory import MemoryServer, pool
from tests.kit.messages import ask, client_query

if TYPE_CHECKING:
    from staggerdns.resolver.entry import Entry

MINIMAL = "upstream: {servers: [192.0.2.1]}"


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """The places that are bound: for what, the host and the port. No socket is opened."""
    places: list[tuple[str, str, int]] = []

    class Port:
        def __init__(self, kind: str, host: str, port: int) -> None:
            places.append((kind, host, port))

        def startListening(self) -> None:
            """Open nothing."""

    monkeypatch.setattr(
        listeners_module, "DatagramPort", lambda port, host, *_: Port("udp", host, port)
    )
    monkeypatch.setattr(
        listeners_module, "StreamPort", lambda port, _, host, *__: Port("tcp", host, port)
    )
    monkeypatch.setattr(
        listeners_module, "StatusPort", lambda port, _, host, *__: Port("page", host, port)
    )
    return places


def service(more: str = "", rng: Any = bytes) -> StaggerService:
    """The program with a configuration of hardly anything; ICMP would open sockets."""
    config = parse_config(f"{MINIMAL}\nranking: {{probes: [tcp:443]}}\n{more}")
    return StaggerService(config, MemoryReactorClock(), rng)


def test_listeners(bound: list[tuple[str, str, int]]) -> None:
    """``server.listen`` and ``metrics.listen``: loopback."""
    service().privilegedStartService()
    assert bound == [
        ("udp", "127.0.0.1", 5300),
        ("tcp", "127.0.0.1", 5300),
        ("udp", "::1", 5300),
        ("tcp", "::1", 5300),
        ("page", "127.0.0.1", 9153),
    ]


@pytest.mark.parametrize(
    ("first", "last", "outside"),
    [
        ("127.0.0.0", "127.255.255.255", "126.255.255.255 128.0.0.0"),
        ("::1", "::1", "::2 ::"),
        ("10.0.0.0", "10.255.255.255", "9.255.255.255 11.0.0.0"),
        ("172.16.0.0", "172.31.255.255", "172.15.255.255 172.32.0.0"),
        ("192.168.0.0", "192.168.255.255", "192.167.255.255 192.169.0.0"),
        ("169.254.0.0", "169.254.255.255", "169.253.255.255 169.255.0.0"),
        ("fc00::", "fdff:ffff::", "fbff:ffff:: fe00::"),
        ("fe80::", "febf:ffff::", "fe7f:ffff:: fec0::"),
    ],
)
def test_who_may_ask(first: str, last: str, outside: str) -> None:
    """``server.allow``: loopback, private, link-local and unique local addresses."""
    access = Access(ServerSettings().allow)
    assert access.allows(first)
    assert access.allows(last)
    assert [access.allows(host) for host in outside.split()] == [False, False]


def test_idle_connections() -> None:
    """``server.tcp_idle_timeout``: 10 s."""
    server = MemoryServer(ServerSettings())
    connection = Connection(server)
    server.clock.pump([0.1] * 99)
    assert not connection.closing()
    server.clock.pump([0.1] * 2)
    assert connection.closing()
    connection.lost()


@pytest.mark.parametrize(("hosts", "most"), [(254, 256), (1, 64)])
def test_connections(hosts: int, most: int) -> None:
    """``server.tcp_max_connections``: 256; ``server.tcp_max_per_client``: 64."""
    server = MemoryServer(ServerSettings())
    held = [Connection(server, f"192.0.2.{1 + number % hosts}") for number in range(most)]
    assert not any(connection.aborted() for connection in held)
    held.append(Connection(server, "192.0.2.1"))
    assert sum(connection.aborted() for connection in held) == 1
    for connection in held:
        connection.lost()


@pytest.mark.parametrize("key", ["tls_certificate", "tls_key"])
def test_no_certificate(key: str) -> None:
    """``server.tls_certificate``, ``server.tls_key``: none, so that an encrypted listener errs."""
    other = "tls_key" if key == "tls_certificate" else "tls_certificate"
    with pytest.raises(ValueError, match=rf"server\.{key}: expected a PEM file"):
        parse_config(f"{MINIMAL}\nserver: {{listen: ['tls://127.0.0.1'], {other}: /nowhere}}")


@pytest.mark.parametrize(
    ("one_client", "most", "limit"),
    [(False, 10_000, "pending"), (True, 1_000, "pending_per_client")],
)
def test_waiting_queries(one_client: bool, most: int, limit: str) -> None:
    """``server.max_pending``: 10,000; ``server.max_pending_per_client``: 1,000."""
    metrics = Metrics()
    pending = Pending(ServerSettings(), metrics)
    query = parse_query(client_query())
    for number in range(most + 1):
        assert metrics.shed.cell(limit).value == 0
        client = 1 if one_client else number // 500
        found: Deferred[Entry] = Deferred()
        found.addErrback(lambda failure: failure.trap(CancelledError))
        pending.add(Request(query, "192.0.2.1", "udp", 0.0, client), found)
    assert metrics.shed.cell(limit).value == 1


@pytest.mark.parametrize(("label", "fits"), [(11, True), (12, False)])
def test_size_over_udp(label: int, fits: bool) -> None:
    """``server.max_udp_size``: 1,232 octets."""
    name = "x" * label + ".example."
    server = MemoryServer(ServerSettings(), cookies=False)
    count = 74
    server.commit(ask(name), pool(count))
    message = server.factory.serve(client_query(name, payload=4096), "192.0.2.1", "udp", 0.0)
    assert isinstance(message, bytes)
    assert len(message) == 1232 if fits else len(message) < 1232
    assert (len(addresses(parse(message))) == count) is fits


def test_clients() -> None:
    """``server.client``: an IPv4 address, an IPv6 /56; loopback has no limits."""
    groups = ClientGroups(ClientSettings())
    assert groups.find("192.0.2.0") != groups.find("192.0.2.1")
    assert groups.find("2001:db8::") == groups.find("2001:db8:0:ff:ffff::")
    assert groups.find("2001:db8::") != groups.find("2001:db8:0:100::")
    assert groups.find("127.0.0.0") is groups.find("127.255.255.255") is groups.find("::1") is None
    for host in ("126.255.255.255", "128.0.0.0", "::2"):
        assert groups.find(host) is not None


def test_rate_limit() -> None:
    """``server.rate_limit``: none; with a rate alone, 100 at once, and each beyond is answered."""
    assert service().factory.limiter is None
    settings = RateLimitSettings(queries_per_second=1)
    limiter = RateLimiter(settings, ClientGroups(ClientSettings()))
    within, beyond = limiter.screen([(b"", ("192.0.2.1", 4242))] * 101, 1000.0)
    assert (len(within), len(beyond)) == (100, 1)
    assert [limiter.slips() for _ in range(3)] == [True] * 3


def cookie(running: StaggerService) -> bytes:
    """The server cookie that a client on loopback gets."""
    option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"8 octets")
    message = question("localhost.", "A", payload=1232)
    message.use_edns(0, options=[option])
    reply = running.factory.serve(message.to_wire(), "127.0.0.1", "udp", 0.0)
    assert isinstance(reply, bytes)
    return b"".join(found.to_wire() or b"" for found in parse(reply).options)


def test_cookies_of_clients() -> None:
    """``server.cookies``: given, with a secret of each program's own."""
    one, other = service(), service(rng=lambda size: b"\1" * size)
    assert len(cookie(one)) == 24
    assert cookie(one)[16:] != cookie(other)[16:]


@pytest.mark.parametrize(
    "name",
    [
        "localhost.",
        "a.invalid.",
        "a.test.",
        "a.local.",
        "a.onion.",
        "a.home.arpa.",
        "resolver.arpa.",
        "1.0.0.10.in-addr.arpa.",
    ],
)
def test_special_names(name: str) -> None:
    """``local``: every kind of special name is answered here."""
    names = LocalNames(LocalSettings(), None)
    assert names.answer(parse_query(client_query(name)), 0.0) is not None


def test_the_hosts_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """``local.hosts``: the system's."""
    read: list[str] = []
    monkeypatch.setattr(service_module, "Hosts", lambda path, *_: read.append(path))
    service()
    assert read == ["/etc/hosts"]


def test_the_log() -> None:
    """``log.level``: info."""
    events: list[Any] = []
    journal = Journal(parse_config(MINIMAL).log.level, Logger(observer=cast("Any", events.append)))
    journal.debug("a phase of a query")
    assert not journal.verbose
    assert events == []
    journal.info("a change")
    assert len(events) == 1
