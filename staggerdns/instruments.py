"""What numbers are kept in: counters, gauges, histograms, maxima.

Counting must cost next to nothing, so the rooms hold plain cells and add to them; the families
turn them into samples when somebody asks.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Collection
from itertools import accumulate
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

BOUNDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0)
"""Seconds up to which each bucket of a histogram counts; behind the last one is one more."""


class Cell:
    """One number that only grows; add to ``value`` directly."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Family:
    """What one ``name`` of a metric stands for, by the values of its ``labels``."""

    def __init__(self, name: str, documentation: str, *labels: str) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels

    def forget(self, label: str, gone: Collection[str]) -> None:
        """Remove what stands under these values of a label, if the family has that label."""
        if label in self._labels:
            place = self._labels.index(label)
            series = self._series()
            for values in [values for values in series if values[place] in gone]:
                del series[values]

    @abstractmethod
    def _series(self) -> dict[tuple[str, ...], Any]:
        """Return what there is for each combination of label values."""

    @abstractmethod
    def collect(self) -> Metric:
        """Return the family with the values of now."""


class Counter(Family):
    """A family of cells by label values; bind a cell once and keep it."""

    def __init__(self, name: str, documentation: str, *labels: str) -> None:
        super().__init__(name, documentation, *labels)
        self._cells: dict[tuple[str, ...], Cell] = {}

    def cell(self, *values: str) -> Cell:
        """Return the cell of these label values, the same one at every call."""
        found = self._cells.get(values)
        if found is None:
            found = self._cells[values] = Cell()
        return found

    def values(self) -> dict[tuple[str, ...], int]:
        """Return the value of each cell by its label values."""
        return {values: cell.value for values, cell in self._cells.items()}

    def _series(self) -> dict[tuple[str, ...], Any]:
        return self._cells

    def collect(self) -> Metric:
        """Return the family with the values of now."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, value in self.values().items():
            family.add_metric(values, value)
        return family


class Distribution:
    """The buckets of one histogram, in seconds."""

    __slots__ = ("_counts", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count ``times`` observations of ``seconds`` each."""
        self._counts[bisect_left(BOUNDS, seconds)] += times
        self._sum += seconds * times

    @property
    def count(self) -> int:
        """The number of observations."""
        return sum(self._counts)

    @property
    def buckets(self) -> list[int]:
        """The number of observations in each bucket."""
        return [*self._counts]

    def samples(self) -> tuple[list[tuple[str, float]], float]:
        """Return cumulative buckets and the sum, as Prometheus wants them."""
        bounds = [str(bound) for bound in BOUNDS] + ["+Inf"]
        return list(zip(bounds, accumulate(self._counts), strict=True)), self._sum


class Histogram(Family):
    """A family of distributions by label values."""

    def __init__(self, name: str, documentation: str, *labels: str) -> None:
        super().__init__(name, documentation, *labels)
        self._distributions: dict[tuple[str, ...], Distribution] = {}

    def distribution(self, *values: str) -> Distribution:
        """Return the distribution of these label values, the same one at every call."""
        found = self._distributions.get(values)
        if found is None:
            found = self._distributions[values] = Distribution()
        return found

    def counts(self) -> dict[tuple[str, ...], int]:
        """Return the number of observations by label values."""
        return {values: found.count for values, found in self._distributions.items()}

    def buckets(self, *labels: str) -> list[int]:
        """Return the number of observations in each bucket, of all label values together or of
        those that begin with these.
        """
        wanted = [
            found.buckets
            for values, found in self._distributions.items()
            if values[: len(labels)] == labels
        ]
        return [sum(counts) for counts in zip(*wanted, strict=True)] or [0] * (len(BOUNDS) + 1)

    def _series(self) -> dict[tuple[str, ...], Any]:
        return self._distributions

    def collect(self) -> Metric:
        """Return the family with the values of now."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, distribution in self._distributions.items():
            buckets, total = distribution.samples()
            family.add_metric(values, buckets, total)
        return family


class Gauge(Family):
    """A family whose values are read from functions when somebody asks."""

    def __init__(self, name: str, documentation: str, *labels: str) -> None:
        super().__init__(name, documentation, *labels)
        self._readers: dict[tuple[str, ...], Callable[[], float]] = {}

    def read_from(self, reader: Callable[[], float], *values: str) -> None:
        """Call ``reader`` for the value under these label values."""
        self._readers[values] = reader

    def values(self) -> dict[tuple[str, ...], float]:
        """Return the value of now by label values."""
        return {values: reader() for values, reader in self._readers.items()}

    def _series(self) -> dict[tuple[str, ...], Any]:
        return self._readers

    def collect(self) -> Metric:
        """Return the family with the values of now."""
        family = GaugeMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, value in self.values().items():
            family.add_metric(values, value)
        return family


class Maximum:
    """The largest value of the last `PERIOD` to twice `PERIOD` seconds."""

    PERIOD = 300.0

    __slots__ = ("_before", "_lately", "_turn_at")

    def __init__(self) -> None:
        self._before = 0
        self._lately = 0
        self._turn_at = self.PERIOD

    def see(self, value: int, now: float) -> None:
        """Count a ``value`` seen at ``now``, in seconds of any clock that goes forward."""
        if now >= self._turn_at:
            self._turn(now)
        if value > self._lately:  # noqa: PLR1730 (max() is slower)
            self._lately = value

    def at(self, now: float) -> int:
        """Return the maximum as it stands at ``now``."""
        if now >= self._turn_at:
            self._turn(now)
        return max(self._before, self._lately)

    def _turn(self, now: float) -> None:
        recent = now < self._turn_at + self.PERIOD
        self._before = self._lately if recent else 0
        self._lately = 0
        self._turn_at = (self._turn_at if recent else now) + self.PERIOD
