"""What a forged query can bring upon whoever it names as its source."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.settings.sections import ServerSettings
from tests.kit.clients import parse
from tests.kit.factory import FRIEND, STRANGER, MemoryServer, pool
from tests.kit.messages import NAME, ask, client_query, sections_answer, upstream_reply

COOKIE = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"8 octets")
HEADERS = 28
"""Octets of IP and UDP in front of a message."""


def reply_to(server: MemoryServer, query: bytes, host: str = FRIEND) -> bytes:
    """The octets of a reply that is given at once over UDP."""
    reply = server.factory.serve(query, host, "udp", 0.0)
    assert isinstance(reply, bytes)
    return reply


@pytest.mark.parametrize("size", [512, 600, 1232, 1400, 4096])
@pytest.mark.parametrize("payload", [None, 0, 511, 512, 513, 1232, 4096, 65535])
def test_no_reply_is_larger_than_the_limit(size: int, payload: int | None) -> None:
    """A reply over UDP fits the client's size and ours, whichever is smaller; over TCP neither."""
    server = MemoryServer(ServerSettings(max_udp_size=size))
    server.commit(ask(), pool(500))
    query = client_query(payload=payload)
    most = min(size, max(payload or 512, 512))
    reply = reply_to(server, query)
    assert most - 16 < len(reply) <= most
    over_tcp = server.factory.serve(query, FRIEND, "tcp", 0.0)
    assert isinstance(over_tcp, bytes)
    assert len(over_tcp) > 8000


@pytest.mark.parametrize("length", [900, 1100, 1200, 1300, 5000])
@pytest.mark.parametrize("rdtype", ["TXT", "DNSKEY"])
def test_what_cannot_be_cut(rdtype: str, length: int) -> None:
    """An answer that is too large becomes an empty one with TC, no larger than its query."""
    server = MemoryServer()
    asked = ask(rdtype=rdtype)
    data = {
        "TXT": " ".join(f'"{"x" * 99}"' for _ in range(length // 100)),
        "DNSKEY": f"257 3 8 {'A' * (length // 4 * 4)}",
    }[rdtype]
    server.commit(
        asked, sections_answer(upstream_reply(asked, [f"{NAME} 60 {rdtype} {data}"]), asked)
    )
    query = client_query(rdtype=rdtype, payload=4096)
    reply = reply_to(server, query)
    assert len(reply) <= 1232
    if parse(reply).flags & dns.flags.TC:
        assert len(reply) <= len(query)


@pytest.mark.parametrize("name", [".", NAME, f"{'x' * 63}.example."])
@pytest.mark.parametrize("payload", [None, 4096])
def test_any(name: str, payload: int | None) -> None:
    """ANY brings one small record (RFC 8482), never what the cache holds for the name."""
    server = MemoryServer()
    query = client_query(name, "ANY", payload=payload)
    assert len(reply_to(server, query)) <= len(query) + 21


@pytest.mark.parametrize("cookie", [False, True])
@pytest.mark.parametrize("rdtype", ["A", "TXT", "ANY", "AXFR", "DNSKEY"])
def test_strangers(rdtype: str, cookie: bool) -> None:
    """Who may not ask gets hardly more than was sent: an extended error, and the cookie's rest."""
    server = MemoryServer()
    server.commit(ask(), pool(500))
    query = client_query(rdtype=rdtype, payload=4096, options=[COOKIE] if cookie else None)
    reply = reply_to(server, query, STRANGER)
    assert parse(reply).rcode() == dns.rcode.REFUSED
    more = len(reply) - len(query)
    assert more == 6 + 16 * cookie
    assert (HEADERS + len(reply)) / (HEADERS + len(query)) < 1.4


@given(st.binary(max_size=600))
def test_whatever_is_sent(message: bytes) -> None:
    """No octets at all bring a stranger more than 22 octets beyond what they are."""
    reply = MemoryServer().factory.serve(message, STRANGER, "udp", 0.0)
    assert reply is None or (isinstance(reply, bytes) and len(reply) <= len(message) + 22)
