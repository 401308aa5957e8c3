"""Lists in operation: the set in force, and how another one takes its place.

    nothing --the last set, or a first one from files and copies--> in force
    in force --a source has changed, is compiled and checked--> the next one in force
    in force --another configuration: `Lists.prepare`, `Lists.take_over`--> in force there

Each list looks after its sources: files every `CHECK_EVERY` seconds, URLs when they are due. When
something is new a set of all lists is compiled in another process, checked in slices, and put in
the place of the old one by one assignment; its number is another. What comes meanwhile waits for
the next one. What fails leaves the old set in force: it is told, counted, and tried again. So does
a source that counts and has lost its copy, which is read or fetched anew.

Lists of another configuration are prepared beside those in force, which compile nothing meanwhile:
so nobody writes the copies or the set that they have, and what they wait for goes on when the
others have taken over, or have been given up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.policy.lists.compile import SourceReport
from staggerdns.policy.lists.compilequeue import CompileQueue
from staggerdns.policy.lists.compiler import CompileProblem, Compiler
from staggerdns.policy.lists.directory import ListDirectory, choose_directory
from staggerdns.policy.lists.fetched import Fetches
from staggerdns.policy.lists.handover import Handover
from staggerdns.policy.lists.making import Lost, SetMaker
from staggerdns.policy.lists.mapped import Damaged, ListSet, empty_set
from staggerdns.policy.lists.refresh import ListRefresh, Surroundings
from staggerdns.policy.lists.sources import FileSource, UrlSource
from staggerdns.settings.policy import ListSettings

MAX_FETCHES = 4
"""Lists that are fetched at the same time."""
_TARGET = "compiled.lists"
_PREPARED = "prepared.lists"


class Lists:
    """All lists of a configuration, in its order; a list's number is its place in ``names``.

    ``directory`` keeps copies and the compiled set over restarts; `None`, or one that cannot be
    written, keeps them until the end only. ``number`` gives each set a number that no other set of
    the process has. `start` it, and `stop` it in the end.

    Where the program runs already, `prepare` it in the place of the lists ``before``, if there were
    any, and then either `take_over` or `abandon`.
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
        number: Callable[[], int],
        wall: Callable[[], float] = time.time,
        before: Lists | None = None,
    ) -> None:
        self.names = tuple(settings)
        self.current: ListSet = empty_set(len(self.names))
        self.wanted_directory = directory
        self.directory: ListDirectory | None = None  # until it is started or prepared
        self.refreshes: list[ListRefresh] = []
        self.maker = SetMaker(settings, compiler, number, clock)
        self.fetches: DeferredSemaphore = (
            DeferredSemaphore(MAX_FETCHES) if before is None else before.fetches
        )
        self._shared = Surroundings(
            fetcher, self.fetches, self.compile, self._count, clock, wall, metrics, journal
        )
        self._settings = settings
        self._journal = journal
        self._metrics = metrics
        self._before = before
        self._listeners: list[Callable[[ListSet], None]] = []
        self.queue = CompileQueue(self._compile)
        self._starting: Deferred[None] | None = None
        self._stopped = False
        self._successor: Lists | None = None
        self._handover = Handover([], moves=False)
        self._prepared: Path | None = None
        self._reports: Sequence[SourceReport] | None = None

    def on_change(self, call: Callable[[ListSet], None]) -> None:
        """Call ``call`` with each set that takes the place of another."""
        self._listeners.append(call)

    def start(self) -> None:
        """Put the last compiled set in force, and begin to look after all sources.

        Nothing is written before: whoever starts may have given up privileges since this was made.
        """
        self._show()
        try:
            directory = choose_directory(self.wanted_directory, self._journal)
        except OSError as error:
            self._journal.warn(
                "there are no lists: no directory can be written: {problem}",
                problem=error.strerror,
            )
            return
        self._settle(directory)
        self._clean(directory, unfinished=True)
        directory.remove(_PREPARED)
        self._starting = Deferred.fromCoroutine(self._start()).addErrback(_unless_cancelled)

    def stop(self) -> None:
        """Give up what is under way, and what is prepared to take the place of this."""
        if self._before is not None or self._prepared is not None:
            self.abandon()
        if self._stopped:
            return
        self._stopped = True
        if self._successor is not None:
            self._successor.abandon()
        self._end(self.refreshes)
        if self.directory is not None:
            self.directory.close()
        self._metrics.forget("list", self.names)
        self.release()

    def release(self) -> None:
        """Let go of all that leads back to here, since it has ended: then the set, with its file,
        goes with whoever uses it last.
        """
        self.refreshes = []
        del self._shared, self.queue

    def reread(self) -> None:
        """Read all files again, changed or not, and wait no longer to try what has failed."""
        for refresh in self.refreshes:
            refresh.reread()

    def compile(self) -> Deferred[None]:
        """Return a Deferred that fires when a set of all that is there now is in force.

        It fails with `CompileProblem`.
        """
        return self.queue.wait()

    def prepare(self) -> Deferred[None]:
        """Return a Deferred that fires when a first set of what is there has been made and checked;
        ``current`` is that set then. The lists before compile nothing from now on.

        It fails with `CompileProblem`, whose text is one line that names the list if it is one's
        fault; then all is as after `abandon`, and so it is when the Deferred is cancelled.
        """

        def failed(failure: Failure) -> Failure:
            self.abandon()
            return failure

        self._starting = Deferred.fromCoroutine(self._prepare())
        return self._starting.addErrback(failed)

    def take_over(self) -> None:
        """Go on in the place of the lists before: what is prepared is in force.

        Whatever they had under way is this one's now, or has ended. They need no `stop` any more.
        """
        before, self._before = self._before, None
        prepared, self._prepared = self._prepared, None
        assert self.directory is not None
        moves = before is None or before.directory is not self.directory
        kept = [] if before is None or moves else before.refreshes
        if before is not None:
            before.retire(self.refreshes)
            self.queue.take_on(before.queue)
            before.release()
            if moves and before.directory is not None:
                before.directory.close()
            self._metrics.forget("list", set(before.names) - set(self.names))
        if prepared is not None:
            with suppress(OSError):  # then the next start compiles
                prepared.replace(self._place(_TARGET))
        self._handover.finish(self._reports)
        self._show()
        self._clean(self.directory, unfinished=moves)
        for refresh in self.refreshes:
            if refresh in kept:
                refresh.move(self._shared)
            else:
                refresh.start(fresh=False, told=self._reports is None)
        self._notify()
        self._handover = Handover([], moves=False)  # nobody needs the old ones any more
        self._reports = None
        self.queue.open()

    def abandon(self) -> None:
        """Give up what is prepared: the lists before go on as if nothing had been."""
        if self._stopped:
            return
        before, self._before = self._before, None
        kept = [] if before is None else before.refreshes
        self._end([refresh for refresh in self.refreshes if refresh not in kept])
        if self.directory is not None:
            self._handover.undo()
            self.directory.remove(_PREPARED)
            if before is None or before.directory is not self.directory:
                self.directory.close()
        names = () if before is None else before.names
        self._metrics.forget("list", set(self.names) - set(names))
        if before is not None:
            before.go_on()

    def hold(self, successor: Lists) -> Deferred[None]:
        """Compile nothing until `go_on`; the Deferred fires when what is compiled now is in force.

        ``successor`` is abandoned if this is stopped meanwhile.
        """
        self._successor = successor
        return succeed(None) if self.directory is None else self.queue.hold()

    def go_on(self) -> None:
        """Go on as before `hold`."""
        self._successor = None
        if self.directory is not None and not self._stopped:
            self._clean(self.directory, unfinished=False)
        self.queue.go_on()

    def retire(self, kept: Sequence[ListRefresh]) -> None:
        """End for the successor, who goes on with the refreshes ``kept`` and with the directory."""
        self._stopped = True
        self._successor = None
        self.maker.stop()
        for refresh in self.refreshes:
            if refresh not in kept:
                refresh.stop()

    def _end(self, refreshes: Sequence[ListRefresh]) -> None:
        self._stopped = True
        for refresh in refreshes:
            refresh.stop()
        if self._starting is not None:
            self._starting.cancel()
        self.queue.close()
        self.maker.stop()

    def _count(self, name: str) -> int:
        return self.current.names[self.names.index(name)]

    def _show(self) -> None:
        for name in self.names:
            self._metrics.list_names.read_from(partial(self._count, name), name)

    def _place(self, name: str) -> Path:
        """Return where a set is to be written, where there is a directory if that can be."""
        assert self.directory is not None
        with suppress(OSError):  # whoever writes there says so
            self.directory.make()
        return self.directory.path / name

    def _settle(self, directory: ListDirectory) -> None:
        """Use a directory from now on, and have all lists looked after in it."""
        self.directory = directory
        self.refreshes = [
            self._handover.keep(name, one) or ListRefresh(name, one, directory, self._shared)
            for name, one in self._settings.items()
        ]

    async def _start(self) -> None:
        if await self._find():
            self._journal.info(
                "lists as they were at the last stop: {names}",
                names=", ".join(map("{}: {}".format, self.names, self.current.names)),
            )
            self._notify()
        for refresh in self.refreshes:  # all that they want goes into one set
            refresh.start(fresh=not self.current.number)
        self.queue.open()

    async def _find(self) -> bool:
        """Return whether the last compiled set could be used, and is now."""
        sources = self._sources()
        target = self._place(_TARGET)
        try:
            found = await self.maker.find(target, len(sources))
        except (OSError, Damaged) as problem:
            self._journal.warn(
                "the compiled lists in {path} cannot be used: {problem}",
                path=str(target),
                problem=str(problem),
            )
            return False
        if found is None:
            return False
        self.current, counted = found
        for (_, source), counts in zip(sources, counted, strict=True):
            source.counted = counts
        return True

    async def _prepare(self) -> None:
        before = self._before
        directory = None
        if before is not None:
            await before.hold(self)
            if before.wanted_directory == self.wanted_directory:
                directory = before.directory
        formers = [] if before is None else before.refreshes
        self._handover = Handover(formers, moves=directory is None)
        try:
            self._settle(directory or choose_directory(self.wanted_directory, self._journal))
        except OSError as error:
            problem = f"lists: no directory can be written: {error.strerror}"
            raise CompileProblem(problem) from None
        if before is None and await self._find():
            return
        offers = self._handover.offers(self.refreshes)
        if before and directory and before.current.number and before.maker.what == self.maker.what:
            self.current = before.current
            return
        self._prepared = self._place(_PREPARED)
        try:
            self.current, self._reports = await self.maker.make(self._prepared, offers)
        except Lost as problem:
            details = self._handover.lose(problem.report)
            for refresh in formers:
                refresh.wake()
            raise CompileProblem(details) from None
        except CompileProblem as problem:
            names = ", ".join(self.names)
            raise CompileProblem(f"lists ({names}) cannot be compiled: {problem}") from None

    async def _compile(self) -> None:
        target = self._place(_TARGET)
        sources = self._sources()
        offers = [source.offer(number) for number, source in sources]
        try:
            self.current, reports = await self.maker.make(target, offers)
        except Lost as problem:
            raise CompileProblem(self._lose(problem)) from None
        self._notify()
        for (_, source), told in zip(sources, reports, strict=True):
            source.settle(told)

    def _lose(self, problem: Lost) -> str:
        """Have sources read or fetched again that cannot be in the next set: they stay in force as
        they are. Return what is wrong with them.
        """
        sources, reports = self._sources(), problem.report.sources
        for (_, source), told in zip(sources, reports, strict=True):
            source.note_copy(told)
        lost = [(sources[place][1], reports[place]) for place in problem.report.lost]
        for source, _ in lost:
            source.lose()
        for refresh in self.refreshes:
            refresh.wake()
        return ", ".join(f"{source.label} {told.problem}" for source, told in lost)

    def _notify(self) -> None:
        for call in self._listeners:
            call(self.current)

    def _sources(self) -> list[tuple[int, FileSource | UrlSource]]:
        """Return all sources, each with the number of its list."""
        return [
            (number, source)
            for number, refresh in enumerate(self.refreshes)
            for source in refresh.sources
        ]

    def _clean(self, directory: ListDirectory, *, unfinished: bool) -> None:
        """Remove what belongs to no source any more; ``unfinished``: and what an earlier end has
        left.
        """
        directory.clean({source.stem for _, source in self._sources()}, unfinished=unfinished)


def _unless_cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)
