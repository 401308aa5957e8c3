"""Reloads of the configuration: one at a time, each of which succeeds or changes nothing.

    idle --reload--> reading the file in another process --> making what is new --> in use --> idle
                            |                                      |
                            +----------- something is wrong -------+--------------> idle

Whoever wants a reload while one is under way gets the next one, which many may share: the file may
have changed since it was read.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from staggerdns.errors import StaggerDNSError
from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.settings.document import ConfigError

Problems = tuple[str, ...]
"""What is wrong, each in one line; nothing when the file counts now."""


class History(NamedTuple):
    """How often the configuration has been read again, the time of the last try by the program's
    clock, `None` if there was none, and what was wrong with it.
    """

    tries: int
    tried_at: float | None
    problems: Problems


NO_RELOADS = History(0, None, ())


class Reloads:
    """Has ``reload`` called whenever somebody wants one; ``path`` is the file.

    ``reload`` reads the file and puts what is in it in force. It raises a `StaggerDNSError`, after
    which all is as it was. ``wall``: seconds since 1970. ``history``: what has been.
    """

    def __init__(
        self,
        path: str,
        reload: Callable[[], Awaitable[None]],
        clock: IReactorTime,
        metrics: Metrics,
        journal: Journal,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._reload = reload
        self._clock = clock
        self.history = NO_RELOADS
        self._journal = journal
        self._wall = wall
        self._running: Deferred[Problems] | None = None
        self._waiting: list[Deferred[Problems]] = []
        self._closed = False
        self._succeeded = True
        self._succeeded_at = wall()
        metrics.reload_successful.read_from(lambda: self._succeeded)
        metrics.reload_time.read_from(lambda: self._succeeded_at)

    def want(self) -> Deferred[Problems]:
        """Reload the file, after the reload that is under way; return a Deferred of the problems.

        The Deferred never fails.
        """
        if self._closed:
            return succeed(("the program is about to end",))
        wanted: Deferred[Problems] = Deferred(self._waiting.remove)
        self._waiting.append(wanted)
        self._next()
        return wanted

    def close(self) -> None:
        """Give up the reload that is under way, and those that wait; begin none any more."""
        self._closed = True
        self._waiting.clear()
        if self._running is not None:
            self._running.cancel()

    def _next(self) -> None:
        if self._running is not None or not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        self._running = running = Deferred.fromCoroutine(self._run())

        def end(problems: Problems | Failure) -> None:
            self._running = None
            if isinstance(problems, Failure):
                if problems.check(CancelledError):
                    return
                self._journal.failure("a reload has failed", problems)
                problems = ("a defect of ours: see the log",)
            for one in waiting:
                one.callback(problems)
            self._next()

        running.addBoth(end)

    async def _run(self) -> Problems:
        self._succeeded = False
        problems: Problems = ()
        try:
            await self._reload()
        except ConfigError as error:
            problems = error.problems
        except StaggerDNSError as error:
            problems = (str(error),)
        self.history = History(self.history.tries + 1, self._clock.seconds(), problems)
        if problems:
            self._journal.error(
                "{path} is not used, all stays as it was: {problems}",
                path=self._path,
                problems="; ".join(problems),
            )
            return problems
        self._succeeded, self._succeeded_at = True, self._wall()
        self._journal.announce("reloaded {path}", path=self._path)
        return ()
