"""Lists on a clock: what fetches and what compiles for them does what a test wants of it."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import formatEvent

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.policy.lists.compile import Order, Report, compile_lists
from staggerdns.policy.lists.compiler import CompileProblem
from staggerdns.policy.lists.fetched import FetchProblem, Validators
from staggerdns.policy.lists.lists import Lists
from staggerdns.policy.lists.mapped import Choice
from staggerdns.wire.names import from_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.python.failure import Failure

    from staggerdns.settings.policy import ListSettings

START = 1_800_000_000.0
"""The wall clock at the beginning, in seconds since 1970."""


class Server:
    """Stands for the fetcher: has lists by URL, and may fail or wait."""

    def __init__(self) -> None:
        self.content: dict[str, str] = {}
        self.fetched: list[tuple[str, str]] = []
        self.waiting: list[Deferred[None]] | None = None

    def fetch(self, url: str, path: Path, known: Validators) -> Deferred[Validators | None]:
        """Fetch at once, or when somebody lets what is ``waiting`` go on."""
        self.fetched.append((url, known.etag))
        if self.waiting is None:
            return self._fetch(url, path, known)
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        return waiting.addCallback(lambda _: self._fetch(url, path, known))

    def _fetch(self, url: str, path: Path, known: Validators) -> Deferred[Validators | None]:
        content = self.content.get(url)
        if content is None:
            return fail(FetchProblem("cannot be had: the server answered 404"))
        etag = f'"{content}"'
        if known.etag == etag:
            return succeed(None)
        path.write_text(content)
        return succeed(Validators(etag))


class Compiling:
    """Stands for the compiler: does it here, at once or when it is told to."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.problem = ""
        self.waiting: list[tuple[Order, Deferred[Report]]] | None = None

    def compile(self, order: Order) -> Deferred[Report]:
        """Compile, or fail with ``problem``."""
        self.orders.append(order)
        if self.problem:
            return fail(CompileProblem(self.problem))
        if self.waiting is None:
            return succeed(compile_lists(order))
        self.waiting.append((order, Deferred()))
        return self.waiting[-1][1]

    def go_on(self, *, damaged: bool = False) -> None:
        """End what waits; what comes of it is ``damaged``."""
        assert self.waiting is not None
        order, deferred = self.waiting.pop(0)
        report = compile_lists(order)
        if damaged:
            damage(Path(order.target))
        deferred.callback(report)


class Running:
    """Lists on a clock, with a directory that outlives them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = Clock()
        self.server = Server()
        self.compiler = Compiling()
        self.metrics = Metrics()
        self.lists: Lists | None = None
        self.number = count(1).__next__
        self.numbers: list[int] = []

    def start(self, **settings: ListSettings) -> Lists:
        """Start lists in another process; what was there before is stopped."""
        self.stop()
        self.metrics = Metrics()
        self.number = count(1).__next__
        lists = self.lists = self.make(settings)
        lists.start()
        self.pump()
        return lists

    def make(
        self,
        settings: dict[str, ListSettings],
        before: Lists | None = None,
        directory: str | None = "state",
    ) -> Lists:
        """Return lists that are neither started nor prepared, to be kept in a ``directory``."""
        lists = Lists(
            settings,
            None if directory is None else str(self.directory / directory),
            cast("Any", self.server),
            cast("Any", self.compiler),
            clock=self.clock,
            metrics=self.metrics,
            journal=Journal(),
            number=self.number,
            wall=lambda: START + self.clock.seconds(),
            before=before,
        )
        lists.on_change(lambda found: self.numbers.append(found.number))
        return lists

    def prepare(
        self, directory: str | None = "state", **settings: ListSettings
    ) -> tuple[Lists, list[str]]:
        """Return lists that are being prepared beside those that run, and where what becomes of
        that will be: nothing if all is well, or the problem.
        """
        following = self.make(settings, self.lists, directory)
        problems: list[str] = []

        def done(result: Failure | None) -> None:
            value = None if result is None else result.value
            problems.append("" if value is None else f"{type(value).__name__}: {value}")

        following.prepare().addBoth(done)
        self.pump()
        return following, problems

    def take_over(self, following: Lists) -> None:
        """Have what is prepared take over; what was there before must not need a stop."""
        before, self.lists = self.lists, following
        following.take_over()
        if before is not None:
            timers = len(self.clock.getDelayedCalls())
            before.stop()
            assert len(self.clock.getDelayedCalls()) == timers
        self.pump()

    def reload(self, directory: str | None = "state", **settings: ListSettings) -> Lists:
        """Have lists of another configuration take over at once."""
        following, problems = self.prepare(directory, **settings)
        assert problems == [""]
        self.take_over(following)
        return following

    def stop(self) -> None:
        """Stop; no timer may be left."""
        if self.lists is not None:
            self.lists.stop()
            self.lists = None
            assert self.clock.getDelayedCalls() == []

    def pump(self, seconds: float = 0.0) -> None:
        """Let time pass, and all slices of checks that are due."""
        end = self.clock.seconds() + seconds
        while True:
            calls = [call.getTime() for call in self.clock.getDelayedCalls()]
            if not calls or min(calls) > end:
                break
            self.clock.advance(max(0.0, min(calls) - self.clock.seconds()))
        self.clock.advance(max(0.0, end - self.clock.seconds()))

    def blocks(self, text: str) -> bool:
        """Return whether any list blocks a name."""
        assert self.lists is not None
        choice = Choice(range(len(self.lists.names)))
        return choice.verdict(self.lists.current.listing(from_text(text))) is not None

    def listed(self, text: str) -> list[str]:
        """Return which lists block a name."""
        assert self.lists is not None
        blocked = self.lists.current.listing(from_text(text)).blocked
        return [name for number, name in enumerate(self.lists.names) if blocked >> number & 1]

    def figures(self, name: str = "ads") -> tuple[float, float, int]:
        """Return names, age of the last refresh (none: -1), and failures, as metrics."""
        refreshed = self.metrics.list_refreshed.values()[name,]
        age = START + self.clock.seconds() - refreshed if refreshed else -1
        failures = self.metrics.list_failures.cell(name).value
        return self.metrics.list_names.values()[name,], age, failures


def damage(path: Path) -> None:
    """Have a compiled set another bit than its checksum says."""
    octets = bytearray(path.read_bytes())
    octets[70] ^= 1
    path.write_bytes(octets)


def texts(events: Sequence[Any]) -> list[str]:
    """Return what was logged."""
    return [str(formatEvent(event)) for event in events]


def write(path: Path, text: str, at: int) -> None:
    """Write a file that has changed ``at`` some second."""
    path.write_text(text)
    os.utime(path, (at, at))
