"""The look at the store once a second: it finds out whether the store replies, and how quickly.

What was flushed elsewhere comes with it, and what was measured here goes out behind it. A poll that
is not answered within `STUCK` ends the connection: what hangs is asked anew.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from staggerdns.shared.flushes import Flush, Polled
from staggerdns.shared.level import Access
from staggerdns.shared.store import StoreError

INTERVAL = 1.0
"""Seconds from one poll to the next."""
STUCK = 2.0
"""Seconds without a reply after which the connection is given up."""


class Poll:
    """Polls the store of ``access`` and tells its breaker; `start` and `stop` it."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._store = access.store
        self._flushes = access.flushes
        self._clock = access.clock
        self._next: IDelayedCall | None = None
        self._flushing = False
        self._asked_at: float | None = None  # the poll that is under way

    def start(self) -> None:
        """Poll from now on."""
        self._next = self._clock.callLater(INTERVAL, self.start)
        now = self._clock.seconds()
        if self._asked_at is None:
            self._asked_at = now
            polled: Deferred[Polled] = self._store.poll(self._flushes.epoch)
            polled.addCallbacks(self._replied, self._failed).addErrback(self._defect)
        elif now - self._asked_at >= STUCK:
            self._store.drop("it does not reply")

    def flush(self) -> None:
        """Have the store know now of flushes that it does not know yet, if that is possible."""
        pending = [*self._flushes.pending]
        if pending and not self._flushing:
            self._flushing = True
            told = self._store.flush(self._flushes.epoch, pending)
            told.addCallbacks(self._flushed, self._not_flushed, (pending,))
            told.addErrback(self._defect)

    def _flushed(self, polled: Polled, sent: list[Flush]) -> None:
        self._flushing = False
        self._flushes.told(sent)
        self._flushes.heard(polled, self._clock.seconds())

    def _not_flushed(self, failure: Failure) -> None:
        self._flushing = False
        failure.trap(StoreError)

    def stop(self) -> None:
        """Poll no more."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _replied(self, polled: Polled) -> None:
        assert self._asked_at is not None
        took = self._clock.seconds() - self._asked_at
        self._asked_at = None
        self._flushes.heard(polled, self._clock.seconds())
        self.flush()
        if took <= self._access.timeout:
            self._access.breaker.recovered()
            self._access.round_trips.write(self._clock.seconds())
        else:
            self._access.breaker.failed("no reply in time")

    def _failed(self, failure: Failure) -> None:
        failure.trap(StoreError)
        self._asked_at = None
        self._access.breaker.failed(failure.getErrorMessage())

    def _defect(self, failure: Failure) -> None:
        self._asked_at = None
        self._access.journal.failure("the second level of the cache has failed", failure)
