"""Opening a connection to the first of several addresses that takes it (RFC 8305).

Attempts start `ATTEMPT_DELAY` apart, the next one at once when one has failed. The first that
connects wins, the others are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import error
from twisted.internet.interfaces import IAddress, IConnector, IDelayedCall, IProtocol, IReactorTime
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

from staggerdns.upstream.reason import Reason, of_errno

ATTEMPT_DELAY = 0.25
"""Seconds from one attempt to the next (RFC 8305 section 5)."""


class HappyEyeballs:
    """Attempts to reach ``addresses``, best first, at ``port``; `start` it.

    ``build`` makes the protocol for the address that has answered, and is called once at most;
    ``failed`` is told why nobody has. ``timeout``: seconds for each attempt.
    """

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        addresses: Sequence[str],
        port: int,
        *,
        timeout: float,
        build: Callable[[str], IProtocol],
        failed: Callable[[Reason], None],
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._left = list(addresses)
        self._port = port
        self._timeout = timeout
        self._build = build
        self._failed = failed
        self._reason = Reason.UNREACHABLE
        self._attempts: dict[_Attempt, IConnector | None] = {}
        self._next: IDelayedCall | None = None
        self._over = False

    def start(self) -> None:
        """Make the first attempt. ``failed`` may be called before this returns."""
        self._try_next()

    def cancel(self) -> None:
        """Give up; ``failed`` is not called."""
        self._over = True
        if self._next is not None:
            self._next.cancel()
            self._next = None
        attempts, self._attempts = self._attempts, {}
        for connector in attempts.values():
            if connector is not None:
                connector.disconnect()

    def connected(self, attempt: _Attempt) -> IProtocol | None:
        """Return the protocol for a new connection, `None` for one that came too late."""
        if self._over:
            return None
        del self._attempts[attempt]
        self.cancel()
        return self._build(attempt.address)

    def attempt_failed(self, attempt: _Attempt, reason: Reason) -> None:
        """Go on with the next address, or end."""
        if self._attempts.pop(attempt, self) is self:
            return
        self._reason = reason
        self._try_next()

    def _try_next(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._left:
            attempt = _Attempt(self, self._left.pop(0))
            if self._left:
                self._next = self._clock.callLater(ATTEMPT_DELAY, self._fire)
            self._attempts[attempt] = None
            try:
                connector = self._reactor.connectTCP(
                    attempt.address, self._port, attempt, timeout=self._timeout
                )
            except OSError:  # the interface of a link-local address is not there
                self.attempt_failed(attempt, Reason.LOCAL)
                return
            if attempt in self._attempts:  # else it has failed at once
                self._attempts[attempt] = connector
        elif not self._attempts and not self._over:
            self._over = True
            self._failed(self._reason)

    def _fire(self) -> None:
        self._next = None
        self._try_next()


class _Attempt(ClientFactory):
    noisy = False

    def __init__(self, race: HappyEyeballs, address: str) -> None:
        self._race = race
        self.address = address

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:  # type: ignore[override]
        """Return the protocol of the new connection, `None` to drop it."""
        return self._race.connected(self)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Go on with the next address: this one cannot be reached."""
        self._race.attempt_failed(self, explain(reason))


def explain(failure: Failure) -> Reason:
    """Return why a connection could not be made."""
    if failure.check(error.TimeoutError):
        return Reason.TIMEOUT
    return of_errno(getattr(failure.value, "osError", None))
