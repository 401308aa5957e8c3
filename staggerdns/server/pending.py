"""The queries that wait for an answer, in the order in which they came.

Their number is limited, in all and for each client. For one more the oldest is evicted: the oldest
of that client or the oldest of all. It gets SERVFAIL, so that its client can ask another server.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred

from staggerdns.metrics import Metrics
from staggerdns.resolver.entry import Entry
from staggerdns.server.clientgroups import ClientGroup
from staggerdns.server.request import Request
from staggerdns.settings.sections import ServerSettings


class Pending:
    """The requests that wait; a client that is `None` has no limit of its own."""

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._all: dict[Request, Deferred[Entry]] = {}
        self._of_client: dict[ClientGroup, dict[Request, None]] = {}
        self._evicted: deque[Deferred[Entry]] = deque()
        self._evicting = False
        self._evicted_in_all = metrics.evicted_queries.cell("pending")
        self._evicted_of_client = metrics.evicted_queries.cell("pending_per_client")
        metrics.queries_waiting.read_from(lambda: len(self._all))

    def use(self, settings: ServerSettings) -> None:
        """Go by the limits of these settings from now on."""
        self._settings = settings

    def __len__(self) -> int:
        return len(self._all)

    def add(self, request: Request, found: Deferred[Entry]) -> None:
        """Let ``request`` wait for ``found``, and evict the oldest if there are too many."""
        self._all[request] = found
        if request.client_group is not None:
            own = self._of_client.get(request.client_group)
            if own is None:
                own = self._of_client[request.client_group] = {}
            own[request] = None
            if len(own) > self._settings.max_pending_per_client:
                self._evicted_of_client.value += 1
                self._evict(next(iter(own)))
        if len(self._all) > self._settings.max_pending:
            self._evicted_in_all.value += 1
            self._evict(next(iter(self._all)))

    def remove(self, request: Request) -> None:
        """Forget ``request`` if it waits."""
        if request not in self._all:
            return
        del self._all[request]
        if request.client_group is not None:
            own = self._of_client[request.client_group]
            del own[request]
            if not own:
                del self._of_client[request.client_group]

    def _evict(self, request: Request) -> None:
        """Cancel what ``request`` waits for, which has it refused.

        Its client may ask something else at once, which may call this again before it has
        returned: the inner call leaves what it evicts to the loop of the outer one.
        """
        self._evicted.append(self._all[request])
        self.remove(request)
        request.evicted = True
        if self._evicting:
            return
        self._evicting = True
        while self._evicted:
            self._evicted.popleft().cancel()
        self._evicting = False
