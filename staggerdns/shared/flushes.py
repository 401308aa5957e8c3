"""Flushes go to all servers that share a store.

    a flush here --> pending --a poll--> the store: its epoch + 1, and what was flushed
                                           |
       a poll of each server: a new epoch -+--> what was flushed since is forgotten there, too

The epoch is a number that only grows; a pool has the one at which its collection began, and does
not count when its name was flushed after that. The store keeps the last `MAX_FLUSHES`, with its own
time: what a server has stored since is newer, and stays. A server that was away, or has just
started, does the same; when it has missed some that are not there any more, all that it had before
counts as flushed. A store that has lost its epoch, or has a lower one, gets it back from whoever
knows it; one that is new begins with its time, so that no later one has a lower epoch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from staggerdns.errors import StaggerDNSError
from staggerdns.wire.constants import MAX_NAME
from staggerdns.wire.names import is_below

MAX_FLUSHES = 100
"""Flushes that the store keeps, and that wait for it at most."""
MAX_EPOCH = 2**53
"""The highest epoch: numbers in Lua are exact up to that."""
ROOT = b"\0"
_EXACT = b"="
_BELOW = b"."
_FIELDS = 3
_MAX_DIGITS = len(str(MAX_EPOCH))


class Flush(NamedTuple):
    """What was flushed: a ``name`` alone (wire form), or all that is ``below`` it, too."""

    name: bytes
    below: bool

    def covers(self, name: bytes) -> bool:
        """Return whether a name (wire form, lower case) was flushed."""
        return is_below(name, self.name) if self.below else name == self.name

    @property
    def octets(self) -> bytes:
        """What the store has of it."""
        return (_BELOW if self.below else _EXACT) + self.name


EVERYTHING = Flush(ROOT, below=True)


NumberedFlush = tuple[int, int, Flush]
"""The epoch that it led to, the store's time in milliseconds, and what was flushed."""


class Polled(NamedTuple):
    """What the store says: its ``epoch``, its time in milliseconds, and the last flushes, the
    latest first; none if the epoch is the one that is known.
    """

    epoch: int
    time: int
    flushes: Sequence[NumberedFlush]


def _without_gaps(flushes: list[NumberedFlush], epoch: int) -> list[NumberedFlush]:
    """Return the last of the flushes, the oldest first, after whose first none is missing."""
    for back, (number, _, _) in enumerate(reversed(flushes)):
        if number != epoch - back:
            return flushes[len(flushes) - back :]
    return flushes


def parse_flush(octets: bytes) -> NumberedFlush:
    """Return the flush that an entry of the store means. Raises `ForeignFlush`."""
    parts = octets.split(b" ", _FIELDS - 1)
    if len(parts) != _FIELDS or not all(map(_is_number, parts[:2])):
        raise ForeignFlush("an entry that is no flush")
    epoch, time, what = int(parts[0]), int(parts[1]), parts[2]
    kind, name = what[:1], what[1:]
    if kind not in (_EXACT, _BELOW) or not 0 < len(name) <= MAX_NAME:
        raise ForeignFlush("an entry that is no flush")
    return epoch, time, Flush(name, kind == _BELOW)


def _is_number(digits: bytes) -> bool:
    return digits.isdigit() and len(digits) <= _MAX_DIGITS


class ForeignFlush(StaggerDNSError):
    """Something in the place of a flush that none of ours has written."""


class Flushes:
    """What is known of flushes; ``apply`` forgets here what was flushed elsewhere so many seconds
    ago, if it was stored before.
    """

    def __init__(self, apply: Callable[[Flush, float], object]) -> None:
        self.epoch = 0
        self.pending: deque[Flush] = deque()
        """Flushes that the store does not know yet."""
        self._apply = apply
        self._last: list[tuple[int, Flush]] = []  # by their epochs, the oldest first
        self._forgotten = 0  # the epoch of the last flush that is not known any more

    def add(self, flush: Flush) -> None:
        """Have others know of a flush, as soon as the store can be told."""
        if len(self.pending) >= MAX_FLUSHES:
            self.pending.clear()
            flush = EVERYTHING
        self.pending.append(flush)

    def told(self, count: int) -> None:
        """Note that the store knows of so many that were pending."""
        for _ in range(min(count, len(self.pending))):
            self.pending.popleft()

    def heard(self, polled: Polled) -> None:
        """Do what others have done since."""
        if polled.epoch == self.epoch:
            return
        known, self.epoch = self.epoch, polled.epoch
        flushes = sorted(one for one in polled.flushes if one[0] <= polled.epoch)[-MAX_FLUSHES:]
        last = _without_gaps(flushes, polled.epoch)
        self._forgotten = polled.epoch - len(last)
        # One that has just started has nothing as a rule, and the list of most stores begins later.
        if self._forgotten > known if known else len(flushes) == MAX_FLUSHES:
            self._apply(EVERYTHING, max(polled.time - last[0][1], 0) / 1000 if last else 0.0)
        for number, time, flush in flushes:
            if number > known:
                self._apply(flush, max(polled.time - time, 0) / 1000)
        self._last = [(number, flush) for number, _, flush in last]

    def covers(self, name: bytes, epoch: int) -> bool:
        """Return whether a name has been flushed after an epoch, as far as is known; what is too
        old for that counts as flushed, and so does what is newer than all that can be known yet: it
        would outlive every flush.
        """
        if epoch < self._forgotten or epoch > self.epoch + MAX_FLUSHES:
            return True
        return any(
            number > epoch and flush.covers(name) for number, flush in reversed(self._last)
        ) or any(flush.covers(name) for flush in self.pending)
