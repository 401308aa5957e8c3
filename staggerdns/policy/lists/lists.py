"""Lists in operation: the set in force, and how another one takes its place.

    nothing --the last set, or a first one from files and copies--> in force
    in force --a source has changed, is compiled and checked--> the next one in force

Each list looks after its sources: files every `CHECK_EVERY` seconds, URLs when they are due. When
something is new a set of all lists is compiled in another process, checked in slices, and put in
the place of the old one by one assignment; its number grows. What comes meanwhile waits for the
next one. What fails leaves the old set in force: it is told, counted, and tried again. So does a
source that counts and has lost its copy, which is read or fetched anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator
from twisted.python.failure import Failure

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.policy.lists.compile import Order, Report, SourceReport
from staggerdns.policy.lists.compiler import CompileProblem, Compiler
from staggerdns.policy.lists.directory import ListDirectory, choose_directory
from staggerdns.policy.lists.fetched import Fetches
from staggerdns.policy.lists.mapped import Damaged, ListSet, empty_set, open_set
from staggerdns.policy.lists.refresh import ListRefresh
from staggerdns.policy.lists.sources import SUFFIXES, FileSource, UrlSource
from staggerdns.settings.policy import ListSettings

MAX_FETCHES = 4
"""Lists that are fetched at the same time."""
_TARGET = "compiled.lists"


class Lists:
    """All lists of a configuration, in its order; a list's number is its place in ``names``.

    ``directory`` keeps copies and the compiled set over restarts; `None`, or one that cannot be
    written, keeps them until the end only. `start` it, and `stop` it in the end.
    """

    def __init__(
        self,
        settings: Mapping[str, ListSettings],
        directory: str | None,
        fetcher: Fetches,
        compiler: Compiler,
        *,
        clock: IReactorTime,
        metrics: Metrics,
        journal: Journal,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.names = tuple(settings)
        self.current: ListSet = empty_set(len(self.names))
        self._clock = clock
        self._journal = journal
        self._compiler = compiler
        self._settings = settings
        self._wanted_directory = directory
        self._directory: ListDirectory | None = None  # until the start
        self._target = Path()
        self._fetcher = fetcher
        self._wall = wall
        self._metrics = metrics
        self._domains = [_domains(one) for one in settings.values()]
        self._what = json.dumps(
            [[name, one.files, one.urls, one.domains] for name, one in settings.items()],
            default=bytes.hex,
        )
        self._listeners: list[Callable[[ListSet], None]] = []
        self._waiting: list[Deferred[None]] = []
        self._compiling: Deferred[None] | None = None
        self._starting: Deferred[None] | None = None
        self._is_up = False
        self._stopped = False
        self._cooperator = Cooperator(
            terminationPredicateFactory=lambda: lambda: True,  # one slice a turn
            scheduler=partial(clock.callLater, 0),
        )
        self._refreshes: list[ListRefresh] = []
        for number, name in enumerate(self.names):
            metrics.list_names.read_from(partial(self._count, number), name)

    def on_change(self, call: Callable[[ListSet], None]) -> None:
        """Call ``call`` with each set that takes the place of another."""
        self._listeners.append(call)

    def start(self) -> None:
        """Put the last compiled set in force, and begin to look after all sources.

        Nothing is written before: whoever starts may have given up privileges since this was made.
        """
        try:
            directory = choose_directory(self._wanted_directory, self._journal)
        except OSError as error:
            self._journal.warn(
                "there are no lists: no directory can be written: {problem}",
                problem=error.strerror,
            )
            return
        self._directory = directory
        self._target = directory.path / _TARGET
        self._refreshes = self._make_refreshes(directory)
        self._clean(directory)
        self._starting = Deferred.fromCoroutine(self._start()).addErrback(self._unless_cancelled)

    def stop(self) -> None:
        """Give up what is under way."""
        self._stopped = True
        for refresh in self._refreshes:
            refresh.stop()
        for running in (self._starting, self._compiling):
            if running is not None:
                running.cancel()
        self._waiting.clear()
        self._cooperator.stop()
        if self._directory is not None:
            self._directory.close()

    def reread(self) -> None:
        """Read all files again, changed or not, and wait no longer to try what has failed."""
        for refresh in self._refreshes:
            refresh.reread()

    def compile(self) -> Deferred[None]:
        """Return a Deferred that fires when a set of all that is there now is in force.

        It fails with `CompileProblem`.
        """
        waiting: Deferred[None] = Deferred(self._forget)
        self._waiting.append(waiting)
        self._compile_next()
        return waiting

    def _forget(self, waiting: Deferred[None]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def _count(self, number: int) -> int:
        return self.current.names[number]

    async def _start(self) -> None:
        try:
            found = open_set(str(self._target), self.current.number + 1)
            counted = self._counted(found)
            if counted is not None:
                await self._put_in_force(found)
                for source, counts in zip(self._sources(), counted, strict=True):
                    source.counted = counts
                self._journal.info(
                    "lists as they were at the last stop: {names}",
                    names=", ".join(map("{}: {}".format, self.names, found.names)),
                )
        except FileNotFoundError:
            pass
        except (OSError, Damaged) as problem:
            self._journal.warn(
                "the compiled lists in {path} cannot be used: {problem}",
                path=str(self._target),
                problem=str(problem),
            )
        for refresh in self._refreshes:  # all that they want goes into one set
            refresh.start(fresh=not self.current.number)
        self._is_up = True
        self._compile_next()

    def _compile_next(self) -> None:
        """Start to compile for all who wait, unless a set is being compiled."""
        if not self._is_up or self._compiling is not None or not self._waiting or self._stopped:
            return
        waiting, self._waiting = self._waiting, []
        compiled = Deferred.fromCoroutine(self._compile())
        self._compiling = compiled

        def done(result: Failure | None) -> None:
            self._compiling = None
            if self._stopped:
                return
            for one in waiting:
                if not one.called:
                    one.callback(None) if result is None else one.errback(result)
            self._compile_next()

        compiled.addBoth(done)

    async def _compile(self) -> None:
        assert self._directory is not None
        with suppress(OSError):  # whoever writes there says so
            self._directory.make()
        sources = self._sources()
        order = Order(
            str(self._target), [source.offer() for source in sources], self._domains, self._what
        )
        report: Report = await self._compiler.compile(order)
        if len(report.sources) != len(sources) or not all(
            0 <= place < len(sources) for place in report.lost
        ):
            raise CompileProblem("the report is about other sources")
        if report.lost:
            for source, told in zip(sources, report.sources, strict=True):
                source.note_copy(told)
            self._lose([(sources[place], report.sources[place]) for place in report.lost])
        try:
            found = open_set(str(self._target), self.current.number + 1)
            await self._put_in_force(found)
        except (OSError, Damaged) as problem:
            raise CompileProblem(str(problem)) from None
        for source, told in zip(sources, report.sources, strict=True):
            source.settle(told)

    def _lose(self, lost: Sequence[tuple[FileSource | UrlSource, SourceReport]]) -> None:
        """Have sources read or fetched again that cannot be in the next set. Raises
        `CompileProblem`: they stay in force as they are.
        """
        for source, _ in lost:
            source.lose()
        for refresh in self._refreshes:
            refresh.wake()
        raise CompileProblem(", ".join(f"{one.label} {told.problem}" for one, told in lost))

    async def _put_in_force(self, found: ListSet) -> None:
        """Check a set, and let it take the place of the current one. Raises `Damaged`."""
        await self._cooperator.cooperate(found.check()).whenDone()
        if len(found.names) != len(self.names):
            raise Damaged("it has other lists")
        self.current = found
        for call in self._listeners:
            call(found)

    def _sources(self) -> list[FileSource | UrlSource]:
        return [source for refresh in self._refreshes for source in refresh.sources]

    def _counted(self, found: ListSet) -> list[bool] | None:
        """Return which sources count in a set, `None` if it is one of other lists."""
        try:
            what, counted = found.summary
            whole = what == self._what and len(counted) == len(self._sources())
            return list(map(bool, counted)) if whole else None
        except (TypeError, ValueError):
            return None

    def _make_refreshes(self, directory: ListDirectory) -> list[ListRefresh]:
        fetches = DeferredSemaphore(MAX_FETCHES)
        return [
            ListRefresh(
                number,
                name,
                one,
                directory,
                self._fetcher,
                fetches,
                self.compile,
                partial(self._count, number),
                clock=self._clock,
                wall=self._wall,
                metrics=self._metrics,
                journal=self._journal,
            )
            for number, (name, one) in enumerate(self._settings.items())
        ]

    def _clean(self, directory: ListDirectory) -> None:
        """Remove what belongs to no source any more, and what an earlier end has left."""
        stems = {source.stem for source in self._sources()}
        for path in directory.path.iterdir():
            unfinished = path.suffix in (".new", ".part")
            if path.suffix in SUFFIXES and (unfinished or path.stem not in stems):
                with suppress(OSError):
                    path.unlink()

    @staticmethod
    def _unless_cancelled(failure: Failure) -> None:
        failure.trap(CancelledError)


def _domains(settings: ListSettings) -> list[bytes]:
    return [bytes(domain) for domain in settings.domains]
