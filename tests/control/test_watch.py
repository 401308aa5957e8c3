"""Answers as they happen: who sees which of them, and what happens to whoever does not read."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from staggerdns.control.connection import (
    IDLE_TIMEOUT,
    MAX_CONNECTIONS,
    MAX_STREAMS,
    ControlConnection,
    ControlFactory,
)
from staggerdns.control.peers import Peer
from staggerdns.control.protocol import (
    MAX_CHOICES,
    Refused,
    WatchRequest,
    encode_request,
    parse_request,
)
from staggerdns.control.watch import KEEP_ALIVE, MAX_HELD, WRITE_AFTER, make_watch
from staggerdns.journal import Journal
from staggerdns.server.answered import AnswerHub
from tests.kit.answered import SHOWN, answered
from tests.kit.controlled import FakeTransport

OWN, READER = Peer(7, 0, may_change=True), Peer(8, 1_000, may_change=False)


class Server:
    """A factory on a clock, of which nothing can be asked but to watch."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.hub = AnswerHub(self.clock.seconds, Journal(), self.clock)
        self.factory = ControlFactory(
            self._perform, self.clock, Journal("error"), lambda connected: cast("Peer", connected)
        )

    def _perform(self, request: Any, peer: Peer) -> Any:
        if request.command != "watch":
            return maybeDeferred(dict[str, Any])
        return maybeDeferred(make_watch, request, self.hub, self.clock, private=peer.may_change)

    def watch(self, peer: Peer = OWN, **arguments: object) -> Watcher:
        """Begin to watch."""
        watcher = Watcher(self, peer)
        watcher.send(encode_request("watch", {"id": 7, **arguments}))
        return watcher

    def answer(self, name: str = "www.example.com.", **more: Any) -> None:
        """Answer, and let what is to be written be written."""
        self.hub.publish(answered(name, **more))
        self.clock.advance(WRITE_AFTER)


class Watcher:
    """A connection, and what came over it."""

    def __init__(self, server: Server, peer: Peer) -> None:
        self.transport = FakeTransport(peer)
        self.connection: ControlConnection = server.factory.buildProtocol(None)
        self.connection.makeConnection(self.transport)

    def send(self, octets: bytes) -> None:
        """Send octets."""
        self.connection.dataReceived(octets)

    def lost(self) -> None:
        """Lose the connection."""
        self.connection.connectionLost(Failure(ConnectionDone()))

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Everything that came."""
        return [json.loads(octets) for octets in self.transport.written.splitlines()]

    @property
    def names(self) -> list[str]:
        """The names of the answers."""
        return [one["answer"]["name"] for one in self.lines if "answer" in one]

    @property
    def missing(self) -> list[int]:
        """How many are missing, as it was said."""
        return [one["lost"] for one in self.lines if "lost" in one]

    @property
    def code(self) -> str:
        """Why it was refused."""
        return str(self.lines[-1]["error"]["code"])


def test_a_stream() -> None:
    """First a reply as to any request, then a line for each answer, with the same ``id``."""
    server = Server()
    watcher = server.watch()
    server.answer()
    server.answer("other.example.", source="blocked", list="ads")
    reply, first, second = watcher.lines
    assert reply == {"version": 1, "id": 7, "ok": True, "result": {"clients": "full"}}
    assert first == {
        "version": 1,
        "id": 7,
        "answer": SHOWN,
    }
    assert (second["answer"]["source"], second["answer"]["list"]) == ("blocked", "ads")
    watcher.lost()
    assert not server.hub.active
    assert not server.clock.getDelayedCalls()
    assert not server.factory.busy


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        ({}, "abcd"),
        ({"name": "WWW.example.com"}, "ab"),
        ({"below": "example.com."}, "abc"),
        ({"below": "ample.com."}, ""),
        ({"clients": ["192.0.2.77"]}, "acd"),
        ({"clients": ["198.51.100.0/24", "2001:db8::/32"]}, "b"),
        ({"clients": ["192.0.2.1/24"], "below": "example.com"}, "ac"),
        ({"sources": ["cache"]}, "abc"),
        ({"sources": ["cache", "blocked"], "name": "www.other.example"}, "d"),
    ],
)
def test_filters(wanted: dict[str, Any], seen: str) -> None:
    """All that is said has to fit; of several clients or sources any one."""
    server = Server()
    watcher = server.watch(**wanted)
    events = {
        "a": answered(address="198.18.0.1"),
        "b": answered(address="198.18.0.2", client="2001:db8::1"),
        "c": answered("x.example.com.", address="198.18.0.3", client="::ffff:192.0.2.77"),
        "d": answered("www.other.example.", address="198.18.0.4", source="blocked"),
    }
    for event in events.values():
        server.hub.publish(event)
    server.clock.advance(WRITE_AFTER)
    shown = [line["answer"]["addresses"] for line in watcher.lines if "answer" in line]
    assert shown == [events[key].addresses for key in seen]
    watcher.lost()


def test_whoever_may_only_read() -> None:
    """Clients are shown by their prefixes, and cannot be told apart by what one asks for."""
    server = Server()
    watcher = server.watch(READER, clients=["192.0.2.0/24", "2001:db8::/48"])
    assert watcher.lines[0]["result"] == {"clients": "prefix"}
    server.answer()
    assert watcher.lines[-1]["answer"]["client"] == "192.0.2.0/24"
    watcher.lost()
    for client in ("192.0.2.77", "192.0.2.0/25", "2001:db8::/49"):
        refused = server.watch(READER, clients=[client])
        assert refused.code == "not_allowed"
        refused.lost()
    assert not server.hub.active


@pytest.mark.parametrize(
    "arguments",
    [
        {"clients": ["nobody"]},
        {"clients": "192.0.2.1"},
        {"clients": ["192.0.2.1"] * (MAX_CHOICES + 1)},
        {"sources": ["cash"]},
        {"sources": ["cache"] * (MAX_CHOICES + 1)},
        {"name": ""},
        {"below": "a..b"},
        {"seconds": 5},
    ],
)
def test_wrong_requests(arguments: dict[str, Any]) -> None:
    """They are refused, and other requests may follow."""
    server = Server()
    watcher = server.watch(**arguments)
    assert watcher.code == "bad_request"
    watcher.send(encode_request("status", {}))
    assert watcher.lines[-1]["ok"]
    watcher.lost()


def test_the_limits_themselves() -> None:
    """So many clients and sources may be named."""
    request = parse_request(
        encode_request("watch", {"clients": ["::1"] * MAX_CHOICES, "sources": ["cache"]}).rstrip()
    )
    assert isinstance(request, WatchRequest)
    assert len(request.clients) == MAX_CHOICES


def test_who_does_not_read() -> None:
    """Nothing is held for it, what it misses is counted, and after a while it is disconnected."""
    server = Server()
    watcher = server.watch()
    watcher.transport.full = True
    server.answer("a.example.")
    for _ in range(5):
        server.answer("b.example.")
    size = len(watcher.transport.written)
    server.clock.advance(IDLE_TIMEOUT - 1)
    assert len(watcher.transport.written) == size
    watcher.transport.drain()
    server.answer("c.example.")
    assert watcher.names == ["a.example.", "c.example."]
    assert watcher.missing == [5]
    watcher.transport.full = True
    server.answer("d.example.")
    server.clock.advance(IDLE_TIMEOUT)
    assert watcher.transport.end == "aborted"
    assert not server.hub.active
    assert not server.clock.getDelayedCalls()


def test_more_than_can_be_held() -> None:
    """What comes in one moment is held up to `MAX_HELD` octets; the rest is counted."""
    server = Server()
    watcher = server.watch()
    event = answered()
    for _ in range(3_000):
        server.hub.publish(event)
    server.clock.advance(WRITE_AFTER)
    held = sum(len(line) + 1 for line in watcher.transport.written.splitlines()[1:-1])
    each = held // len(watcher.names)
    assert MAX_HELD <= held < MAX_HELD + each
    assert watcher.missing == [3_000 - len(watcher.names)]
    server.answer()
    assert watcher.names[-1] == "www.example.com."
    assert len(watcher.missing) == 1
    watcher.lost()


def test_nothing_happens() -> None:
    """A line says so now and then, and the connection stays."""
    server = Server()
    watcher = server.watch(name="other.example")
    for _ in range(10):
        server.clock.advance(KEEP_ALIVE)
        server.answer()
    assert watcher.missing == [0] * 10
    assert not watcher.transport.end
    watcher.lost()


def test_how_many_watch() -> None:
    """`MAX_STREAMS` of each kind, and one more is refused; they take nobody's connection."""
    server = Server()
    watchers = [server.watch() for _ in range(MAX_STREAMS)]
    refused = server.watch()
    assert refused.code == "busy"
    refused.send(encode_request("status", {}))
    assert refused.lines[-1]["ok"]
    reader = server.watch(READER)
    assert reader.lines[0]["ok"]
    others = [Watcher(server, OWN) for _ in range(MAX_CONNECTIONS - 1)]
    assert not any(one.transport.end for one in (*watchers, *others, refused))
    watchers[0].lost()
    assert server.watch().lines[0]["ok"]
    server.factory.close()
    assert {one.transport.end for one in (*watchers[1:], *others, reader)} == {"aborted"}
    assert not server.hub.active
    assert not server.clock.getDelayedCalls()


def test_whoever_sends_more() -> None:
    """Nothing can be answered any more: it is disconnected. One that says that there will be no
    more sees answers all the same.
    """
    server = Server()
    done = server.watch()
    done.connection.readConnectionLost()
    server.answer()
    assert len(done.names) == 1
    done.lost()
    eager = server.watch()
    eager.send(b"\n")
    assert eager.transport.end == "aborted"
    assert not server.hub.active


def test_the_end_of_the_socket() -> None:
    """When the socket is elsewhere from now on, whoever watches has to come there."""
    server = Server()
    watcher = server.watch()
    server.factory.drain()
    assert watcher.transport.end == "aborted"
    assert not server.hub.active


def test_refused_words() -> None:
    """What was wrong is shown, without anything that a terminal would obey."""
    server = Server()
    with pytest.raises(Refused) as caught:
        make_watch(
            WatchRequest(version=1, command="watch", clients=("\x1b[31m",)),
            server.hub,
            server.clock,
            private=True,
        )
    assert caught.value.message == (r"expected an address or a network, got '\\x1b[31m'")
