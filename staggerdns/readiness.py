"""Whether anybody answers: what ``/healthz`` says.

    answering  --a collection that nobody answered, or none for `ASK_EVERY`--> asks ``. NS``
    answering  --that is not answered either-->  not answering
    not answering  --any good answer-->  answering

A good answer to a client proves that upstreams answer. A failed question proves nothing, since its
name may be at fault: then ``. NS`` is asked, like any question of a client, at once but at most
once in `CONFIRM_EVERY`. A time without questions proves nothing either; but then ``. NS`` is asked
only when somebody calls `Readiness.check`, so that an idle network stays idle. While nobody
answers, ``. NS`` is asked every `ASK_EVERY`, so that the end of an outage is noticed without any
client. Replies that are errors (SERVFAIL) come from somebody who serves us, unless all of them say
REFUSED: only when they have been coming for `ASK_EVERY` without a good answer is ``. NS`` asked
because of one.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from staggerdns.journal import Journal
from staggerdns.outages import Outages

ASK_EVERY = 10.0
"""Seconds without an answer until ``. NS`` is asked, and from one such question to the next."""
CONFIRM_EVERY = 1.0
"""Seconds from one question because of a failure to the next."""
PATIENCE = 5.0
"""Seconds after which ``. NS`` counts as not answered."""
GRACE = 2.0
"""Seconds after the start for which nothing is asked, and no answer is missed."""


class Readiness:
    """Finds out whether any upstream answers, and logs to ``journal`` when that changes.

    ``ask`` asks ``. NS``; its result is why there was no good answer, empty if there was one.
    ``last_worked`` returns when the latest question with a good answer was asked, by ``clock``.
    """

    def __init__(
        self,
        ask: Callable[[], Deferred[str]],
        last_worked: Callable[[], float],
        clock: IReactorTime,
        journal: Journal,
    ) -> None:
        self._ask = ask
        self._last_worked = last_worked
        self._clock = clock
        self._began = clock.seconds() + GRACE - ASK_EVERY
        self._served = -inf
        self._asked = -inf
        self._silent_since: float | None = None
        self._asking: Deferred[str] | None = None
        self._give_up: IDelayedCall | None = None
        self._again: IDelayedCall | None = None
        self._waiting: list[Deferred[bool]] = []
        self._outages = Outages(lambda: self.answering, clock, journal)
        self._closed = False

    @property
    def answering(self) -> bool:
        """Whether somebody does, as far as is known."""
        return self._silent_since is None or self._last_worked() > self._silent_since

    def check(self) -> Deferred[bool]:
        """Return a Deferred of whether somebody answers, which asks if that is not known."""
        if not self.answering:
            return succeed(False)
        now = self._clock.seconds()
        known = max(self._last_worked(), self._served, self._began)
        due = self._again is not None and self._again.getTime() <= now
        if self._asking is None and (due or now - known >= ASK_EVERY):
            self._forget_again()
            self._start(now)
        if self._asking is None:
            return succeed(self.answering)
        waiting: Deferred[bool] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def failed(self, *, served: bool) -> None:
        """Note a question of a client that was not answered well.

        ``served``: somebody replied, and not that we are refused.
        """
        now = self._clock.seconds()
        if served:
            if self._last_worked() >= self._served:  # the first since a good answer
                self._served = now
            if now - self._served < ASK_EVERY:
                return
        if self._asking is None and self.answering:
            self._ask_at(self._asked + CONFIRM_EVERY, now)

    def close(self) -> None:
        """Ask no more."""
        self._closed = True
        self._outages.close()
        if self._asking is not None:
            self._asking.cancel()
        self._forget_again()

    def _start(self, now: float) -> None:
        self._asked = now
        self._asking = asking = self._ask()
        self._give_up = self._clock.callLater(PATIENCE, asking.cancel)
        asking.addErrback(lambda _: f"nothing within {PATIENCE:g} s")
        asking.addCallback(self._learn)

    def _learn(self, problem: str) -> None:
        self._asking = None
        assert self._give_up is not None
        if self._give_up.active():
            self._give_up.cancel()
        self._silent_since = self._asked if problem else None
        answering = self.answering
        if not answering and not self._closed:
            self._outages.noticed(self._asked, problem)
            self._ask_at(self._asked + ASK_EVERY, self._asked)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(answering)

    def _ask_at(self, due: float, since: float) -> None:
        """Ask when it is due, unless there will have been a good answer since."""
        self._forget_again()
        wait = max(0.0, due - self._clock.seconds())
        self._again = self._clock.callLater(wait, self._ask_again, since)

    def _forget_again(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _ask_again(self, since: float) -> None:
        self._again = None
        if self._asking is None and self._last_worked() <= since:
            self._start(self._clock.seconds())
