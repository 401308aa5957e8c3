"""What is logged of an outage: one line when it begins, one when it is over.

Where answers come now and then, upstreams seem to fail and to recover many times. So an outage is
over only when they have answered for `STEADY`, and its duration ends when that time began.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from staggerdns.journal import Journal

STEADY = 10.0
"""Seconds for which upstreams must answer until an outage counts as over: failures of clients, and
the question that confirms them, take most of that to show that it is not.
"""
LOOK_EVERY = 1.0
"""Seconds between two looks, during an outage, whether it is over."""


class Outages:
    """Logs outages to ``journal``; ``answering`` returns whether any upstream answers now."""

    def __init__(
        self, answering: Callable[[], bool], clock: IReactorTime, journal: Journal
    ) -> None:
        self._answering = answering
        self._clock = clock
        self._journal = journal
        self._began: float | None = None
        self._over_since: float | None = None
        self._look_again: IDelayedCall | None = None

    def noticed(self, since: float, reason: str) -> None:
        """Note that a question asked at ``since`` got no answer, and for what ``reason``."""
        self._over_since = None
        if self._began is None:
            self._began = since
            self._journal.warn("no upstream answers ({reason})", reason=reason)
            self._look_again = self._clock.callLater(LOOK_EVERY, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None

    def _look(self) -> None:
        assert self._began is not None
        self._look_again = None
        now = self._clock.seconds()
        if not self._answering():
            self._over_since = None
        elif self._over_since is None:
            self._over_since = now
        elif now - self._over_since >= STEADY:
            # A warning, too: who has read that it began shall read this.
            self._journal.warn(
                "upstreams answer again: none did for {seconds:.0f} s",
                seconds=self._over_since - self._began,
            )
            self._began = self._over_since = None
            return
        self._look_again = self._clock.callLater(LOOK_EVERY, self._look)
