"""Measuring addresses: several samples, one way of probing after the other, within a budget.

An address is measured once at a time, whoever asks: askers of a measurement under way join it.
So many addresses are under measurement at once (``concurrency``), the others wait their turn,
and all of them share a budget of probes per second. A way of probing that has brought nothing
after a quarter of ``timeout`` gets company by the next one; the first to bring an answer wins
and takes the rest of the samples. What comes out goes into the table of round-trip times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from staggerdns.metrics import Metrics
from staggerdns.ranking.budget import ProbeBudget
from staggerdns.ranking.rtt import RttTable
from staggerdns.settings.sections import RankingSettings

MAX_WAITING = 4096
"""Addresses that may wait for their measurement before sorts count as too many."""
PATIENCE = 0.25
"""The part of ``timeout`` after which a sample has company: by the next, or another way."""


class Probe(Protocol):
    """A way of probing. ``cheap``: a sample that nobody answers is followed by another one."""

    name: str
    cheap: bool

    def usable(self, address: bytes) -> bool:
        """Return whether this way can reach the address."""

    def ping(self, address: bytes) -> Deferred[float]:
        """Send one sample: a Deferred of the seconds that cancelling gives up."""


class Measurer:
    """Measures addresses for whoever asks and puts what comes out into ``table``.

    Samples are timed by ``clock``, and what is in the table ages by ``table_clock``.
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
    ) -> None:
        self.probes = probes
        self.table = table
        self.budget = budget
        self.clock = clock
        self.table_clock = table_clock
        self.samples = settings.samples
        self.timeout = settings.timeout
        self.sent = {probe.name: metrics.probes.cell(probe.name) for probe in probes}
        self.lost = {probe.name: metrics.probe_losses.cell(probe.name) for probe in probes}
        self.seconds = {
            probe.name: metrics.probe_seconds.distribution(probe.name) for probe in probes
        }
        self._concurrency = settings.concurrency
        self._running = 0
        self._starting = False
        self._by_address: dict[bytes, _Measurement] = {}  # running and waiting
        self._waiting: dict[bytes, None] = {}
        metrics.addresses_measured.read_from(lambda: len(self._by_address))

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
        return any(probe.usable(address) for probe in self.probes)

    def measure(self, address: bytes) -> Deferred[float]:
        """Return a Deferred that fires when the address has been measured, whatever came out.

        Its result is the time then, of ``table_clock``. Cancelling it only takes this asker out.
        """
        measurement = self._by_address.get(address)
        if measurement is None:
            measurement = self._by_address[address] = _Measurement(self, address)
            self._waiting[address] = None
        asker = measurement.join()
        self._start_waiting()
        return asker

    def close(self) -> None:
        """Give up every measurement."""
        for measurement in list(self._by_address.values()):
            measurement.close()
        self._by_address.clear()
        self._waiting.clear()
        self._running = 0

    def abandoned(self, address: bytes) -> None:
        """Drop an address that nobody asks for any more, if it is not under way yet."""
        if address in self._waiting:
            del self._waiting[address]
            del self._by_address[address]

    def finished(self, address: bytes) -> None:
        """Forget a measurement that has ended, and begin those that have waited for that."""
        if self._by_address.pop(address, None) is not None:
            self._running -= 1
            self._start_waiting()

    def _start_waiting(self) -> None:
        if self._starting:  # a measurement that ended at once: the loop below goes on
            return
        self._starting = True
        while self._waiting and self._running < self._concurrency:
            address = next(iter(self._waiting))
            del self._waiting[address]
            self._running += 1
            self._by_address[address].begin()
        self._starting = False


class _Measurement:
    """One address under measurement."""

    def __init__(self, measurer: Measurer, address: bytes) -> None:
        self._measurer = measurer
        self._address = address
        self._askers: list[Deferred[float]] = []
        self._probes = [probe for probe in measurer.probes if probe.usable(address)]
        self._trials: list[_Trial] = []
        self._winner: _Trial | None = None
        self._timer: IDelayedCall | None = None
        self._over = False

    def join(self) -> Deferred[float]:
        asker: Deferred[float] = Deferred(self._leave)
        self._askers.append(asker)
        return asker

    def begin(self) -> None:
        self._next_probe()

    def close(self) -> None:
        self._stop()
        askers, self._askers = self._askers, []
        for asker in askers:
            asker.cancel()

    def _leave(self, asker: Deferred[float]) -> None:
        if asker in self._askers:
            self._askers.remove(asker)
            if not self._askers:
                self._measurer.abandoned(self._address)

    def _next_probe(self) -> None:
        """Begin the next way of probing."""
        self._timer = None
        measurer = self._measurer
        if not self._probes:
            self._finish([None] * measurer.samples if self._trials else None)
            return
        trial = _Trial(measurer, self._address, self._probes.pop(0), self)
        self._trials.append(trial)
        trial.begin()

    def began(self) -> None:
        """Start the timer for the next way of probing; called with a trial's first sample."""
        if self._undecided() and self._probes:
            measurer = self._measurer
            self._timer = measurer.clock.callLater(measurer.timeout * PATIENCE, self._next_probe)

    def _undecided(self) -> bool:
        return self._winner is None and not self._over and self._timer is None

    def answered(self, winner: _Trial) -> None:
        """Leave the rest to the way that works; called by the trial."""
        if self._winner is None:
            self._winner = winner
            self._stop_timer()
            for trial in self._trials:
                if trial is not winner:
                    trial.stop()

    def done(self, trial: _Trial) -> None:
        """End the measurement, or begin the next way of probing; called when a trial ends."""
        if trial is self._winner:
            self._finish(trial.results)
        elif self._winner is None and all(other.lost for other in self._trials):
            self._stop_timer()
            self._next_probe()

    def _finish(self, results: Sequence[float | None] | None) -> None:
        """End the measurement with ``results``, `None` when there was no way of probing."""
        if self._over:
            return
        self._stop()
        measurer = self._measurer
        now = measurer.table_clock.seconds()
        if results is not None:
            measurer.table.add(self._address, results, now)
        measurer.finished(self._address)
        askers, self._askers = self._askers, []
        for asker in askers:
            asker.callback(now)

    def _stop(self) -> None:
        self._over = True
        self._stop_timer()
        for trial in self._trials:
            trial.stop()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Trial:
    """The samples of one way of probing one address, one after the other."""

    def __init__(
        self, measurer: Measurer, address: bytes, probe: Probe, measurement: _Measurement
    ) -> None:
        self.results: list[float | None] = []
        self._measurer = measurer
        self._address = address
        self._probe = probe
        self._measurement = measurement
        self._begun = False
        self._to_send = measurer.samples
        self._waiting: dict[Deferred[float], IDelayedCall] = {}
        self._next: IDelayedCall | None = None
        self._patient = False  # the next sample is sent early if the last one is answered
        self._stopped = False

    @property
    def lost(self) -> bool:
        """Whether the trial has ended without a single answer."""
        ended = not self._waiting and self._next is None
        return ended and not any(result is not None for result in self.results)

    def begin(self) -> None:
        """Send the first sample as soon as the budget allows."""
        self._to_send -= 1
        self._send_when_allowed()

    def stop(self) -> None:
        """Give up what is under way."""
        self._stopped = True
        self._stop_next()
        for sample in list(self._waiting):
            sample.cancel()

    def _send_when_allowed(self) -> None:
        self._patient = False
        measurer = self._measurer
        self._next = measurer.clock.callLater(measurer.budget.reserve(), self._send)

    def _send(self) -> None:
        measurer = self._measurer
        self._next = None
        if not self._begun:
            self._begun = True
            self._measurement.began()
        sample: Deferred[float] = maybeDeferred(self._probe.ping, self._address)
        if sample.called and isinstance(sample.result, Failure):
            sample.addErrback(self._refused)
            return
        measurer.sent[self._probe.name].value += 1
        self._waiting[sample] = measurer.clock.callLater(measurer.timeout, sample.cancel)
        if self._probe.cheap and self._to_send:
            self._to_send -= 1
            self._patient = True
            self._next = measurer.clock.callLater(
                measurer.timeout * PATIENCE, self._send_when_allowed
            )
        sample.addCallbacks(self._take, self._lose, callbackArgs=(sample,), errbackArgs=(sample,))

    def _take(self, seconds: float, sample: Deferred[float]) -> None:
        self._measurer.seconds[self._probe.name].observe(seconds)
        self.results.append(seconds)
        self._measurement.answered(self)
        if self._patient:  # no need to wait any longer
            self._stop_next()
            self._send_when_allowed()
        elif self._next is None and self._to_send:
            self._to_send -= 1
            self._send_when_allowed()
        self._settle(sample)

    def _refused(self, _: Failure) -> None:
        """End this way of probing: the system does not even send (no route, no right)."""
        self._to_send = 0
        self.results.append(None)
        if not self._waiting:
            self._measurement.done(self)

    def _lose(self, failure: Failure, sample: Deferred[float]) -> None:
        if self._stopped:
            self._waiting.pop(sample).cancel()
            return
        self._measurer.lost[self._probe.name].value += 1
        self.results.append(None)
        self._settle(sample)

    def _settle(self, sample: Deferred[float]) -> None:
        expiry = self._waiting.pop(sample)
        if expiry.active():
            expiry.cancel()
        if not self._waiting and self._next is None:
            self._measurement.done(self)

    def _stop_next(self) -> None:
        self._patient = False
        if self._next is not None:
            self._next.cancel()
            self._next = None
