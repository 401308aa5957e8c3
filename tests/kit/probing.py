"""Ways of probing that follow a script on a `task.Clock`, and a whole ranking around them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from staggerdns.metrics import Metrics
from staggerdns.ranking.budget import ProbeBudget
from staggerdns.ranking.measure import Measurer
from staggerdns.ranking.rtt import RttTable
from staggerdns.ranking.sample import Asker, Probe
from staggerdns.ranking.sorts import TRIGGERS, Sorts
from staggerdns.ranking.waiting import FIRST
from staggerdns.settings.sections import RankingSettings
from tests.kit.simulated import START

LIFETIME = 300
TIMEOUT = 1.0
IDENTIFIER = 0x4242
"""Of the echoes that go out by a `FakeSocket`."""
_ENDLESS = 200_000

Script = Callable[[bytes, int], float | OSError | None]
"""From an address and the number of its sample to seconds, to silence, or to an error at once."""


def address(number: int) -> bytes:
    """One IPv4 address of many that count as public; its last octet is ``number`` below 256."""
    return (0xCB007100 + number).to_bytes(4, "big")


def written(address: bytes, sample: int) -> float:
    """A script: the round trip is as many milliseconds as the last octet says."""
    return address[-1] / 1000


def silent(address: bytes, sample: int) -> None:
    """A script: nothing ever comes back."""


def unreachable(address: bytes, sample: int) -> OSError:
    """A script: the system refuses to send."""
    return OSError("unreachable")


def measure(
    table: RttTable, address: bytes, samples: Sequence[float | None], now: float = START
) -> None:
    """Put a measurement into a table: its samples in their order, `None` for a lost one."""
    for number, seconds in enumerate(samples):
        note = table.extend if number else table.begin
        note(address, seconds, int(seconds is None), "icmp", now)


class Sample(NamedTuple):
    """A probe that was sent: seconds after the start, and to whom."""

    at: float
    address: bytes


class FakeProbe:
    """A way of probing that sends nothing; ``width``: the length of addresses that it can reach."""

    def __init__(
        self, clock: Clock, name: str = "icmp", script: Script = written, *, width: int = 0
    ) -> None:
        self.name = name
        self.cheap = name == "icmp"
        self.script = script
        self.samples: list[Sample] = []
        self.given_up = 0
        self.under_way = 0
        self._clock = clock
        self.width = width

    @property
    def times(self) -> list[float]:
        """When samples were sent, in seconds after the start."""
        return [sample.at for sample in self.samples]

    def usable(self, address: bytes) -> bool:
        """Return whether this way can reach the address."""
        return not self.width or len(address) == self.width

    def ping(self, address: bytes) -> Deferred[float]:
        """Do what the script says."""
        nth = sum(sample.address == address for sample in self.samples)
        self.samples.append(Sample(round(self._clock.seconds() - START, 6), address))
        sample: Deferred[float] = Deferred(self._cancelled)
        seconds = self.script(address, nth)
        if isinstance(seconds, OSError):
            sample.errback(Failure(seconds))
            return sample
        self.under_way += 1
        if seconds is not None:
            self._clock.callLater(seconds, self._answer, sample, seconds)
        return sample

    def _answer(self, sample: Deferred[float], seconds: float) -> None:
        if not sample.called:
            self.under_way -= 1
            sample.callback(seconds)

    def _cancelled(self, sample: Deferred[float]) -> None:
        self.under_way -= 1
        self.given_up += 1


def make_clock() -> Clock:
    """A clock that stands at `START`."""
    clock = Clock()
    clock.rightNow = START
    return clock


def elapse(clock: Clock, until: float) -> None:
    """Let time pass until ``until`` seconds after the start, each call at its own time."""
    end = START + until
    steps = 0
    while clock.calls:
        due = min(call.getTime() for call in clock.calls)
        if due > end:
            break
        steps += 1
        assert steps < _ENDLESS, "a timer that sets itself for the same moment, again and again"
        clock.rightNow = max(due, clock.rightNow)
        clock.advance(0)
    clock.rightNow = end


class SimulatedRanking:
    """Table, budget, measurer and sorts, with ``changes`` of the settings that a test wants."""

    def __init__(
        self,
        *scripts: Script,
        names: Sequence[str] = ("icmp", "tcp:443", "tcp:80"),
        clock: Clock | None = None,
        metrics: Metrics | None = None,
        **changes: Any,
    ) -> None:
        settings = RankingSettings(**({"max_probes_per_second": 10_000} | changes))
        self.clock = clock if clock is not None else make_clock()
        self.metrics = metrics if metrics is not None else Metrics()
        self.probes = [
            FakeProbe(self.clock, name, script)
            for name, script in zip(names, scripts or (written,), strict=False)
        ]
        ways: list[Probe] = [*self.probes]
        self.ports: dict[str, FakeProbe] = {}
        self.table = RttTable(settings)
        self.budget = ProbeBudget(settings.max_probes_per_second, self.clock)
        self.measurer = Measurer(
            ways,
            self.table,
            self.budget,
            self.clock,
            self.clock,
            self.metrics,
            settings,
            self.at_port,
        )
        self.sorts = Sorts(self.table, self.measurer, settings, self.metrics)
        self.metrics.addresses_measured.read_from(lambda: len(self.measurer))

    def at_port(self, port: int) -> FakeProbe:
        """A way of probing by connections to a port that is not among the usual ones."""
        name = f"tcp:{port}"
        if name not in self.ports:
            self.ports[name] = FakeProbe(self.clock, name, self.probes[-1].script)
        return self.ports[name]

    @property
    def sent(self) -> list[Sample]:
        """Every probe that was sent, whatever the way, in order of time."""
        every = [*self.probes, *self.ports.values()]
        return sorted(sample for probe in every for sample in probe.samples)

    @property
    def now(self) -> float:
        """Seconds after the start."""
        return self.clock.seconds() - START

    def at(self, seconds: float) -> None:
        """Let time pass until so many seconds after the start."""
        elapse(self.clock, seconds)

    def counts(self) -> dict[str, int]:
        """The sorts so far by trigger, those that there were."""
        cells = {trigger: self.metrics.sorts.cell(trigger).value for trigger in TRIGGERS}
        return {trigger: value for trigger, value in cells.items() if value}

    def cancelled(self) -> int:
        """The sorts whose result was dropped."""
        return self.metrics.sorts_cancelled.cell().value

    def assert_nothing_left(self) -> None:
        """Assert that no timer runs and no sample waits, once answers to nobody have come."""
        assert [probe.under_way for probe in self.probes] == [0] * len(self.probes)
        assert self.metrics.addresses_measured.values() == {(): 0}
        assert self.measurer.running == 0
        # Answers to samples that were given up are still on their way, and go nowhere.
        ours = [call for call in self.clock.calls if call.func.__name__ != "_answer"]
        assert ours == []


class NotedAsker(Asker):
    """Somebody who waits for samples; ``at``: when they were decided, seconds after the start."""

    def __init__(self, ranking: SimulatedRanking) -> None:
        self.ranking = ranking
        self.at: dict[bytes, float] = {}

    def ask(self, address: bytes, urgency: int = FIRST, port: int = 0) -> None:
        """Ask for a sample."""
        self.ranking.measurer.sample(address, self, urgency, port)

    def leave(self, address: bytes) -> None:
        """Want it no more."""
        self.ranking.measurer.leave(address, self)

    def sampled(self, address: bytes, now: float) -> None:
        """Note it; nobody is told twice."""
        assert address not in self.at
        assert now == self.ranking.clock.seconds()
        self.at[address] = round(self.ranking.now, 6)


class Handle:
    """A connected socket that knows the round trip of its handshake, or says nothing."""

    def __init__(self, microseconds: int | None) -> None:
        self._microseconds = microseconds

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        """The fields of struct tcp_info up to tcpi_rtt."""
        if self._microseconds is None:
            raise OSError
        return bytes(size - 4) + self._microseconds.to_bytes(4, sys.byteorder)


class Established(StringTransport):
    """The transport of a connection that has come about."""

    def __init__(self, microseconds: int | None) -> None:
        super().__init__()
        self._handle = Handle(microseconds)

    def getHandle(self) -> Handle:
        """The socket."""
        return self._handle


def established(factory: Any, microseconds: int | None = None) -> None:
    """Tell a client factory that its connection has come about."""
    factory.buildProtocol(None).makeConnection(Established(microseconds))


def rng(count: int) -> bytes:
    """Chance that a test knows: the sequence begins behind "BB", payloads are all "P"."""
    return b"BB" if count == 2 else b"P" * count


class FakeSocket:
    """A socket whose incoming packets are a list, an exception for an error."""

    def __init__(self) -> None:
        self.incoming: list[tuple[bytes, str] | OSError] = []
        self.sent: list[tuple[bytes, str]] = []
        self.notes: list[tuple[int, int, bytes]] = []
        self.closed = False
        self.error: OSError | None = None

    def fileno(self) -> int:
        """No descriptor of the system's."""
        return -1

    def getsockname(self) -> tuple[str, int]:
        """The identifier that the kernel gave to a ping socket."""
        return ("0.0.0.0", IDENTIFIER)

    def sendto(self, packet: bytes, target: tuple[str, int]) -> None:
        """Note the packet, or fail."""
        if self.error is not None:
            raise self.error
        self.sent.append((packet, target[0]))

    def setsockopt(self, *option: int) -> None:
        """Accept any option."""

    def recvmsg(
        self, size: int, notes: int
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, tuple[str, int]]:
        """The next packet, with the kernel's notes."""
        if not self.incoming:
            raise BlockingIOError
        item = self.incoming.pop(0)
        if isinstance(item, OSError):
            raise item
        return item[0], self.notes, 0, (item[1], 0)

    def close(self) -> None:
        """Note it."""
        self.closed = True
