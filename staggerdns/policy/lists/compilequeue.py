"""Who waits for a set of lists, and when the next one is compiled for all of them.

One set is compiled at a time. What is asked for meanwhile waits for the next one, and so does all
that is asked for while the queue is held.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


class CompileQueue:
    """Has ``compile`` called, which puts a set in force. Nothing is compiled until `open`."""

    def __init__(self, compile: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._compile = compile
        self._waiting: list[Deferred[None]] = []
        self._compiling: Deferred[None] | None = None
        self._idle: Deferred[None] | None = None
        self._is_open = False
        self._is_held = False
        self._closed = False

    def wait(self) -> Deferred[None]:
        """Return a Deferred that fires when a set of all that is there now is in force; it fails as
        compiling does.
        """
        waiting: Deferred[None] = Deferred(self._forget)
        self._waiting.append(waiting)
        self._next()
        return waiting

    def open(self) -> None:
        """Compile from now on."""
        self._is_open = True
        self._tell_idle()
        self._next()

    def hold(self) -> Deferred[None]:
        """Compile nothing until `go_on`; the Deferred fires when nothing is being compiled, and the
        queue is open.
        """
        self._is_held = True
        idle: Deferred[None] = Deferred()
        self._idle = idle
        self._tell_idle()
        return idle

    def go_on(self) -> None:
        """Go on as before `hold`."""
        self._is_held = False
        self._idle = None
        self._next()

    def take_on(self, other: CompileQueue) -> None:
        """Have those wait here who wait in another queue, which is held, and is closed by this."""
        # The same list: whoever is cancelled later is removed from it by the other queue.
        self._waiting = other.hand_over()

    def hand_over(self) -> list[Deferred[None]]:
        """Close, and return who waits."""
        self._closed = True
        return self._waiting

    def close(self) -> None:
        """Give up what is being compiled, and who waits."""
        if not self._closed:
            self._closed = True
            if self._compiling is not None:
                self._compiling.cancel()
            self._waiting.clear()

    def _forget(self, waiting: Deferred[None]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def _tell_idle(self) -> None:
        if self._idle is not None and self._is_open and self._compiling is None:
            idle, self._idle = self._idle, None
            if not idle.called:
                idle.callback(None)

    def _next(self) -> None:
        """Start to compile for all who wait, unless a set is being compiled."""
        stands = self._closed or self._is_held or not self._is_open
        if stands or self._compiling is not None or not self._waiting:
            return
        waiting = [*self._waiting]
        self._waiting.clear()
        compiled = Deferred.fromCoroutine(self._compile())
        self._compiling = compiled

        def done(result: Failure | None) -> None:
            self._compiling = None
            if self._closed:
                return
            for one in waiting:
                if not one.called:
                    one.callback(None) if result is None else one.errback(result)
            self._tell_idle()
            self._next()

        compiled.addBoth(done)
