"""What the log sees: one structured event per phase (docs/operating.rst, The log), nothing when a
level is off.

A per-query line costs its guard and no more: callers write ``if journal.verbose:`` around
`Journal.debug`, because even a filtered `twisted.logger` call costs microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    PredicateResult,
    globalLogBeginner,
)
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from staggerdns.instruments import Cell

NAMESPACE = "staggerdns"
LEVELS = ("debug", "info", "warn", "error")
"""Values of ``log.level``, most talkative first."""


class Journal:
    """Logs events of ``level`` and above; ``verbose``: whether it logs single queries, too."""

    def __init__(self, level: str = "info", log: Logger | None = None) -> None:
        self._threshold = LEVELS.index(level)
        self._log = log if log is not None else Logger(namespace=NAMESPACE)
        self.verbose = self._threshold == 0

    def debug(self, format: str, **fields: object) -> None:
        """Log a phase of one query."""
        if self._threshold <= 0:
            self._log.debug(format, **fields)

    def info(self, format: str, **fields: object) -> None:
        """Log something that an operator reads once: a start, a change of health."""
        if self._threshold <= 1:
            self._log.info(format, **fields)

    def announce(self, format: str, **fields: object) -> None:
        """Log what is told at every level: that the program is up, and what a signal did."""
        self._log.info(format, **fields)

    def warn(self, format: str, **fields: object) -> None:
        """Log something that works less well than configured."""
        if self._threshold <= 2:
            self._log.warn(format, **fields)

    def failure(self, what: str, failure: Failure | None = None) -> None:
        """Log ``failure``, or the exception being handled, with its traceback: a defect of ours."""
        self._log.failure(what, failure=failure)


def limit_log(level: str) -> None:
    """Apply ``level`` to Twisted's own lines, too, from the moment that logging begins."""
    begin = globalLogBeginner.beginLoggingTo
    keep = _Keep(LogLevelFilterPredicate(defaultLogLevel=LogLevel.levelWithName(level)))

    def begin_limited(observers: Iterable[ILogObserver], *args: Any, **keywords: Any) -> None:
        begin([FilteringLogObserver(each, [keep]) for each in observers], *args, **keywords)

    globalLogBeginner.beginLoggingTo = begin_limited  # type: ignore[method-assign]


@implementer(ILogFilterPredicate)
class _Keep:
    """Lets our own events pass, which a `Journal` has filtered; ``rest`` filters all others."""

    def __init__(self, rest: ILogFilterPredicate) -> None:
        self._rest = rest

    def __call__(self, event: LogEvent) -> Any:
        if event.get("log_namespace") == NAMESPACE:
            return PredicateResult.yes
        return self._rest(event)


@implementer(ILogObserver)
class LostLines:
    """Counts in ``cell`` what another observer could not write, as when the disk is full."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def __call__(self, event: LogEvent) -> None:
        """Count the event if it says that an observer failed: the others are told of that."""
        if "observer" in event and event.get("log_namespace") == "twisted.logger._observer":
            self._cell.value += 1
