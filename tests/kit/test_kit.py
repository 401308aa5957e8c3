"""The harness itself: each part does what the end-to-end tests take for granted."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import dns.exception
import dns.message
import dns.rcode
import pytest

from tests.kit import behaviours as b
from tests.kit import daemons
from tests.kit.clients import (
    NoReplyError,
    TcpClient,
    UdpClient,
    ask,
    ask_many,
    dig,
    eventually,
    exchange,
    kdig,
    parse,
    question,
    raw_udp,
)
from tests.kit.ports import Endpoint, free_endpoint, free_endpoints
from tests.kit.program import Samples, merged
from tests.kit.scripted import Action, Behaviour, Query, ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ZONE = """\
$ORIGIN zone.example.
$TTL 300
@ SOA ns.zone.example. host.zone.example. 7 3600 600 86400 60
@ NS ns.zone.example.
ns A 192.0.2.1
www A 203.0.113.1
www A 203.0.113.2
odd TYPE65280 \\# 4 01020304
"""


def test_endpoints_are_free_for_both_transports() -> None:
    """A free endpoint can be bound over UDP and TCP, and no two are equal."""
    first, second = free_endpoint(), free_endpoint()
    assert first != second
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.bind(first)
    hosts = free_endpoints(3)
    assert len({end.port for end in hosts}) == 1
    assert len({end.host for end in hosts}) == 3
    assert str(Endpoint("::1", 53)) == "[::1]:53"


def test_closed_port_is_refused() -> None:
    """A query to a free endpoint comes back as a connection error, not as a timeout."""
    with pytest.raises(ConnectionRefusedError):
        raw_udp(free_endpoint(), question("a.example").to_wire())


def test_answers_over_udp_and_tcp() -> None:
    """A scripted upstream answers over both transports and records what it was asked."""
    with ScriptedUpstream(b.answers("203.0.113.1", "2001:db8::1")) as upstream:
        before = time.monotonic()
        assert ask(upstream.endpoint, "Name.Example").addresses == ["203.0.113.1"]
        assert ask(upstream.endpoint, "name.example", "AAAA", tcp=True).addresses == ["2001:db8::1"]
        assert ask(upstream.endpoint, "name.example", "MX").authority("SOA") is not None
        assert [query.transport for query in upstream.queries] == ["udp", "tcp", "udp"]
        assert len(upstream.asked("NAME.example")) == 3
        assert len(upstream.asked("name.example", "AAAA")) == 1
        assert all(before - 0.01 <= query.at <= time.monotonic() for query in upstream.queries)
        assert upstream.queries[0].number == 0


def test_delay() -> None:
    """A delayed answer comes after its delay."""
    with ScriptedUpstream(b.answers("203.0.113.1", after=0.15)) as upstream:
        assert ask(upstream.endpoint, "a.example").seconds >= 0.149


@pytest.mark.parametrize(
    ("behaviour", "rcode"),
    [
        (b.rcode("SERVFAIL"), "SERVFAIL"),
        (b.rcode("REFUSED"), "REFUSED"),
        (b.nxdomain(), "NXDOMAIN"),
        (b.nodata(), "NOERROR"),
    ],
)
def test_rcodes(behaviour: Behaviour, rcode: str) -> None:
    """Error and negative behaviours give their RCODE, the negative ones with an SOA."""
    with ScriptedUpstream(behaviour) as upstream:
        reply = ask(upstream.endpoint, "a.example")
        assert reply.rcode == rcode
        assert (reply.authority("SOA") is None) == (rcode in ("SERVFAIL", "REFUSED"))


def test_silence() -> None:
    """A silent upstream records the query and answers nothing."""
    with ScriptedUpstream(b.silent) as upstream:
        assert raw_udp(upstream.endpoint, question("a.example").to_wire(), 0.1) is None
        assert len(upstream.asked("a.example")) == 1


def test_truncation() -> None:
    """TC over UDP, the whole answer over TCP; and what does not fit is truncated by itself."""
    many = [f"198.51.100.{index}" for index in range(100)]
    with ScriptedUpstream(b.truncated_over_udp(b.answers("203.0.113.1"))) as upstream:
        assert ask(upstream.endpoint, "a.example").flag("TC")
        assert ask(upstream.endpoint, "a.example", tcp=True).addresses == ["203.0.113.1"]
        upstream.behaviour = b.answers(*many)
        assert ask(upstream.endpoint, "a.example").flag("TC")
        assert len(ask(upstream.endpoint, "a.example", tcp=True).addresses) == 100
        assert len(ask(upstream.endpoint, "a.example", payload=4096).addresses) == 100


def test_chain() -> None:
    """A chain of CNAME records ends in addresses."""
    with ScriptedUpstream(b.cname_chain(["b.example.", "c.example."], "203.0.113.1")) as upstream:
        reply = ask(upstream.endpoint, "a.example")
        assert reply.types == ["CNAME", "CNAME", "A"]
        assert reply.message.answer[2].name.to_text() == "c.example."


@pytest.mark.parametrize(
    "lie",
    [b.wrong_id, b.not_a_response, b.wrong_opcode, b.wrong_question, b.wrong_question_type],
)
def test_liars(lie: Callable[[Behaviour], Behaviour]) -> None:
    """Each liar sends a well-formed message that does not belong to the query."""
    with ScriptedUpstream(lie(b.answers("203.0.113.1"))) as upstream:
        query = question("abc.example")
        wire = raw_udp(upstream.endpoint, query.to_wire())
        assert wire is not None
        assert not query.is_response(parse(wire))
        with pytest.raises(AssertionError):
            exchange(upstream.endpoint, query)


def test_other_origins() -> None:
    """A reply from another port or address does not reach a connected socket."""
    for origin in (b.from_other_port, b.from_other_host):
        with ScriptedUpstream(origin(b.answers("203.0.113.1"))) as upstream:
            with UdpClient(upstream.endpoint) as client:
                client.send(question("a.example"))
                assert client.receive_raw(0.1) is None
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as open_socket:
                open_socket.settimeout(2)
                open_socket.sendto(question("a.example").to_wire(), upstream.endpoint)
                assert open_socket.recvfrom(65535)[1] != upstream.endpoint


def test_twice_and_in_turn() -> None:
    """A reply can come twice, and behaviours can change from query to query."""
    with ScriptedUpstream(
        b.in_turn(b.twice(b.answers("203.0.113.1")), b.rcode("SERVFAIL"))
    ) as upstream:
        with UdpClient(upstream.endpoint) as client:
            client.send(question("a.example"))
            assert client.receive().wire == client.receive().wire
        assert ask(upstream.endpoint, "a.example").rcode == "SERVFAIL"
        assert ask(upstream.endpoint, "a.example").rcode == "SERVFAIL"


def test_garbage() -> None:
    """Garbage is no DNS message; a cut reply is none either."""
    for broken in (b.garbage(), b.garbage(keep_id=False), b.cut_short(b.answers("192.0.2.1"), 30)):
        with ScriptedUpstream(broken) as upstream:
            wire = raw_udp(upstream.endpoint, question("a.example").to_wire())
            assert wire is not None
            with pytest.raises(dns.exception.DNSException):
                parse(wire)


def test_trailing_octets_are_refused() -> None:
    """The strict parser refuses one octet too many."""
    with pytest.raises(dns.message.TrailingJunk):
        parse(question("a.example").to_wire() + b"\0")


def test_close_mid_message() -> None:
    """The TCP connection ends in the middle of the reply."""
    with (
        ScriptedUpstream(b.closes_mid_message(b.answers("203.0.113.1"))) as upstream,
        TcpClient(upstream.endpoint) as client,
    ):
        client.send(question("a.example"))
        with pytest.raises(NoReplyError, match="closed"):
            client.receive(2)


def test_pipelining() -> None:
    """Replies over one TCP connection come as they are due."""
    slow_and_fast = b.by_name(
        {"slow.example.": b.answers("203.0.113.1", after=0.1)}, b.answers("203.0.113.2")
    )
    with ScriptedUpstream(slow_and_fast) as upstream, TcpClient(upstream.endpoint) as client:
        client.send(question("slow.example"), question("fast.example"))
        assert client.receive().addresses == ["203.0.113.2"]
        assert client.receive().addresses == ["203.0.113.1"]
        assert client.seconds_until_closed(0.1) is None
        assert upstream.connections_accepted == 1


def test_error_in_a_behaviour_fails_the_test() -> None:
    """What a behaviour raises comes out when the upstream is stopped."""

    def broken(query: Query) -> list[Action]:
        raise IndexError(query.name)

    upstream = ScriptedUpstream(broken)
    upstream.start()
    assert raw_udp(upstream.endpoint, question("a.example").to_wire(), 0.1) is None
    with pytest.raises(IndexError):
        upstream.stop()


def test_many_clients() -> None:
    """Many clients at once each get the reply to their own query."""
    with ScriptedUpstream(b.answers("203.0.113.1", after=0.05)) as upstream:
        replies = ask_many(upstream.endpoint, "a.example", 50)
        assert len(replies) == 50
        assert len({query.source for query in upstream.queries}) == 50
        assert len({query.parsed.id for query in upstream.queries}) > 25


def test_eventually_gives_up() -> None:
    """Polling ends with the last value seen."""
    with pytest.raises(AssertionError, match="last seen: 0"):
        eventually(lambda: 0, timeout=0.05)


def test_samples() -> None:
    """A page of metrics is read by name and labels."""
    text = '# TYPE a_total counter\na_total{x="1"} 2\na_total{x="2"} 3\n# TYPE g gauge\ng 4\n'
    samples = Samples(text)
    assert samples.value("a_total") == 5
    assert samples.value("a_total", x="2") == 3
    assert samples.value("missing") == 0
    assert samples.types == {"a": "counter", "g": "gauge"}


def test_settings_are_merged() -> None:
    """Settings are laid over each other mapping by mapping, and the base stays as it was."""
    base = {"a": {"b": 1, "c": 2}, "d": 3}
    assert merged(base, {"a": {"c": 4}, "e": 5}) == {"a": {"b": 1, "c": 4}, "d": 3, "e": 5}
    assert base == {"a": {"b": 1, "c": 2}, "d": 3}


@pytest.mark.live
def test_real_daemons(tmp_path: Path) -> None:
    """Nsd serves a zone on two addresses; unbound and dnsmasq forward to it; dig and kdig ask."""
    first, second, resolver, forwarder = free_endpoints(4, first=21)
    with (
        daemons.nsd(tmp_path / "nsd", {"zone.example": ZONE}, [first, second]) as server,
        daemons.unbound(tmp_path / "unbound", resolver, [first]),
        daemons.dnsmasq(tmp_path / "dnsmasq", forwarder, [second]),
    ):
        for endpoint in (first, second, resolver, forwarder):
            got = ask(endpoint, "www.zone.example").addresses
            assert sorted(got) == ["203.0.113.1", "203.0.113.2"]
        assert "203.0.113.1" in dig(first, "www.zone.example", "+short").split()
        assert "203.0.113.2" in kdig(second, "www.zone.example", "+short").split()
        assert ask(first, "odd.zone.example", "TYPE65280").message.answer[0][0].to_text() == (
            r"\# 4 01020304"
        )
        assert ask(resolver, "none.zone.example").rcode == "NXDOMAIN"
    assert server.poll() is not None
