"""Questions that somebody asks over the control socket, to see what comes of them."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from staggerdns.chain import Chain
from staggerdns.inspection.own import Own
from staggerdns.policy.rules import Rules
from staggerdns.server.local import LocalNames
from staggerdns.traces.trace import WAITING, SortTrace
from staggerdns.wire.question import Question

SORTED_WITHIN = 1.0
"""Seconds that a sort under way at the end of the collection may take to be seen."""
LOOK_EVERY = 0.05
"""Seconds between two looks whether it has ended."""


class Asking:
    """Asks questions, and waits until their collections and sorts have ended; `close` it."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waits: set[IDelayedCall] = set()

    def ask(
        self, chain: Chain, local: LocalNames, rules: Rules | None, name: bytes, qtype: int
    ) -> Deferred[None]:
        """Have the question asked unless its answer is kept or no upstream is to be asked.

        The Deferred fires when all is known.
        """
        now = self._clock.seconds()
        own = Own(local, rules, name, qtype, now)
        if own.answer is not None:
            return succeed(None)
        question = Question(own.key)
        if chain.cache.lookup(question.key, now) is None:
            chain.forwarder.find(question, now)
        ended = chain.forwarder.ended(question.key)
        return ended.addCallback(lambda _: self._sorted(chain, question.key))

    def _sorted(self, chain: Chain, key: bytes) -> Deferred[None] | None:
        if not _is_sorted_now(chain, key):
            return None
        waited: Deferred[None] = Deferred()
        end = self._clock.seconds() + SORTED_WITHIN

        def look() -> None:
            self._waits.discard(waits[0])
            if self._clock.seconds() < end and _is_sorted_now(chain, key):
                wait()
            else:
                waited.callback(None)

        def wait() -> None:
            waits[:] = [self._clock.callLater(LOOK_EVERY, look)]
            self._waits.add(waits[0])

        waits: list[IDelayedCall] = []
        wait()
        return waited

    def close(self) -> None:
        """Wait for nothing any more."""
        while self._waits:
            self._waits.pop().cancel()


def _is_sorted_now(chain: Chain, key: bytes) -> bool:
    """Return whether a sort of what is under ``key`` is under way."""
    trace = chain.traces.find(key)
    last = trace.sorts[-1] if trace is not None and trace.sorts else None
    return isinstance(last, SortTrace) and last.result == WAITING
