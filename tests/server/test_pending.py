"""Queries that wait: limits in all and per client, of which the oldest goes first."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from staggerdns.settings.sections import ServerSettings
from tests.kit.clients import parse
from tests.kit.factory import FRIEND, MemoryServer, pool
from tests.kit.messages import client_query, edes

OTHER = "192.0.2.78"
TRANSPORTS = pytest.mark.parametrize("transport", ["udp", "tcp"])


class Queue:
    """A server, and the replies to queries that were sent one after the other."""

    def __init__(self, settings: ServerSettings) -> None:
        self.server = MemoryServer(settings)
        self.replies: list[list[bytes]] = []

    def ask(self, count: int, host: str = FRIEND, transport: str = "udp") -> None:
        """Ask so many new questions."""
        for _ in range(count):
            name = f"n{len(self.replies)}.example."
            query = client_query(name, payload=1232)
            self.replies.append(self.server.later(query, host, transport))

    @property
    def evicted(self) -> list[int]:
        """The numbers of the queries that were told to wait no longer."""
        for reply in (parse(replies[0]) for replies in self.replies if replies):
            assert reply.rcode() == 2
            assert edes(reply) == [0]
        return [number for number, replies in enumerate(self.replies) if replies]

    @property
    def waiting(self) -> float:
        """The queries that wait, as the metrics show it."""
        return self.server.metrics.queries_waiting.values()[()]

    def counted(self, limit: str) -> int:
        """How many were let down because of a limit."""
        return self.server.metrics.evicted_queries.cell(limit).value


@TRANSPORTS
def test_in_all(transport: str) -> None:
    """At the limit all wait; each one more lets down the oldest."""
    queue = Queue(ServerSettings(max_pending=5))
    queue.ask(5, transport=transport)
    assert queue.evicted == []
    queue.ask(1, OTHER, transport)
    assert queue.evicted == [0]
    queue.ask(2, transport=transport)
    assert queue.evicted == [0, 1, 2]
    assert queue.counted("pending") == 3
    assert queue.waiting == 5


@TRANSPORTS
def test_of_one_client(transport: str) -> None:
    """At its limit a client's own oldest query goes; others notice nothing."""
    queue = Queue(ServerSettings(max_pending_per_client=3))
    queue.ask(1, OTHER, transport)
    queue.ask(3, FRIEND, transport)
    queue.ask(2, OTHER, transport)
    assert queue.evicted == []
    queue.ask(2, FRIEND, transport)
    assert queue.evicted == [1, 2]
    assert queue.counted("pending_per_client") == 2
    assert queue.counted("pending") == 0


@pytest.mark.parametrize(
    "settings", [ServerSettings(max_pending=1), ServerSettings(max_pending_per_client=1)]
)
def test_one(settings: ServerSettings) -> None:
    """A limit of one lets the newest wait."""
    queue = Queue(settings)
    queue.ask(4)
    assert queue.evicted == [0, 1, 2]


def test_who_has_no_limit() -> None:
    """An exempt client counts in all only."""
    queue = Queue(ServerSettings(max_pending=5, max_pending_per_client=1))
    queue.server.access.remembered.add("127.0.0.1")
    queue.ask(5, "127.0.0.1")
    assert queue.evicted == []
    queue.ask(1, "127.0.0.1")
    assert queue.evicted == [0]


def test_places_become_free() -> None:
    """An answer, or a client that goes away, leaves its place to others."""
    queue = Queue(ServerSettings(max_pending=3, max_pending_per_client=2))
    queue.ask(2)
    queue.server.forwarder.waiting[0].callback(queue.server.entry(pool()))
    queue.ask(1)
    assert [len(replies) for replies in queue.replies] == [1, 0, 0]
    gone = queue.server.factory.serve(client_query("x.example."), OTHER, "tcp", 0.0)
    assert isinstance(gone, Deferred)
    gone.addErrback(lambda _: None)
    gone.cancel()
    queue.ask(1, OTHER)
    assert [len(replies) for replies in queue.replies] == [1, 0, 0, 0]
    for waiting in queue.server.forwarder.waiting:
        if not waiting.called:
            waiting.callback(queue.server.entry(pool()))
    factory = queue.server.factory
    assert queue.waiting == 0
    assert factory._pending._of_client == {}
    assert factory.drain().called


def test_answers_that_are_there_at_once_take_no_place() -> None:
    """What the forwarder has at once waits for nothing."""
    queue = Queue(ServerSettings(max_pending=1))
    queue.ask(1)
    queue.server.forwarder.instant = queue.server.entry(pool())
    assert queue.server.factory.serve(client_query(), FRIEND, "udp", 0.0)
    assert queue.evicted == []
    assert queue.waiting == 1
