"""The circuit breaker of the second level: whether it makes sense to ask the store.

    open --a poll is answered in time--> closed --`FAILURES` in a row, no reply in time--> open

It begins open, so that nobody waits for a store that is not there. Only polls close it: no client
pays for finding out.
"""

from __future__ import annotations

from collections.abc import Callable

FAILURES = 3
"""Failures in a row that open it: errors, lost connections, no reply in time."""


class Breaker:
    """Counts what fails in a row.

    ``changed`` is called with why when it opens, and with nothing when it closes.
    """

    def __init__(self, changed: Callable[[str], object]) -> None:
        self.closed = False
        self._failures = 0
        self._changed = changed

    def succeeded(self) -> None:
        """Note a reply in time."""
        self._failures = 0

    def failed(self, why: str) -> None:
        """Note that there was none."""
        self._failures += 1
        if self._failures == FAILURES:  # once an outage, the one at the start included
            self.closed = False
            self._changed(why)

    def recovered(self) -> None:
        """Note a poll that was answered in time."""
        self._failures = 0
        if not self.closed:
            self.closed = True
            self._changed("")
