"""An upstream over streams on a reactor in memory: what tests of all stream transports share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import CancelledError
from twisted.internet.testing import MemoryReactorClock

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.settings.addresses import parse_upstream
from staggerdns.settings.sections import UpstreamSettings
from staggerdns.standstill import StandstillClock
from staggerdns.upstream.edns import FULL
from staggerdns.upstream.upstream import Upstream
from staggerdns.wire.question import make_question
from tests.kit.acts import A, name

if TYPE_CHECKING:
    from staggerdns.upstream.exchange import Exchange, Outcome

WWW = make_question(name("www.example"), A)


class SteadyReactor(MemoryReactorClock):
    """A reactor in memory that makes each call in time, however far it is advanced at once."""

    def advance(self, amount: float) -> None:
        """Let so many seconds pass."""
        end = self.rightNow + amount
        while self.calls and self.calls[0].getTime() <= end:
            super().advance(max(0.0, self.calls[0].getTime() - self.rightNow))
        super().advance(max(0.0, end - self.rightNow))


class StreamUpstream:
    """The upstream at ``where``, how its exchanges ended, and what it wanted to connect to."""

    def __init__(self, where: str, timeout: float = 3.0) -> None:
        self.reactor = cast("Any", SteadyReactor())
        self.reactor.advance(1000)
        self.metrics = Metrics()
        self.clock = StandstillClock(self.reactor)
        self.upstream = Upstream(
            parse_upstream(where),
            UpstreamSettings(servers=(), timeout=timeout),
            reactor=self.reactor,
            readers=cast("Any", None),
            clock=self.clock,
            rng=os.urandom,
            metrics=self.metrics,
            journal=Journal(),
        )
        self.upstream.dialect.edns.proven = FULL  # as if it had answered before
        self.outcomes: list[Outcome] = []
        self._made = 0

    def ask(self) -> Exchange:
        """Ask for WWW."""
        exchange = self.upstream.ask(WWW, "active", self.clock.seconds())
        exchange.addCallbacks(self.outcomes.append, lambda failure: failure.trap(CancelledError))
        return exchange

    @property
    def attempts(self) -> int:
        """Connections that our side has wanted."""
        return len(self.reactor.tcpClients)

    def next_attempt(self) -> tuple[str, int, Any]:
        """Host, port and factory of the next connection that is wanted."""
        host, port, factory = self.reactor.tcpClients[self._made][:3]
        self._made += 1
        return host, port, factory

    def reasons(self) -> list[str]:
        """Why exchanges have failed since the last call, an empty text for a good one."""
        found = [outcome.reason for outcome in self.outcomes]
        self.outcomes.clear()
        return found
