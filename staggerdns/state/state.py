"""The saved state in operation (docs/specification.rst, Saved state).

    reading --all is read, or there is nothing--> waiting --``interval``--> saving --> waiting
    waiting --stop--> the last save --> over          saving --stop--> it ends sooner --> over
    reading --stop--> over, and the file stays

Nothing is saved before all has been read, so that half of it never takes the place of the whole. A
stop is bounded: what has not been saved by then is as old as after a crash.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from staggerdns.journal import Journal
from staggerdns.settings.sections import StateSettings
from staggerdns.state.contents import Contents
from staggerdns.state.directory import Occupied, StateDirectory
from staggerdns.state.file import Unusable
from staggerdns.state.load import Load
from staggerdns.state.metrics import DENIED, FULL, OCCUPIED, OTHER, StateMetrics
from staggerdns.state.save import Save
from staggerdns.state.slices import HURRIED, UNHURRIED, Slices
from staggerdns.worker import Runs

STOP_TIME = 3.0
"""Seconds that the last save may take."""
OCCUPIED_RETRY = 1.0
"""Seconds until the next look at a directory that another program has: one that is ending, say."""
OCCUPIED_PATIENCE = 10
"""Looks after which the log tells of that."""
_REASONS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: FULL,
    errno.EACCES: DENIED,
    errno.EPERM: DENIED,
    errno.EROFS: DENIED,
    errno.EBUSY: OCCUPIED,
}


def nothing_to_settle() -> None:
    """Leave the memory as it is."""


class SavedState:
    """Keeps ``contents`` over restarts in the directory at ``path``; `start` and `stop` it.

    ``make_worker`` returns who waits for the disk. ``wall`` returns seconds since 1970. ``settle``
    is called now and then while much is made that will live long: see `Load`.
    """

    def __init__(
        self,
        path: str,
        settings: StateSettings,
        contents: Contents,
        *,
        make_worker: Callable[[], Runs],
        clock: IReactorTime,
        metrics: StateMetrics,
        journal: Journal,
        wall: Callable[[], float] = time.time,
        settle: Callable[[], object] = nothing_to_settle,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._settings = settings
        self._contents = contents
        self._directory = StateDirectory(path)
        self._make_worker = make_worker
        self._clock = clock
        self._metrics = metrics
        self._journal = journal
        self._wall = wall
        self._settle = settle
        self._saving = Slices(clock, UNHURRIED, timer)
        self._reading = Slices(clock, HURRIED, timer)
        self._life: Deferred[None] | None = None
        self._sleep: Deferred[None] | None = None
        self._is_read = False
        self._stopping = False
        self._outage = False

    def start(self) -> None:
        """Begin to read what is there, and to save from then on."""
        self._life = Deferred.fromCoroutine(self._live()).addErrback(self._defect)

    def stop(self) -> Deferred[None]:
        """Save once more, and return a Deferred of the end of that, after `STOP_TIME` at most."""
        life, self._life = self._life, None
        if life is None:
            return succeed(None)
        self._stopping = True
        self._saving.pause = HURRIED
        stopped: Deferred[None] = Deferred()
        late = self._clock.callLater(STOP_TIME, life.cancel)

        def over(_: object) -> None:
            if late.active():
                late.cancel()
            stopped.callback(None)

        life.addBoth(over)
        if not self._is_read:
            life.cancel()
        elif self._sleep is not None:
            self._sleep.cancel()
        return stopped

    async def _live(self) -> None:
        try:
            await self._read_when_possible()
            self._is_read = True
            while not self._stopping:
                await self._pause(self._settings.interval)
                await self._save()
        finally:
            worker = self._make_worker()
            worker.run(self._directory.close)
            worker.stop()

    async def _pause(self, seconds: float) -> None:
        """Wait, but not any longer when everything stops."""
        self._sleep = deferLater(self._clock, seconds)
        try:
            await self._sleep
        except CancelledError:
            if not self._stopping:
                raise
        finally:
            self._sleep = None

    async def _read_when_possible(self) -> None:
        """Read what is there, as soon as the directory can be had."""
        looks = 0
        while True:
            try:
                await self._read()
            except Occupied as error:
                looks += 1
                if looks == OCCUPIED_PATIENCE:
                    self._failed(error)
                await deferLater(self._clock, OCCUPIED_RETRY)
            except OSError as error:
                self._failed(error)
                await deferLater(self._clock, self._settings.interval)
            else:
                return

    async def _read(self) -> None:
        worker = self._make_worker()
        load = Load(
            self._contents,
            self._directory,
            worker,
            self._reading,
            self._clock,
            self._wall,
            waits=self._tell_of_clock,
            settle=self._settle,
        )
        began = self._clock.seconds()
        try:
            loaded = await load.run()
        except Unusable as error:
            await self._set_aside(worker, str(error))
        else:
            if loaded is not None:
                self._metrics.answers.value += loaded.answers
                self._metrics.round_trips.value += loaded.round_trips
                self._journal.info(
                    "read {answers} answers and {round_trips} round-trip times of {age:.0f} s ago "
                    "from {path} in {seconds:.2f} s",
                    answers=loaded.answers,
                    round_trips=loaded.round_trips,
                    age=loaded.age,
                    path=self._directory.file,
                    seconds=self._clock.seconds() - began,
                )
        finally:
            worker.stop()

    async def _set_aside(self, worker: Runs, problem: str) -> None:
        try:
            where = await worker.run(self._directory.set_aside)
        except OSError as error:
            where = f"nowhere ({error.strerror})"
        self._journal.warn(
            "{path} {problem}: it is set aside as {where}, and nothing of it is used",
            path=self._directory.file,
            problem=problem,
            where=where,
        )

    def _tell_of_clock(self, seconds: float) -> None:
        self._journal.warn(
            "the clock is {seconds:.0f} s before the time of {path}: its answers wait until it is "
            "right",
            seconds=seconds,
            path=self._directory.file,
        )

    async def _save(self) -> None:
        worker = self._make_worker()
        save = Save(self._contents, self._directory, worker, self._saving, self._clock, self._wall)
        began = self._clock.seconds()
        try:
            octets = await save.run()
        except OSError as error:
            self._failed(error)
        else:
            self._metrics.saved(self._wall(), self._clock.seconds() - began, octets)
            if self._outage:
                self._outage = False
                self._journal.warn("the state is saved again in {path}", path=self._directory.file)
        finally:
            worker.stop()

    def _failed(self, error: OSError) -> None:
        """Count a failure, and tell of it if the one before was none."""
        self._metrics.failed(_REASONS.get(error.errno or 0, OTHER))
        if not self._outage:
            self._outage = True
            self._journal.warn(
                "the state cannot be saved in {path}: {problem}",
                path=self._directory.file,
                problem=error.strerror or str(error),
            )

    def _defect(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self._journal.failure("the state is not saved any more", failure)
