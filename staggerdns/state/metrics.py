"""What Prometheus sees of the saved state."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from staggerdns.instruments import Counter, Gauge

FULL = "full"
DENIED = "denied"
OCCUPIED = "occupied"
OTHER = "other"
REASONS = (FULL, DENIED, OCCUPIED, OTHER)
"""Why the state could not be saved."""


class StateMetrics(Collector):
    """The families of the saved state; 0 as long as nothing has been saved."""

    def __init__(self) -> None:
        self._time = self._seconds = 0.0
        self._octets = 0
        saved = Gauge(
            "staggerdns_state_save_timestamp_seconds",
            "When the state was saved last, in seconds since 1970",
        )
        saved.read_from(lambda: self._time)
        seconds = Gauge("staggerdns_state_save_seconds", "How long the last save took")
        seconds.read_from(lambda: self._seconds)
        octets = Gauge("staggerdns_state_octets", "Octets of the file of the last save")
        octets.read_from(lambda: self._octets)
        failures = Counter(
            "staggerdns_state_save_failures", "Saves that failed, by what was wrong", "reason"
        )
        restored = Counter("staggerdns_state_restored", "What was read at the start", "kind")
        self._failures = {reason: failures.cell(reason) for reason in REASONS}
        self.answers = restored.cell("answers")
        self.round_trips = restored.cell("round_trips")
        self._families = (saved, seconds, octets, failures, restored)

    def saved(self, time: float, seconds: float, octets: int) -> None:
        """Note a save: when it ended, how long it took, how long the file is."""
        self._time, self._seconds, self._octets = time, seconds, octets

    def failed(self, reason: str) -> None:
        """Count a save that failed, for one of `REASONS`."""
        self._failures[reason].value += 1

    def collect(self) -> Iterator[Metric]:
        """Yield every family with the values of now."""
        for family in self._families:
            yield family.collect()
