"""TCP from clients, and the other families: pipelining, limits, IPv6."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import dns.message
import pytest

from tests.kit import behaviours as b
from tests.kit.clients import (
    NoReplyError,
    TcpClient,
    ask,
    check_belongs,
    eventually,
    question,
    stays,
)
from tests.kit.ports import Endpoint, free_endpoint, free_port
from tests.kit.program import Program
from tests.kit.scripted import ScriptedUpstream
from tests.kit.testbed import PATIENT, SOON, Testbed, own_answer, own_set, unique_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .conftest import BuildTestbed


def test_replies_out_of_order(testbed: Testbed) -> None:
    """Several queries in flight on one connection are answered as they finish."""
    slow = testbed.route("slow", b.answers("203.0.113.1", after=0.3))
    fast = testbed.route("fast", b.answers("203.0.113.2", after=0.05))
    cached = testbed.route("cached", b.answers("203.0.113.3"))
    testbed.ask(cached)
    with TcpClient(testbed.program.endpoint) as client:
        queries = [question(name) for name in (slow, fast, cached)]
        client.send(*queries)
        for query, address in zip(reversed(queries), (3, 2, 1), strict=True):
            reply = client.receive()
            check_belongs(query, reply)
            assert reply.addresses == [f"203.0.113.{address}"]


def test_hundred_in_one_segment(testbed: Testbed) -> None:
    """A hundred queries in one write all get their replies."""
    name = testbed.route("hundred", b.answers("203.0.113.1", after=0.02))
    queries = {}
    for number in range(100):
        query = question(name)
        query.id = number
        queries[number] = query
    with TcpClient(testbed.program.endpoint) as client:
        client.send(*queries.values())
        for _ in range(100):
            reply = client.receive()
            check_belongs(queries.pop(reply.message.id), reply)
    assert queries == {}


def test_octet_by_octet(testbed: Testbed) -> None:
    """A query that arrives in single octets is answered as any other."""
    name = testbed.route("octets", b.answers("203.0.113.1"))
    query = question(name)
    wire = query.to_wire()
    with TcpClient(testbed.program.endpoint) as client:
        for octet in len(wire).to_bytes(2, "big") + wire:
            client.send_raw(bytes([octet]))
        check_belongs(query, client.receive())


def test_half_closed_connection_is_answered(testbed: Testbed) -> None:
    """A client that shuts down its sending half still gets what it asked for."""
    name = testbed.route("half", b.answers("203.0.113.1", after=0.1))
    with TcpClient(testbed.program.endpoint) as client:
        client.send(question(name))
        client.finish()
        assert client.receive().addresses == ["203.0.113.1"]


def test_nonsense_on_a_connection(testbed: Testbed) -> None:
    """Empty and short messages neither hang nor harm: closed, or answered with FORMERR."""
    for junk in (b"\x00\x00", b"\x00\x01\xff", b"\x00\x0c" + b"\xff" * 12, b"\x00\x03abc"):
        with TcpClient(testbed.program.endpoint) as client:
            client.send_raw(junk)
            query = question(testbed.route("junk", b.answers("203.0.113.1")))
            try:
                client.send(query)
                while client.receive(2).message.id != query.id:
                    pass
            except (NoReplyError, ConnectionError):
                pass
    assert testbed.ask(testbed.route("junk", b.answers("203.0.113.1"))).rcode == "NOERROR"


def test_idle_timeout(build: BuildTestbed) -> None:
    """An idle connection is closed after tcp_idle_timeout, not before, with work never."""
    testbed = build([own_answer(0, 0.9)], {"server": {"tcp_idle_timeout": "600ms"}})
    with TcpClient(testbed.program.endpoint) as silent, TcpClient(testbed.program.endpoint) as busy:
        busy.send(question("www.example."))
        closed = silent.seconds_until_closed(4)
        assert closed is not None
        assert 0.4 <= closed < 2.5
        assert set(busy.receive(3).addresses) == set(own_set(0)), "a busy connection is not idle"
        closed = busy.seconds_until_closed(4)
        assert closed is not None
        assert closed >= 0.4


def test_half_a_message_is_idle(build: BuildTestbed) -> None:
    """A client that sends half a message and waits does not hold its connection."""
    testbed = build([own_answer(0)], {"server": {"tcp_idle_timeout": "500ms"}})
    with TcpClient(testbed.program.endpoint) as client:
        client.send_raw(b"\x00\x20\x12\x34")
        closed = client.seconds_until_closed(5)
        assert closed is not None


def test_an_octet_at_a_time_is_idle(build: BuildTestbed) -> None:
    """Nor does one that sends an octet now and then, and never a whole message."""
    testbed = build([own_answer(0)], {"server": {"tcp_idle_timeout": "500ms"}})
    start = time.monotonic()
    with (
        TcpClient(testbed.program.endpoint) as client,
        contextlib.suppress(OSError),
    ):
        while time.monotonic() < start + 6:
            client.send_raw(b"\xff")
            time.sleep(0.05)
    assert time.monotonic() - start < 4


def test_connections_of_one_client(build: BuildTestbed) -> None:
    """Beyond tcp_max_per_client a client loses its own longest idle ones, and nobody else's."""
    limits = {"tcp_max_per_client": 3, "client": {"exempt": []}}
    testbed = build([own_answer(0)], {"server": limits})
    testbed.ask("www.example.")
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(TcpClient(testbed.program.endpoint, "127.0.0.3"))
        assert _served(other, "www.example.")
        clients = []
        for _ in range(6):
            clients.append(stack.enter_context(TcpClient(testbed.program.endpoint, "127.0.0.2")))
            assert _served(clients[-1], "www.example.")
        assert [_served(client, "www.example.") for client in clients] == [False] * 3 + [True] * 3
        assert _served(other, "www.example.")


def test_a_flood_on_many_connections(build: BuildTestbed) -> None:
    """While forty connections pipeline without end and read nothing, UDP is answered at once."""
    testbed = build([own_answer(0)])
    testbed.ask("www.example.")
    wire = question("www.example.").to_wire()
    flood = (len(wire).to_bytes(2, "big") + wire) * 2000
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(TcpClient(testbed.program.endpoint)) for _ in range(40)]
        for client in clients:
            client.flood(flood)
        assert sorted(testbed.ask("www.example.").seconds for _ in range(21))[10] < 0.3


def _served(client: TcpClient, name: str) -> bool:
    try:
        client.send(question(name))
        return client.receive(1).rcode == "NOERROR"
    except (NoReplyError, OSError):
        return False


def _connect(testbed: Testbed, stack: contextlib.ExitStack, count: int) -> list[TcpClient]:
    """Open connections; one that is dropped before connect() returned is not among them."""
    clients = []
    for _ in range(count):
        with contextlib.suppress(ConnectionResetError):
            clients.append(stack.enter_context(TcpClient(testbed.program.endpoint)))
    return clients


def test_idle_connections_make_room(build: BuildTestbed) -> None:
    """At tcp_max_connections the longest idle ones go, so a newcomer is always served."""
    testbed = build([own_answer(0)], {"server": {"tcp_max_connections": 4}})
    testbed.ask("www.example.")
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(8):
            clients += _connect(testbed, stack, 1)
            assert _served(clients[-1], "www.example.")
        assert [_served(client, "www.example.") for client in clients] == [False] * 4 + [True] * 4
    assert testbed.ask("www.example.").rcode == "NOERROR", "UDP has no such limit"


def test_connection_limit(build: BuildTestbed) -> None:
    """While tcp_max_connections wait for their answers no more are served; those are."""
    testbed = build([own_answer(0)], {"server": {"tcp_max_connections": 4}})
    slow = testbed.route("slow", own_answer(0, 1.5))
    testbed.ask("www.example.")
    with contextlib.ExitStack() as stack:
        busy = _connect(testbed, stack, 4)
        for client in busy:
            client.send(question(slow))
        eventually(lambda: testbed.counts(slow) == [1])
        others = _connect(testbed, stack, 4)
        # One of the four may have found the place of our first look at the program taken.
        assert sum(_served(client, "www.example.") for client in others) <= 1
        assert sum(_gets(client, own_set(0)) for client in busy) >= 3
        (late,) = _connect(testbed, stack, 1)
        assert _served(late, "www.example."), "the others are idle now"


def _gets(client: TcpClient, addresses: Sequence[str]) -> bool:
    try:
        return set(client.receive(3).addresses) == set(addresses)
    except (NoReplyError, OSError):
        return False


def test_disallowed_clients_take_no_place(build: BuildTestbed) -> None:
    """Connections of clients that may not ask are refused and closed; the others' are served."""
    testbed = build(
        [own_answer(0)], {"server": {"allow": ["127.0.0.1/32"], "tcp_max_connections": 2}}
    )
    testbed.ask("www.example.")
    with contextlib.ExitStack() as stack:
        outside = []
        for _ in range(40):
            with contextlib.suppress(ConnectionResetError):
                outside.append(
                    stack.enter_context(TcpClient(testbed.program.endpoint, "127.0.0.2"))
                )
        assert testbed.ask("www.example.", tcp=True).rcode == "NOERROR"
        refused = 0
        for client in outside:
            with contextlib.suppress(NoReplyError, OSError):
                client.send(question("www.example."))
                refused += client.receive(1).rcode == "REFUSED"
                assert client.seconds_until_closed(2) is not None
        assert 1 <= refused <= 16 + 1  # the last place of one that has left is given on
        assert testbed.ask("www.example.", tcp=True).rcode == "NOERROR"


def test_both_wildcards(tmp_path: Path) -> None:
    """``0.0.0.0`` and ``[::]`` may be listed together, as a server of a whole network has it."""
    port = free_port("127.0.0.1", "::1")
    settings = {
        "server": {"listen": [f"0.0.0.0:{port}", f"[::]:{port}"], "allow": ["127.0.0.1", "::1"]}
    }
    looked = Endpoint("127.0.0.1", port)
    with (
        ScriptedUpstream(b.answers("203.0.113.1")) as upstream,
        Program(tmp_path / "wild", [upstream.endpoint], settings, listen=looked),
    ):
        for host in ("127.0.0.1", "::1"):
            for tcp in (False, True):
                reply = ask(Endpoint(host, port), "www.example.", tcp=tcp)
                assert reply.addresses == ["203.0.113.1"]


def test_ipv6_listener(tmp_path: Path) -> None:
    """IPv4 and IPv6 addresses are served side by side, UDP and TCP, with an IPv6 upstream."""
    port = free_port("127.0.0.1", "::1")
    four, six = Endpoint("127.0.0.1", port), Endpoint("::1", port)
    upstream = ScriptedUpstream(b.answers("203.0.113.1", "2001:db8::1"), free_endpoint("::1"))
    settings = {"server": {"listen": [str(four), str(six)]}}
    with upstream, Program(tmp_path / "six", [upstream.endpoint], settings, listen=four):
        for server in (four, six):
            for tcp in (False, True):
                assert ask(server, "www.example.", tcp=tcp).addresses == ["203.0.113.1"]
        assert ask(six, "www.example.", "AAAA").addresses == ["2001:db8::1"]
        assert len(upstream.asked("www.example.")) == 2


def test_two_listeners_share_the_cache(tmp_path: Path) -> None:
    """Several listen addresses are doors of one program."""
    first, second = free_endpoint("127.0.0.1"), free_endpoint("127.0.0.3")
    with (
        ScriptedUpstream(b.answers("203.0.113.1")) as upstream,
        Program(
            tmp_path / "two",
            [f"udp://{upstream.endpoint}"],
            {"server": {"listen": [str(first), str(second)]}},
            listen=first,
        ),
    ):
        for server in (first, second, first):
            assert ask(server, "www.example.").addresses == ["203.0.113.1"]
        assert len(upstream.queries) == 1


def test_tcp_upstreams(build: BuildTestbed) -> None:
    """An upstream `tcp://` is asked over TCP alone, and pools as any other."""
    testbed = build([own_answer(index, 0.01) for index in range(3)], scheme="tcp://")
    names = [unique_name("tcp") for _ in range(4)]
    for name in names:
        assert testbed.ask(name).rcode == "NOERROR"
        testbed.pool(name, {text for index in range(3) for text in own_set(index)})
        assert testbed.counts(name) == [1, 1, 1]
    transports = {query.transport for up in testbed.upstreams.values() for query in up.queries}
    assert transports == {"tcp"}


@pytest.mark.parametrize("failing", ["closes mid-message", "silent", "closed port"])
def test_tcp_upstream_that_fails(build: BuildTestbed, failing: str) -> None:
    """A `tcp://` upstream that breaks off, hangs or refuses does not keep the answer away."""
    behaviour = {
        "closes mid-message": b.closes_mid_message(own_answer(0)),
        "silent": b.silent,
        "closed port": None,
    }[failing]
    waits = None if failing == "silent" else PATIENT
    testbed = build([behaviour, behaviour, own_answer(2)], waits, scheme="tcp://")
    reply = testbed.ask("www.example.")
    assert set(reply.addresses) == set(own_set(2))
    assert reply.seconds < SOON


def test_tcp_upstream_replies_for_other_questions(build: BuildTestbed) -> None:
    """Over TCP too, a reply must match ID, QR and question."""
    poison = b.answers("203.0.113.66")
    for lie in (b.wrong_id, b.not_a_response, b.wrong_question):
        testbed = build([lie(poison), own_answer(1, 0.1)], scheme="tcp://")
        assert set(testbed.ask("www.example.").addresses) == set(own_set(1))
        stays(lambda: testbed.ask("www.example.").addresses, _not_poisoned, 0.3)  # noqa: B023


def _not_poisoned(addresses: list[str]) -> bool:
    return "203.0.113.66" not in addresses


def test_many_connections(testbed: Testbed) -> None:
    """A hundred connections one after the other leave no trace in the next one."""
    name = testbed.route("many", b.answers("203.0.113.1"))
    start = time.monotonic()
    for _ in range(100):
        reply = testbed.ask(name, tcp=True)
        assert isinstance(reply.message, dns.message.QueryMessage)
        assert reply.addresses == ["203.0.113.1"]
    assert time.monotonic() - start < 30
