"""Connections of the control socket: who may do what, how much, and what is dropped."""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, cast

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from staggerdns.control.connection import (
    IDLE_TIMEOUT,
    MAX_CONNECTIONS,
    READ_SIZE,
    ControlConnection,
    ControlFactory,
)
from staggerdns.control.peers import Peer, peer_of
from staggerdns.control.protocol import MAX_LINE, REFUSED, Refused, Request, encode_request
from staggerdns.control.turns import BURST, INTERVAL
from staggerdns.journal import Journal
from tests.kit.controlled import FakeTransport

if TYPE_CHECKING:
    from tests.conftest import CriticalEvents

OWN, READER = Peer(7, 0, may_change=True), Peer(8, 1_000, may_change=False)
LOST = Failure(ConnectionDone())


class Server:
    """A factory on a clock that answers what a test says."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.performed: list[tuple[Request, Peer]] = []
        self.waiting: list[Deferred[Any]] = []
        self.slow = False
        self.result: Any = {"done": True}
        self.factory = ControlFactory(
            self.perform, self.clock, Journal("error"), lambda connected: cast("Peer", connected)
        )

    def perform(self, request: Request, peer: Peer) -> Deferred[Any]:
        """Note a request, and answer it at once or when the test does."""
        self.performed.append((request, peer))
        if self.slow:
            self.waiting.append(Deferred())
            return self.waiting[-1]
        return succeed(self.result)

    def connect(self, peer: Peer = OWN) -> tuple[ControlConnection, FakeTransport]:
        """Open a connection."""
        connection, transport = self.factory.buildProtocol(None), FakeTransport(peer)
        connection.makeConnection(cast("Any", transport))
        return connection, transport

    @property
    def timers(self) -> int:
        """How many there are."""
        return len(self.clock.getDelayedCalls())


def replies(transport: FakeTransport) -> list[dict[str, Any]]:
    """The replies that were written."""
    return [json.loads(octets) for octets in transport.written.splitlines()]


def codes(transport: FakeTransport) -> list[str]:
    """What the replies say: ``ok``, or why not."""
    return ["ok" if one["ok"] else one["error"]["code"] for one in replies(transport)]


def ask(command: str = "status", **arguments: object) -> bytes:
    """A request."""
    return encode_request(command, arguments)


def test_one_by_one() -> None:
    """Requests are answered in order, however their octets come, each before the next begins."""
    server = Server()
    server.slow = True
    connection, transport = server.connect()
    octets = ask(id=1) + ask(id=2)
    for octet in octets:
        connection.dataReceived(bytes((octet,)))
    assert len(server.performed) == 1
    assert not transport.reading
    server.waiting[0].callback({"a": 1})
    assert len(server.performed) == 2
    server.waiting[1].callback({"b": 2})
    assert [(one["id"], one["result"]) for one in replies(transport)] == [
        (1, {"a": 1}),
        (2, {"b": 2}),
    ]
    assert transport.reading


def test_several_at_once() -> None:
    """One piece may have many requests; so many are answered, and the others take their time."""
    server = Server()
    connection, transport = server.connect()
    connection.dataReceived(ask() * (BURST + 2))
    assert len(replies(transport)) == BURST == 64
    assert not transport.reading
    server.clock.advance(INTERVAL)
    assert len(replies(transport)) == BURST + 1
    server.clock.advance(INTERVAL)
    assert len(replies(transport)) == BURST + 2
    assert transport.reading


def test_a_crowd_that_comes_and_goes() -> None:
    """Those that have left are not waited for."""
    server = Server()
    connection, transport = server.connect()
    connection.dataReceived(ask() * BURST)
    for _ in range(100):
        gone, _ = server.connect()
        gone.dataReceived(ask())
        gone.connectionLost(LOST)
    connection.dataReceived(ask())
    server.clock.advance(INTERVAL)
    assert len(replies(transport)) == BURST + 1
    assert len(server.performed) == BURST + 1


def test_readers_have_a_pace_of_their_own() -> None:
    """Whoever may change things does not wait behind them."""
    server = Server()
    reader, _ = server.connect(READER)
    reader.dataReceived(ask() * (2 * BURST))
    connection, transport = server.connect()
    connection.dataReceived(ask("reload"))
    assert codes(transport) == ["ok"]


def test_the_longest_line() -> None:
    """A line at the limit is read, one past it is refused and ends the connection."""
    server = Server()
    connection, transport = server.connect()
    longest = ask().rstrip().ljust(MAX_LINE)
    connection.dataReceived(longest + b"\n")
    assert codes(transport) == ["ok"]
    connection.dataReceived(longest)
    assert codes(transport) == ["ok"]
    connection.dataReceived(b" \n" + ask())
    assert codes(transport) == ["ok", "too_long"]
    assert transport.end == "closed"
    connection.connectionLost(LOST)
    assert server.timers == 0


def test_a_line_without_an_end() -> None:
    """No more is kept of it than a request may have."""
    server = Server()
    connection, transport = server.connect()
    connection.dataReceived(b" " * MAX_LINE)
    assert transport.end == ""
    connection.dataReceived(b" ")
    assert codes(transport) == ["too_long"]
    assert transport.end == "closed"


def test_what_is_wrong_ends_nothing() -> None:
    """A client may make mistakes."""
    server = Server()
    connection, transport = server.connect()
    connection.dataReceived(b"\n{}\n" + ask("stop") + ask())
    assert codes(transport) == ["bad_request", "bad_request", "unknown_command", "ok"]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("flush", {"all": True}),
        ("reload", {}),
        ("drain", {"draining": True}),
        ("block", {"blocking": False}),
    ],
)
def test_who_may_change_things(command: str, arguments: dict[str, Any]) -> None:
    """Root and the program's user; others are told so, and may go on to read."""
    server = Server()
    connection, transport = server.connect(READER)
    connection.dataReceived(ask(command, id=5, **arguments) + ask("upstreams"))
    assert codes(transport) == ["not_allowed", "ok"]
    assert replies(transport)[0]["id"] == 5
    assert [request.command for request, _ in server.performed] == ["upstreams"]
    connection, transport = server.connect(OWN)
    connection.dataReceived(ask(command, **arguments))
    assert codes(transport) == ["ok"]
    assert server.performed[-1][1] == OWN


@pytest.mark.parametrize(
    ("own", "may_change"), [(os.getuid(), True), (os.getuid() + 1, os.getuid() == 0)]
)
def test_the_kernel_says_who_it_is(own: int, may_change: bool) -> None:
    """By the credentials of the process that has connected."""
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert peer_of(one, lambda: own) == Peer(os.getpid(), os.getuid(), may_change)


@pytest.mark.parametrize(
    ("uid", "may_change"), [(0, True), (999, True), (998, False), (1_000, False), (65_534, False)]
)
def test_root_and_the_own_user(uid: int, may_change: bool) -> None:
    """They may change things, and nobody else, whatever his group."""

    class Connected:
        def getsockopt(self, *_: object) -> bytes:
            return struct.pack("3i", 77, uid, 999)

    assert peer_of(cast("Any", Connected()), lambda: 999) == Peer(77, uid, may_change)


def test_a_request_that_is_refused() -> None:
    """The reply has the reason, and the problems."""
    server = Server()
    server.slow = True
    connection, transport = server.connect()
    connection.dataReceived(ask("reload", id="r"))
    server.waiting[0].errback(Refused(REFUSED, "no", ["one"]))
    assert replies(transport) == [
        {
            "version": 1,
            "id": "r",
            "ok": False,
            "error": {"code": "refused", "message": "no", "problems": ["one"]},
        }
    ]
    assert transport.reading


@pytest.mark.parametrize("result", [None, {"a": object()}])
def test_a_defect(critical_events: CriticalEvents, result: Any) -> None:
    """It costs one reply, is logged, and the connection goes on."""
    server = Server()
    server.slow = True
    connection, transport = server.connect()
    connection.dataReceived(ask() * 2)
    if result is None:
        server.waiting[0].errback(ZeroDivisionError())
    else:
        server.waiting[0].callback(result)
    assert codes(transport) == ["failed"]
    assert len(critical_events.flush()) == 1
    server.waiting[1].callback({})
    assert codes(transport) == ["failed", "ok"]


def test_a_client_that_does_not_read() -> None:
    """Nothing more is done for it, and after a while it is dropped."""
    server = Server()
    connection, transport = server.connect()
    transport.full = True
    connection.dataReceived(ask() * 3)
    assert len(server.performed) == 1
    assert not transport.reading
    server.clock.advance(IDLE_TIMEOUT - 0.1)
    transport.drain()
    assert len(server.performed) == 3
    transport.full = True
    connection.dataReceived(ask())
    server.clock.advance(IDLE_TIMEOUT - 0.1)
    assert transport.end == ""
    server.clock.advance(0.1)
    assert transport.end == "aborted"
    assert server.factory.open == {True: [], False: []}
    connection.connectionLost(LOST)
    assert server.timers == 0


def test_an_idle_client() -> None:
    """Octets that are no whole request do not count; a reply does."""
    server = Server()
    connection, transport = server.connect()
    server.clock.advance(IDLE_TIMEOUT - 1)
    connection.dataReceived(ask())
    server.clock.advance(IDLE_TIMEOUT - 1)
    connection.dataReceived(b"{")
    assert transport.end == ""
    server.clock.advance(1)
    assert transport.end == "aborted"


def test_a_long_request_is_not_idle() -> None:
    """A reload may take longer."""
    server = Server()
    server.slow = True
    connection, transport = server.connect()
    connection.dataReceived(ask("reload"))
    server.clock.advance(10 * IDLE_TIMEOUT)
    server.waiting[0].callback({})
    assert codes(transport) == ["ok"]
    assert server.timers == 1


def test_a_client_that_has_gone() -> None:
    """What it asked for is done, and nobody is told."""
    server = Server()
    server.slow = True
    connection, transport = server.connect()
    connection.dataReceived(ask("reload") * 2)
    connection.connectionLost(LOST)
    server.waiting[0].callback({})
    assert len(server.performed) == 1
    assert transport.written == b""
    assert server.timers == 0


def test_a_client_that_has_said_all() -> None:
    """It gets its replies, and then the connection is closed."""
    server = Server()
    server.slow = True
    connection, transport = server.connect()
    connection.dataReceived(ask() * 2 + b"{")
    connection.readConnectionLost()
    assert transport.end == ""
    for _ in range(2):
        server.waiting.pop().callback({})
    assert codes(transport) == ["ok", "ok"]
    assert transport.end == "closed"
    connection.connectionLost(LOST)
    assert server.timers == 0


def test_a_close_that_takes_long() -> None:
    """What cannot be sent does not keep a connection."""
    server = Server()
    connection, transport = server.connect()
    connection.readConnectionLost()
    assert transport.end == "closed"
    transport.end = ""
    server.clock.advance(IDLE_TIMEOUT)
    assert transport.end == "aborted"


@pytest.mark.parametrize("peer", [OWN, READER])
def test_connections(peer: Peer) -> None:
    """At the limit the one that has been idle for the longest makes room for one more; where none
    is idle the new one is refused. The others' connections do not count.
    """
    server = Server()
    other = READER if peer is OWN else OWN
    _, others = server.connect(other)
    transports = []
    for _ in range(MAX_CONNECTIONS):
        transports.append(server.connect(peer)[1])
        server.clock.advance(0.1)
    assert [one.end for one in transports] == [""] * MAX_CONNECTIONS
    _, newest = server.connect(peer)
    assert [one.end for one in transports] == ["aborted"] + [""] * (MAX_CONNECTIONS - 1)
    server.slow = True
    for connection in list(server.factory.open[peer.may_change]):
        connection.dataReceived(ask())
    _, refused = server.connect(peer)
    assert codes(refused) == ["busy"]
    assert refused.end == "closed"
    assert (newest.end, others.end) == ("", "")
    assert len(server.factory.open[peer.may_change]) == MAX_CONNECTIONS
    server.factory.close()
    assert others.end == "aborted"
    server.clock.advance(IDLE_TIMEOUT)
    assert server.timers == 0


def test_little_is_read_at_a_time() -> None:
    """What a client may have waiting here is bounded."""
    _, transport = Server().connect()
    assert transport.bufferSize == READ_SIZE


def test_descriptors_that_are_sent() -> None:
    """They are closed, or a client could use all there are."""
    connection, _ = Server().connect()
    reading, writing = os.pipe()
    connection.fileDescriptorReceived(writing)
    with os.fdopen(reading, "rb") as file:
        assert file.read() == b""
