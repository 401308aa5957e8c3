"""Rate limits of clients over UDP: buckets, and what becomes of the queries beyond."""

from __future__ import annotations

import tracemalloc

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from staggerdns.server.clientgroups import ClientGroups
from staggerdns.server.ratelimit import MAX_CLIENTS, Datagram, RateLimiter
from staggerdns.settings.sections import ClientSettings, RateLimitSettings
from tests.kit.factory import FRIEND, STRANGER, MemoryServer, pool
from tests.kit.messages import ask, client_query
from tests.kit.readings import by_last_label

OTHER = "192.0.2.78"
CLIENT_COOKIE = b"8 octets"


class LimitedQueries:
    """A limiter, and how many of some queries it lets pass."""

    def __init__(self, per_second: int = 10, burst: int = 5) -> None:
        limit = RateLimitSettings(queries_per_second=per_second, burst=burst)
        self.limiter = RateLimiter(limit, ClientGroups(ClientSettings()))

    def passed(self, count: int, now: float, host: str = FRIEND) -> int:
        """Return how many of ``count`` queries at once are within the limit."""
        datagrams: list[Datagram] = [(bytes([n % 256]), (host, n)) for n in range(count)]
        within, beyond = self.limiter.screen(datagrams, now)
        assert [*within, *beyond] == datagrams
        return len(within)


@pytest.mark.parametrize("now", [0.0, 1000.0, 1e7])
@pytest.mark.parametrize(("per_second", "burst"), [(10, 5), (1, 1), (3, 7), (1_000_000, 100)])
def test_a_burst(per_second: int, burst: int, now: float) -> None:
    """A burst passes as a whole, one query more does not, at once or later in small portions."""
    assert LimitedQueries(per_second, burst).passed(burst + 1, now) == burst
    buckets = LimitedQueries(per_second, burst)
    assert [buckets.passed(1, now) for _ in range(burst + 1)] == [1] * burst + [0]


def test_the_rate() -> None:
    """After a burst each tenth of a second brings one token, up to a full bucket."""
    buckets = LimitedQueries()
    assert buckets.passed(9, 100) == 5
    assert buckets.passed(9, 100.04) == 0
    assert buckets.passed(9, 100.1) == 1
    assert buckets.passed(9, 100.3) == 2
    assert buckets.passed(9, 100.8) == 5
    assert buckets.passed(9, 1000) == 5


def test_in_the_long_run() -> None:
    """Whoever asks without end gets the rate, and what is refused costs no tokens."""
    buckets = LimitedQueries(per_second=20, burst=10)
    passed = sum(buckets.passed(7, 50 + step / 100) for step in range(1001))
    assert passed == pytest.approx(10 + 20 * 10, abs=1)


def test_clients_do_not_share() -> None:
    """One client's flood takes nothing from another."""
    buckets = LimitedQueries()
    assert buckets.passed(100, 1) == 5
    assert buckets.passed(5, 1, OTHER) == 5
    assert buckets.passed(1, 1, "2001:db8::1") == 1
    mixed: list[Datagram] = [(b"", (FRIEND, 1)), (b"", ("2001:db8::1", 1)), (b"", (FRIEND, 2))]
    assert buckets.limiter.screen(mixed, 1) == ([mixed[1]], [mixed[0], mixed[2]])


def test_exempt_clients() -> None:
    """Loopback has no limit, and leaves no trace."""
    buckets = LimitedQueries()
    assert buckets.passed(1000, 1, "127.0.0.1") == 1000
    assert len(buckets.limiter) == 0


def forged(first: int, count: int) -> list[Datagram]:
    """Datagrams from so many different sources."""
    return [
        (b"", (f"{10 + (n >> 24)}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}", 53))
        for n in range(first, first + count)
    ]


@pytest.mark.long
def test_two_hundred_thousand_sources() -> None:
    """The table is bounded whatever comes, and a flood that goes on is held all the time."""
    buckets = LimitedQueries(per_second=1, burst=5)
    passed = most = 0
    try:
        for start in range(0, 200_000, 1000):
            if start == 120_000:  # whatever was there before is forgotten by the end
                tracemalloc.start()
            within, _ = buckets.limiter.screen(forged(start, 1000), 100.0)
            assert len(within) == 1000  # each of them asks once
            passed += buckets.passed(10, 100.0)
            most = max(most, len(buckets.limiter))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert passed == 5
    assert MAX_CLIENTS < most <= 2 * MAX_CLIENTS
    assert used < 20_000_000


def test_what_is_forgotten() -> None:
    """A client that is silent while two generations fill starts with a full bucket; that costs
    whoever forges them `MAX_CLIENTS` sources at least.
    """
    buckets = LimitedQueries()
    assert buckets.passed(9, 1) == 5
    buckets.limiter.screen(forged(0, MAX_CLIENTS), 1)
    assert buckets.passed(9, 1) == 0
    buckets.limiter.screen(forged(0, 2 * MAX_CLIENTS), 1)
    assert buckets.passed(9, 1) == 5


def actions(server: MemoryServer) -> dict[str, int]:
    """What became of the queries beyond the limit."""
    return by_last_label(server.metrics.rate_limited)


def beyond(server: MemoryServer, message: bytes, host: str = FRIEND) -> bytes | None:
    """The reply to a query that is beyond the limit, given at once."""
    reply = server.factory.serve_beyond_limit(message, host, "udp", server.clock.seconds())
    assert reply is None or isinstance(reply, bytes)
    return reply


def limited(slip: int = 1, *, cookies: bool = True) -> MemoryServer:
    """A server with a rate limit and an answer in its cache."""
    server = MemoryServer(
        rate=RateLimitSettings(queries_per_second=1, burst=1, slip=slip), cookies=cookies
    )
    server.commit(ask(), pool())
    return server


@pytest.mark.parametrize("payload", [None, 1232])
def test_sent_to_tcp(payload: int | None) -> None:
    """A query beyond the limit gets an empty reply with TC, no larger than itself."""
    server = limited()
    query = client_query("wWw.example.com.", payload=payload)
    reply = beyond(server, query)
    assert reply is not None
    assert len(reply) <= len(query)
    message = dns.message.from_wire(reply)
    assert message.flags & dns.flags.TC
    assert message.id == 0x1234
    assert str(message.question[0].name) == "wWw.example.com."
    assert not message.answer
    assert message.edns == (-1 if payload is None else 0)
    assert actions(server) == {"truncated": 1}
    assert server.metrics.response("udp", 0).value == server.metrics.query("udp", 1).value == 1


@pytest.mark.parametrize(("slip", "answered"), [(0, 0), (1, 12), (2, 6), (3, 4), (10, 1)])
def test_slip(slip: int, answered: int) -> None:
    """Every n-th query is answered, the others are dropped and counted."""
    server = limited(slip)
    replies = [beyond(server, client_query()) for _ in range(12)]
    assert sum(reply is not None for reply in replies) == answered
    counted = actions(server)
    assert (counted.get("truncated", 0), counted.get("dropped", 0)) == (answered, 12 - answered)
    assert server.metrics.dropped.cell("udp", "rate_limited").value == 12 - answered


@pytest.mark.parametrize(
    "message",
    [b"", b"x" * 11, b"\0\0\x80\0\0\1\0\0\0\0\0\0\0\0\1\0\1", client_query()[:-1], b"\0" * 12],
)
def test_what_is_no_query_gets_nothing(message: bytes) -> None:
    """Beyond the limit nothing malformed is answered, and no response ever."""
    server = limited()
    assert beyond(server, message) is None
    assert actions(server) == {"dropped": 1}


def cookie_of(reply: bytes | None) -> bytes:
    """The COOKIE option of a reply."""
    assert reply is not None
    (option,) = dns.message.from_wire(reply).options
    assert isinstance(option, dns.edns.CookieOption)
    return option.client + option.server


def with_cookie(cookie: bytes) -> bytes:
    """A query with a COOKIE option."""
    return client_query(options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)])


def test_cookies_excuse() -> None:
    """BADCOOKIE brings a cookie, and with it the answer comes over UDP, limit or not."""
    server = limited()
    query = with_cookie(CLIENT_COOKIE)
    first = beyond(server, query)
    assert first is not None
    assert len(first) <= len(query) + 16
    assert dns.message.from_wire(first).rcode() == dns.rcode.BADCOOKIE
    assert server.metrics.response("udp", 23).value == 1
    cookie = cookie_of(first)
    second = beyond(server, with_cookie(cookie))
    assert second is not None
    assert dns.message.from_wire(second).rcode() == dns.rcode.NOERROR
    assert dns.message.from_wire(second).answer
    assert actions(server) == {"bad_cookie": 1, "excused": 1}


def test_a_cookie_of_somebody_else_does_not_excuse() -> None:
    """A cookie proves one address only, and not one that may not ask at all."""
    server = limited()
    cookie = cookie_of(beyond(server, with_cookie(CLIENT_COOKIE)))
    other = beyond(server, with_cookie(cookie), OTHER)
    assert dns.message.from_wire(other or b"").rcode() == dns.rcode.BADCOOKIE
    stranger = cookie_of(beyond(server, with_cookie(CLIENT_COOKIE), STRANGER))
    refused = beyond(server, with_cookie(stranger), STRANGER)
    assert dns.message.from_wire(refused or b"").rcode() == dns.rcode.REFUSED


def test_slip_and_cookies() -> None:
    """BADCOOKIE is answered as seldom as TC, a good cookie always; without cookies there is TC."""
    server = limited(slip=2)
    replies = [beyond(server, with_cookie(CLIENT_COOKIE)) for _ in range(4)]
    assert [reply is None for reply in replies] == [True, False, True, False]
    good = with_cookie(cookie_of(replies[1]))
    assert all(beyond(server, good) for _ in range(4))
    reply = beyond(limited(cookies=False), good)
    assert dns.message.from_wire(reply or b"").flags & dns.flags.TC
