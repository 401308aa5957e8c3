"""Saved state on a `task.Clock`: runs of a program, one after the other, with one directory.

Disks are real, and nobody waits for them: what belongs into a thread is done at once.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.ranking.rtt import RttTable
from staggerdns.settings.sections import StateSettings
from staggerdns.standstill import StandstillClock
from staggerdns.state.metrics import REASONS, StateMetrics
from staggerdns.state.state import SavedState
from staggerdns.upstream.upstream import Upstream
from tests.kit.ranked import SimulatedRankedCache
from tests.kit.upstreams import make_upstream

P = ParamSpec("P")
T = TypeVar("T")
NOON = 1_800_000_000.0
"""Seconds since 1970, when a test begins."""
DIGEST = b"d" * 16
"""What stands for the default scope, if a test has nothing else to say."""
UPSTREAMS = ("192.0.2.1", "192.0.2.2", "192.0.2.3")


RUNS: list[SavedRun] = []
"""The runs of the test that is running, which are stopped behind it."""


class World:
    """The true time, and a wall clock that may be off."""

    def __init__(self) -> None:
        self.now = NOON
        self.off = 0.0

    def wall(self) -> float:
        """What the wall clock shows."""
        return self.now + self.off


class AtOnce:
    """Does jobs at once; while it is ``held`` they wait until `release`."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []
        self.held = False

    def run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Do a job, or keep it."""
        if not self.held:
            return execute(job, *args, **kwargs)
        done: Deferred[T] = Deferred(lambda _: None)

        def later() -> None:
            made = execute(job, *args, **kwargs)
            made.addBoth(lambda result: None if done.called else done.callback(result))

        self.jobs.append(later)
        return done

    def release(self) -> None:
        """Do what waits, and all else at once."""
        self.held = False
        while self.jobs:
            self.jobs.pop(0)()

    def stop(self) -> None:
        """Do nothing: there is no thread."""


class SavedRun:
    """One run of a program: cache, table and upstreams, and what keeps them.

    ``born``: what the clock of the run shows when it begins. ``slices``: as many steps as there are
    are slices of their own; else all is done in one.
    """

    def __init__(
        self,
        directory: Path,
        world: World,
        *,
        born: float = 5000.25,
        slices: bool = False,
        digests: dict[int, bytes] | None = None,
        upstreams: tuple[str, ...] = UPSTREAMS,
        interval: float | None = None,
        **limits: Any,
    ) -> None:
        self.world = world
        self.ranked = SimulatedRankedCache(**limits)
        self.clock: Clock = self.ranked.clock
        self.clock.rightNow = born
        self.cache = self.ranked.cache
        self.round_trips: RttTable = self.ranked.ranking.sorts.table
        self.awake = StandstillClock(self.clock)
        self.members: list[Upstream] = [
            make_upstream(where, self.awake, Metrics()) for where in upstreams
        ]
        self.digests = digests if digests is not None else {0: DIGEST}
        self.metrics = StateMetrics()
        self.worker = AtOnce()
        self.settled = 0
        ticks = count()
        settings = StateSettings() if interval is None else StateSettings(interval=interval)
        self.state = SavedState(
            str(directory),
            settings,
            self,
            make_worker=lambda: self.worker,
            clock=self.clock,
            metrics=self.metrics,
            journal=Journal(),
            wall=world.wall,
            settle=self._settle,
            timer=(lambda: float(next(ticks))) if slices else (lambda: 0.0),
        )

        RUNS.append(self)

    def _settle(self) -> None:
        self.settled += 1

    def pass_time(self, seconds: float, steps: int = 1) -> None:
        """Let so much true time pass, in equal steps."""
        for _ in range(steps):
            self.world.now += seconds / steps
            self.clock.advance(seconds / steps)

    def start(self, step: float = 0.001) -> None:
        """Begin to read, and read all that can be read now."""
        self.state.start()
        self.finish(step)

    def finish(self, step: float = 0.001) -> None:
        """Do what is due now, and what follows from it within a moment: 200 steps of that many
        seconds.
        """
        for _ in range(200):
            self.clock.advance(step)

    def stop(self, step: float = 0.001) -> bool:
        """Stop; return whether that is over within such a moment."""
        over: list[None] = []
        self.state.stop().addCallback(over.append)
        for _ in range(200):
            if over:
                break
            self.clock.advance(step)
        return bool(over)

    def numbers(self) -> dict[str, float]:
        """What the metrics show."""
        return {
            sample.name + "".join(sample.labels.values()): sample.value
            for family in self.metrics.collect()
            for sample in family.samples
        }

    def failures(self) -> dict[str, float]:
        """How many saves failed, by the reasons of those that did."""
        shown = self.numbers()
        counts = {
            reason: shown[f"staggerdns_state_save_failures_total{reason}"] for reason in REASONS
        }
        return {reason: number for reason, number in counts.items() if number}
