"""DNS Cookies for clients: RFC 7873, in the form of RFC 9018."""

from __future__ import annotations

from itertools import count

import dns.edns
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from staggerdns.server.cookies import NEWEST, OLDEST, RENEWED, SECRET_LIFETIME, Cookies
from tests.kit.clients import parse
from tests.kit.factory import FRIEND, STRANGER, MemoryServer, pool
from tests.kit.messages import ask, client_query

HOST = "198.51.100.100"
CLIENT = b"8 octets"
SECRET = bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf")
NOW = 1_559_731_985


class SimulatedCookies:
    """Cookies on a clock; ``wall`` is set as a test likes."""

    def __init__(self, secret: bytes | None = None) -> None:
        self.clock = Clock()
        self.wall = float(NOW)
        numbers = count(1)
        self.secrets: list[bytes] = []

        def rng(size: int) -> bytes:
            self.secrets.append(next(numbers).to_bytes(size, "big"))
            return self.secrets[-1]

        self.cookies = Cookies(self.clock.seconds(), lambda: self.wall, rng, secret)

    def is_valid(self, cookie: bytes, host: str) -> bool:
        """Whether a cookie proves this address now."""
        return self.cookies.is_valid(cookie, host, self.clock.seconds())

    def reply_cookie(self, cookie: bytes, host: str) -> bytes:
        """The cookie that is given for one now."""
        return self.cookies.reply_cookie(cookie, host, self.clock.seconds())

    def pass_time(self, seconds: float) -> None:
        """Let both clocks go on."""
        self.clock.advance(seconds)
        self.wall += seconds


@pytest.mark.parametrize(
    ("secret", "host", "wall", "received", "answered"),
    [  # RFC 9018 appendix A.1 to A.4
        (
            "e5e973e5a6b2a43f48e7dc849e37bfcf",
            "198.51.100.100",
            1_559_731_985,
            "2464c4abcf10c957",
            "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
        ),
        (
            "e5e973e5a6b2a43f48e7dc849e37bfcf",
            "198.51.100.100",
            1_559_734_385,
            "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
            "2464c4abcf10c957010000005cf7a871d4a564a1442aca77",
        ),
        (
            "e5e973e5a6b2a43f48e7dc849e37bfcf",
            "203.0.113.203",
            1_559_734_700,
            "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
            "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e",
        ),
        (
            "445536bcd2513298075a5d379663c962",
            "2001:db8:220:1:59de:d0f4:8769:82b8",
            1_559_741_961,
            "22681ab97d52c298010000005cf7c57926556bd0934c72f8",
            "22681ab97d52c298010000005cf7c609a6bb79d16625507a",
        ),
    ],
)
def test_vectors(secret: str, host: str, wall: int, received: str, answered: str) -> None:
    """The cookies of the standard's examples come out octet by octet."""
    simulated = SimulatedCookies(bytes.fromhex(secret))
    simulated.wall = wall
    assert simulated.reply_cookie(bytes.fromhex(received), host).hex() == answered


def test_reserved_octets_count() -> None:
    """A good cookie with other reserved octets, as RFC 9018 A.3 has it, proves its address."""
    simulated = SimulatedCookies(SECRET)
    simulated.wall = 0x5CF78F71
    cookie = bytes.fromhex("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5")
    assert simulated.is_valid(cookie, "203.0.113.203")
    assert not simulated.is_valid(cookie[:9] + bytes(3) + cookie[12:], "203.0.113.203")


@pytest.mark.parametrize("host", [HOST, "2001:db8::1", "fe80::1%eth0"])
def test_a_cookie_proves_its_address(host: str) -> None:
    """What we made proves the address that we made it for, and is given again."""
    simulated = SimulatedCookies()
    assert not simulated.is_valid(CLIENT, host)
    cookie = simulated.reply_cookie(CLIENT, host)
    assert cookie[:8] == CLIENT
    assert len(cookie) == 24
    assert simulated.is_valid(cookie, host)
    assert simulated.reply_cookie(cookie, host) == cookie
    for other in ("198.51.100.101", "2001:db8::2"):
        assert not simulated.is_valid(cookie, other)


@given(st.integers(0, 23), st.integers(1, 255))
def test_a_changed_octet(place: int, change: int) -> None:
    """With any octet changed it proves nothing."""
    simulated = SimulatedCookies(SECRET)
    cookie = bytearray(simulated.reply_cookie(CLIENT, HOST))
    cookie[place] ^= change
    assert not simulated.is_valid(bytes(cookie), HOST)


@given(st.binary(min_size=8, max_size=40))
def test_any_cookie(cookie: bytes) -> None:
    """Whatever comes proves nothing, and gets a good cookie for its client."""
    simulated = SimulatedCookies(SECRET)
    assert not simulated.is_valid(cookie, HOST)
    answer = simulated.reply_cookie(cookie, HOST)
    assert answer[:8] == cookie[:8]
    assert simulated.is_valid(answer, HOST)


@pytest.mark.parametrize(
    ("age", "good", "same"),
    [
        (NEWEST - 1, False, False),
        (NEWEST, True, True),
        (0, True, True),
        (RENEWED, True, True),
        (RENEWED + 1, True, False),
        (OLDEST, True, False),
        (OLDEST + 1, False, False),
    ],
)
@pytest.mark.parametrize("start", [NOW, 2**32 - 10])
def test_ages(age: int, good: bool, same: bool, start: int) -> None:
    """Good for an hour and five minutes ahead, the same for half an hour, in 2106 as well."""
    simulated = SimulatedCookies(SECRET)
    simulated.wall = start
    cookie = simulated.reply_cookie(CLIENT, HOST)
    simulated.wall = start + age
    assert simulated.is_valid(cookie, HOST) is good
    assert (simulated.reply_cookie(cookie, HOST) == cookie) is same


def test_the_secret_rolls_over() -> None:
    """A day makes a new secret; cookies of the former one still prove, and are replaced."""
    simulated = SimulatedCookies()
    simulated.pass_time(SECRET_LIFETIME - 1)
    cookie = simulated.reply_cookie(CLIENT, HOST)
    assert len(simulated.secrets) == 1
    simulated.pass_time(1)
    assert simulated.is_valid(cookie, HOST)
    assert len(simulated.secrets) == 2
    newer = simulated.reply_cookie(cookie, HOST)
    assert newer != cookie
    assert simulated.is_valid(newer, HOST)
    simulated.clock.advance(SECRET_LIFETIME)
    assert simulated.is_valid(newer, HOST)
    assert not simulated.is_valid(cookie, HOST)
    assert len(simulated.secrets) == 3


def test_a_secret_for_good() -> None:
    """A configured secret stays, so that other servers with the same one agree."""
    one, other = SimulatedCookies(SECRET), SimulatedCookies(SECRET)
    one.pass_time(10 * SECRET_LIFETIME)
    other.wall = one.wall
    assert one.secrets == []
    assert other.is_valid(one.reply_cookie(CLIENT, HOST), HOST)


def test_the_wall_clock_jumps() -> None:
    """A jump makes cookies worthless until the next one is made, and new ones are good."""
    simulated = SimulatedCookies()
    cookie = simulated.reply_cookie(CLIENT, HOST)
    for jump in (-86_400, 86_400 * 365):
        simulated.wall += jump
        assert not simulated.is_valid(cookie, HOST)
        assert simulated.is_valid(simulated.reply_cookie(cookie, HOST), HOST)


def option(cookie: bytes) -> dns.edns.Option:
    """A COOKIE option, well-formed or not."""
    return dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)


def asked(cookie: bytes, rdtype: str = "A") -> bytes:
    """A query with a COOKIE option."""
    return client_query(rdtype=rdtype, options=[option(cookie)])


def cookies_of(reply: dns.message.Message) -> list[bytes]:
    """What the COOKIE options of a reply hold."""
    return [
        option.client + option.server
        for option in reply.options
        if isinstance(option, dns.edns.CookieOption)
    ]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_client_gets_its_cookie(transport: str) -> None:
    """A reply has a cookie when the query has one, from the cache or not, over any transport."""
    server = MemoryServer()
    assert server.cookies is not None
    replies = server.later(asked(CLIENT), transport=transport)
    server.forwarder.waiting[0].callback(server.entry(pool()))
    (cookie,) = cookies_of(parse(replies[0]))
    assert server.cookies.is_valid(cookie, FRIEND, server.clock.seconds())
    server.commit(ask(), pool())
    assert cookies_of(server.reply(asked(cookie), transport=transport)) == [cookie]
    assert cookies_of(server.reply(client_query(payload=1232), transport=transport)) == []


def test_errors_have_cookies() -> None:
    """Refusals, errors and answers of our own have them as well."""
    server = MemoryServer()
    assert server.reply(asked(CLIENT), STRANGER).rcode() == dns.rcode.REFUSED
    assert cookies_of(server.reply(asked(CLIENT), STRANGER))
    for rdtype in ("ANY", "AXFR"):
        assert cookies_of(server.reply(asked(CLIENT, rdtype=rdtype)))


def test_a_reply_with_a_cookie_is_not_kept_ready() -> None:
    """Nobody gets another's cookie by sending the same octets."""
    server = MemoryServer()
    server.commit(ask(), pool())
    query = asked(CLIENT)
    first = server.reply(query)
    assert len(server.factory.ready["udp"]) == 0
    assert server.factory.ready["udp"].reply(query, "192.0.2.78", 0.0) is None
    assert cookies_of(server.reply(query, "192.0.2.78")) != cookies_of(first)


@pytest.mark.parametrize("size", range(66))
def test_lengths(size: int) -> None:
    """A client's cookie has 8 octets, a server's 8 to 32: any other length is FORMERR."""
    reply = MemoryServer().now(asked(bytes(size)), STRANGER)
    assert reply is not None
    well_formed = size == 8 or 16 <= size <= 40
    server = MemoryServer()
    server.commit(ask(), pool())
    reply = server.reply(asked(bytes(size)))
    assert (reply.rcode() == dns.rcode.NOERROR) is well_formed
    assert bool(cookies_of(reply)) is well_formed
    if not well_formed:
        assert reply.rcode() == dns.rcode.FORMERR


def test_two_cookies() -> None:
    """Of several options the first counts (RFC 7873 section 5.2)."""
    server = MemoryServer()
    server.commit(ask(), pool())
    options = [option(CLIENT), option(b"!")]
    reply = server.reply(client_query(options=options))
    assert reply.rcode() == dns.rcode.NOERROR
    assert [cookie[:8] for cookie in cookies_of(reply)] == [CLIENT]


def test_a_query_for_a_cookie_alone() -> None:
    """Without a question there is a cookie and no error (RFC 7873 section 5.4)."""
    query = dns.message.QueryMessage(id=7)
    query.use_edns(0, options=[option(CLIENT)])
    reply = MemoryServer().reply(query.to_wire())
    assert reply.rcode() == dns.rcode.NOERROR
    assert not reply.question
    assert cookies_of(reply)
    query.use_edns(0, options=[])
    assert MemoryServer().reply(query.to_wire()).rcode() == dns.rcode.FORMERR


def test_switched_off() -> None:
    """Without cookies the option is ignored as unknown ones are."""
    server = MemoryServer(cookies=False)
    server.commit(ask(), pool())
    reply = server.reply(asked(CLIENT))
    assert reply.rcode() == dns.rcode.NOERROR
    assert reply.options == ()
