"""What Prometheus sees of the second level."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from staggerdns.instruments import Counter, Gauge, Histogram
from staggerdns.resolver.secondlevel import ERROR, READS

WRITTEN = "written"
MERGED = "merged"
BEATEN = "beaten"
LEFT_OUT = "left_out"
WRITES = (WRITTEN, MERGED, BEATEN, LEFT_OUT, ERROR)
"""What becomes of a pool to be written: it stands as it was collected, or together with what
others had; others were quicker each time; there were too many, or it is too large; the store would
not take it, or is gone.
"""


class SharedMetrics(Collector):
    """The families of the second level; 0 as long as there is none.

    ``is_asked`` returns whether the store is asked now.
    """

    def __init__(self, is_asked: Callable[[], bool] = lambda: False) -> None:
        reads = Counter(
            "staggerdns_shared_reads",
            "Questions to the second level of the cache, by what it had",
            "result",
        )
        writes = Counter(
            "staggerdns_shared_writes",
            "Pools for the second level of the cache, by what became of them",
            "result",
        )
        up = Gauge(
            "staggerdns_shared_up", "1 while the second level of the cache is asked, 0 while not"
        )
        up.read_from(is_asked)
        seconds = Histogram(
            "staggerdns_shared_seconds", "Time from asking the second level to its reply"
        )
        self.reads = {result: reads.cell(result) for result in READS}
        self.writes = {result: writes.cell(result) for result in WRITES}
        self.seconds = seconds.distribution()
        self._families = (reads, writes, up, seconds)

    def collect(self) -> Iterator[Metric]:
        """Yield every family with the values of now."""
        for family in self._families:
            yield family.collect()
