"""Happy eyeballs: several addresses, the first that takes the connection wins (RFC 8305)."""

from __future__ import annotations

import errno
from typing import Any, cast

import pytest
from twisted.internet import error
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from staggerdns.upstream.happyeyeballs import ATTEMPT_DELAY, HappyEyeballs
from staggerdns.upstream.reason import Reason


class ConnectionRace:
    """A race in memory, and what came of it."""

    def __init__(self, *addresses: str) -> None:
        self.reactor = cast("Any", MemoryReactorClock())
        self.built: list[str] = []
        self.failures: list[Reason] = []
        self.connecting = HappyEyeballs(
            self.reactor,
            self.reactor,
            addresses,
            853,
            timeout=3.0,
            build=self._build,
            failed=self.failures.append,
        )
        self.connecting.start()

    def _build(self, address: str) -> Protocol:
        self.built.append(address)
        return Protocol()

    @property
    def tried(self) -> list[str]:
        """The addresses of all attempts so far."""
        return [client[0] for client in self.reactor.tcpClients]

    def connect(self, number: int) -> Protocol | None:
        """Have an attempt succeed."""
        made: Protocol | None = self.reactor.tcpClients[number][2].buildProtocol(None)
        return made

    def refuse(self, number: int, reason: Exception | None = None) -> None:
        """Have an attempt fail."""
        failure = Failure(reason or error.getConnectError((errno.ECONNREFUSED, "refused")))
        self.reactor.tcpClients[number][2].clientConnectionFailed(None, failure)


def test_the_first_has_a_head_start() -> None:
    """The second address is tried after `ATTEMPT_DELAY`, the third as long after that."""
    race = ConnectionRace("2001:db8::1", "192.0.2.1", "192.0.2.2")
    assert race.tried == ["2001:db8::1"]
    race.reactor.advance(ATTEMPT_DELAY - 0.01)
    assert len(race.tried) == 1
    race.reactor.advance(0.01)
    assert race.tried == ["2001:db8::1", "192.0.2.1"]
    race.reactor.advance(ATTEMPT_DELAY)
    assert len(race.tried) == 3
    race.reactor.advance(10)
    assert len(race.tried) == 3
    assert race.failures == []


def test_the_first_that_connects_wins() -> None:
    """Its protocol is made; a connection that comes too late is dropped; no timer is left."""
    race = ConnectionRace("2001:db8::1", "192.0.2.1", "192.0.2.2")
    race.reactor.advance(ATTEMPT_DELAY)
    assert race.connect(1) is not None
    assert race.built == ["192.0.2.1"]
    assert race.connect(0) is None
    race.refuse(0, error.UserError())
    assert race.reactor.getDelayedCalls() == []
    assert (race.built, race.failures, len(race.tried)) == (["192.0.2.1"], [], 2)


def test_a_failure_starts_the_next_at_once() -> None:
    """No address waits for one that has failed; the last failure is the reason of all."""
    race = ConnectionRace("2001:db8::1", "192.0.2.1")
    race.refuse(0, error.NoRouteError())
    assert race.tried == ["2001:db8::1", "192.0.2.1"]
    assert race.failures == []
    race.refuse(1)
    assert race.failures == [Reason.CONNECTION_REFUSED]
    assert race.reactor.getDelayedCalls() == []


def test_a_late_failure_is_no_end() -> None:
    """While one attempt is under way, the failure of another ends nothing."""
    race = ConnectionRace("2001:db8::1", "192.0.2.1")
    race.reactor.advance(ATTEMPT_DELAY)
    race.refuse(1)
    assert race.failures == []
    race.refuse(0, error.TimeoutError())
    assert race.failures == [Reason.TIMEOUT]


def test_cancelled() -> None:
    """Nothing is left of a race that was called off, and nobody is told."""
    race = ConnectionRace("2001:db8::1", "192.0.2.1")
    race.reactor.advance(ATTEMPT_DELAY)
    race.connecting.cancel()
    race.refuse(0, error.UserError())
    race.refuse(1, error.UserError())
    assert race.connect(0) is None
    race.reactor.advance(10)
    assert (race.built, race.failures) == ([], [])


@pytest.mark.parametrize("count", [1, 3])
def test_attempts_that_fail_at_once(count: int) -> None:
    """A failure inside of the attempt is a failure like any other."""

    class Broken(MemoryReactorClock):
        def connectTCP(self, host: Any, port: Any, factory: Any, *more: Any, **_: Any) -> Any:
            factory.clientConnectionFailed(None, Failure(error.NoRouteError()))

    failures: list[Reason] = []
    reactor = cast("Any", Broken())
    addresses = [f"192.0.2.{number}" for number in range(count)]
    connecting = HappyEyeballs(
        reactor, reactor, addresses, 53, timeout=1, build=cast("Any", None), failed=failures.append
    )
    connecting.start()
    assert failures == [Reason.UNREACHABLE]
    assert reactor.getDelayedCalls() == []
