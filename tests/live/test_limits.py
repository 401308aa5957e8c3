"""Limits of clients, against the running program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit import behaviours as b
from tests.kit.clients import UdpClient, ask, dig, question
from tests.kit.testbed import own_answer

if TYPE_CHECKING:
    from tests.kit.testbed import Testbed

    from .conftest import BuildTestbed

GREEDY, MODEST = "127.0.0.2", "127.0.0.3"
LIMITS = {"server": {"client": {"exempt": []}, "rate_limit": {"queries_per_second": 1, "burst": 5}}}


@pytest.fixture
def limited(build: BuildTestbed) -> Testbed:
    """A program that lets every client ask five times, and one who has done that."""
    testbed = build([own_answer(0)], LIMITS)
    ask(testbed.program.endpoint, "warm.example", source=MODEST)
    with UdpClient(testbed.program.endpoint, GREEDY) as client:
        for _ in range(10):
            client.send(question("warm.example"))
        cut = [client.receive().flag("TC") for _ in range(10)]
    assert cut.count(False) <= 6  # a second may have passed
    return testbed


def test_a_greedy_client_is_sent_to_tcp(limited: Testbed) -> None:
    """Beyond its limit a client gets TC over UDP, answers over TCP; others notice nothing."""
    endpoint = limited.program.endpoint
    assert ask(endpoint, "warm.example", source=GREEDY).flag("TC")
    assert ask(endpoint, "warm.example", source=GREEDY, tcp=True).addresses
    assert ask(endpoint, "warm.example", source=MODEST).addresses
    assert "203.0.0.1" in dig(endpoint, "-b", GREEDY, "+short", "+nocookie", "warm.example")
    samples = limited.program.metrics()
    assert samples.value("staggerdns_rate_limited_total", action="truncated") >= 5


def test_cookies_with_dig(limited: Testbed) -> None:
    """The client learns a cookie from BADCOOKIE, asks again with it, all over UDP."""
    text = dig(limited.program.endpoint, "-b", GREEDY, "+cookie", "+qr", "warm.example")
    assert "(good)" in text
    assert "203.0.0.1" in text
    assert "(UDP)" in text
    samples = limited.program.metrics()
    assert samples.value("staggerdns_rate_limited_total", action="bad_cookie") >= 1
    assert samples.value("staggerdns_rate_limited_total", action="excused") >= 1


def test_loopback_has_no_limit(build: BuildTestbed) -> None:
    """With the limit on, clients on the machine itself are exempt by default."""
    testbed = build([own_answer(0)], {"server": {"rate_limit": LIMITS["server"]["rate_limit"]}})
    with UdpClient(testbed.program.endpoint) as client:
        for _ in range(30):
            client.send(question("warm.example"))
        assert not any(client.receive().flag("TC") for _ in range(30))


def test_rebinding(build: BuildTestbed) -> None:
    """Private addresses are left out for the world's names, and stay for our own."""
    private = b.answers("192.168.1.1", "203.0.113.9")
    settings = {"rebinding": {"strip": True, "allow_domains": ["lan.example"]}}
    testbed = build([private], settings)
    assert testbed.ask("www.example.").addresses == ["203.0.113.9"]
    inside = testbed.route("inside", b.answers("10.0.0.1"))
    reply = testbed.ask(inside)
    assert (reply.rcode, reply.addresses) == ("NOERROR", [])
    assert set(testbed.ask("host.lan.example.").addresses) == {"192.168.1.1", "203.0.113.9"}
    assert testbed.program.metrics().value("staggerdns_rebinding_stripped_total") == 2
