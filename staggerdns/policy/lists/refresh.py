"""One list: when its sources are looked at, what comes of it, and what is told of that.

A look finds what is to be done: URLs that are due, files that have changed, a set that could not be
compiled and is to be tried again. That is one refresh, which has one line in the log in the end.
Several may be under way: each URL is in force as soon as it is there, and while a server keeps one
refresh waiting, others begin. A source is part of one refresh at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from staggerdns.instruments import Cell
from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.policy.lists.compiler import CompileProblem
from staggerdns.policy.lists.directory import ListDirectory
from staggerdns.policy.lists.fetched import Fetches, FetchProblem
from staggerdns.policy.lists.sources import (
    FIRST_RETRY,
    LONGEST_RETRY,
    UNDER_WAY,
    FileSource,
    UrlSource,
)
from staggerdns.settings.policy import ListSettings

CHECK_EVERY: float = 2.0
"""Seconds from one look at the files to the next."""


@dataclass(frozen=True)
class Surroundings:
    """What a list shares with others: ``compile`` puts what all `sources` offer in force, and
    ``count`` returns how many names the list of a name has then.

    ``fetches``: how many lists may be fetched at once. ``wall``: seconds since 1970.
    """

    fetcher: Fetches
    fetches: DeferredSemaphore
    compile: Callable[[], Deferred[None]]
    count: Callable[[str], int]
    clock: IReactorTime
    wall: Callable[[], float]
    metrics: Metrics
    journal: Journal


class ListRefresh:
    """Keeps the list of this ``name`` up to date. `start` it, and `stop` it in the end."""

    def __init__(
        self, name: str, settings: ListSettings, directory: ListDirectory, shared: Surroundings
    ) -> None:
        self.name = name
        self._files = [FileSource(name, path, directory, shared.wall) for path in settings.files]
        self._urls = [UrlSource(name, url, directory, settings.refresh) for url in settings.urls]
        self.sources: list[FileSource | UrlSource] = [*self._files, *self._urls]
        self._settings = settings
        self._shared = shared
        self._clock = shared.clock
        self._wall = shared.wall
        self._compile_failures = 0
        self._failures = Cell()  # until the start
        self._in_force = False
        self._again = False
        self._is_told = True
        self._retry_at: float | None = None
        self._next_check = 0.0
        self._timer: IDelayedCall | None = None
        self._running: set[Deferred[None]] = set()
        self._compiling = 0
        self._rushed = False
        self._stopped = False

    def start(self, *, fresh: bool, told: bool = True) -> None:
        """Begin; ``fresh``: there is no set yet, so one is wanted of what is here. ``told``: that
        something is in force needs no line in the log.
        """
        metrics = self._shared.metrics
        self._failures = metrics.list_failures.cell(self.name)
        metrics.list_refreshed.read_from(self._right_at, self.name)
        self._is_told = told
        now = self._clock.seconds()
        for url in self._urls:
            url.schedule(now, self._wall())
        self._again = fresh
        self._in_force = not fresh
        self._look()

    def stop(self) -> None:
        """Give up what is under way."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for running in [*self._running]:
            running.cancel()

    def suits(self, settings: ListSettings) -> bool:
        """Return whether this looks after a list with these settings."""
        own = self._settings
        return (own.files, own.urls, own.refresh) == (
            settings.files,
            settings.urls,
            settings.refresh,
        )

    def move(self, shared: Surroundings) -> None:
        """Go on in the same way among other lists; what is in force has this one's sources."""
        self._shared = shared
        self._in_force = True

    def reread(self) -> None:
        """Read the files again, changed or not, and wait no longer to try what has failed."""
        self._retry_at = None
        self._compile_failures = 0
        for file in self._files:
            file.force()
        for url in self._urls:
            url.hurry()
        self._rushed = True
        self.wake()

    def wake(self) -> None:
        """Look now: a source is to be read or fetched again."""
        if not self._stopped:
            self._look()

    def _right_at(self) -> float:
        """Return when all of the list was right for the last time, in seconds since 1970; 0 if part
        of it has never been. What the configuration has itself is right once it is in force.
        """
        if not self._in_force or not all(source.counted for source in self.sources):
            return 0.0
        return min((source.right_at for source in self.sources), default=self._wall())

    def _look(self) -> None:
        """See whether something is to be done, and do it."""
        now = self._clock.seconds()
        self._next_check = now + CHECK_EVERY
        waits = self._retry_at is not None and now < self._retry_at
        changed = [file for file in self._files if file.changed()]
        due = [url for url in self._urls if url.due <= now]
        # What is being compiled may be all that has changed.
        anew = not self._compiling and (
            any(not file.tried for file in changed)
            or ((bool(changed) or self._again) and not waits)
        )
        if not self._compiling:
            self._rushed = False
        if anew:
            self._again = False
            self._retry_at = None
        if due or anew or not self._is_told:
            self._is_told = True
            for url in due:
                url.due = UNDER_WAY
            self._begin(due, anew=anew)
        self._wait()

    def _begin(self, due: list[UrlSource], *, anew: bool) -> None:
        running = Deferred.fromCoroutine(self._refresh(due, anew=anew))
        self._running.add(running)

        def done(result: Failure | None) -> None:
            self._running.discard(running)
            if isinstance(result, Failure) and not self._stopped:
                self._failures.value += 1
                self._shared.journal.failure(
                    f"a defect in the refresh of the list {self.name}", result
                )
                for url in due:
                    if url.due == UNDER_WAY:
                        url.failed(self._clock.seconds())
            self._wait()

        running.addBoth(done)

    def _wait(self) -> None:
        """Look again when there is something to be looked at."""
        if self._stopped:
            return
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        times = [url.due for url in self._urls if url.due < UNDER_WAY]
        if self._files:
            times.append(self._next_check)
        if self._retry_at is not None and not self._compiling:
            times.append(self._retry_at)
        if times:
            wait = max(0, min(times) - self._clock.seconds())
            self._timer = self._clock.callLater(wait, self._look)

    async def _refresh(self, due: list[UrlSource], *, anew: bool) -> None:
        """Fetch what is due, and put what is new in force; ``anew``: something here is."""
        problems = self._file_problems()
        parts = [self._put_in_force(problems)] if anew else []
        parts += [self._renew(url, problems) for url in due]
        running = [Deferred.fromCoroutine(part) for part in parts]
        results: Any = await DeferredList(running, consumeErrors=True)
        if self._stopped:  # each of them has been cancelled
            raise CancelledError
        for succeeded, result in results:
            if not succeeded:  # a defect
                result.raiseException()
        if problems:
            self._failures.value += 1
        self._log(problems)

    async def _renew(self, url: UrlSource, problems: dict[str, str]) -> None:
        """Fetch a URL, and put it in force if there is something new."""
        try:
            new = await self._shared.fetches.run(url.fetch, self._shared.fetcher)
        except FetchProblem as problem:
            problems[url.label] = str(problem)
            url.failed(self._clock.seconds())
            return
        if new:
            await self._put_in_force(problems)
        now = self._clock.seconds()
        if not new or url.accepted:
            url.succeeded(now, self._wall())
        elif url.refusal:
            problems[url.label] = url.refusal
            url.refused(now)
        else:  # it is not its fault
            url.failed(now)

    async def _put_in_force(self, problems: dict[str, str]) -> None:
        """Have a set made of what is here by now, and collect what is wrong with it."""
        self._compiling += 1
        try:
            await self._shared.compile()
        except CompileProblem as problem:
            problems["the set of all lists"] = f"could not be compiled: {problem}"
            self._try_again()
        else:
            self._again = False
            self._in_force = True
            self._retry_at = None
            self._compile_failures = 0
            problems.update(self._file_problems())
        finally:
            self._compiling -= 1
        if self._rushed:
            self._look()
        else:
            self._wait()

    def _file_problems(self) -> dict[str, str]:
        """Return what has not been told yet of files."""
        problems = {file.label: file.problem for file in self._files if file.problem}
        for file in self._files:
            file.problem = ""
        return problems

    def _try_again(self) -> None:
        """Compile again soon, and later each time; several may have waited for one set."""
        now = self._clock.seconds()
        self._again = True
        if self._retry_at is None or self._retry_at <= now:
            wait = min(FIRST_RETRY * 2**self._compile_failures, LONGEST_RETRY)
            self._compile_failures = min(self._compile_failures + 1, 16)
            self._retry_at = now + wait

    def _log(self, problems: dict[str, str]) -> None:
        details = [f"{label} {problem}" for label, problem in problems.items()]
        for source in self.sources:
            report = source.report
            if report is not None and report.wrong and source.label not in problems:
                details.append(
                    f"{report.wrong} lines of {source.label} are not understood, the first is "
                    f"{report.first}"
                )
        (self._shared.journal.warn if problems else self._shared.journal.info)(
            "the list {list} has {names} names{details}",
            list=self.name,
            names=self._shared.count(self.name),
            details="".join(f"; {detail}" for detail in details),
        )
