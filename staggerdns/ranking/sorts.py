"""The sort queue: at most one sort per key, a bounded number of them at once.

A sort goes in rounds. In the first, one sample is taken of each address whose round-trip time is
not fresh in the table. In each further one it is taken of those that may yet be the nearest and are
not settled; when there are none the sort reports the order, and ends. When nothing has to be
sampled it does so at once and never queues.

    first round --> further rounds --> ended
        |                |
        +-- an echo is the nearest so far: the order so far is reported

Echoes of samples that go out together come nearest first, so the first of them has the order
reported that matters most. A sort is its own token: `Sorts.cancel` (CancelSort) forgets it, and
from then on it reports nothing, however late its samples come.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from staggerdns.metrics import Metrics
from staggerdns.ranking.contenders import contenders
from staggerdns.ranking.measure import Measurer
from staggerdns.ranking.order import order
from staggerdns.ranking.rtt import RttTable
from staggerdns.ranking.sample import Asker
from staggerdns.ranking.waiting import FIRST, FURTHER, IN_DEMAND
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
_NO_PORTS: Mapping[bytes, int] = {}


class Listener:
    """Whoever hears what comes of a sort; times are of the table's clock."""

    __slots__ = ()

    @abstractmethod
    def nearer(self, addresses: tuple[bytes, ...]) -> None:
        """Hear of the order so far: the nearest address so far has just answered."""

    @abstractmethod
    def ended(self, addresses: tuple[bytes, ...] | None, now: float) -> None:
        """Hear of the order in the end, `None` when no address has answered."""


class Sorts:
    """Starts and ends sorts, as many at once as the settings allow."""

    def __init__(
        self, table: RttTable, measurer: Measurer, settings: RankingSettings, metrics: Metrics
    ) -> None:
        self.table = table
        self.measurer = measurer
        self.samples = settings.samples
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
        listener: Listener,
        ports: Mapping[bytes, int] | None = None,
    ) -> bool:
        """Join the sort under ``key`` or start one (GetOrStartSort).

        ``probed``: the addresses to measure. ``addresses``: all that are put in order.
        ``ranked``: their order at an earlier sort. ``now``: seconds of the table's clock.
        ``listener`` may hear before this returns. ``ports``: where addresses have a service, if
        that is known. False: the queue is full and nothing was started.
        """
        if key in self._sorts:
            return True
        if self._closed:
            return False
        sort = _Sort(self, key, probed, addresses, ranked, listener, ports or _NO_PORTS)
        wanted = sort.wanted(now)
        if wanted and (len(self._sorts) >= self._queue or self.measurer.full):
            self._triggers["queue_full"].value += 1
            return False
        self._triggers[trigger].value += 1
        self._sorts[key] = sort
        sort.begin(wanted, now)
        return True

    def over_at_once(self, probed: Sequence[bytes], trigger: str, now: float) -> bool:
        """Count a sort that would end where it starts, and return True: nothing has to be sampled,
        and an address has answered. What is in order by `table` is sorted then, without more ado.

        ``probed``, ``trigger`` and ``now`` as for `start`, which any other sort takes.
        """
        table, samples = self.table, self.samples
        for address in probed:
            if not table.fresh(address, now):
                return False
        nearest = contenders(probed, table)
        if self._closed or not nearest:
            return False
        for address in nearest:
            if not table.settled(address, samples):
                return False
        self._triggers[trigger].value += 1
        return True

    def demand(self, key: bytes) -> bool:
        """Let the sort under ``key`` come before those that nobody asks for; False: none is."""
        sort = self._sorts.get(key)
        if sort is None:
            return False
        sort.demand()
        return True

    def cancel(self, key: bytes) -> bool:
        """End the sort under ``key``, if there is one, and drop its result (CancelSort); return
        whether there was one.
        """
        sort = self._sorts.pop(key, None)
        if sort is None:
            return False
        self._cancelled.value += 1
        sort.cancel()
        return True

    def close(self) -> None:
        """End every sort and start no more."""
        self._closed = True
        while self._sorts:
            self._sorts.popitem()[1].cancel()

    def stands(self, key: bytes, sort: _Sort) -> bool:
        """Return whether ``sort`` is the one under ``key``."""
        return self._sorts.get(key) is sort

    def forget(self, key: bytes) -> None:
        """Forget a sort that has ended; called by the sort."""
        del self._sorts[key]


class _Sort(Asker):
    """One sort. ``_open``: the addresses of this round whose samples are not there yet."""

    __slots__ = (
        "_sorts",
        "_key",
        "_probed",
        "_addresses",
        "_ranked",
        "_listener",
        "_ports",
        "_open",
        "_urgency",
        "_least",
    )

    def __init__(
        self,
        sorts: Sorts,
        key: bytes,
        probed: Sequence[bytes],
        addresses: Sequence[bytes],
        ranked: Sequence[bytes],
        listener: Listener,
        ports: Mapping[bytes, int],
    ) -> None:
        self._sorts = sorts
        self._key = key
        self._probed = probed
        self._addresses = addresses
        self._ranked = ranked
        self._listener = listener
        self._ports = ports
        self._open: dict[bytes, None] = {}
        self._urgency = FIRST
        self._least = float("inf")

    def wanted(self, now: float) -> list[bytes]:
        """Return the addresses to be sampled first, none when the order is known."""
        table = self._sorts.table
        missing = []
        for address in self._probed:
            if table.fresh(address, now):
                self._least = min(self._least, table.cost(address) or 0.0)
            else:
                missing.append(address)
        if missing:
            return missing
        self._urgency = FURTHER
        return self._unsettled()

    def begin(self, wanted: Sequence[bytes], now: float) -> None:
        """Begin with the addresses that are ``wanted``; end at once when there are none."""
        if wanted:
            self._sample(wanted)
        else:
            self._end(now)

    def demand(self) -> None:
        """Have the addresses of the first round sampled sooner; once, however often it is asked."""
        if self._urgency == FIRST:
            self._urgency = IN_DEMAND
            for address in self._open:
                self._sorts.measurer.demand(address)

    def cancel(self) -> None:
        """Want no sample any more."""
        wanted, self._open = self._open, {}
        for address in wanted:
            self._sorts.measurer.leave(address, self)

    def sampled(self, address: bytes, now: float) -> None:
        """Report the order so far, go on with the next round, or end."""
        if address not in self._open:
            return
        del self._open[address]
        further = [] if self._open else self._unsettled()
        if not self._open and not further:
            self._end(now)
            return
        table = self._sorts.table
        cost = table.cost(address)
        if cost is not None and cost < self._least:
            self._least = cost
            self._listener.nearer(order(self._addresses, table, self._ranked))
        if further and self._sorts.stands(self._key, self):
            self._urgency = FURTHER
            self._sample(further)

    def _unsettled(self) -> list[bytes]:
        table, samples = self._sorts.table, self._sorts.samples
        return [
            address
            for address in contenders(self._probed, table)
            if not table.settled(address, samples)
        ]

    def _sample(self, addresses: Sequence[bytes]) -> None:
        self._open = dict.fromkeys(addresses)
        ports = self._ports
        for address in addresses:
            self._sorts.measurer.sample(address, self, self._urgency, ports.get(address, 0))

    def _end(self, now: float) -> None:
        self._sorts.forget(self._key)
        table = self._sorts.table
        if any(table.answers(address) for address in self._probed):
            self._listener.ended(order(self._addresses, table, self._ranked), now)
        else:
            self._listener.ended(None, now)
