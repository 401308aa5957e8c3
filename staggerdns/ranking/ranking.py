"""The ranking room, put together: sorts that measure with probes, and what they know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace
from twisted.internet.interfaces import IReactorTime

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.ranking.budget import ProbeBudget
from staggerdns.ranking.handshakes import Handshakes
from staggerdns.ranking.measure import Measurer
from staggerdns.ranking.probes import Probes
from staggerdns.ranking.rtt import RttTable
from staggerdns.ranking.sample import Probe
from staggerdns.ranking.sorts import Sorts
from staggerdns.settings.sections import RankingSettings
from staggerdns.standstill import StandstillClock


class Ranking:
    """The ranking room: ``sorts`` measures with ``probes`` and fills ``table``; ``handshakes``
    compares families, and has a table of its own.

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
        self.handshake_table: RttTable = (
            RttTable(settings) if before is None else before.handshake_table
        )
        for table in (self.table, self.handshake_table):
            table.use(settings)
        # Round trips are real time: without what a standstill took of it they would come out too
        # short, and the far address first.
        icmp = None if before is None else before.probes.hand_over()
        self.probes: Probes = Probes(settings, reactor, clock, rng, journal, icmp)
        budget = ProbeBudget(settings.max_probes_per_second, awake)

        def measurer(probes: Sequence[Probe], table: RttTable) -> Measurer:
            at_port = self.probes.at_port
            return Measurer(probes, table, budget, awake, clock, metrics, settings, at_port)

        self._measurer = measurer(self.probes.all, self.table)
        self._connecting = measurer(self.probes.handshakes, self.handshake_table)
        self.sorts = Sorts(self.table, self._measurer, settings, metrics)
        self.handshakes = Handshakes(self.handshake_table, self._connecting, settings.samples)
        metrics.addresses_measured.read_from(lambda: len(self._measurer) + len(self._connecting))

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
        self._connecting.close()
        self.probes.close()
