"""Pauses in which lists block nothing, for some clients or for all: an operator has asked for them.

A pause is kept by the name of a group, and one for everybody counts for the groups of a later
configuration, too. It ends by itself when it has an end, by `BlockingPauses.end`, or with the
program. What is said of a group comes before what is said of all, and the last word counts.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from staggerdns.journal import Journal

_NOT = -inf


class Pause:
    """Whether the clients of one group have a pause now: ``active``."""

    __slots__ = ("active",)

    def __init__(self) -> None:
        self.active = False


class BlockingPauses:
    """The pauses of a program; `cancel` them in the end. Times are seconds of ``clock``."""

    def __init__(self, clock: IReactorTime, journal: Journal) -> None:
        self._clock = clock
        self._journal = journal
        self._changed: Callable[[], object] = lambda: None
        self._pauses: dict[str, Pause] = {}
        self._all = _NOT  # until when all have one, infinity if until further notice
        self._own: dict[str, float] = {}  # the same for those of whom another thing was said
        self._timer: IDelayedCall | None = None

    def on_change(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` whenever a pause has begun or ended."""
        self._changed = callback

    def of(self, group: str) -> Pause:
        """Return the pause of a group, the same one at every call."""
        found = self._pauses.get(group)
        if found is None:
            found = self._pauses[group] = Pause()
            found.active = self._until(group) > self._clock.seconds()
        return found

    def begin(self, group: str | None, seconds: float | None) -> None:
        """Have nothing blocked for the clients of ``group``, `None` for everybody's, from now on:
        for so many ``seconds``, or until further notice.
        """
        self._put(group, inf if seconds is None else self._clock.seconds() + seconds)
        self._journal.announce(
            "blocking is paused{until}: {who}",
            until=" until further notice" if seconds is None else f" for {seconds:g} s",
            who=_who(group),
        )

    def end(self, group: str | None) -> None:
        """Have lists block again, for the clients of ``group`` or for everybody."""
        self._put(group, _NOT)
        self._journal.announce("blocking goes on: {who}", who=_who(group))

    def left(self, group: str) -> float:
        """Return the seconds that the pause of a group still lasts, 0 if there is none; infinity if
        it has no end.
        """
        return max(0.0, self._until(group) - self._clock.seconds())

    def forget(self, group: str) -> None:
        """Forget a group that is there no more."""
        self._pauses.pop(group, None)
        self._own.pop(group, None)

    def cancel(self) -> None:
        """Let no pause end any more, since the program does."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _until(self, group: str) -> float:
        return self._own.get(group, self._all)

    def _put(self, group: str | None, until: float) -> None:
        if group is None:
            self._all = until
            self._own.clear()
        else:
            self._own[group] = until
        self._update()

    def _update(self) -> None:
        """Have the pauses be what they are to be now, and look again when one ends."""
        self.cancel()
        now = self._clock.seconds()
        for group, pause in self._pauses.items():
            pause.active = self._until(group) > now
        self._changed()
        ends = [end for end in (self._all, *self._own.values()) if now < end < inf]
        if ends:
            self._timer = self._clock.callLater(min(ends) - now, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        ended = [group for group, end in self._own.items() if _NOT < end <= now]
        for group in ended:
            self._own[group] = _NOT
            self._journal.announce("blocking goes on: {who}", who=_who(group))
        if _NOT < self._all <= now:
            self._all = _NOT
            self._journal.announce("blocking goes on: {who}", who=_who(None))
        self._update()


def _who(group: str | None) -> str:
    return "all groups" if group is None else f"group {group}"
