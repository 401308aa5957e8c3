"""SIGHUP, which ends a process that has not said what to do with it.

A start takes a second, most of it for imports: this module has none of the heavy ones.
"""

from __future__ import annotations

import signal
from collections.abc import Callable


class Hangups:
    """This process's SIGHUPs: those that come before anybody wants to know are kept for him."""

    def __init__(self) -> None:
        self._came = False
        self._call: Callable[[], object] | None = None

    def take(self) -> None:
        """Install the signal handler, which only the main thread can do."""
        signal.signal(signal.SIGHUP, self._note)

    def forward_to(self, call: Callable[[], object]) -> None:
        """Call ``call`` at every signal from now on, and at once if there was one already.

        It is called in the signal handler, in the middle of whatever the main thread does.
        """
        self._call = call
        if self._came:
            call()

    def _note(self, *_: object) -> None:
        if self._call is None:
            self._came = True
        else:
            self._call()
