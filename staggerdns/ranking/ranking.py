"""The ranking room, put together: sorts that measure with probes, and what they know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace
from twisted.internet.interfaces import IReactorTime

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.ranking.budget import ProbeBudget
from staggerdns.ranking.measure import Measurer
from staggerdns.ranking.probes import Probes
from staggerdns.ranking.rtt import RttTable
from staggerdns.ranking.sorts import Sorts
from staggerdns.settings.sections import RankingSettings
from staggerdns.standstill import StandstillClock


class Ranking:
    """The ranking room: ``sorts`` measures with ``probes`` and fills ``table``.

    ``before``: a room whose place this one takes, with what is known of addresses, and with the
    sockets that needed privileges; it is to be closed then.
    """

    def __init__(
        self,
        settings: RankingSettings,
        reactor: Any,
        clock: IReactorTime,
        awake: StandstillClock,
        rng: Callable[[int], bytes],
        metrics: Metrics,
        journal: Journal,
        before: Ranking | None = None,
    ) -> None:
        self._settings = settings
        self.table: RttTable = RttTable(settings) if before is None else before.table
        table = self.table
        table.use(settings)
        # Round trips are real time: without what a standstill took of it they would come out too
        # short, and the far address first.
        icmp = None if before is None else before.probes.hand_over()
        self.probes: Probes = Probes(settings, reactor, clock, rng, journal, icmp)
        self._measurer = Measurer(
            self.probes.all,
            table,
            ProbeBudget(settings.max_probes_per_second, awake),
            awake,
            clock,
            metrics,
            settings,
            self.probes.at_port,
        )
        self.sorts = Sorts(table, self._measurer, settings, metrics)

    def goes_by(self, settings: RankingSettings) -> bool:
        """Return whether these settings would make a room that is as this one; some of them are
        those of scopes.
        """
        ours = replace(
            self._settings,
            enabled=settings.enabled,
            probe_private=settings.probe_private,
            max_addresses=settings.max_addresses,
        )
        return ours == settings

    def close(self) -> None:
        """End every sort and probe."""
        self.sorts.close()
        self._measurer.close()
        self.probes.close()
