"""What a supervisor such as systemd is told: that the program is up, alive, and about to end.

sd_notify(3): each message is a datagram of text to the socket that ``NOTIFY_SOCKET`` names. The
sign of life comes from the reactor, so that a program whose reactor stands still gives none.
Nothing here waits, and nothing fails when nobody listens: the program is there to answer queries.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall

STATUS_EVERY = 10.0
"""Seconds from one line about the traffic to the next."""
CACHE = ("cache", "stale")
"""Sources of answers that nobody had to be asked for."""

Answered = Callable[[], Mapping[tuple[str, ...], int]]
"""Returns how many queries have been answered, by source."""


class Supervision(Service):
    """Tells a supervisor of the program while it runs; to be started when queries are answered.

    ``environ``: the environment of the process, ``pid`` its number. ``answered``: see `Answered`.
    """

    def __init__(
        self, environ: Mapping[str, str], pid: int, clock: IReactorTime, answered: Answered
    ) -> None:
        path = environ["NOTIFY_SOCKET"]
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._clock = clock
        self._answered = answered
        self._before = 0, 0
        self._ready: IDelayedCall | None = None
        self._loops: list[tuple[LoopingCall, float]] = []
        self._add_loop(self._tell_status, STATUS_EVERY)
        seconds = _watchdog_seconds(environ, pid)
        if seconds:
            self._add_loop(self._give_sign, seconds / 2)

    def startService(self) -> None:
        """Report that queries are answered, as soon as the reactor runs: before that a signal to
        end would end the process at once.
        """
        super().startService()
        self._ready = self._clock.callLater(0, self._begin)

    def _begin(self) -> None:
        self._ready = None
        self._send("READY=1")
        self._before = self._totals()
        for loop, seconds in self._loops:
            loop.start(seconds, now=loop is not self._loops[0][0])

    def stopService(self) -> None:
        """Report that the program is about to end."""
        super().stopService()
        if self._ready is not None:
            self._ready.cancel()
            self._ready = None
        for loop, _ in self._loops:
            if loop.running:
                loop.stop()
        self._send("STOPPING=1")
        self._socket.close()

    def _add_loop(self, function: Callable[[], None], seconds: float) -> None:
        loop = LoopingCall(function)
        loop.clock = self._clock
        self._loops.append((loop, seconds))

    def _give_sign(self) -> None:
        self._send("WATCHDOG=1")

    def _tell_status(self) -> None:
        """Report how many queries are answered a second, and how many of them from the cache."""
        every, cached = self._totals()
        count = every - self._before[0]
        share = 100 * (cached - self._before[1]) / count if count else 0
        self._before = every, cached
        rate = count / STATUS_EVERY
        self._send(f"STATUS={rate:,.1f} queries/s, {share:.0f} % of them from the cache")

    def _totals(self) -> tuple[int, int]:
        counts = self._answered()
        return sum(counts.values()), sum(counts.get((source,), 0) for source in CACHE)

    def _send(self, text: str) -> None:
        with suppress(OSError):  # it is not there, or does not read
            self._socket.sendto(text.encode(), self._address)


def _watchdog_seconds(environ: Mapping[str, str], pid: int) -> float:
    """Return after how long without a sign of life the program is ended, 0 if it is not
    (sd_watchdog_enabled(3)).
    """
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isascii() and text.isdigit() else 0
