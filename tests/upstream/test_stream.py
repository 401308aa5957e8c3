"""Queries over TCP: with real sockets on loopback, and byte by byte without."""

from __future__ import annotations

import errno
import socket
import time
from typing import TYPE_CHECKING, Any, cast

import pytest
import pytest_twisted
from twisted.internet import error
from twisted.internet.defer import gatherResults
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.upstream.address import parse_upstream
from staggerdns.upstream.exchange import LOCAL
from staggerdns.upstream.upstream import Upstream
from staggerdns.wire.answer import Pool
from staggerdns.wire.question import make_question
from staggerdns.wire.verdict import Verdict
from tests.harness import behaviours as b
from tests.harness.ports import free_endpoint
from tests.harness.scripted import Close, ScriptedUpstream, Send
from tests.strategy.fakes import ALPHA, BUDGET, HEALTH, A, name, reply, says

from .desk import desk, no_connections, until
from .test_datagram import cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from staggerdns.upstream.exchange import Exchange, Outcome
    from tests.harness.scripted import Behaviour

GOOD = b.answers("203.0.113.1")
WWW = make_question(name("www.example"), A)


@pytest.fixture
def server() -> Iterator[ScriptedUpstream]:
    """A server that answers; tests change its behaviour."""
    with ScriptedUpstream(GOOD) as running:
        yield running


@pytest_twisted.ensureDeferred
async def test_one_question(server: ScriptedUpstream) -> None:
    """An upstream ``tcp://`` is asked over TCP only, a connection for a question."""
    with desk(server.endpoint, "tcp://") as asked:
        assert asked.upstream.name == f"tcp://{server.endpoint}"
        outcome = await asked.ask()
        assert outcome.verdict == Verdict.POSITIVE
        await no_connections()
    assert [query.transport for query in server.queries] == ["tcp"]
    assert server.connections_accepted == 1


@pytest_twisted.ensureDeferred
async def test_many_at_once(server: ScriptedUpstream) -> None:
    """Questions under way at once have connections and IDs of their own."""
    server.behaviour = b.answers("203.0.113.1", after=0.02)
    with desk(server.endpoint, "tcp://") as asked:
        outcomes = await gatherResults([asked.start() for _ in range(30)])
        assert {outcome.verdict for outcome in outcomes} == {Verdict.POSITIVE}
        await no_connections()
    assert len({query.wire[:2] for query in server.queries}) > 25


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
    with desk(server.endpoint, "tcp://") as asked:
        outcome = await asked.ask()
        assert outcome.answer is None
        assert outcome.reason == "mismatch"
        assert asked.rejected() == {reason: 1}
        assert asked.marks == 1
        await no_connections()


@pytest.mark.parametrize("prefix", [b"", b"\0", b"\0\x20", b"\0\x20\1\2\3"])
@pytest_twisted.ensureDeferred
async def test_closed_in_mid_message(server: ScriptedUpstream, prefix: bytes) -> None:
    """A connection that ends before its reply does is a network error at once."""
    server.behaviour = lambda query: [Close(0, prefix)]
    with desk(server.endpoint, "tcp://") as asked:
        outcome = await asked.ask()
        assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, "closed")
        assert asked.marks == 1


@pytest_twisted.ensureDeferred
async def test_refused() -> None:
    """A refused connection is a network error at once."""
    with desk(free_endpoint(), "tcp://") as asked:
        start = time.monotonic()
        outcome = await asked.ask()
        assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, "connection refused")
        assert time.monotonic() - start < 1
        assert asked.marks == 1


@pytest_twisted.ensureDeferred
async def test_truncated_over_tcp(server: ScriptedUpstream) -> None:
    """TC over TCP is no reason to ask again: what came is judged, and ends it."""
    server.behaviour = lambda query: [Send(b.truncated(query))]
    with desk(server.endpoint, "tcp://") as asked:
        await asked.ask()
        assert len(server.queries) == 1
        assert asked.metrics.upstream_truncated.cell(asked.upstream.name).value == 0
        await no_connections()


@pytest_twisted.ensureDeferred
async def test_cancelled(server: ScriptedUpstream) -> None:
    """Cancelling drops the connection without a mark, before and after it is made."""
    server.behaviour = b.silent
    with desk(server.endpoint, "tcp://") as asked:
        await cancelled(asked, asked.start())
        exchange = asked.start()
        await until(lambda: len(server.queries) == 1)
        await cancelled(asked, exchange)
        await no_connections()


@pytest_twisted.ensureDeferred
async def test_expired(server: ScriptedUpstream) -> None:
    """Silence ends with `expire`: a timeout, a mark, and no connection."""
    server.behaviour = b.silent
    with desk(server.endpoint, "tcp://") as asked:
        exchange = asked.start()
        await until(lambda: len(server.queries) == 1)
        exchange.expire()
        assert (await exchange).reason == "timeout"
        assert asked.marks == 1
        await no_connections()


@pytest_twisted.ensureDeferred
async def test_close_with_queries_under_way(server: ScriptedUpstream) -> None:
    """`close` drops connections, made or being made, and touches no exchange."""
    server.behaviour = b.silent
    with desk(server.endpoint, "tcp://") as asked:
        first = asked.start()
        await until(lambda: len(server.queries) == 1)
        second = asked.start()
        asked.upstream.close()
        await no_connections()
        assert not first.called
        for exchange in (first, second):
            exchange.expire()
        assert asked.upstream._inflight == 0


class Line:
    """An upstream on a reactor in memory, and its one connection."""

    def __init__(self) -> None:
        self.reactor = cast("Any", MemoryReactorClock())
        self.metrics = Metrics()
        self.upstream = Upstream(
            parse_upstream("tcp://192.0.2.1:5353"),
            reactor=self.reactor,
            readers=cast("Any", None),
            clock=self.reactor,
            rng=lambda size: b"\x12\x34" * (size // 2),
            timeout=1.5,
            alpha=ALPHA,
            case=False,
            cookies=False,
            health=HEALTH,
            budget=BUDGET,
            metrics=self.metrics,
            journal=Journal(),
        )
        self.outcomes: list[Outcome] = []
        self.exchange: Exchange = self.upstream.ask(WWW, "active")
        self.exchange.addCallback(self.outcomes.append)

    def connect(self) -> tuple[Any, StringTransport]:
        """Make the connection."""
        host, port, factory = self.reactor.tcpClients[0][:3]
        assert (host, port) == ("192.0.2.1", 5353)
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport


def framed(message: bytes) -> bytes:
    """A message as it stands in a stream."""
    return len(message).to_bytes(2, "big") + message


def good_reply() -> bytes:
    """The reply to WWW under the ID of `Line`."""
    act = says(0, "203.0.113.1")
    assert act.reply is not None
    return b"\x12\x34" + act.reply(WWW)[2:]


def test_query_is_framed() -> None:
    """The query goes out behind its length (RFC 1035 section 4.2.2)."""
    _, transport = Line().connect()
    assert transport.value() == framed(b"\x12\x34" + WWW.upstream_query())


def test_reply_byte_by_byte() -> None:
    """However the stream is cut, the reply counts once, with its last byte."""
    line = Line()
    protocol, transport = line.connect()
    data = framed(good_reply())
    for position in range(len(data)):
        assert line.outcomes == []
        protocol.dataReceived(data[position : position + 1])
    assert isinstance(line.outcomes[0].answer, Pool)
    assert transport.disconnecting
    protocol.connectionLost(Failure(error.ConnectionDone()))
    assert len(line.outcomes) == 1


def test_what_follows_the_reply_is_not_read() -> None:
    """Bytes behind the reply change nothing."""
    line = Line()
    protocol, _ = line.connect()
    protocol.dataReceived(framed(good_reply()) + framed(reply(WWW, rcode=2)) + b"\xff" * 9)
    assert [outcome.verdict for outcome in line.outcomes] == [Verdict.POSITIVE]


def test_connect_timeout() -> None:
    """Opening a connection may take as long as a query; then it is a timeout."""
    line = Line()
    factory, timeout = line.reactor.tcpClients[0][2:4]
    assert timeout == 1.5
    factory.clientConnectionFailed(None, Failure(error.TimeoutError()))
    assert [outcome.reason for outcome in line.outcomes] == ["timeout"]


@pytest.mark.parametrize("problem", [error.NoRouteError, error.ConnectBindError, OSError])
def test_no_route(problem: type[Exception]) -> None:
    """What else prevents a connection makes the upstream unreachable."""
    line = Line()
    line.reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(problem()))
    assert [outcome.reason for outcome in line.outcomes] == ["unreachable"]


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (errno.EMFILE, LOCAL),
        (errno.ENOBUFS, LOCAL),
        (errno.EADDRNOTAVAIL, "unreachable"),
        (errno.ECONNREFUSED, "connection refused"),
        (errno.EHOSTUNREACH, "unreachable"),
    ],
)
def test_whose_fault(number: int, word: str) -> None:
    """No descriptors, no buffers: that is our own machine's fault and no mark."""
    line = Line()
    problem = error.getConnectError((number, "as the system says"))
    line.reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(problem))
    assert [outcome.reason for outcome in line.outcomes] == [word]
    assert line.upstream.health._failures == (word != LOCAL)


def test_ipv6_address() -> None:
    """IPv6 upstreams are connected to by their normal form."""
    reactor = cast("Any", MemoryReactorClock())
    upstream = Upstream(
        parse_upstream("tcp://[2001:DB8:0::1]:53"),
        reactor=reactor,
        readers=cast("Any", None),
        clock=reactor,
        rng=bytes,
        timeout=1.0,
        alpha=ALPHA,
        case=False,
        cookies=False,
        health=HEALTH,
        budget=BUDGET,
        metrics=Metrics(),
        journal=Journal(),
    )
    upstream.ask(WWW, "active")
    assert reactor.tcpClients[0][:2] == ("2001:db8::1", 53)
    assert socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    upstream.close()
