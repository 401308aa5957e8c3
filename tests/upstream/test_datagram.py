"""Queries over UDP, with real sockets on loopback."""

from __future__ import annotations

import socket
import time
from collections import Counter
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults

from staggerdns.upstream import datagram
from staggerdns.upstream.datagram import LOWEST_PORT, QUERIES_PER_SOCKET, SOCKETS
from staggerdns.upstream.edns import FULL
from staggerdns.upstream.reason import Reason
from staggerdns.wire.constants import HEADER_SIZE
from staggerdns.wire.question import make_question
from staggerdns.wire.verdict import Verdict
from tests.kit import behaviours as b
from tests.kit.acts import TXT, A, name, record, says
from tests.kit.loopback import (
    addresses,
    cancelled,
    loopback_upstream,
    no_connections,
    pause,
    reactor,
    until,
)
from tests.kit.ports import Endpoint, free_endpoint
from tests.kit.scripted import Query, ScriptedUpstream, Send
from tests.kit.simulated import HEALTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from staggerdns.upstream.exchange import Exchange, Outcome
    from tests.kit.scripted import Behaviour

WWW = name("www.example")
GOOD = b.answers("203.0.113.1")
POISON = b.answers("203.0.113.66")


@pytest.fixture
def server() -> Iterator[ScriptedUpstream]:
    """A server that answers; tests change its behaviour."""
    with ScriptedUpstream(GOOD) as running:
        yield running


@pytest_twisted.ensureDeferred
async def test_one_question(server: ScriptedUpstream) -> None:
    """The query has RD, one question and our EDNS size; its answer comes with its time."""
    with loopback_upstream(server.endpoint) as asked:
        outcome = await asked.ask()
        assert outcome.verdict == Verdict.POSITIVE
        assert addresses(outcome) == ["203.0.113.1"]
        assert 0 < outcome.seconds < 1
        assert asked.upstream.latency.mean(reactor.seconds()) == outcome.seconds
        assert asked.rejected() == {}
    (query,) = server.queries
    assert query.parsed.payload == 1232
    assert query.wire[2:4] == b"\x01\x20"  # RD and AD


@pytest_twisted.ensureDeferred
async def test_ipv6() -> None:
    """An upstream may have an IPv6 address."""
    with (
        ScriptedUpstream(GOOD, free_endpoint("::1")) as server,
        loopback_upstream(server.endpoint) as asked,
    ):
        assert (await asked.ask()).verdict == Verdict.POSITIVE


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (b.wrong_id, "id"),
        (b.not_a_response, "flags"),
        (b.wrong_opcode, "flags"),
        (b.wrong_question, "question"),
        (b.wrong_question_type, "question"),
        (lambda original: b.cut_short(original, 11), "short"),
        (lambda original: b.cut_short(original, 0), "id"),
        (lambda original: b.cut_short(original, 12), "question"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_does_not_answer_is_rejected(
    server: ScriptedUpstream, lie: Callable[[Behaviour], Behaviour], reason: str
) -> None:
    """Wrong ID, QR, opcode or question: not accepted, counted, and the real reply still is."""
    server.behaviour = b.preceded_by(lie(POISON), GOOD)
    with loopback_upstream(server.endpoint) as asked:
        outcome = await asked.ask()
        assert addresses(outcome) == ["203.0.113.1"]
        assert asked.rejected() == {reason: 1}
        assert asked.marks == 0


@pytest.mark.parametrize("liar", [b.from_other_port, b.from_other_host])
@pytest_twisted.ensureDeferred
async def test_only_the_upstream_itself_answers(
    server: ScriptedUpstream, liar: Callable[[Behaviour], Behaviour]
) -> None:
    """The same bytes from another port or host never arrive."""
    server.behaviour = b.preceded_by(liar(POISON), b.answers("203.0.113.1", after=0.05))
    with loopback_upstream(server.endpoint) as asked:
        outcome = await asked.ask()
        assert addresses(outcome) == ["203.0.113.1"]
        assert outcome.seconds >= 0.04


@pytest_twisted.ensureDeferred
async def test_a_reply_in_other_case_is_accepted(server: ScriptedUpstream) -> None:
    """Upstreams may change the case of the question (RFC 4343) where we do not look for ours."""

    def shout(query: Query) -> list[Send]:
        data = b.reply(query, [(None, 300, "A", "203.0.113.1")])
        return [Send(data.replace(b"\3www", b"\3WWW"))]

    server.behaviour = shout
    with loopback_upstream(server.endpoint, case=False) as asked:
        assert addresses(await asked.ask()) == ["203.0.113.1"]


@pytest.mark.parametrize(
    ("rcode", "reason"),
    [(1, Reason.FORMERR), (2, Reason.SERVFAIL), (4, Reason.NOTIMP), (5, Reason.REFUSED)],
)
@pytest_twisted.ensureDeferred
async def test_an_error_without_its_question(
    server: ScriptedUpstream, rcode: int, reason: Reason
) -> None:
    """A bare header with an error is how some servers refuse: a failure, when TCP says the same."""
    server.behaviour = lambda query: [Send(query.wire[:2] + bytes((0x81, 0x80 | rcode)) + bytes(8))]
    with loopback_upstream(server.endpoint) as asked:
        outcome = await asked.ask()
        assert (outcome.verdict, outcome.reason) == (Verdict.FAILURE, reason)
        assert asked.marks == 0, "so far nobody has answered better"
    await no_connections()
    assert [query.transport for query in server.queries][:2] == ["udp", "tcp"]


@pytest_twisted.ensureDeferred
async def test_an_answer_needs_its_question(server: ScriptedUpstream) -> None:
    """NOERROR and NXDOMAIN without a question are no replies."""
    server.behaviour = b.preceded_by(
        lambda query: [
            Send(query.wire[:2] + b"\x81\x80" + bytes(8)),
            Send(query.wire[:2] + b"\x81\x83" + bytes(8)),
        ],
        GOOD,
    )
    with loopback_upstream(server.endpoint) as asked:
        assert addresses(await asked.ask()) == ["203.0.113.1"]
        assert asked.rejected() == {"question": 2}


@pytest_twisted.ensureDeferred
async def test_late_and_double_replies_are_rejected(server: ScriptedUpstream) -> None:
    """A second reply to a query finds nobody waiting under its ID."""
    server.behaviour = b.twice(GOOD)
    with loopback_upstream(server.endpoint) as asked:
        await asked.ask()
        await until(lambda: asked.rejected() == {"late": 1})


@pytest_twisted.ensureDeferred
async def test_port_unreachable_is_known_at_once() -> None:
    """ICMP port unreachable is told long before any timeout, and is the reason when time is up."""
    waits = []
    with loopback_upstream(free_endpoint()) as asked:
        for number in range(4 * SOCKETS):
            start = time.monotonic()
            exchange = asked.start()
            told: list[Exchange] = []
            exchange.on_hint = told.append
            await until(lambda told=told: told)  # type: ignore[misc]
            waits.append(time.monotonic() - start)
            assert asked.marks == min(number, HEALTH.unhealthy_after), "anybody can forge it"
            exchange.expire()
            outcome = await exchange.deferred()
            assert outcome.verdict == Verdict.NETWORK_ERROR
            assert outcome.reason == Reason.CONNECTION_REFUSED
            assert asked.marks == min(number + 1, HEALTH.unhealthy_after)  # then its circuit opens
    assert median(waits) < 0.1
    assert max(waits) < 2.5  # a busy machine may pause us, a timeout takes longer


@pytest_twisted.ensureDeferred
async def test_port_unreachable_is_told_to_all_that_wait(server: ScriptedUpstream) -> None:
    """When the upstream goes down, queries that it had taken know as soon as that shows."""
    server.behaviour = b.silent
    with loopback_upstream(server.endpoint) as asked:
        exchanges = [asked.start() for _ in range(4 * SOCKETS)]
        await until(lambda: len(server.queries) == len(exchanges))
        server.stop()
        exchanges += [asked.start() for _ in range(12 * SOCKETS)]
        await until(lambda: all(exchange.hinted for exchange in exchanges))
        assert not any(exchange.over for exchange in exchanges)
        for exchange in exchanges:
            exchange.expire()
        assert {(await exchange.deferred()).reason for exchange in exchanges} == {
            Reason.CONNECTION_REFUSED
        }
        assert asked.upstream.inflight == 0


@pytest_twisted.ensureDeferred
async def test_a_reply_behind_port_unreachable() -> None:
    """It is as good as any: the error may have been somebody else's."""
    question = make_question(WWW, A)
    endpoint = free_endpoint()
    with loopback_upstream(endpoint, case=False, cookies=False) as asked:
        exchange = asked.start(question)
        await until(lambda: bool(exchange.hinted))
        (held,) = [one for one in asked.sockets._sockets if one]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
            late.bind((endpoint.host, endpoint.port))
            answer = says(0, "203.0.113.1").reply
            assert answer is not None
            port = held._socket.getsockname()[1]
            late.sendto(exchange.message_id + answer(question)[2:], ("127.0.0.1", port))
            assert addresses(await exchange.deferred()) == ["203.0.113.1"]
        assert asked.marks == 0
        assert asked.upstream.health.usable(reactor.seconds())


@pytest_twisted.ensureDeferred
async def test_an_upstream_that_comes_back() -> None:
    """After refusals every query is answered as soon as the upstream is there again."""
    endpoint = free_endpoint()
    with loopback_upstream(endpoint) as asked:
        for _ in range(4 * SOCKETS):
            exchange = asked.start()
            await until(lambda exchange=exchange: exchange.hinted)  # type: ignore[misc]
            exchange.expire()
        with ScriptedUpstream(GOOD, endpoint):
            for _ in range(4 * SOCKETS):
                outcome = await asked.ask()
                # The refusal of a former query may still stand in a socket.
                assert outcome.verdict == Verdict.POSITIVE


@pytest_twisted.ensureDeferred
async def test_a_route_that_is_not_there() -> None:
    """What the system refuses to send is a network error before `ask` returns."""
    # Broadcast without permission: refused by the kernel, nothing goes out.
    with loopback_upstream(Endpoint("255.255.255.255", 9)) as asked:
        exchange = asked.start()
        outcomes: list[Outcome] = []
        exchange.deferred().addCallback(outcomes.append)
        assert [outcome.reason for outcome in outcomes] == [Reason.LOCAL]
        assert asked.marks == 0
        assert asked.readers == 0


@pytest_twisted.ensureDeferred
async def test_truncation_goes_to_tcp_at_the_same_upstream(server: ScriptedUpstream) -> None:
    """A reply with TC is asked again over TCP; what comes there counts, and both are one."""
    many = [f"203.0.113.{host}" for host in range(1, 101)]
    server.behaviour = b.answers(*many)
    with loopback_upstream(server.endpoint) as asked:
        outcome = await asked.ask()
        assert set(addresses(outcome)) == set(many)
        assert asked.metrics.upstream_truncated.cell(asked.upstream.name).value == 1
        assert asked.upstream.inflight == 0
    await no_connections()
    udp, tcp, *_ = server.queries  # one more over UDP if TCP is slow on a busy machine
    assert (udp.transport, tcp.transport) == ("udp", "tcp")
    assert udp.parsed.question == tcp.parsed.question
    assert udp.wire[:2] != tcp.wire[:2]  # wrong once in 65536 runs


@pytest_twisted.ensureDeferred
async def test_truncated_and_no_tcp(server: ScriptedUpstream) -> None:
    """TC from a server whose TCP does not work is a failure, never an empty answer."""
    server.behaviour = b.by_transport(
        lambda query: [Send(b.truncated(query))], b.closes_mid_message(GOOD)
    )
    with loopback_upstream(server.endpoint) as asked:
        outcome = await asked.ask()
        assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, Reason.CLOSED)


@pytest_twisted.ensureDeferred
async def test_cancelled_between_udp_and_tcp(server: ScriptedUpstream) -> None:
    """Cancelling while the query is under way over TCP is no mark."""
    server.behaviour = b.by_transport(lambda query: [Send(b.truncated(query))], b.silent)
    with loopback_upstream(server.endpoint) as asked:
        exchange = asked.start()
        await until(lambda: len(server.queries) == 2)
        await cancelled(asked, exchange)
    await no_connections()


@pytest_twisted.ensureDeferred
async def test_cancelled(server: ScriptedUpstream) -> None:
    """A cancelled query is forgotten: no mark, and its late reply is nobody's."""
    server.behaviour = b.answers("203.0.113.1", after=0.05)
    with loopback_upstream(server.endpoint) as asked:
        exchange = asked.start()
        await cancelled(asked, exchange)
        await until(lambda: asked.rejected() == {"late": 1})


@pytest_twisted.ensureDeferred
async def test_expired(server: ScriptedUpstream) -> None:
    """A query whose time is up is a timeout, a mark, and a time for the average."""
    server.behaviour = b.silent
    with loopback_upstream(server.endpoint) as asked:
        exchange = asked.start()
        await pause(0.02)
        exchange.expire()
        outcome = await exchange.deferred()
        assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, Reason.TIMEOUT)
        assert asked.marks == 1
        assert asked.upstream.latency.mean(reactor.seconds()) == outcome.seconds
        exchange.expire()
        assert asked.marks == 1


@pytest_twisted.ensureDeferred
async def test_ports_and_ids_cannot_be_guessed(server: ScriptedUpstream) -> None:
    """600 queries: all sockets used about evenly, ports random, no order in the IDs."""
    with loopback_upstream(server.endpoint) as asked:
        for _ in range(30):
            await gatherResults([asked.start().deferred() for _ in range(20)])
        assert asked.readers == SOCKETS
    used = Counter(query.source.port for query in server.queries)
    assert len(used) >= SOCKETS
    assert max(used.values()) <= QUERIES_PER_SOCKET
    assert min(used) >= LOWEST_PORT
    ports = sorted(used)
    assert max(ports) - min(ports) > 4096, "ports stand close together"
    first = Counter(query.source.port for query in server.queries[: 100 * SOCKETS])
    assert len(first) >= SOCKETS
    numbers = [int.from_bytes(query.wire[:2], "big") for query in server.queries]
    assert len(set(numbers)) > 560  # about 597 of 65536 drawn 600 times
    steps = Counter((after - before) % 65536 for before, after in pairwise(numbers))
    assert max(steps.values()) < 10, "one step is too common"
    assert len({number >> 8 for number in numbers}) > 200
    assert len({number & 255 for number in numbers}) > 200
    # The choice of the socket: no slot is starved (75 expected, deviation 8).
    busiest = used.most_common(SOCKETS)
    assert busiest[-1][1] > 30


@pytest.mark.parametrize("size", [1233, 4096, 4097, 65_507], ids=str)
@pytest_twisted.ensureDeferred
async def test_a_reply_larger_than_was_offered(server: ScriptedUpstream, size: int) -> None:
    """It is taken whole, up to what a datagram over IPv4 can hold."""

    def large(query: Query) -> list[Send]:
        length = size - HEADER_SIZE - len(WWW) - 4 - 12  # the question, then the record's head
        data = (b"\xff" + bytes(255)) * (length // 256)
        rest = length - len(data)
        data += bytes((rest - 1,)) + bytes(rest - 1)
        counts = bytes((0, 1, 0, 1, 0, 0, 0, 0))
        section = query.wire[HEADER_SIZE : HEADER_SIZE + len(WWW) + 4]
        head = query.wire[:2] + b"\x81\x80" + counts + section
        message = head + record(b"\xc0\x0c", TXT, 300, data)
        assert len(message) == size
        return [Send(message)]

    server.behaviour = large
    with loopback_upstream(server.endpoint, cookies=False) as asked:
        outcome = await asked.ask(make_question(WWW, TXT))
        assert (outcome.verdict, outcome.reason) == (Verdict.POSITIVE, None)


@pytest.mark.parametrize("per_socket", [1, 5])
@pytest_twisted.ensureDeferred
async def test_sockets_are_replaced(
    server: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, per_socket: int
) -> None:
    """A socket carries exactly so many queries; the next one goes out from another port."""
    monkeypatch.setattr(datagram, "SOCKETS", 1)
    monkeypatch.setattr(datagram, "QUERIES_PER_SOCKET", per_socket)
    with loopback_upstream(server.endpoint) as asked:
        for _ in range(3 * per_socket):
            await asked.ask()
            assert asked.readers == 1
    ports = [query.source.port for query in server.queries]
    turns = [ports[start : start + per_socket] for start in range(0, len(ports), per_socket)]
    assert [len(set(turn)) for turn in turns] == [1, 1, 1]
    assert len(set(ports)) == 3


@pytest_twisted.ensureDeferred
async def test_a_spent_socket_waits_for_its_replies(
    server: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replaced socket is kept while queries wait on it, and closed with the last reply."""
    monkeypatch.setattr(datagram, "SOCKETS", 1)
    monkeypatch.setattr(datagram, "QUERIES_PER_SOCKET", 2)
    server.behaviour = b.in_turn(
        b.answers("203.0.113.1", after=0.1), b.answers("203.0.113.2", after=0.2), b.silent
    )
    with loopback_upstream(server.endpoint) as asked:
        asked.upstream.dialect.edns.proven = FULL  # silence says nothing about EDNS
        exchanges = [asked.start() for _ in range(5)]
        assert asked.readers == 3
        assert addresses(await exchanges[0].deferred()) == ["203.0.113.1"]
        assert asked.readers == 3
        assert addresses(await exchanges[1].deferred()) == ["203.0.113.2"]
        await pause(0)
        assert asked.readers == 2
        exchanges[2].expire()
        assert asked.readers == 2
        exchanges[3].cancel()
        assert asked.readers == 1
        exchanges[4].expire()
        assert asked.readers == 1


@pytest_twisted.ensureDeferred
async def test_close_with_queries_under_way(server: ScriptedUpstream) -> None:
    """After `close` no socket is read, and what was under way can still be ended."""
    server.behaviour = b.silent
    with loopback_upstream(server.endpoint) as asked:
        exchanges = [asked.start() for _ in range(20)]
        assert asked.readers > 0
        asked.upstream.close()
        assert asked.readers == 0
        for exchange in exchanges:
            exchange.expire()
        assert asked.upstream.inflight == 0
        asked.upstream.close()


@pytest_twisted.ensureDeferred
async def test_an_id_is_not_used_twice(
    server: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queries of one socket have different IDs, whatever chance says and even when one of them
    has ended: what comes late for it must not be taken for a reply to another.
    """
    monkeypatch.setattr(datagram, "SOCKETS", 1)
    server.behaviour = b.silent
    numbers = [40_000, 40_000, 40_000, 7, 7, 40_000, 8]

    def rng(size: int) -> bytes:
        return b"".join(number.to_bytes(2, "big") for number in numbers).ljust(size, b"\1")

    with loopback_upstream(server.endpoint, rng=rng, case=False, cookies=False) as asked:
        asked.start().cancel()
        exchanges = [asked.start(), asked.start()]
        await until(lambda: len(server.queries) == 3)
        ids = [int.from_bytes(query.wire[:2], "big") for query in server.queries]
        assert ids == [40_000, 7, 8]
        for exchange in exchanges:
            exchange.expire()


@pytest_twisted.ensureDeferred
async def test_a_taken_port_is_tried_elsewhere(server: ScriptedUpstream) -> None:
    """When chance picks a port in use, another one is taken."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        port = taken.getsockname()[1] - LOWEST_PORT
        free = free_endpoint().port - LOWEST_PORT
        numbers = [0, port, port, free, 7]

        def rng(size: int) -> bytes:
            return b"".join(number.to_bytes(2, "big") for number in numbers).ljust(size, b"\1")

        with loopback_upstream(server.endpoint, rng=rng, case=False, cookies=False) as asked:
            assert (await asked.ask()).verdict == Verdict.POSITIVE
    assert server.queries[0].source.port == free + LOWEST_PORT


@pytest_twisted.ensureDeferred
async def test_no_port_at_all(server: ScriptedUpstream) -> None:
    """When no port can be had the query fails by our own fault, and nothing stays open."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        offset = (taken.getsockname()[1] - LOWEST_PORT).to_bytes(2, "big")
        with loopback_upstream(
            server.endpoint, rng=lambda size: offset * (size // 2), case=False, cookies=False
        ) as asked:
            outcome = await asked.ask()
            assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, Reason.LOCAL)
            assert asked.marks == 0
            assert asked.readers == 0


@pytest_twisted.ensureDeferred
async def test_many_at_once(server: ScriptedUpstream) -> None:
    """Two hundred queries under way at once are all answered, each with its own answer."""

    def by_number(query: Query) -> list[Send]:
        number = int(query.name.split(".")[0][1:])
        return [Send(b.reply(query, [(None, 300, "A", f"203.0.113.{number}")]), 0.02)]

    server.behaviour = by_number
    with loopback_upstream(server.endpoint) as asked:
        questions = [make_question(name(f"n{number}.example"), A) for number in range(200)]
        outcomes = await gatherResults([asked.start(question).deferred() for question in questions])
        found = [addresses(outcome)[0] for outcome in outcomes]
        assert found == [f"203.0.113.{number}" for number in range(200)]
    assert reactor.getDelayedCalls() == []
