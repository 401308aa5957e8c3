"""How upstreams are asked over connections: what is composed for them, and what is repeated."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import dns.edns
import dns.message
import dns.rcode
import pytest
from twisted.internet import error

from staggerdns.upstream.edns import FORMERRS, MEMORY, SILENCES
from staggerdns.upstream.exchange import LOCAL

from .test_https import Desk
from .test_stream import Line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .test_stream import Connection

FORMERR = b"\x81\x81" + bytes(8)
"""What a server from before EDNS says: the header, and no question."""


@pytest.fixture
def line() -> Iterator[Line]:
    """An upstream over TCP that wants case and cookies; nothing is left of it in the end."""
    made = Line()
    yield made
    made.upstream.close()
    assert made.reactor.getDelayedCalls() == []


def opts(connection: Connection) -> list[int]:
    """How many OPT records each query since the last call has."""
    return [query[11] for query in connection.queries()]


def repeated(line: Line | Desk, reason: str) -> int:
    """How many queries were repeated for this reason."""
    return line.metrics.upstream_repeated.cell(line.upstream.name, reason).value


def say(connection: Connection, message: bytes) -> None:
    """Let the server say something."""
    connection.protocol.dataReceived(len(message).to_bytes(2, "big") + message)


def test_neither_case_nor_cookies(line: Line) -> None:
    """Nobody forges replies on a connection: the name stays in lower case, with no cookie."""
    for _ in range(10):
        line.ask()
    for query in line.connect().queries():
        assert b"\3www\7example\0" in query
        options = dns.message.from_wire(query).options
        assert dns.edns.OptionType.COOKIE not in [option.otype for option in options]


def test_formerr_on_a_connection(line: Line) -> None:
    """The query goes again on the same connection, without EDNS; soon they all go so at once."""
    line.ask()
    connection = line.connect()
    for _ in range(FORMERRS):
        (query,) = connection.queries()
        say(connection, query[:2] + FORMERR)
        (plain,) = connection.queries()
        assert (query[11], plain[11]) == (1, 0)
        assert dns.message.from_wire(plain).question == dns.message.from_wire(query).question
        connection.answer(plain)
        assert line.reasons() == [""]
        line.ask()
    assert repeated(line, "formerr") == FORMERRS
    (query,) = connection.queries()
    assert query[11] == 0
    connection.answer(query)
    line.reactor.advance(MEMORY)
    line.ask()
    assert opts(line.connect()) == [1]


def test_formerr_and_the_end_of_the_connection(line: Line) -> None:
    """A server that hangs up on what it does not know is asked once more, without EDNS."""
    line.ask()
    connection = line.connect()
    (query,) = connection.queries()
    say(connection, query[:2] + FORMERR)
    connection.lose()
    other = line.connect()
    (plain,) = other.queries()
    assert plain[11] == 0
    other.answer(plain)
    assert line.reasons() == [""]
    assert (repeated(line, "formerr"), repeated(line, "closed")) == (1, 1)


def test_formerr_without_edns_is_the_last_word(line: Line) -> None:
    """After one repetition it is a failure."""
    line.ask()
    connection = line.connect()
    for query in (*connection.queries(), *connection.queries()):
        say(connection, query[:2] + FORMERR)
    (plain,) = connection.queries()
    say(connection, plain[:2] + FORMERR)
    assert line.reasons() == ["formerr"]
    assert connection.queries() == []


def test_silence_says_nothing_about_edns(line: Line) -> None:
    """Without EDNS there is no padding: timeouts on connections do not end it."""
    for _ in range(2 * SILENCES):
        exchange = line.ask()
        assert opts(line.connect()) == [1]
        line.reactor.advance(3)
        exchange.expire()
        line.reactor.advance(10)
    assert line.reasons() == ["timeout"] * 2 * SILENCES


def test_formerr_over_https() -> None:
    """The same over HTTPS: another request, without an OPT record, which cannot be padded."""
    desk = Desk()
    desk.ask()
    server = desk.connect()
    server.answer(1, b"\0\0" + FORMERR)
    first, second = (dns.message.from_wire(server.bodies[stream]) for stream in (1, 3))
    assert (first.edns, second.edns) == (0, -1)
    assert second.question == first.question
    assert [option.otype for option in first.options] == [dns.edns.OptionType.PADDING]
    server.answer(3)
    assert desk.reasons() == [""]
    assert repeated(desk, "formerr") == 1
    desk.upstream.close()


def test_trouble_of_our_own_makes_nobody_wait(line: Line) -> None:
    """Without descriptors there is no connection; as soon as there are, the next query has one."""
    for _ in range(5):
        line.ask()
        line.refuse(error.getConnectError((errno.EMFILE, "no more")))
    assert line.reasons() == [LOCAL] * 5
    line.ask()
    connection = line.connect()
    connection.answer(*connection.queries())
    assert line.reasons() == [""]
    assert line.metrics.upstream_local_errors.cell(line.upstream.name).value == 5
