"""The queries that wait for an answer, in the order in which they came.

There is room for so many in all and for so many of one client. When that is taken, the oldest
makes room for the newest: the oldest in all, or of the client that has too many. It gets
SERVFAIL, so that its client can turn to another server.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from staggerdns.metrics import Metrics
from staggerdns.resolver.entry import Entry
from staggerdns.server.clients import Client
from staggerdns.wire.query import Query


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingLimits:
    """Queries that may wait at once, in all and of one client."""

    max_pending: int = 10_000
    max_per_client: int = 1_000


class Waiter:
    """A query that waits for ``found``; ``shed``: it was told to wait no longer."""

    __slots__ = ("query", "transport", "started", "found", "client", "shed")

    def __init__(
        self,
        query: Query,
        transport: str,
        started: float,
        found: Deferred[Entry],
        client: Client | None,
    ) -> None:
        self.query = query
        self.transport = transport
        self.started = started
        self.found = found
        self.client = client
        self.shed = False


class Pending:
    """Who waits; a client that is `None` has no limit of its own."""

    def __init__(self, limits: PendingLimits, metrics: Metrics) -> None:
        self._limits = limits
        self._all: dict[Waiter, None] = {}
        self._of_client: dict[Client, dict[Waiter, None]] = {}
        self._doomed: deque[Waiter] = deque()
        self._letting_down = False
        self._shed_in_all = metrics.shed.cell("pending")
        self._shed_of_client = metrics.shed.cell("pending_per_client")
        metrics.queries_waiting.read_from(lambda: len(self._all))

    def __len__(self) -> int:
        return len(self._all)

    def add(self, waiter: Waiter) -> None:
        """Let ``waiter`` wait, and another one no longer if there are too many."""
        self._all[waiter] = None
        if waiter.client is not None:
            own = self._of_client.setdefault(waiter.client, {})
            own[waiter] = None
            if len(own) > self._limits.max_per_client:
                self._shed_of_client.value += 1
                self._let_down(next(iter(own)))
        if len(self._all) > self._limits.max_pending:
            self._shed_in_all.value += 1
            self._let_down(next(iter(self._all)))

    def remove(self, waiter: Waiter) -> None:
        """Forget ``waiter`` if it waits."""
        if waiter not in self._all:
            return
        del self._all[waiter]
        if waiter.client is not None:
            own = self._of_client[waiter.client]
            del own[waiter]
            if not own:
                del self._of_client[waiter.client]

    def _let_down(self, waiter: Waiter) -> None:
        """Have ``waiter`` answered without an answer.

        Its client may ask something else at once, and so end up here again: that must not nest.
        """
        self.remove(waiter)
        waiter.shed = True
        self._doomed.append(waiter)
        if self._letting_down:
            return
        self._letting_down = True
        while self._doomed:
            self._doomed.popleft().found.cancel()
        self._letting_down = False
