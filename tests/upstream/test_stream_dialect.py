"""How upstreams are asked over connections: what is composed for them, and what is repeated."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import dns.edns
import dns.message
import dns.rcode
import pytest
from twisted.internet import error

from staggerdns.upstream.concurrentretries import STREAM_SILENCE
from staggerdns.upstream.edns import DESCENTS, FULL, MEMORY
from staggerdns.upstream.reason import Reason
from staggerdns.upstream.stream import FIRST_WAIT
from staggerdns.wire.judge import Judge
from staggerdns.wire.question import make_question
from tests.kit.acts import A, name
from tests.kit.memory import TcpUpstream
from tests.kit.memoryhttp import HttpsUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.memory import TcpServerEnd

FORMERR = b"\x81\x81" + bytes(8)
"""What a server from before EDNS says: the header, and no question."""


@pytest.fixture
def tcp() -> Iterator[TcpUpstream]:
    """An upstream over TCP that wants case and cookies, and has not answered yet; nothing is left
    of it in the end.
    """
    made = TcpUpstream()
    made.upstream.dialect.edns.forget_proof()
    yield made
    made.upstream.close()
    assert made.reactor.getDelayedCalls() == []


def opts(connection: TcpServerEnd) -> list[int]:
    """How many OPT records each query since the last call has."""
    return [query[11] for query in connection.queries()]


def repeated(tcp: TcpUpstream | HttpsUpstream, reason: str) -> int:
    """How many queries were repeated for this reason."""
    return tcp.metrics.upstream_repeated.cell(tcp.upstream.name, reason).value


def say(connection: TcpServerEnd, message: bytes) -> None:
    """Let the server say something."""
    connection.protocol.dataReceived(len(message).to_bytes(2, "big") + message)


def assert_goes_plain(tcp: TcpUpstream) -> None:
    """The next query has no OPT record, and is answered."""
    tcp.ask()
    connection = tcp.connect()
    (query,) = connection.queries()
    assert query[11] == 0
    connection.answer(query)
    assert tcp.reasons() == [None]


def test_neither_case_nor_cookies(tcp: TcpUpstream) -> None:
    """Nobody forges replies on a connection: the name stays in lower case, with no cookie."""
    tcp.upstream.dialect.edns.proven = FULL
    for _ in range(10):
        tcp.ask()
    for query in tcp.connect().queries():
        assert b"\3www\7example\0" in query
        options = dns.message.from_wire(query).options
        assert dns.edns.OptionType.COOKIE not in [option.otype for option in options]


@pytest.mark.parametrize("echo", [True, False], ids=["OPT", "no OPT"])
def test_formerr_on_a_connection(tcp: TcpUpstream, echo: bool) -> None:
    """The query goes again on the same connection, with less EDNS; soon they all go so at once."""
    tcp.ask()
    connection = tcp.connect()
    for number in range(DESCENTS):
        for _ in range(1 if number else 2):  # the first has an option more
            (query,) = connection.queries()
            assert query[11] == 1
            opt = b"\0\0\x29\x04\xd0" + bytes(6)
            wrong = FORMERR[:-1] + b"\1" + opt if echo else FORMERR
            say(connection, query[:2] + wrong)
        (plain,) = connection.queries()
        assert plain[11] == 0
        assert dns.message.from_wire(plain).question == dns.message.from_wire(query).question
        connection.answer(plain)
        assert tcp.reasons() == [None]
        tcp.reactor.advance(1)
        tcp.ask()
    assert repeated(tcp, "edns") == DESCENTS + 1
    (query,) = connection.queries()
    assert query[11] == 0
    connection.answer(query)
    tcp.reactor.advance(MEMORY)
    tcp.ask()
    connection = tcp.connect()
    connection.answer(*connection.queries())
    assert tcp.reasons() == [None, None]
    (probe,) = connection.queries()
    assert probe[11] == 1
    connection.answer(probe)
    tcp.ask()
    assert opts(connection) == [1]


def test_keepalive_is_an_option_too(tcp: TcpUpstream) -> None:
    """A server that knows OPT and no options is asked without keepalive, soon at once."""
    for number in range(DESCENTS + 1):
        tcp.ask()
        connection = tcp.connect()
        (query,) = connection.queries()
        if number < DESCENTS:
            assert dns.message.from_wire(query).options
            say(connection, query[:2] + FORMERR)
            (query,) = connection.queries()
        message = dns.message.from_wire(query)
        assert (message.edns, message.options) == (0, ())
        connection.answer(query)
        tcp.reactor.advance(1)
        tcp.ask()
        (query,) = connection.queries()
        connection.answer(query)
        connection.lose()
    assert tcp.reasons() == [None] * 2 * (DESCENTS + 1)


def test_silence_where_edns_works(tcp: TcpUpstream) -> None:
    """Without EDNS there is no padding: where it has worked, timeouts do not end it."""
    tcp.upstream.dialect.edns.proven = FULL
    for _ in range(4):
        exchange = tcp.ask()
        connection = tcp.connect()
        tcp.reactor.advance(3)
        assert opts(connection) == [1]
        exchange.expire()
        tcp.reactor.advance(10)
    assert tcp.reasons() == [Reason.TIMEOUT] * 4


def test_silence_where_nothing_is_known(tcp: TcpUpstream) -> None:
    """A server that drops queries with options, or OPT, is asked for less beside them: no name is
    lost, and soon nobody waits.
    """
    for _ in range(DESCENTS):
        tcp.ask()
        connection = tcp.connect()
        assert opts(connection) == [1]
        tcp.reactor.advance(STREAM_SILENCE - 0.01)
        assert opts(connection) == []
        tcp.reactor.advance(0.01)
        (bare,) = connection.queries()
        message = dns.message.from_wire(bare)
        assert (message.edns, message.options) == (0, ())
        tcp.reactor.advance(STREAM_SILENCE)
        (plain,) = connection.queries()
        assert plain[11] == 0
        connection.answer(plain)
        assert tcp.reasons() == [None]
        connection.lose()
        tcp.reactor.advance(1)
    assert_goes_plain(tcp)
    assert repeated(tcp, "silence") == 2 * DESCENTS


def test_a_late_reply_with_edns(tcp: TcpUpstream) -> None:
    """Whoever is slow and no more keeps its EDNS: the reply to the first query is as welcome."""
    tcp.ask()
    connection = tcp.connect()
    (first,) = connection.queries()
    tcp.reactor.advance(2 * STREAM_SILENCE)
    assert opts(connection) == [1, 0]
    connection.answer(first)
    assert tcp.reasons() == [None]
    tcp.ask()
    tcp.reactor.advance(2 * STREAM_SILENCE)
    assert opts(connection) == [1]


def test_nothing_is_asked_beside_where_edns_works_by_now(tcp: TcpUpstream) -> None:
    """Of a burst to a server that is merely slow, the first reply ends the trials."""
    waiting = [tcp.ask() for _ in range(5)]
    connection = tcp.connect()
    first, *_ = connection.queries()
    tcp.reactor.advance(STREAM_SILENCE - 0.01)
    connection.answer(first)
    tcp.reactor.advance(2 * STREAM_SILENCE)
    assert opts(connection) == []
    for exchange in waiting:
        exchange.cancel()


def test_patience_begins_with_the_connection(tcp: TcpUpstream) -> None:
    """While there is none, nothing is asked beside; failing to connect is one mark, as ever."""
    tcp.ask()
    tcp.reactor.advance(2.9)
    tcp.refuse()
    assert tcp.reasons() == [Reason.CONNECTION_REFUSED]
    assert repeated(tcp, "silence") == 0
    assert tcp.upstream.health.failures == 1


def closes(tcp: TcpUpstream, levels: list[int]) -> TcpServerEnd:
    """Lose so many connections, each over a query with an OPT record or not; return the next."""
    for level in levels:
        connection = tcp.connect()
        assert opts(connection) == [level]
        connection.lose()
    return tcp.connect()


def test_closing_where_nothing_is_known(tcp: TcpUpstream) -> None:
    """A server that closes connections over OPT is asked without, at once, and soon from the start;
    no time to rest comes of that.
    """
    for number in range(DESCENTS):
        tcp.ask()
        connection = closes(tcp, [1, 1, 1])
        (query,) = connection.queries()
        assert query[11] == 0
        connection.answer(query)
        assert tcp.reasons() == [None], number
        connection.lose()
        tcp.reactor.advance(1)
    assert_goes_plain(tcp)


def test_closing_over_options(tcp: TcpUpstream) -> None:
    """Without the options the OPT record stays."""
    tcp.ask()
    connection = closes(tcp, [1, 1])
    (query,) = connection.queries()
    message = dns.message.from_wire(query)
    assert (message.edns, message.options) == (0, ())
    connection.answer(query)
    assert tcp.reasons() == [None]


def test_closing_whatever_is_asked(tcp: TcpUpstream) -> None:
    """Whoever closes every connection is soon left alone, and is not thought to dislike EDNS."""
    for number in range(5):
        tcp.reactor.advance(10)
        tcp.ask()
        closes(tcp, [1, 1] if number else [1, 1, 1]).lose()
        assert tcp.reasons() == [Reason.CLOSED]
    tcp.reactor.advance(FIRST_WAIT * 2**4 - 0.01)
    tcp.ask()
    assert tcp.reasons() == [Reason.NO_CONNECTION]
    assert tcp.upstream.health.failures == 5
    assert tcp.upstream.dialect.edns.level == FULL


def test_closing_where_edns_works(tcp: TcpUpstream) -> None:
    """Nothing is asked for less where EDNS has worked: connections end for other reasons."""
    tcp.upstream.dialect.edns.proven = FULL
    tcp.ask()
    closes(tcp, [1]).lose()
    assert tcp.reasons() == [Reason.CLOSED]


def test_closing_over_signatures(tcp: TcpUpstream) -> None:
    """A question with DO does not go without OPT: others may have signatures."""
    question = make_question(name("www.example"), A, do=True)
    exchange = tcp.upstream.ask(Judge(question), "active", tcp.clock.seconds())
    exchange.deferred().addCallback(tcp.outcomes.append)
    closes(tcp, [1, 1]).lose()
    assert tcp.reasons() == [Reason.CLOSED]


def test_formerr_over_https() -> None:
    """The same over HTTPS: another request without padding, and one without an OPT record."""
    https = HttpsUpstream()
    https.ask()
    server = https.connect()
    server.answer(1, b"\0\0" + FORMERR)
    server.answer(3, b"\0\0" + FORMERR)
    sent = [dns.message.from_wire(server.bodies[stream]) for stream in (1, 3, 5)]
    assert [message.edns for message in sent] == [0, 0, -1]
    assert [len(message.options) for message in sent] == [1, 0, 0]
    assert sent[2].question == sent[0].question
    server.answer(5)
    assert https.reasons() == [None]
    assert repeated(https, "edns") == 2
    https.upstream.close()


def test_trouble_of_our_own_makes_nobody_wait(tcp: TcpUpstream) -> None:
    """Without descriptors there is no connection; as soon as there are, the next query has one."""
    for _ in range(5):
        tcp.ask()
        tcp.refuse(error.getConnectError((errno.EMFILE, "no more")))
    assert tcp.reasons() == [Reason.LOCAL] * 5
    tcp.ask()
    connection = tcp.connect()
    connection.answer(*connection.queries())
    assert tcp.reasons() == [None]
    assert tcp.metrics.upstream_local_errors.cell(tcp.upstream.name).value == 5
