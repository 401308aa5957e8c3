"""Flushes go to all servers that share a store.

    a flush here --> pending --a poll--> the store: a new epoch, the one before it, what was flushed
                                           |
       a poll of each server: a new epoch -+--> what was flushed since is forgotten there, too

The epoch is a number that only grows: the store's time in milliseconds, or one more than the last.
The store has it, and the last `MAX_FLUSHES`, each with the epoch before it, so that a server sees
whether it has missed any that are not there any more: then all that it has counts as flushed. So it
is with whatever a server has of a flushed name when it hears of it: it may have come from the store
meanwhile. One that has just started knows no epoch, and goes by the time of the flushes: what it
has kept over the restart may be newer.

A store that has lost its epoch, or has a lower one, gets it back from whoever knows it; one that is
new begins with its time. Both are noted among the flushes, in the place of one. Flushes that it has
lost before all have heard of them are told again by those who have. A pool has the
epoch at which its collection began, and does not count when its name was flushed after that.
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
TELLING = 3.0
"""Seconds after which all servers have heard of a flush that can reach the store."""
MAX_EPOCH = 2**53
"""The highest epoch: numbers in Lua are exact up to that."""
ROOT = b"\0"
_EXACT = b"="
_BELOW = b"."
_NOTHING = b"!"
_FIELDS = 4
_MAX_DIGITS = len(str(MAX_EPOCH))
MAX_ENTRY = (_FIELDS - 1) * (_MAX_DIGITS + 1) + 1 + MAX_NAME
"""Octets of a flush in the store at most; a longer one is none."""


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


class NumberedFlush(NamedTuple):
    """What the store has of a flush: the ``epoch`` that it led to, the one ``before``, and the
    store's ``time`` in milliseconds. Without a ``flush`` it is how the store got the epoch: from a
    server that knew it, which is the one before, too, or anew, when that is 0.
    """

    epoch: int
    before: int
    time: int
    flush: Flush | None


class Polled(NamedTuple):
    """What the store says: its ``epoch``, its time in milliseconds, and the last flushes, the
    latest first; none if the epoch is the one that is known.
    """

    epoch: int
    time: int
    flushes: Sequence[NumberedFlush]


def _chain(polled: Polled) -> list[NumberedFlush]:
    """Return the last flushes, the latest first, between which and the epoch none is missing."""
    chain: list[NumberedFlush] = []
    wanted = polled.epoch
    for one in polled.flushes[:MAX_FLUSHES]:
        if one.epoch != wanted:
            break
        chain.append(one)
        if one.before >= one.epoch:  # there it was given back
            break
        wanted = one.before
    return chain


def parse_flush(octets: bytes) -> NumberedFlush:
    """Return the flush that an entry of the store means. Raises `ForeignFlush`."""
    parts = octets.split(b" ", _FIELDS - 1)
    if len(parts) != _FIELDS or not all(map(_is_number, parts[:-1])):
        raise ForeignFlush("an entry that is no flush")
    epoch, before, time = map(int, parts[:-1])
    kind, name = parts[-1][:1], parts[-1][1:]
    if kind == _NOTHING and not name:
        return NumberedFlush(epoch, before, time, None)
    if kind not in (_EXACT, _BELOW) or not 0 < len(name) <= MAX_NAME:
        raise ForeignFlush("an entry that is no flush")
    return NumberedFlush(epoch, before, time, Flush(name, kind == _BELOW))


def _is_number(digits: bytes) -> bool:
    return digits.isdigit() and len(digits) <= _MAX_DIGITS


class ForeignFlush(StaggerDNSError):
    """Something in the place of a flush that none of ours has written."""


class _Known(NamedTuple):
    """A flush that the store had, which is known here ``since`` that time."""

    epoch: int
    flush: Flush
    since: float


class Flushes:
    """What is known of flushes; ``apply`` forgets here what was flushed elsewhere, if it was stored
    so many seconds ago, or before.
    """

    def __init__(self, apply: Callable[[Flush, float], object]) -> None:
        self.epoch = 0
        self.pending: deque[Flush] = deque()
        """Flushes that the store does not know yet."""
        self._apply = apply
        self._last: list[_Known] = []  # the latest first
        self._forgotten = 0  # the epoch after which all flushes are known
        self._heard_at = 0.0

    def add(self, flush: Flush) -> None:
        """Have others know of a flush, as soon as the store can be told."""
        if len(self.pending) >= MAX_FLUSHES:
            self.pending.clear()
            flush = Flush(*EVERYTHING)  # another object than one that is being told
        self.pending.append(flush)

    def of_another_store(self) -> Flushes:
        """Return what is known of another store: nothing, but it does not know these flushes."""
        other = Flushes(self._apply)
        other.pending.extend(self.pending)
        return other

    def told(self, sent: Sequence[Flush]) -> None:
        """Note that the store knows of these, which were pending: they themselves, not equal ones
        that came later.
        """
        for flush in sent:
            if self.pending and self.pending[0] is flush:
                self.pending.popleft()

    def heard(self, polled: Polled, now: float) -> None:
        """Do what others have done since; ``now``: seconds of a monotonic clock."""
        last_heard, self._heard_at = self._heard_at, now
        if polled.epoch == self.epoch:
            return
        known, self.epoch = self.epoch, polled.epoch
        chain = _chain(polled)
        first = chain[-1] if chain else NumberedFlush(polled.epoch, polled.epoch, polled.time, None)
        self._forgotten = first.epoch if first.flush is None else first.before
        if first.before and known < self._forgotten:
            self._apply(EVERYTHING, 0.0 if known else _age(first, polled))
        for one in reversed(chain):
            if one.flush is not None and one.epoch > known:
                self._apply(one.flush, 0.0 if known else _age(one, polled))
        before = {one.epoch: one for one in self._last}
        self._last = [
            before.pop(one.epoch) if one.epoch in before else _Known(one.epoch, one.flush, now)
            for one in chain
            if one.flush is not None
        ]
        if len(chain) < MAX_FLUSHES:
            for lost in sorted(before.values()):
                if lost.epoch > self._forgotten or last_heard - lost.since <= TELLING:
                    self.add(lost.flush)

    def covers(self, name: bytes, epoch: int) -> bool:
        """Return whether a name has been flushed after an epoch, as far as is known. What is too
        old for that counts as flushed, and so does what is newer than all that is known yet: it
        might outlive every flush.
        """
        if not self._forgotten <= epoch <= self.epoch:
            return True
        return any(one.epoch > epoch and one.flush.covers(name) for one in self._last) or any(
            flush.covers(name) for flush in self.pending
        )


def _age(flush: NumberedFlush, polled: Polled) -> float:
    return max(polled.time - flush.time, 0) / 1000
