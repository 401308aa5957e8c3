"""Queries over TCP: with real sockets on loopback, and byte by byte without."""

from __future__ import annotations

import errno
import itertools
import struct
import time
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import error
from twisted.internet.defer import gatherResults, succeed

from staggerdns.standstill import LATE, LONG
from staggerdns.upstream import stream
from staggerdns.upstream.connection import CLOSING_TIME, IDLE_TIMEOUT, LONGEST_IDLE, MAX_TAKEN
from staggerdns.upstream.edns import FULL
from staggerdns.upstream.entropy import Entropy
from staggerdns.upstream.happyeyeballs import ATTEMPT_DELAY
from staggerdns.upstream.reason import Reason
from staggerdns.upstream.stream import FIRST_WAIT
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.judge import Judge
from staggerdns.wire.verdict import Verdict
from tests.kit import behaviours as b
from tests.kit.compiled import PURE_ONLY
from tests.kit.loopback import DEADLINE, cancelled, loopback_upstream, no_connections, pause, until
from tests.kit.memory import (
    WWW,
    MemoryTransport,
    StreamUpstream,
    TcpServerEnd,
    TcpUpstream,
    framed,
    good_reply,
)
from tests.kit.ports import free_endpoint
from tests.kit.scripted import Close, ScriptedUpstream, Send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.kit.scripted import Action, Behaviour, Query

GOOD = b.answers("203.0.113.1")


@pytest.fixture
def server() -> Iterator[ScriptedUpstream]:
    """A server that answers; tests change its behaviour."""
    with ScriptedUpstream(GOOD) as running:
        yield running


@pytest_twisted.ensureDeferred
async def test_one_connection_for_all(server: ScriptedUpstream) -> None:
    """An upstream ``tcp://`` is asked over TCP only, and the connection is kept."""
    with loopback_upstream(server.endpoint, "tcp://") as asked:
        assert asked.upstream.name == f"tcp://{server.endpoint}"
        for _ in range(5):
            assert (await asked.ask()).verdict == Verdict.POSITIVE
        assert asked.connects() == {"tcp": 1}
    await no_connections()
    assert [query.transport for query in server.queries] == ["tcp"] * 5
    assert server.connections_accepted == 1


@pytest_twisted.ensureDeferred
async def test_a_thousand_at_once(server: ScriptedUpstream) -> None:
    """A burst goes over one connection, under IDs that differ, and is answered out of order."""
    delays = itertools.cycle([0.05, 0.0, 0.02])

    def behave(query: Query) -> Sequence[Action]:
        return b.answers("203.0.113.1", after=next(delays))(query)

    server.behaviour = behave
    with loopback_upstream(server.endpoint, "tcp://") as asked:
        asked.upstream.dialect.edns.proven = FULL
        outcomes = await gatherResults([asked.start().deferred() for _ in range(1000)])
        assert {outcome.verdict for outcome in outcomes} == {Verdict.POSITIVE}
        assert asked.rejected() == {}
    await no_connections()
    assert server.connections_accepted == 1
    assert len({query.wire[:2] for query in server.queries}) == 1000


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (b.wrong_id, "id"),
        (b.not_a_response, "flags"),
        (b.wrong_opcode, "flags"),
        (b.wrong_question, "question"),
        (lambda original: b.cut_short(original, 5), "short"),
        (lambda original: b.cut_short(original, 0), "id"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_does_not_answer(
    server: ScriptedUpstream, lie: Callable[[Behaviour], Behaviour], reason: str
) -> None:
    """A wrong message on our own connection ends it: a failure at once, and counted."""
    server.behaviour = lie(GOOD)
    with loopback_upstream(server.endpoint, "tcp://") as asked:
        outcome = await asked.ask()
        assert outcome.answer is None
        assert outcome.reason == Reason.MISMATCH
        assert set(asked.rejected()) == {reason}
        assert asked.marks == 1
    await no_connections()


@pytest.mark.parametrize("prefix", [b"", b"\0", b"\0\x20", b"\0\x20\1\2\3"])
@pytest_twisted.ensureDeferred
async def test_closed_in_mid_message(server: ScriptedUpstream, prefix: bytes) -> None:
    """A query whose connection ends goes out once more, on a new one; then it is an error."""
    server.behaviour = lambda query: [Close(0, prefix)]
    with loopback_upstream(server.endpoint, "tcp://") as asked:
        asked.upstream.dialect.edns.proven = FULL
        outcome = await asked.ask()
        assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, Reason.CLOSED)
        assert asked.marks == 1
        assert asked.repeated == 1
        assert len(server.queries) == server.connections_accepted == 2
    await no_connections()


@pytest_twisted.ensureDeferred
async def test_closed_once(server: ScriptedUpstream) -> None:
    """What the second connection answers is as good as if nothing had happened."""
    server.behaviour = b.in_turn(lambda query: [Close(0, b"\0\x20\1")], GOOD)
    with loopback_upstream(server.endpoint, "tcp://") as asked:
        assert (await asked.ask()).verdict == Verdict.POSITIVE
        assert (asked.marks, asked.repeated) == (0, 1)
    await no_connections()


@pytest_twisted.ensureDeferred
async def test_server_that_closes_after_each_answer(server: ScriptedUpstream) -> None:
    """Such a server works all the same: each query opens a connection, without a wait."""

    def behave(query: Query) -> Sequence[Action]:
        return [*GOOD(query), Close(0)]

    server.behaviour = behave
    with loopback_upstream(server.endpoint, "tcp://") as asked:
        start = time.monotonic()
        for _ in range(20):
            assert (await asked.ask()).verdict == Verdict.POSITIVE
        assert time.monotonic() - start < 20 * FIRST_WAIT
        assert asked.marks == 0
    await no_connections()


@pytest_twisted.ensureDeferred
async def test_server_that_closes_after_each_answer_at_once(server: ScriptedUpstream) -> None:
    """Queries that are under way together with such a server are all answered, too."""
    server.behaviour = lambda query: [*GOOD(query), Close(0)]
    with loopback_upstream(server.endpoint, "tcp://") as asked:
        outcomes = await gatherResults([asked.start().deferred() for _ in range(20)])
        assert {outcome.verdict for outcome in outcomes} == {Verdict.POSITIVE}
        assert asked.marks == 0
    await no_connections()


@pytest_twisted.ensureDeferred
async def test_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is a network error at once, and tried again at once the first time."""
    monkeypatch.setattr(stream, "FIRST_WAIT", stream.LONGEST_WAIT)  # none ends on a busy machine
    with loopback_upstream(free_endpoint(), "tcp://") as asked:
        start = time.monotonic()
        reasons = [Reason.CONNECTION_REFUSED] * 2 + [Reason.NO_CONNECTION] * 3
        for reason in reasons:
            outcome = await asked.ask()
            assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, reason)
        assert time.monotonic() - start < DEADLINE
        assert asked.marks == 2
        assert asked.connects() == {"connection refused": 2}
    await no_connections()


@pytest_twisted.ensureDeferred
async def test_server_that_starts_late() -> None:
    """A port that was closed is used when somebody listens there, after a short wait."""
    endpoint = free_endpoint()
    with loopback_upstream(endpoint, "tcp://") as asked:
        for _ in range(3):
            await asked.ask()
        with ScriptedUpstream(GOOD, endpoint):
            await pause(2 * FIRST_WAIT)  # the third may have tried again, on a busy machine
            assert (await asked.ask()).verdict == Verdict.POSITIVE
    await no_connections()


@pytest_twisted.ensureDeferred
async def test_truncated_over_tcp(server: ScriptedUpstream) -> None:
    """TC over TCP is no reason to ask again: what came is judged, and ends it."""
    server.behaviour = lambda query: [Send(b.truncated(query))]
    with loopback_upstream(server.endpoint, "tcp://") as asked:
        await asked.ask()
        assert len(server.queries) == 1
        assert asked.metrics.upstream_truncated.cell(asked.upstream.name).value == 0
    await no_connections()


@pytest_twisted.ensureDeferred
async def test_truncated_replies_share_a_connection(server: ScriptedUpstream) -> None:
    """What UDP truncates goes over a connection that is kept, too."""
    server.behaviour = b.truncated_over_udp(GOOD)
    with loopback_upstream(server.endpoint) as asked:
        for _ in range(3):
            assert (await asked.ask()).verdict == Verdict.POSITIVE
    await no_connections()
    assert server.connections_accepted == 1
    transports = [query.transport for query in server.queries]
    assert transports == ["udp", "tcp"] * 3


@pytest_twisted.ensureDeferred
async def test_cancelled(server: ScriptedUpstream) -> None:
    """Cancelling is no mark, before and after the connection is made; the connection stays."""
    server.behaviour = b.in_turn(b.answers("203.0.113.1", after=0.05), GOOD)
    with loopback_upstream(server.endpoint, "tcp://") as asked:
        await cancelled(asked, asked.start())
        exchange = asked.start()
        await until(lambda: len(server.queries) == 1)
        await cancelled(asked, exchange)
        await pause(0.1)  # the late reply is known for what it is
        assert asked.rejected() == {}
        assert (await asked.ask()).verdict == Verdict.POSITIVE
    await no_connections()
    assert server.connections_accepted == 1


@pytest_twisted.ensureDeferred
async def test_close_with_queries_under_way(server: ScriptedUpstream) -> None:
    """`close` drops connections, made or being made, and touches no exchange."""
    server.behaviour = b.silent
    with (
        loopback_upstream(server.endpoint, "tcp://") as asked,
        loopback_upstream(server.endpoint, "tcp://") as other,
    ):
        first = asked.start()
        await until(lambda: len(server.queries) == 1)
        second = other.start()
        asked.upstream.close()
        other.upstream.close()
        await no_connections()
        for exchange, one in ((first, asked), (second, other)):
            assert not exchange.over
            exchange.expire()
            assert one.upstream.inflight == 0


@pytest.fixture
def tcp() -> Iterator[TcpUpstream]:
    """An upstream in memory; nothing is left of it in the end."""
    made = TcpUpstream()
    yield made
    made.upstream.close()
    assert made.reactor.getDelayedCalls() == []


def keeps(tenths: int) -> bytes:
    """The option that says how long a server keeps idle connections (RFC 7828)."""
    return struct.pack("!HHH", 11, 2, tenths)


def test_query_is_framed(tcp: TcpUpstream) -> None:
    """The query goes out behind its length (RFC 1035 section 4.2.2).

    The first one on a connection asks how long that is kept; nothing pads it.
    """
    tcp.ask()
    first = tcp.connect()
    tcp.ask()
    wire = first.queries()
    assert [len(query) - len(WWW.client_query()) for query in wire] == [2 + 4, 2]
    assert wire[0].endswith(b"\0\4\0\x0b\0\0")
    assert wire[1][2:] == WWW.client_query()


def test_reply_byte_by_byte(tcp: TcpUpstream) -> None:
    """However the stream is cut, each reply counts once, with its last byte."""
    tcp.ask()
    tcp.ask()
    connection = tcp.connect()
    one, two = connection.queries()
    data = framed(good_reply(two)) + framed(good_reply(one))
    for position in range(len(data)):
        assert len(tcp.outcomes) == (position >= len(data) // 2)
        connection.protocol.dataReceived(data[position : position + 1])
    assert all(isinstance(outcome.answer, AddressPool) for outcome in tcp.outcomes)
    assert len(tcp.outcomes) == 2
    connection.lose()
    assert len(tcp.outcomes) == 2


def test_a_reply_that_cannot_be_read(tcp: TcpUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong with a reply, its query has failed at once."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    tcp.ask()
    connection = tcp.connect()
    monkeypatch.setattr(Judge, "verdict", broken)
    with pytest.raises(ZeroDivisionError):
        connection.answer(*connection.queries())
    assert tcp.reasons() == [Reason.MISMATCH]


def test_all_that_wait_share_the_first_connection(tcp: TcpUpstream) -> None:
    """Queries that come while the connection is being made go out when it is, in order."""
    for _ in range(3):
        tcp.ask()
    assert tcp.attempts == 1
    assert len(tcp.connect().queries()) == 3


def test_lost_connection_with_many_under_way(tcp: TcpUpstream) -> None:
    """All that wait go out again at once on one new connection, and then they end in turn."""
    for _ in range(3):
        tcp.ask()
    connection = tcp.connect()
    connection.answer(connection.queries()[1])
    connection.lose()
    again = tcp.connect()
    assert len(again.queries()) == 2
    assert tcp.reasons() == [None]
    again.lose()
    assert tcp.reasons() == [Reason.CLOSED]
    last = tcp.connect()  # the younger one may never have been read, the first time
    assert len(last.queries()) == 1
    last.lose()
    assert tcp.reasons() == [Reason.CLOSED]
    assert tcp.attempts == 3


def test_closed_after_each_answer_with_many_under_way(tcp: TcpUpstream) -> None:
    """Each connection that brings an answer brings the others nearer to theirs."""
    for _ in range(8):
        tcp.ask()
    for left in range(8, 0, -1):
        connection = tcp.connect()
        queries = connection.queries()
        assert len(queries) == left
        connection.answer(queries[0])
        connection.lose()
    assert tcp.reasons() == [None] * 8
    assert tcp.attempts == 8
    assert tcp.upstream.health.failures == 0


def test_a_query_that_kills_the_server(tcp: TcpUpstream) -> None:
    """A query on which connections end is tried twice, however many others are answered."""
    tcp.ask()
    for number in range(2):
        tcp.ask()
        connection = tcp.connect()
        connection.answer(connection.queries()[1])
        connection.lose()
        assert tcp.attempts == 2, number
    assert tcp.reasons() == [None, None, Reason.CLOSED]


def test_retry_within_the_querys_time(tcp: TcpUpstream) -> None:
    """An exchange that has ended meanwhile is not sent again."""
    exchange = tcp.ask()
    other = tcp.ask()
    connection = tcp.connect()
    exchange.expire()
    other.cancel()
    connection.lose()
    assert tcp.attempts == 1
    assert tcp.reasons() == [Reason.TIMEOUT]


def test_connect_timeout(tcp: TcpUpstream) -> None:
    """Opening a connection may take as long as a query; then it is a timeout."""
    tcp.ask()
    assert tcp.reactor.tcpClients[0][3] == 3.0
    tcp.refuse(error.TimeoutError())
    assert tcp.reasons() == [Reason.TIMEOUT]
    tcp.ask()
    tcp.reactor.advance(2.99)
    assert tcp.reasons() == []
    tcp.reactor.advance(0.01)
    assert tcp.reasons() == [Reason.TIMEOUT]


@pytest.mark.parametrize("problem", [error.NoRouteError, error.ConnectBindError, OSError])
def test_no_route(tcp: TcpUpstream, problem: type[Exception]) -> None:
    """What else prevents a connection makes the upstream unreachable."""
    tcp.ask()
    tcp.refuse(problem())
    assert tcp.reasons() == [Reason.UNREACHABLE]


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EMFILE, Reason.LOCAL),
        (errno.ENOBUFS, Reason.LOCAL),
        (errno.EADDRNOTAVAIL, Reason.UNREACHABLE),
        (errno.ECONNREFUSED, Reason.CONNECTION_REFUSED),
        (errno.EHOSTUNREACH, Reason.UNREACHABLE),
    ],
)
def test_whose_fault(tcp: TcpUpstream, number: int, reason: Reason) -> None:
    """No descriptors, no buffers: that is our own machine's fault and no mark."""
    tcp.ask()
    tcp.refuse(error.getConnectError((number, "as the system says")))
    assert tcp.reasons() == [reason]
    assert tcp.upstream.health.failures == (reason is not Reason.LOCAL)


def test_backoff(tcp: TcpUpstream) -> None:
    """After the second failure in a row attempts come further and further apart.

    In between queries fail at once, which is no mark. A reply ends all that.
    """
    tcp.ask()
    tcp.refuse()
    for wait in (0.25, 0.5, 1, 2, 4, 8, 8):
        tcp.ask()
        tcp.refuse()
        tcp.reactor.advance(wait - 0.01)
        attempts = tcp.attempts
        tcp.ask()
        assert tcp.attempts == attempts
        assert tcp.reasons()[-2:] == [Reason.CONNECTION_REFUSED, Reason.NO_CONNECTION]
        tcp.reactor.advance(0.02)
    tcp.ask()
    connection = tcp.connect()
    connection.answer(*connection.queries())
    connection.lose()
    tcp.ask()
    tcp.refuse()
    tcp.ask()
    tcp.connect()


def test_a_server_that_never_answers_counts_as_failing(tcp: TcpUpstream) -> None:
    """Connections that are made and lost before any reply make the next one wait as well."""
    tcp.ask()
    tcp.connect().lose()
    tcp.connect().lose()
    assert tcp.reasons() == [Reason.CLOSED]
    tcp.ask()
    assert (tcp.attempts, tcp.reasons()) == (2, [Reason.NO_CONNECTION])
    tcp.reactor.advance(FIRST_WAIT)
    tcp.ask()
    tcp.connect().lose()
    assert (tcp.attempts, tcp.reasons()) == (3, [Reason.CLOSED])
    assert tcp.upstream.health.failures == 2


def test_one_mark_for_one_failure(tcp: TcpUpstream) -> None:
    """However many queries wait for a connection, or on one, its failure is one mark."""
    tcp.ask()
    connection = tcp.connect()
    connection.answer(*connection.queries())
    tcp.reactor.advance(1)
    for _ in range(10):
        tcp.ask()
    connection.lose()
    tcp.refuse()
    assert tcp.reasons() == [None, Reason.CONNECTION_REFUSED, *[Reason.NO_CONNECTION] * 9]
    assert tcp.upstream.health.failures == 1
    for _ in range(10):
        tcp.ask()
    tcp.connect().lose()  # the second failure: nothing is tried again before its time
    assert tcp.reasons() == [Reason.CLOSED, *[Reason.NO_CONNECTION] * 9]
    assert tcp.upstream.health.failures == 2
    tcp.reactor.advance(FIRST_WAIT)
    for _ in range(10):
        tcp.ask()
    tcp.refuse(error.getConnectError((errno.EMFILE, "as the system says")))
    assert tcp.reasons() == [Reason.LOCAL] * 10
    assert tcp.upstream.health.failures == 2


def test_the_mark_is_for_the_latest(tcp: TcpUpstream) -> None:
    """What was asked before the last good reply says nothing about the failure after it."""
    tcp.ask()
    tcp.reactor.advance(1)
    tcp.ask()
    connection = tcp.connect()
    connection.answer(connection.queries()[1])
    tcp.reactor.advance(1)
    connection.lose()
    tcp.ask()
    tcp.refuse()
    assert tcp.upstream.health.failures == 1


def test_idle_connection(tcp: TcpUpstream) -> None:
    """A connection on which nothing happens for `IDLE_TIMEOUT` is closed, none before."""
    tcp.ask()
    connection = tcp.connect()
    connection.answer(*connection.queries())
    tcp.reactor.advance(IDLE_TIMEOUT - 1)
    tcp.ask()
    connection.answer(*connection.queries())
    tcp.reactor.advance(IDLE_TIMEOUT - 0.1)
    assert not connection.transport.closing()
    tcp.reactor.advance(0.1)
    assert connection.transport.closing()
    assert not connection.transport.cut()
    tcp.ask()
    assert tcp.attempts == 2
    connection.lose()


def test_who_does_not_say_goodbye_is_cut_off(tcp: TcpUpstream) -> None:
    """Closing in order has `CLOSING_TIME`."""
    tcp.ask()
    connection = tcp.connect()
    connection.answer(*connection.queries())
    tcp.reactor.advance(IDLE_TIMEOUT)
    assert connection.transport.closing()
    tcp.reactor.advance(CLOSING_TIME - 0.1)
    assert not connection.transport.cut()
    tcp.reactor.advance(0.1)
    assert connection.transport.cut()


@pytest.mark.parametrize(
    ("tenths", "seconds"), [(5, 0.5), (100, 10.0), (600, 60.0), (9000, LONGEST_IDLE)]
)
def test_keepalive(tcp: TcpUpstream, tenths: int, seconds: float) -> None:
    """The server says how long it keeps an idle connection (RFC 7828), which has an upper limit."""
    tcp.ask()
    connection = tcp.connect()
    connection.answer(*connection.queries(), keeps(tenths))
    tcp.reactor.advance(seconds - 0.1)
    assert not connection.transport.closing()
    tcp.reactor.advance(0.1)
    assert connection.transport.closing()


def test_keepalive_of_zero(tcp: TcpUpstream) -> None:
    """A server that keeps nothing gets no more queries here; those under way are still answered."""
    tcp.ask()
    tcp.ask()
    connection = tcp.connect()
    one, two = connection.queries()
    connection.answer(one, keeps(0))
    assert not connection.transport.closing()
    tcp.ask()
    other = tcp.connect()
    assert len(other.queries()) == 1
    connection.answer(two)
    assert connection.transport.closing()
    assert tcp.reasons() == [None, None]


def test_a_silent_connection_is_dead(tcp: TcpUpstream) -> None:
    """A timeout on a connection from which nothing comes any more ends it at once.

    What else waits there goes out again on a new one, which answers.
    """
    tcp.ask()
    connection = tcp.connect()
    connection.answer(*connection.queries())
    first = tcp.ask()
    tcp.reactor.advance(2.9)
    tcp.ask()
    tcp.reactor.advance(0.1)
    first.expire()
    assert connection.transport.cut()
    again = tcp.connect()
    again.answer(*again.queries())
    assert tcp.reasons() == [None, Reason.TIMEOUT, None]


def test_a_connection_that_dies_between_two_answers(tcp: TcpUpstream) -> None:
    """One answer makes up for no silence after it: the next timeout ends the connection."""
    tcp.ask()
    second = tcp.ask()
    connection = tcp.connect()
    tcp.reactor.advance(0.1)
    connection.answer(connection.queries()[0])
    tcp.reactor.advance(2.9)
    second.expire()
    assert connection.transport.cut()
    tcp.ask()
    tcp.connect()
    assert tcp.reasons() == [None, Reason.TIMEOUT]


def test_silence_with_nothing_to_say(tcp: TcpUpstream) -> None:
    """A connection that has answered everything, and is idle, is as good as new."""
    tcp.ask()
    connection = tcp.connect()
    connection.answer(*connection.queries())
    tcp.reactor.advance(IDLE_TIMEOUT - 1)
    tcp.ask()
    assert len(connection.queries()) == 1
    assert not connection.transport.cut()


def test_a_silent_connection_whose_queries_were_cancelled(tcp: TcpUpstream) -> None:
    """Nobody need time out: the next query sees how long nothing has come."""
    tcp.ask()
    connection = tcp.connect()
    connection.answer(*connection.queries())
    tcp.ask().cancel()
    tcp.reactor.advance(2.9)
    tcp.ask().cancel()
    assert tcp.attempts == 1
    tcp.reactor.advance(0.1)
    tcp.ask()
    assert connection.transport.cut()
    assert tcp.attempts == 2


def test_a_slow_query_kills_nobody(tcp: TcpUpstream) -> None:
    """While other replies come, one that does not is that query's affair alone."""
    slow = tcp.ask()
    tcp.ask()
    connection = tcp.connect()
    tcp.reactor.advance(2.9)
    connection.answer(connection.queries()[1])
    slow.expire()
    assert not connection.transport.cut()
    assert tcp.reasons() == [None, Reason.TIMEOUT]


def test_a_connection_has_its_fill(tcp: TcpUpstream) -> None:
    """`MAX_TAKEN` unanswered queries are enough for one connection; the next has another."""
    for _ in range(MAX_TAKEN):
        tcp.ask()
    full = tcp.connect()
    assert tcp.attempts == 1
    tcp.ask()
    assert tcp.attempts == 2
    assert len(full.queries()) == MAX_TAKEN


def test_ids_of_the_abandoned_stay_taken(tcp: TcpUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply to a query that was given up answers no later one."""
    numbers = iter([b"\0\1", b"\0\1", b"\0\1", b"\0\2"])
    monkeypatch.setattr(Entropy, "take", lambda entropy: next(numbers))
    tcp.ask().cancel()
    exchange = tcp.ask()
    connection = tcp.connect()
    assert [query[:2] for query in connection.queries()] == [b"\0\1"]
    exchange.cancel()
    tcp.ask()
    (query,) = connection.queries()
    assert query[:2] == b"\0\2"
    connection.answer(b"\0\1" + query[2:])
    assert tcp.reasons() == []
    connection.answer(query)
    assert tcp.reasons() == [None]


def test_late_answers_are_answers(tcp: TcpUpstream) -> None:
    """An upstream that others are quicker than works all the same."""
    tcp.ask()
    tcp.refuse()
    assert tcp.upstream.stream.failures == 1
    exchange = tcp.ask()
    connection = tcp.connect()
    exchange.cancel()
    connection.answer(*connection.queries())
    assert tcp.upstream.stream.failures == 0
    tcp.ask()
    connection.lose()  # no wonder after an answer: nothing has to wait
    tcp.connect()
    assert tcp.upstream.stream.failures == 0


@pytest.mark.parametrize(("still", "connections"), [(LONG - 1, 1), (LONG + 1, 2)])
def test_asked_after_a_standstill(tcp: TcpUpstream, still: float, connections: int) -> None:
    """Behind a long one a connection is no longer trusted: what waits goes again over a new one."""
    tcp.ask()
    connection = tcp.connect()
    connection.answer(*connection.queries())
    tcp.reactor.advance(IDLE_TIMEOUT - 0.1)
    tcp.ask()
    connection.answer(*connection.queries())
    tcp.ask()
    tcp.reactor.rightNow += 0.1 + LATE + still
    tcp.reactor.advance(0)
    tcp.ask()
    assert tcp.attempts == connections
    if connections == 2:
        assert len(tcp.connect().queries()) == 2
    tcp.upstream.close()


def test_asked_after_the_end(tcp: TcpUpstream) -> None:
    """A closed upstream opens nothing any more, and its query ends at once, without a mark."""
    tcp.upstream.close()
    tcp.ask()
    assert tcp.reasons() == [Reason.LOCAL]
    assert tcp.attempts == 0


class NamedUpstream(StreamUpstream):
    """An upstream with a name, whose addresses are ``addresses``."""

    addresses: Sequence[str] = ("2001:db8::1", "192.0.2.1", "192.0.2.2")

    def __init__(self, scheme: str = "tcp") -> None:
        super().__init__(f"{scheme}://dns.example", resolve=lambda _: succeed(self.addresses))

    def wanted(self) -> list[str]:
        """The addresses that were tried since the last call, in order."""
        found = [client[0] for client in self.reactor.tcpClients[self._made :]]
        self._made = self.attempts
        return found

    def take(self, number: int) -> TcpServerEnd:
        """Make one of the connections that are wanted."""
        return TcpServerEnd(self.reactor.tcpClients[number][2])


def test_the_address_that_worked_comes_first() -> None:
    """Where one address has answered, the next connection begins there."""
    tcp = NamedUpstream()
    tcp.ask()
    tcp.reactor.advance(ATTEMPT_DELAY)
    assert tcp.wanted() == ["2001:db8::1", "192.0.2.1"]
    connection = tcp.take(1)
    connection.answer(*connection.queries())
    connection.lose()
    tcp.ask()
    assert tcp.wanted() == ["192.0.2.1"]
    tcp.reactor.pump([ATTEMPT_DELAY, ATTEMPT_DELAY])
    assert tcp.wanted() == ["2001:db8::1", "192.0.2.2"]
    tcp.upstream.close()


def test_an_address_that_takes_connections_in_vain_comes_last() -> None:
    """An address that connects, and never answers, is not in the way of the others."""
    tcp = NamedUpstream()
    tcp.ask()
    tcp.take(0).lose()
    tcp.wanted()
    tcp.reactor.pump([ATTEMPT_DELAY, ATTEMPT_DELAY])
    assert tcp.wanted() == ["192.0.2.2", "2001:db8::1"]
    assert [client[0] for client in tcp.reactor.tcpClients][1] == "192.0.2.1"
    tcp.upstream.close()


def test_addresses_whose_handshakes_stall() -> None:
    """A handshake has the timeout; then the other addresses come first, each in its turn."""
    tcp = NamedUpstream("tls")
    stream = tcp.upstream.stream
    tried = []
    for _ in range(4):
        tcp.ask()
        wire = MemoryTransport()
        wire.socket = Mock()
        tcp.reactor.tcpClients[-1][2].buildProtocol(None).makeConnection(wire)
        tried += tcp.wanted()
        tcp.reactor.advance(2.99)
        assert tcp.reasons() == []
        tcp.reactor.advance(0.01)
        assert tcp.reasons() == [Reason.TIMEOUT]
        assert not any(tcp.metrics.upstream_connections.values().values())
        tcp.reactor.advance(1)  # longer than the waits between attempts so far
    assert tried == ["2001:db8::1", "192.0.2.1", "192.0.2.2", "2001:db8::1"]
    tcp.addresses = ("192.0.2.3",)
    tcp.ask()
    assert tcp.wanted() == ["192.0.2.3"]
    assert stream._unanswered == []
    tcp.upstream.close()
    assert tcp.reactor.getDelayedCalls() == []


def test_a_name_without_addresses() -> None:
    """When the name cannot be resolved, the upstream has failed, and nobody waits."""
    tcp = NamedUpstream()
    tcp.addresses = ()
    tcp.ask()
    assert tcp.reasons() == [Reason.NO_ADDRESS]
    assert tcp.attempts == 0
    tcp.upstream.close()


def test_ipv6_address() -> None:
    """IPv6 upstreams are connected to by their normal form."""
    tcp = StreamUpstream("tcp://[2001:DB8:0::1]:53")
    tcp.ask()
    assert tcp.next_attempt()[:2] == ("2001:db8::1", 53)
    tcp.upstream.close()


@PURE_ONLY
@given(st.lists(st.one_of(st.binary(max_size=60), st.just(None)), max_size=8), st.data())
def test_any_bytes(pieces: list[bytes | None], data: st.DataObject) -> None:
    """Whatever comes, good replies among it, nothing is raised, and each query ends or waits."""
    tcp = TcpUpstream()
    exchanges = [tcp.ask() for _ in range(4)]
    connection = tcp.connect()
    queries = connection.queries()
    for piece in pieces:
        reply = framed(good_reply(data.draw(st.sampled_from(queries))))
        connection.protocol.dataReceived(reply if piece is None else piece)
    if tcp.attempts == 2:
        tcp.connect()
    tcp.reactor.advance(3)
    for exchange in exchanges:
        exchange.expire()
    assert len(tcp.outcomes) == 4
    tcp.upstream.close()
    assert tcp.reactor.getDelayedCalls() == []
