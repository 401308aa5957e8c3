"""Measuring addresses: samples within a budget, each of them for whoever asks.

An address is sampled by one sample at a time: askers of one that waits or is under way join it. So
many addresses are under way at once (``concurrency``), and all samples share a budget of echoes
per second; the others wait in a `WaitingList`. One timer runs for the next echoes that the budget
allows: until it goes off nothing can be sent, so nothing is looked at. What comes out goes into the
table of round-trip times, and then the askers hear of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from staggerdns.metrics import Metrics
from staggerdns.ranking.budget import ProbeBudget
from staggerdns.ranking.patience import Patience
from staggerdns.ranking.rtt import RttTable
from staggerdns.ranking.sample import ANY_PORT, PATIENCE, Asker, Probe, Sample, Watcher, Way
from staggerdns.ranking.waiting import FURTHER, IN_DEMAND, UNDER_WAY, WaitingList
from staggerdns.settings.sections import RankingSettings

MAX_WAITING = 4096
"""Addresses that may wait for their sample before sorts count as too many."""
GROUP_INTERVAL = 0.01
"""Seconds from one group of echoes to the next while the budget is short.

What a wake-up of the reactor costs is shared by them; as many echoes are sent in all.
"""


class Measurer(Watcher):
    """Samples addresses for whoever asks and puts what comes out into ``table``.

    Samples are timed by ``clock``, and what is in the table ages by ``table_clock``. ``at_port``
    makes the way of probing by a connection to any port.
    """

    def __init__(
        self,
        probes: Sequence[Probe],
        table: RttTable,
        budget: ProbeBudget,
        clock: IReactorTime,
        table_clock: IReactorTime,
        metrics: Metrics,
        settings: RankingSettings,
        at_port: Callable[[int], Probe],
    ) -> None:
        self._ways = [Way(probe, metrics) for probe in probes]
        self._at_port = at_port
        self._metrics = metrics
        self._table = table
        self._budget = budget
        self._clock = clock
        self._table_clock = table_clock
        self._timeout = settings.timeout
        self._patience = Patience(clock, settings.timeout * PATIENCE)
        self._concurrency = settings.concurrency
        self._running = 0
        self._sending = False
        self._timer: IDelayedCall | None = None
        self._by_address: dict[bytes, Sample] = {}  # running and waiting
        self._waiting = WaitingList()

    def __len__(self) -> int:
        """Return how many addresses are being measured, or wait for it."""
        return len(self._by_address)

    @property
    def running(self) -> int:
        """The addresses that are being probed; others may wait."""
        return self._running

    @property
    def full(self) -> bool:
        """Whether as many addresses wait as may."""
        return len(self._waiting) >= MAX_WAITING

    def usable(self, address: bytes) -> bool:
        """Return whether there is a way of probing the address."""
        return any(way.probe.usable(address) for way in self._ways)

    def sample(self, address: bytes, asker: Asker, urgency: int, port: int = 0) -> None:
        """Tell ``asker`` when a sample of the address has been taken, whatever came out.

        It may be told before this returns. ``urgency``: one of `staggerdns.ranking.waiting`.
        ``port``: where there is the service that it is about, 0 if that is not known.
        """
        sample = self._by_address.get(address)
        if sample is None:
            ways, known = self._ways_to(address, port, further=urgency == FURTHER)
            if not ways:
                asker.sampled(address, self._table_clock.seconds())
                return
            sample = self._by_address[address] = Sample(
                address,
                ways,
                self,
                self._clock,
                self._timeout,
                self._patience,
                known=known,
                further=urgency == FURTHER,
            )
            self._waiting.add(sample, urgency)
        else:
            self._waiting.raise_urgency(sample, urgency)
        sample.askers[asker] = None
        self._send()

    def demand(self, address: bytes) -> None:
        """Let the address come before others, if it waits for its sample."""
        sample = self._by_address.get(address)
        if sample is not None:
            self._waiting.raise_urgency(sample, IN_DEMAND)

    def leave(self, address: bytes, asker: Asker) -> None:
        """Tell ``asker`` nothing of the address; nobody's sample that waits is not taken."""
        sample = self._by_address.get(address)
        if sample is None:
            return
        sample.askers.pop(asker, None)
        if not sample.askers and not sample.begun:
            del self._by_address[address]
            self._waiting.remove(sample)

    def close(self) -> None:
        """Give up every sample; nobody is told."""
        for sample in self._by_address.values():
            sample.give_up()
        self._by_address.clear()
        self._waiting.clear()
        self._running = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def ready(self, sample: Sample) -> None:
        """Let a sample that is under way send its next echo when the budget allows."""
        self._waiting.add(sample, UNDER_WAY)
        self._send()

    def decided(self, sample: Sample, seconds: float | None, lost: int, way: str) -> None:
        """Put the result of a sample into the table, and tell its askers."""
        self._waiting.remove(sample)
        del self._by_address[sample.address]
        self._running -= 1
        now = self._table_clock.seconds()
        note = self._table.extend if sample.further else self._table.begin
        note(sample.address, seconds, lost, way, now)
        for asker in sample.askers:
            asker.sampled(sample.address, now)
        self._send()

    def _ways_to(self, address: bytes, port: int, *, further: bool) -> tuple[list[Way], bool]:
        """Return the ways of probing an address, and whether it has answered by them before.

        Further samples go the way of the first.
        """
        every_way = self._ways if not port else self._ways_at(port)
        if further:
            name = self._table.way(address)
            ways = [way for way in every_way if way.probe.name == name]
            if ways:
                return ways, True
        return [way for way in every_way if way.probe.usable(address)], False

    def _ways_at(self, port: int) -> list[Way]:
        """Return the ways of probing for a service on a port: a connection to that one takes the
        place of the first to any other.
        """
        found: list[Way] = []
        connects = False
        for way in self._ways:
            if way.probe.cheap:
                found.append(way)
            elif not connects:
                connects = True
                probe = self._at_port(port)
                known = [one for one in self._ways if one.probe.name == probe.name]
                found.append(known[0] if known else Way(probe, self._metrics, ANY_PORT))
        return found

    def _send(self) -> None:
        """Send what may be sent, and set the timer for what may be next."""
        # Until the timer goes off the budget allows nothing. And for a sample that sends again, or
        # ends at once, the loop below goes on.
        if self._timer is not None or self._sending:
            return
        self._sending = True
        wait = 0.0
        while not wait:
            busy = self._running >= self._concurrency
            sample = self._waiting.first(only_under_way=busy)
            if sample is None:
                break
            assert isinstance(sample, Sample)
            wait = self._budget.wait()
            if not wait:
                self._budget.spend()
                self._waiting.sent(sample)
                if not sample.begun:
                    self._running += 1
                sample.send()
        self._sending = False
        if wait:
            self._timer = self._clock.callLater(max(wait, GROUP_INTERVAL), self._send_later)

    def _send_later(self) -> None:
        self._timer = None
        self._send()
