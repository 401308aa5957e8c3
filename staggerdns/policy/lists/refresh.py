"""One list: when its sources are looked at, what comes of it, and what is told of that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.policy.lists.compiler import CompileProblem
from staggerdns.policy.lists.fetched import Fetches, FetchProblem
from staggerdns.policy.lists.sources import FIRST_RETRY, LONGEST_RETRY, FileSource, UrlSource
from staggerdns.settings.policy import ListSettings

CHECK_EVERY: float = 2.0
"""Seconds from one look at the files to the next."""


class ListRefresh:
    """Keeps list ``number`` up to date: ``compile`` puts what its `sources` offer in force,
    and ``count`` returns how many names it has then.

    ``fetches``: how many lists may be fetched at once. ``wall``: seconds since 1970.
    """

    def __init__(
        self,
        number: int,
        name: str,
        settings: ListSettings,
        directory: Path,
        fetcher: Fetches,
        fetches: DeferredSemaphore,
        compile: Callable[[], Deferred[None]],
        count: Callable[[], int],
        *,
        clock: IReactorTime,
        wall: Callable[[], float],
        metrics: Metrics,
        journal: Journal,
    ) -> None:
        self._name = name
        self._files = [FileSource(number, path, directory) for path in settings.files]
        self._urls = [
            UrlSource(number, url, directory, fetcher, settings.refresh) for url in settings.urls
        ]
        self.sources: list[FileSource | UrlSource] = [*self._files, *self._urls]
        self._fetches = fetches
        self._compile = compile
        self._compile_failures = 0
        self._count = count
        self._clock = clock
        self._wall = wall
        self._journal = journal
        self._failures = metrics.list_failures.cell(name)
        self._refreshed = min((url.fetched_at for url in self._urls), default=0.0)
        metrics.list_refreshed.read_from(lambda: self._refreshed, name)
        self._again = False
        self._retry_at: float | None = None
        self._timer: IDelayedCall | None = None
        self._running: Deferred[None] | None = None
        self._stopped = False

    def start(self, *, fresh: bool) -> None:
        """Begin; ``fresh``: there is no set yet, so one is wanted of what is here."""
        now = self._clock.seconds()
        for url in self._urls:
            url.schedule(now, self._wall())
        self._again = fresh
        self._look()

    def stop(self) -> None:
        """Give up what is under way."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._running is not None:
            self._running.cancel()

    def reread(self) -> None:
        """Read the files again, changed or not."""
        for file in self._files:
            file.force()
        if self._running is None and not self._stopped:
            if self._timer is not None and self._timer.active():
                self._timer.cancel()
            self._look()

    def _look(self) -> None:
        """See whether something is to be done, and do it."""
        now = self._clock.seconds()
        waits = self._retry_at is not None and now < self._retry_at
        changed = [file for file in self._files if file.changed()]
        due = [url for url in self._urls if url.due <= now]
        if due or ((changed or self._again) and not waits):
            anew = bool(changed) or self._again
            self._again = False
            self._retry_at = None
            self._running = running = Deferred.fromCoroutine(self._refresh(due, anew=anew))
            running.addBoth(self._done)
        else:
            self._wait()

    def _done(self, result: Failure | None) -> None:
        self._running = None
        if isinstance(result, Failure) and not result.check(CancelledError):
            self._journal.failure(f"a defect in the refresh of the list {self._name}", result)
        if not self._stopped:
            self._wait()

    def _wait(self) -> None:
        now = self._clock.seconds()
        times = [url.due for url in self._urls]
        if self._files:
            times.append(now + CHECK_EVERY)
        if self._retry_at is not None:
            times.append(self._retry_at)
        if times:
            self._timer = self._clock.callLater(max(0, min(times) - now), self._look)

    async def _refresh(self, due: list[UrlSource], *, anew: bool) -> None:
        """Fetch what is due, and put what is new in force; ``anew``: something here is."""
        problems: dict[str, str] = {}
        if anew:  # that need not wait for servers
            await self._put_in_force(problems)
        if due:
            new = await self._fetch(due, problems)
            if new:
                await self._put_in_force(problems)
            for url in new:
                if url.accepted:
                    url.succeeded(self._clock.seconds(), self._wall())
                elif url.label in problems:
                    url.refused(self._clock.seconds())
                else:  # it is not its fault
                    url.failed(self._clock.seconds())
        if problems:
            self._failures.value += 1
        else:
            self._refreshed = self._wall()
        self._log(problems)

    async def _fetch(self, due: list[UrlSource], problems: dict[str, str]) -> list[UrlSource]:
        """Return the URLs at which there is something new."""
        new = []
        fetches = [self._fetches.run(url.fetch) for url in due]
        results: Any = await DeferredList(fetches, consumeErrors=True)
        if self._stopped:  # each of them has been cancelled
            raise CancelledError
        for url, (succeeded, result) in zip(due, results, strict=True):
            if not succeeded:
                problems[url.label] = result.getErrorMessage()
                url.failed(self._clock.seconds())
                if not result.check(FetchProblem):
                    self._journal.failure(f"a defect while fetching {url.label}", result)
            elif result:
                new.append(url)
            else:
                url.succeeded(self._clock.seconds(), self._wall())
        return new

    async def _put_in_force(self, problems: dict[str, str]) -> None:
        """Have a set made of what is here by now, and collect what is wrong with it."""
        try:
            await self._compile()
        except CompileProblem as problem:
            problems["the set of all lists"] = f"could not be compiled: {problem}"
            wait = min(FIRST_RETRY * 2**self._compile_failures, LONGEST_RETRY)
            self._compile_failures = min(self._compile_failures + 1, 16)
            self._retry_at = self._clock.seconds() + wait
            self._again = True
            return
        self._compile_failures = 0
        for source in self.sources:
            if source.problem:
                problems[source.label] = source.problem
                source.problem = ""

    def _log(self, problems: dict[str, str]) -> None:
        details = [f"{label} {problem}" for label, problem in problems.items()]
        for source in self.sources:
            report = source.report
            if report is not None and report.wrong and source.label not in problems:
                details.append(
                    f"{report.wrong} lines of {source.label} are not understood, the first is "
                    f"{report.first}"
                )
        (self._journal.warn if problems else self._journal.info)(
            "the list {list} has {names} names{details}",
            list=self._name,
            names=self._count(),
            details="".join(f"; {detail}" for detail in details),
        )
