"""What has to be written, from the reactor to a thread that may wait for it.

The thread is given pieces of many items, so that it rarely needs Python's lock: encoding is done
where the answer is given. What is written too slowly is held, up to `MAX_HELD`; beyond that, and
where a sink cannot write, items are lost: they are counted, and the log has a line when that
begins, and one when it is over.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from staggerdns.errors import StaggerDNSError
from staggerdns.instruments import Cell
from staggerdns.journal import Journal
from staggerdns.worker import Runs

PIECE = 65_536
"""Octets that are handed over together."""
HAND_OVER_AFTER = 0.2
"""Seconds after which there may be fewer."""
MAX_HELD = 4_194_304
"""Octets that may wait to be written."""
ITEM_OCTETS = 48
"""Octets of memory that an item takes beside its own."""
STEADY = 10.0
"""Seconds without a loss after which losing is over."""
DRAIN_TIME = 0.5
"""Seconds that the end waits for what has yet to be written."""
TOO_SLOW = "it is written too slowly"


class Unwritten(StaggerDNSError):
    """So many items of a piece were not written, for a reason."""

    def __init__(self, count: int, reason: str) -> None:
        super().__init__(reason)
        self.count = count


class Sink(Protocol):
    """Where items go. All but `give_up` is called in the thread, and may wait."""

    def write(self, items: list[bytes]) -> None:
        """Write these. Raises `Unwritten`."""

    def close(self) -> None:
        """Let go of what is open; `write` opens it anew."""

    def give_up(self) -> None:
        """Wait for nobody any more, from now on."""


class Outlet:
    """Has ``worker`` write into ``sink``; ``what`` it is, for the log. ``lost`` counts items."""

    def __init__(
        self, what: str, sink: Sink, worker: Runs, clock: Any, lost: Cell, journal: Journal
    ) -> None:
        self._what = what
        self._sink = sink
        self._worker = worker
        self._clock = clock
        self._lost = lost
        self._journal = journal
        self._items: list[bytes] = []
        self._size = 0
        self._held = 0  # octets that the thread has
        self._under_way = 0  # items that the thread has
        self._timer: IDelayedCall | None = None
        self._losing = False
        self._lost_before = 0
        self._last_loss = 0.0
        self._closed: Deferred[None] | None = None
        self._late: IDelayedCall | None = None

    @property
    def full(self) -> bool:
        """Whether there is no room for more."""
        return self._held + self._size >= MAX_HELD

    def put(self, item: bytes) -> None:
        """Have an item written."""
        self._items.append(item)
        self._size += len(item) + ITEM_OCTETS
        if self._size >= PIECE:
            self._hand_over()
        elif self._timer is None:
            self._timer = self._clock.callLater(HAND_OVER_AFTER, self._hand_over)

    def lose(self, count: int = 1, reason: str = TOO_SLOW) -> None:
        """Count what is not written, and log it if that is new."""
        if not self._losing:
            self._losing = True
            self._lost_before = self._lost.value
            self._journal.warn(
                "answers are missing in {what}: {reason}", what=self._what, reason=reason
            )
        self._lost.value += count
        self._last_loss = self._clock.seconds()

    def reopen(self) -> None:
        """Open anew what is written into: it may be elsewhere by now."""
        self._hand_over()
        self._worker.run(self._sink.close)

    def close(self) -> Deferred[None]:
        """Write what there is, for `DRAIN_TIME` at most, and close the sink."""
        self._hand_over()
        closed = self._closed = Deferred()
        self._late = self._clock.callLater(DRAIN_TIME, self._give_up)
        self._worker.run(self._sink.close).addBoth(self._ended)
        return closed

    def _hand_over(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if not self._items:
            return
        items, self._items = self._items, []
        size, self._size = self._size, 0
        self._held += size
        self._under_way += len(items)
        done = self._worker.run(self._sink.write, items)
        done.addCallbacks(lambda _: self._look(), self._failed, errbackArgs=(len(items),))
        done.addCallback(self._done, size, len(items))

    def _done(self, _: object, size: int, count: int) -> None:
        self._held -= size
        self._under_way -= count

    def _failed(self, failure: Failure, count: int) -> None:
        error = failure.value
        if not isinstance(error, Unwritten):
            self._journal.failure("the query log has failed", failure)
            error = Unwritten(count, "that is a defect")
        if self._closed is None or self._late is not None:  # else they have been counted
            self.lose(error.count, str(error))

    def _look(self) -> None:
        """Note that something was written."""
        if self._losing and self._clock.seconds() - self._last_loss >= STEADY:
            self._losing = False
            self._journal.warn(
                "answers are written into {what} again: {count} are missing",
                what=self._what,
                count=self._lost.value - self._lost_before,
            )

    def _give_up(self) -> None:
        """End without what has not been written by now."""
        self._late = None
        self._sink.give_up()
        if self._under_way:
            self.lose(self._under_way)
        self._fire()

    def _ended(self, _: object) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
            self._fire()

    def _fire(self) -> None:
        closed = self._closed
        assert closed is not None
        closed.callback(None)
