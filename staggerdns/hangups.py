"""SIGHUP, which ends a process that has not said what to do with it.

A start takes a second, most of it for imports: this module has none of the heavy ones.
"""

from __future__ import annotations

import signal
from collections.abc import Callable


class Hangups:
    """Takes this process's SIGHUPs, and keeps the first ones until somebody wants to hear."""

    def __init__(self) -> None:
        self._came = False
        self._hear: Callable[[], object] | None = None

    def take(self) -> None:
        """Have them come here from now on; only the main thread can."""
        signal.signal(signal.SIGHUP, self._note)

    def tell(self, hear: Callable[[], object]) -> None:
        """Call ``hear`` whenever one comes, and at once if one has come already.

        It is called in the middle of whatever the main thread does.
        """
        self._hear = hear
        if self._came:
            hear()

    def _note(self, *_: object) -> None:
        if self._hear is None:
            self._came = True
        else:
            self._hear()
