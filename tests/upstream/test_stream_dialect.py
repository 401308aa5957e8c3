"""How upstreams are asked over connections: what is composed for them, and what is repeated."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import dns.edns
import dns.message
import dns.rcode
import pytest
from twisted.internet import error

from staggerdns.upstream.edns import DESCENTS, MEMORY
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


@pytest.mark.parametrize("echo", [True, False], ids=["OPT", "no OPT"])
def test_formerr_on_a_connection(line: Line, echo: bool) -> None:
    """The query goes again on the same connection, with less EDNS; soon they all go so at once."""
    line.ask()
    connection = line.connect()
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
        assert line.reasons() == [""]
        line.reactor.advance(1)
        line.ask()
    assert repeated(line, "edns") == DESCENTS + 1
    (query,) = connection.queries()
    assert query[11] == 0
    connection.answer(query)
    line.reactor.advance(MEMORY)
    line.ask()
    connection = line.connect()
    connection.answer(*connection.queries())
    assert line.reasons() == ["", ""]
    (probe,) = connection.queries()
    assert probe[11] == 1
    connection.answer(probe)
    line.ask()
    assert opts(connection) == [1]


def test_keepalive_is_an_option_too(line: Line) -> None:
    """A server that knows OPT and no options is asked without keepalive, soon at once."""
    for number in range(DESCENTS + 1):
        line.ask()
        connection = line.connect()
        (query,) = connection.queries()
        if number < DESCENTS:
            assert dns.message.from_wire(query).options
            say(connection, query[:2] + FORMERR)
            (query,) = connection.queries()
        message = dns.message.from_wire(query)
        assert (message.edns, message.options) == (0, ())
        connection.answer(query)
        line.reactor.advance(1)
        line.ask()
        (query,) = connection.queries()
        connection.answer(query)
        connection.lose()
    assert line.reasons() == [""] * 2 * (DESCENTS + 1)


def test_silence_says_nothing_about_edns(line: Line) -> None:
    """Without EDNS there is no padding: timeouts on connections do not end it."""
    for _ in range(6):
        exchange = line.ask()
        assert opts(line.connect()) == [1]
        line.reactor.advance(3)
        exchange.expire()
        line.reactor.advance(10)
    assert line.reasons() == ["timeout"] * 6


def test_formerr_over_https() -> None:
    """The same over HTTPS: another request without padding, and one without an OPT record."""
    desk = Desk()
    desk.ask()
    server = desk.connect()
    server.answer(1, b"\0\0" + FORMERR)
    server.answer(3, b"\0\0" + FORMERR)
    sent = [dns.message.from_wire(server.bodies[stream]) for stream in (1, 3, 5)]
    assert [message.edns for message in sent] == [0, 0, -1]
    assert [len(message.options) for message in sent] == [1, 0, 0]
    assert sent[2].question == sent[0].question
    server.answer(5)
    assert desk.reasons() == [""]
    assert repeated(desk, "edns") == 2
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
