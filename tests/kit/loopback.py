"""A real upstream on the real reactor, for tests that ask a scripted server on loopback."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.internet.tcp import Client

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.standstill import StandstillClock
from staggerdns.upstream.datagram import DatagramTransport
from staggerdns.upstream.readers import Readers
from staggerdns.upstream.tls import Authorities
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.judge import Judge
from staggerdns.wire.question import Question, make_question
from tests.kit.acts import A, name
from tests.kit.readings import by_last_label
from tests.kit.upstreams import make_upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from twisted.internet.interfaces import IReactorTime

    from staggerdns.upstream.exchange import Exchange, Outcome
    from staggerdns.upstream.stream import Resolve
    from tests.kit.ports import Endpoint

reactor: Any = _reactor
DEADLINE = 5.0
"""Seconds that anything may take before its test fails."""


class LoopbackUpstream:
    """An `Upstream` at ``endpoint``, and the questions put to it."""

    def __init__(
        self,
        endpoint: Endpoint | str,
        scheme: str = "",
        rng: Callable[[int], bytes] | None = None,
        clock: IReactorTime = reactor,
        *,
        timeout: float = DEADLINE,
        ca: Path | None = None,
        resolve: Resolve | None = None,
        case: bool = True,
        cookies: bool = True,
    ) -> None:
        self.clock = StandstillClock(clock)
        self.metrics = Metrics()
        self.authorities = None if ca is None else Authorities(str(ca))
        self._readers = Readers(reactor, Journal())
        self.upstream = make_upstream(
            scheme + str(endpoint),
            self.clock,
            self.metrics,
            reactor=reactor,
            readers=self._readers,
            rng=rng,
            resolve=resolve,
            authorities=self.authorities,
            timeout=timeout,
            case_randomization="auto" if case else "never",
            cookies=cookies,
        )

    @property
    def marks(self) -> int:
        """Failures in a row that count against the upstream."""
        return self.upstream.health.failures

    @property
    def readers(self) -> int:
        """The upstream's UDP sockets that the reactor reads."""
        return len(self._readers)

    def close(self) -> None:
        """Close the upstream; the reactor must know nothing of it then."""
        self.upstream.close()
        assert self._readers not in reactor.getReaders()
        self._readers.close()

    @property
    def sockets(self) -> DatagramTransport:
        """The transport for UDP."""
        transport = self.upstream._transport
        assert isinstance(transport, DatagramTransport)
        return transport

    def start(self, question: Question | None = None) -> Exchange:
        """Ask, and return the exchange."""
        question = question or make_question(name("www.example"), A)
        return self.upstream.ask(Judge(question), "active", self.clock.seconds())

    async def ask(self, question: Question | None = None) -> Outcome:
        """Ask, and return the outcome; AssertionError when none comes in time."""
        exchange = self.start(question)
        late = reactor.callLater(DEADLINE, exchange.expire)
        outcome = await exchange.deferred()
        assert late.active(), "no outcome in time"
        late.cancel()
        return outcome

    def connects(self) -> dict[str, int]:
        """How many connections were made, and not made, by kind and reason."""
        return by_last_label(self.metrics.upstream_connects)

    @property
    def repeated(self) -> int:
        """How many queries were sent once more."""
        return self.metrics.upstream_repeated.cell(self.upstream.name, "closed").value

    def rejected(self) -> dict[str, int]:
        """How many messages were not accepted, by reason."""
        return by_last_label(self.metrics.upstream_rejected)


@contextlib.contextmanager
def loopback_upstream(
    endpoint: Endpoint | str,
    scheme: str = "",
    rng: Callable[[int], bytes] | None = None,
    clock: IReactorTime = reactor,
    **more: Any,
) -> Iterator[LoopbackUpstream]:
    """Make one and close its upstream; nothing may be left of it then."""
    made = LoopbackUpstream(endpoint, scheme, rng, clock, **more)
    try:
        yield made
    finally:
        made.close()
    assert made.readers == 0


def addresses(outcome: Outcome) -> list[str]:
    """The addresses of a positive outcome."""
    assert isinstance(outcome.answer, AddressPool)
    return [socket.inet_ntoa(address) for address in outcome.answer.addresses]


async def cancelled(one: LoopbackUpstream, exchange: Exchange) -> None:
    """Cancel the one query under way; it must leave no trace."""
    assert one.upstream.inflight == 1
    waiting = exchange.deferred()
    exchange.cancel()
    with pytest.raises(CancelledError):
        await waiting
    assert one.upstream.inflight == 0
    assert one.marks == 0
    assert not one.upstream.latency.measured


async def until(condition: Callable[[], bool]) -> None:
    """Let the reactor run until ``condition`` holds; AssertionError after the deadline."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        await deferLater(reactor, 0.002)


async def no_connections() -> None:
    """Wait until the last TCP connection of ours is closed."""

    def over() -> bool:
        found = [*reactor.getReaders(), *reactor.getWriters()]
        return not any(isinstance(item, Client) for item in found)

    await pause(0.001)  # an aborted connection ends in the next round of the reactor
    await until(over)


async def pause(seconds: float) -> None:
    """Let the reactor run for a while."""
    await deferLater(reactor, seconds)
