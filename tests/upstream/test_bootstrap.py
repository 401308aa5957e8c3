"""Host names of upstreams: looked up when needed, refreshed by TTL, never a reason to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.upstream import bootstrap as bootstrap_module
from staggerdns.upstream.bootstrap import (
    FIRST_RETRY,
    LONGEST_RETRY,
    MAX_ADDRESSES,
    PATIENCE,
    RESOLUTION_DELAY,
    SHORTEST_TTL,
    TIMEOUT,
    Bootstrap,
)
from staggerdns.upstream.refusals import REFUSED_WAIT
from tests.kit.acts import AAAA, SILENT, Act, fails, negative, refuses, says
from tests.kit.simulated import START, Launch, SimulatedUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from staggerdns.upstream.exchange import Exchange
    from staggerdns.wire.question import Question

V4, V6 = "192.0.2.1", "2001:db8::1"


def both(four: Act, six: Act) -> Act:
    """Do one thing for A and another for AAAA, after the delay of the former."""
    first, second = four.reply, six.reply
    assert first is not None
    assert second is not None
    return Act(four.after, lambda asked: (second if asked.qtype == AAAA else first)(asked))


DUAL = both(says(20, V4), says(20, V6))


class SimulatedBootstrap:
    """A bootstrap whose resolvers follow a script."""

    def __init__(self, *acts: Act) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.metrics = Metrics()
        self.launches: list[Launch] = []
        self.resolvers = [
            SimulatedUpstream(index, act, self.clock, self.launches, Metrics())
            for index, act in enumerate(acts)
        ]
        self.bootstrap = Bootstrap(self.resolvers, self.clock, self.metrics, Journal())
        self.found: list[Sequence[str]] = []

    def want(self, name: str = "dns.example") -> None:
        """Want the addresses; they come to ``found``."""
        self.bootstrap.resolve(name).addCallback(self.found.append)

    def run(self, milliseconds: float) -> None:
        """Let time pass, a millisecond at a time."""
        for _ in range(round(milliseconds)):
            self.clock.advance(0.001)
        self.clock.advance(0.000_001)  # sums of floats come short

    def questions(self) -> list[Question]:
        """What the first resolver was asked."""
        return self.resolvers[0].script.questions

    def script(self, act: Act) -> None:
        """Change what all resolvers do."""
        for resolver in self.resolvers:
            resolver.script.act = act

    def count(self, outcome: str) -> int:
        """Lookups that ended so."""
        return self.metrics.bootstrap_lookups.cell(outcome).value


@pytest.fixture
def simulated() -> Iterator[SimulatedBootstrap]:
    """Two resolvers that know both kinds of address."""
    made = SimulatedBootstrap(DUAL, DUAL)
    yield made
    made.bootstrap.close()
    assert [call for call in made.clock.getDelayedCalls() if call.active()] == []


def test_nobody_is_asked_before_it_is_needed(simulated: SimulatedBootstrap) -> None:
    """A name costs nothing until somebody connects, and one lookup for all who do then."""
    simulated.run(100)
    assert simulated.launches == []
    simulated.want()
    simulated.want()
    assert len(simulated.launches) == 4
    simulated.run(20)
    assert simulated.found == [[V6, V4]] * 2
    assert simulated.count("found") == 1


def test_fresh_addresses_are_there_at_once(simulated: SimulatedBootstrap) -> None:
    """Until the TTL is over nobody is asked again."""
    simulated.want()
    simulated.run(20)
    simulated.clock.advance(299)
    simulated.want()
    assert (len(simulated.found), len(simulated.launches)) == (2, 4)


def test_refreshed_by_ttl(simulated: SimulatedBootstrap) -> None:
    """After the TTL the name is looked up anew, and the new addresses count."""
    simulated.want()
    simulated.run(20)
    simulated.script(both(says(20, "192.0.2.7"), says(20, "2001:db8::7")))
    simulated.clock.advance(300)
    simulated.want()
    assert len(simulated.found) == 1
    simulated.run(20)
    assert simulated.found[1] == ["2001:db8::7", "192.0.2.7"]


def test_shortest_ttl() -> None:
    """A TTL of nothing does not mean a lookup for each connection."""
    simulated = SimulatedBootstrap(both(says(1, V4, ttl=0), says(1, V6, ttl=300)))
    simulated.want()
    simulated.run(1)
    simulated.clock.advance(SHORTEST_TTL - 0.1)
    simulated.want()
    assert len(simulated.launches) == 2
    simulated.clock.advance(0.1)
    simulated.want()
    assert len(simulated.launches) == 4
    simulated.bootstrap.close()


def test_last_good_addresses_are_kept(simulated: SimulatedBootstrap) -> None:
    """When all resolvers are dead, old addresses do, after `PATIENCE` at most."""
    simulated.want()
    simulated.run(20)
    simulated.script(SILENT)
    simulated.clock.advance(300)
    simulated.want()
    simulated.run(PATIENCE * 1000 - 1)
    assert len(simulated.found) == 1
    simulated.run(1)
    assert simulated.found[1] == [V6, V4]
    simulated.run(TIMEOUT * 1000)
    assert simulated.count("failed") == 1
    simulated.want()  # and at once, until the next attempt is due
    assert simulated.found[2] == [V6, V4]


def test_dead_resolvers(simulated: SimulatedBootstrap) -> None:
    """Somebody who needs an address that nobody knows hears so after `TIMEOUT`, later at once."""
    simulated.script(SILENT)
    with capturedLogs() as events:
        simulated.want()
        simulated.run(TIMEOUT * 1000 - 1)
        assert simulated.found == []
        simulated.run(1)
        assert simulated.found == [[]]
        simulated.want()
        assert (simulated.found, len(simulated.launches)) == ([[], []], 4)
        simulated.clock.advance(FIRST_RETRY)
        simulated.want()
        assert len(simulated.launches) == 8
        simulated.run(TIMEOUT * 1000)
    assert simulated.count("failed") == 2
    warned = [event for event in events if "no address" in formatEvent(event)]
    assert [event["log_level"] for event in warned] == [LogLevel.warn]


def test_failing_resolvers_are_not_to_blame(simulated: SimulatedBootstrap) -> None:
    """A trial query that resolvers fail says nothing of them: they may be tried again."""
    simulated.script(fails(1))
    for resolver in simulated.resolvers:
        resolver.open_circuit()
    simulated.clock.advance(100)
    simulated.want()
    simulated.run(5)
    assert simulated.count("failed") == 1
    assert all(resolver.usable(simulated.clock.seconds()) for resolver in simulated.resolvers)


def test_refused_by_all(simulated: SimulatedBootstrap) -> None:
    """Nobody waits for long, but longer than for the ICMP error, which may be forged."""
    simulated.script(refuses(5))
    simulated.want()
    simulated.run(5 + 1000 * REFUSED_WAIT - 1)
    assert simulated.found == []
    simulated.run(2)
    assert simulated.found == [[]]
    assert simulated.count("failed") == 1
    assert [resolver.marks for resolver in simulated.resolvers] == [2, 2], "of A and AAAA"


def test_refused_by_one(simulated: SimulatedBootstrap) -> None:
    """The other is waited for as long as ever; what the refused one says all the same counts."""
    simulated.resolvers[0].script.act = refuses(5)
    simulated.resolvers[1].script.act = both(says(500, V4), says(500, V6))
    simulated.want()
    simulated.run(501)
    assert simulated.found == [[V6, V4]]
    simulated.bootstrap.close()
    other = SimulatedBootstrap(refuses(5, says(60, V4)))
    other.want()
    other.run(62 + 1000 * RESOLUTION_DELAY)
    assert other.found == [[V4]]
    other.bootstrap.close()


def test_retries_come_further_apart(simulated: SimulatedBootstrap) -> None:
    """The time between two lookups that fail doubles up to `LONGEST_RETRY`."""
    simulated.script(fails(0))
    gaps = []
    for _ in range(9):
        simulated.want()
        simulated.run(1)
        waited = 0.0
        asked = len(simulated.launches)
        while len(simulated.launches) == asked:
            simulated.clock.advance(0.25)
            waited += 0.25
            simulated.want()
        gaps.append(waited)
        simulated.run(1)
    assert gaps[:4] == [0.5, 1.0, 2.0, 4.0]
    assert gaps[-1] == LONGEST_RETRY


def test_one_good_resolver_is_enough() -> None:
    """What one does not know, or does not say, another does."""
    simulated = SimulatedBootstrap(fails(1), SILENT, negative(1), DUAL)
    simulated.want()
    simulated.run(20)
    assert simulated.found == [[V6, V4]]
    simulated.bootstrap.close()


def test_ipv4_does_not_wait_for_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without AAAA a connection begins `RESOLUTION_DELAY` after A; AAAA joins when it comes."""
    simulated = SimulatedBootstrap(DUAL)
    script = simulated.resolvers[0].script
    send = script.send

    def by_type(exchange: Exchange) -> None:
        script.act = says(200, V6) if exchange.question.qtype == AAAA else says(20, V4)
        send(exchange)

    monkeypatch.setattr(script, "send", by_type)
    simulated.want()
    simulated.run(20 + RESOLUTION_DELAY * 1000 - 1)
    assert simulated.found == []
    simulated.run(3)
    assert simulated.found == [[V4]]
    simulated.want()
    assert simulated.found == [[V4]] * 2
    simulated.run(200)
    simulated.want()
    assert simulated.found[2] == [V6, V4]
    simulated.bootstrap.close()


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (both(says(1, V4), negative(1)), [V4]),
        (both(negative(1), says(1, V6)), [V6]),
        (negative(1), []),
        (both(says(1, "0.0.0.0"), says(1, "::")), []),
        (both(says(1, "224.0.0.1", V4), says(1, "ff02::1", V6)), [V6, V4]),
        (both(says(1, "192.0.2.1", "192.0.2.2"), says(1, V6)), [V6, V4, "192.0.2.2"]),
        (both(says(1, "127.0.0.1"), says(1, "::1")), ["::1", "127.0.0.1"]),
    ],
)
def test_what_is_found(act: Act, expected: list[str]) -> None:
    """IPv6 and IPv4 in turn; addresses that are nobody's, as blocklists give them, are left out."""
    simulated = SimulatedBootstrap(act)
    simulated.want()
    simulated.run(5)
    assert simulated.found == [expected]
    simulated.bootstrap.close()


def test_addresses_are_bounded() -> None:
    """Of an endless answer `MAX_ADDRESSES` of each family are kept."""
    many = [f"192.0.2.{number}" for number in range(MAX_ADDRESSES + 1)]
    simulated = SimulatedBootstrap(both(says(1, *many), negative(1)))
    simulated.want()
    simulated.run(5)
    assert simulated.found == [many[:MAX_ADDRESSES]]
    simulated.bootstrap.close()


def test_an_address_family_that_is_gone(simulated: SimulatedBootstrap) -> None:
    """What is denied is dropped, what could not be learnt is kept."""
    simulated.want()
    simulated.run(20)
    simulated.script(both(says(1, V4), negative(1)))
    simulated.clock.advance(300)
    simulated.want()
    simulated.run(5)
    assert simulated.found[-1] == [V4]
    simulated.script(both(fails(1), says(1, V6)))
    simulated.clock.advance(300)
    simulated.want()
    simulated.run(5)
    assert simulated.found[-1] == [V6, V4]


def test_names_are_apart(simulated: SimulatedBootstrap) -> None:
    """Each name has its own lookup."""
    simulated.want("a.example")
    simulated.want("b.example")
    simulated.run(20)
    assert len(simulated.found) == 2
    assert {str(question) for question in simulated.questions()} == {
        "a.example. A", "a.example. AAAA", "b.example. A", "b.example. AAAA",
    }  # fmt: skip


def test_cancelled(simulated: SimulatedBootstrap) -> None:
    """Who no longer waits is not told."""
    waiting = simulated.bootstrap.resolve("dns.example")
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    simulated.run(20)
    simulated.want()
    assert simulated.found == [[V6, V4]]


def test_names_are_bounded(monkeypatch: pytest.MonkeyPatch, simulated: SimulatedBootstrap) -> None:
    """For one more than there may be the first is forgotten, but not while it is looked up."""
    monkeypatch.setattr(bootstrap_module, "MAX_HOSTS", 2)
    for name in ("a.example", "b.example"):
        simulated.want(name)
        simulated.run(20)
    simulated.want("a.example")
    assert len(simulated.found) == 3
    simulated.want("c.example")
    simulated.run(20)
    simulated.want("a.example")
    assert len(simulated.found) == 4, "it has to be looked up anew"
    simulated.want("d.example")
    simulated.run(20)
    assert len(simulated.found) == 6
