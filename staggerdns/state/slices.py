"""How long work goes on in one turn of the reactor, and when it goes on after that."""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

SLICE = 0.001
"""Seconds after which a slice of work ends as soon as it can."""
HURRIED = 0.0005
"""Seconds between two slices of what somebody waits for: the reactor looks at its sockets once."""
UNHURRIED = 0.006
"""Seconds between two slices of what nobody waits for."""


class Slices:
    """Tells work when to rest; ``pause``: seconds of each rest.

    ``timer`` tells real seconds, which ``clock`` may not do within a turn.
    """

    def __init__(
        self,
        clock: IReactorTime,
        pause: float,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.pause = pause
        self._clock = clock
        self._timer = timer
        self._until = timer() + SLICE

    @property
    def is_over(self) -> bool:
        """Whether this slice has gone on for long enough."""
        return self._timer() >= self._until

    def rest(self) -> Deferred[None]:
        """Return a Deferred that fires in a later turn, when the next slice begins."""
        return deferLater(self._clock, self.pause).addCallback(self._begin)

    def begin(self) -> None:
        """Begin a slice, after whatever else the work has waited for."""
        self._begin(None)

    def _begin(self, _: object) -> None:
        self._until = self._timer() + SLICE
