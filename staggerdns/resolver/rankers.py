"""The ranking room of a program, and who puts the answers of each scope in order by it.

There is one room for all scopes, if any of them is ranked: what is known of addresses belongs to
them. It is made anew when the settings say something else of it, and takes over what is known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace
from twisted.internet.interfaces import IReactorTime

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.ranking.handshakes import Handshakes
from staggerdns.ranking.probes import connects
from staggerdns.ranking.ranking import Ranking
from staggerdns.ranking.rtt import RttTable
from staggerdns.resolver.ranker import Ranker
from staggerdns.settings.sections import RankingSettings
from staggerdns.standstill import StandstillClock
from staggerdns.traces.trace import Traces


class Rankers:
    """Has the room that `use` says; `close` it in the end. ``clock``: the cache's, ``awake``: the
    same without what the program stood still; ``rng``: returns that many random bytes.
    """

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        awake: StandstillClock,
        rng: Callable[[int], bytes],
        metrics: Metrics,
        journal: Journal,
        traces: Traces,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._awake = awake
        self._rng = rng
        self._metrics = metrics
        self._journal = journal
        self._traces = traces
        self._settings = RankingSettings()
        self._ranking: Ranking | None = None
        self._by_private: dict[bool, Ranker] = {}
        self._is_open = False

    def use(self, settings: RankingSettings, *, wanted: bool) -> None:
        """Go by these settings from now on; ``wanted``: some scope is ranked."""
        self._settings = settings
        before = self._ranking
        if before is not None and wanted and before.goes_by(settings):
            return
        self._by_private.clear()
        self._ranking = None
        if wanted:
            self._ranking = Ranking(
                settings,
                self._reactor,
                self._clock,
                self._awake,
                self._rng,
                self._metrics,
                self._journal,
                before,
            )
            if self._is_open:
                self._ranking.probes.open()
        if before is not None:
            before.close()

    def of(self, *, ranked: bool, probe_private: bool) -> Ranker | None:
        """Return who puts the answers of a scope with these rules in order, if anybody does."""
        if self._ranking is None or not ranked:
            return None
        ranker = self._by_private.get(probe_private)
        if ranker is None:
            settings = replace(self._settings, probe_private=probe_private)
            ranker = Ranker(settings, self._ranking.sorts, self._journal, self._traces)
            self._by_private[probe_private] = ranker
        return ranker

    @property
    def table(self) -> RttTable | None:
        """What is known of addresses, `None` where nothing is ranked."""
        return None if self._ranking is None else self._ranking.table

    @property
    def handshakes(self) -> Handshakes | None:
        """What compares the families of addresses, `None` where that cannot be done."""
        if self._ranking is None or not connects(self._settings.probes):
            return None
        return self._ranking.handshakes

    def open(self) -> None:
        """Open now what needs privileges; what is not opened here is opened when it is needed."""
        self._is_open = True
        if self._ranking is not None:
            self._ranking.probes.open()

    def close(self) -> None:
        """End every sort and probe."""
        if self._ranking is not None:
            self._ranking.close()
