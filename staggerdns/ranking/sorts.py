"""The sort queue: at most one sort per key, a bounded number of them at once.

A sort waits for the measurements of its addresses and then reports their order, once. It is its
own token: `Sorts.cancel` (CancelSort) forgets it, and from then on it reports nothing, however
late its measurements end. Addresses whose round-trip time is fresh in the table are not
measured again; when all are, the sort reports at once and never queues.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred

from staggerdns.deferreds import ignore_cancellation
from staggerdns.metrics import Metrics
from staggerdns.ranking.measure import Measurer
from staggerdns.ranking.order import order
from staggerdns.ranking.rtt import RttTable
from staggerdns.settings.sections import RankingSettings

TRIGGERS = (
    "first_answer",
    "refresh",
    "more_addresses",
    "rtt_stale",
    "sorted_missing",
    "queue_full",
)
"""What makes a sort start, as the metrics call it (docs/specification.rst, Triggers of a sort)."""

Report = Callable[[tuple[bytes, ...] | None, float], None]
"""Called with the order, or `None` when no address has answered, and the time."""


class Sorts:
    """Starts and ends sorts, as many at once as the settings allow."""

    def __init__(
        self, table: RttTable, measurer: Measurer, settings: RankingSettings, metrics: Metrics
    ) -> None:
        self.table = table
        self.measurer = measurer
        self._queue = settings.queue
        self._closed = False
        self._sorts: dict[bytes, _Sort] = {}
        self._triggers = {trigger: metrics.sorts.cell(trigger) for trigger in TRIGGERS}
        self._cancelled = metrics.sorts_cancelled.cell()
        metrics.sorts_running.read_from(lambda: len(self._sorts))
        metrics.addresses_known.read_from(lambda: len(table))

    def __contains__(self, key: bytes) -> bool:
        return key in self._sorts

    def start(
        self,
        key: bytes,
        probed: Sequence[bytes],
        addresses: Sequence[bytes],
        ranked: Sequence[bytes],
        trigger: str,
        now: float,
        report: Report,
    ) -> bool:
        """Join the sort under ``key`` or start one (GetOrStartSort).

        ``probed``: the addresses to measure. ``addresses``: all that are put in order.
        ``ranked``: their order at an earlier sort. ``now``: seconds of the table's clock.
        ``report`` may be called before this returns. False: the queue is full and nothing was
        started.
        """
        if key in self._sorts:
            return True
        if self._closed:
            return False
        missing = [address for address in probed if not self.table.fresh(address, now)]
        if missing and (len(self._sorts) >= self._queue or self.measurer.full):
            self._triggers["queue_full"].value += 1
            return False
        self._triggers[trigger].value += 1
        sort = _Sort(self, key, probed, addresses, ranked, report)
        self._sorts[key] = sort
        sort.begin(missing, now)
        return True

    def cancel(self, key: bytes) -> None:
        """End the sort under ``key``, if there is one, and drop its result (CancelSort)."""
        sort = self._sorts.pop(key, None)
        if sort is not None:
            self._cancelled.value += 1
            sort.cancel()

    def close(self) -> None:
        """End every sort and start no more."""
        self._closed = True
        while self._sorts:
            self._sorts.popitem()[1].cancel()

    def finished(self, key: bytes, sort: _Sort) -> bool:
        """Forget a sort that has ended; return whether its result still counts."""
        if self._sorts.get(key) is not sort:
            return False
        del self._sorts[key]
        return True


class _Sort:
    def __init__(
        self,
        sorts: Sorts,
        key: bytes,
        probed: Sequence[bytes],
        addresses: Sequence[bytes],
        ranked: Sequence[bytes],
        report: Report,
    ) -> None:
        self._sorts = sorts
        self._key = key
        self._probed = probed
        self._addresses = addresses
        self._ranked = ranked
        self._report = report
        self._measuring: set[Deferred[float]] = set()

    def begin(self, missing: Sequence[bytes], now: float) -> None:
        waits = [self._sorts.measurer.measure(address) for address in missing]
        self._measuring.update(waits)
        for measured in waits:
            measured.addCallbacks(self._measured, ignore_cancellation, callbackArgs=(measured,))
        if not waits:
            self._finish(now)

    def cancel(self) -> None:
        measuring, self._measuring = self._measuring, set()
        for measured in measuring:
            measured.cancel()

    def _measured(self, now: float, measured: Deferred[float]) -> None:
        if measured in self._measuring:
            self._measuring.remove(measured)
            if not self._measuring:
                self._finish(now)

    def _finish(self, now: float) -> None:
        if not self._sorts.finished(self._key, self):
            return
        table = self._sorts.table
        if any(table.answers(address) for address in self._probed):
            self._report(order(self._addresses, table, self._ranked), now)
            return
        self._report(None, now)
