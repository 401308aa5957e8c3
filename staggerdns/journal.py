"""What the log sees: one structured event per phase (docs/operating.rst, The log), nothing when a
level is off.

A per-query line costs its guard and no more: callers write ``if journal.verbose:`` around
`Journal.debug`, because even a filtered `twisted.logger` call costs microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    PredicateResult,
    globalLogBeginner,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from staggerdns.logformat import FORMATS, NAMESPACE, level_of
from staggerdns.settings.sections import LogSettings

if TYPE_CHECKING:
    from staggerdns.instruments import Cell

LEVELS = ("debug", "info", "warn", "error")
"""Values of ``log.level``, most talkative first."""


class Journal:
    """Logs events of ``level`` and above; ``verbose``: whether it logs single queries, too."""

    def __init__(self, level: str = "info", log: Logger | None = None) -> None:
        self._log = log if log is not None else Logger(namespace=NAMESPACE)
        self.level = level

    @property
    def level(self) -> str:
        """The least of `LEVELS` that is logged; it may change at any time."""
        return LEVELS[self._threshold]

    @level.setter
    def level(self, level: str) -> None:
        self._threshold = LEVELS.index(level)
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

    def error(self, format: str, **fields: object) -> None:
        """Log something that was wanted and cannot be."""
        self._log.error(format, **fields)

    def failure(self, what: str, failure: Failure | None = None) -> None:
        """Log ``failure``, or the exception being handled, with its traceback: a defect of ours."""
        self._log.failure(what, failure=failure)


class LogShape:
    """What is written of all that is logged, by Twisted too: from the level of ``journal`` on, in
    the form of ``settings``.
    """

    def __init__(self, journal: Journal, settings: LogSettings) -> None:
        self._journal = journal
        self._settings = settings

    def use(self, settings: LogSettings) -> None:
        """Write in the form of these settings from now on."""
        self._settings = settings

    def format_event(self, event: LogEvent) -> str | None:
        """Return an event as it is written, `None` if it says nothing."""
        return FORMATS[self._settings.format](event)

    def observer(self, file: Any) -> ILogObserver:
        """Return what writes into ``file``."""
        return FileLogObserver(file, self.format_event)

    def shaped(self, observer: ILogObserver) -> ILogObserver:
        """Return ``observer`` as it hears of no more than is to be written, and writes it as it is
        to be written if it writes lines into a file.
        """
        if isinstance(observer, FileLogObserver):
            observer.formatEvent = self.format_event
        return FilteringLogObserver(observer, [_Keep(self._journal)])

    def begin(self) -> None:
        """Shape all, from the moment that logging begins."""
        begin = globalLogBeginner.beginLoggingTo

        def begin_shaped(observers: Iterable[ILogObserver], *args: Any, **keywords: Any) -> None:
            begin([*map(self.shaped, observers)], *args, **keywords)

        globalLogBeginner.beginLoggingTo = begin_shaped  # type: ignore[method-assign]


@implementer(ILogFilterPredicate)
class _Keep:
    """Lets our own events pass, which ``journal`` has filtered, and others from its level on."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __call__(self, event: LogEvent) -> Any:
        if event.get("log_namespace") == NAMESPACE:
            return PredicateResult.yes
        bad = level_of(event) >= LogLevel.levelWithName(self._journal.level)
        return PredicateResult.yes if bad else PredicateResult.no


@implementer(ILogObserver)
class LostLines:
    """Counts in ``cell`` what another observer could not write, as when the disk is full."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def __call__(self, event: LogEvent) -> None:
        """Count the event if it says that an observer failed: the others are told of that."""
        if "observer" in event and event.get("log_namespace") == "twisted.logger._observer":
            self._cell.value += 1
