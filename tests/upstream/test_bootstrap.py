"""Host names of upstreams: looked up when needed, refreshed by TTL, never a reason to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
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


class Office:
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
def office() -> Iterator[Office]:
    """Two resolvers that know both kinds of address."""
    made = Office(DUAL, DUAL)
    yield made
    made.bootstrap.close()
    assert [call for call in made.clock.getDelayedCalls() if call.active()] == []


def test_nobody_is_asked_before_it_is_needed(office: Office) -> None:
    """A name costs nothing until somebody connects, and one lookup for all who do then."""
    office.run(100)
    assert office.launches == []
    office.want()
    office.want()
    assert len(office.launches) == 4
    office.run(20)
    assert office.found == [[V6, V4]] * 2
    assert office.count("found") == 1


def test_fresh_addresses_are_there_at_once(office: Office) -> None:
    """Until the TTL is over nobody is asked again."""
    office.want()
    office.run(20)
    office.clock.advance(299)
    office.want()
    assert (len(office.found), len(office.launches)) == (2, 4)


def test_refreshed_by_ttl(office: Office) -> None:
    """After the TTL the name is looked up anew, and the new addresses count."""
    office.want()
    office.run(20)
    office.script(both(says(20, "192.0.2.7"), says(20, "2001:db8::7")))
    office.clock.advance(300)
    office.want()
    assert len(office.found) == 1
    office.run(20)
    assert office.found[1] == ["2001:db8::7", "192.0.2.7"]


def test_shortest_ttl() -> None:
    """A TTL of nothing does not mean a lookup for each connection."""
    office = Office(both(says(1, V4, ttl=0), says(1, V6, ttl=300)))
    office.want()
    office.run(1)
    office.clock.advance(SHORTEST_TTL - 0.1)
    office.want()
    assert len(office.launches) == 2
    office.clock.advance(0.1)
    office.want()
    assert len(office.launches) == 4
    office.bootstrap.close()


def test_last_good_addresses_are_kept(office: Office) -> None:
    """When all resolvers are dead, old addresses do, after `PATIENCE` at most."""
    office.want()
    office.run(20)
    office.script(SILENT)
    office.clock.advance(300)
    office.want()
    office.run(PATIENCE * 1000 - 1)
    assert len(office.found) == 1
    office.run(1)
    assert office.found[1] == [V6, V4]
    office.run(TIMEOUT * 1000)
    assert office.count("failed") == 1
    office.want()  # and at once, until the next attempt is due
    assert office.found[2] == [V6, V4]


def test_dead_resolvers(office: Office) -> None:
    """Somebody who needs an address that nobody knows hears so after `TIMEOUT`, later at once."""
    office.script(SILENT)
    with capturedLogs() as events:
        office.want()
        office.run(TIMEOUT * 1000 - 1)
        assert office.found == []
        office.run(1)
        assert office.found == [[]]
        office.want()
        assert (office.found, len(office.launches)) == ([[], []], 4)
        office.clock.advance(FIRST_RETRY)
        office.want()
        assert len(office.launches) == 8
        office.run(TIMEOUT * 1000)
    assert office.count("failed") == 2
    warned = [event for event in events if "no address" in formatEvent(event)]
    assert [event["log_level"] for event in warned] == [LogLevel.warn]


def test_failing_resolvers_are_not_to_blame(office: Office) -> None:
    """A trial query that resolvers fail says nothing of them: they may be tried again."""
    office.script(fails(1))
    for resolver in office.resolvers:
        resolver.open_circuit()
    office.clock.advance(100)
    office.want()
    office.run(5)
    assert office.count("failed") == 1
    assert all(resolver.usable(office.clock.seconds()) for resolver in office.resolvers)


def test_refused_by_all(office: Office) -> None:
    """Nobody waits for long, but longer than for the ICMP error, which may be forged."""
    office.script(refuses(5))
    office.want()
    office.run(5 + 1000 * REFUSED_WAIT - 1)
    assert office.found == []
    office.run(2)
    assert office.found == [[]]
    assert office.count("failed") == 1
    assert [resolver.marks for resolver in office.resolvers] == [2, 2], "of A and AAAA"


def test_refused_by_one(office: Office) -> None:
    """The other is waited for as long as ever; what the refused one says all the same counts."""
    office.resolvers[0].script.act = refuses(5)
    office.resolvers[1].script.act = both(says(500, V4), says(500, V6))
    office.want()
    office.run(501)
    assert office.found == [[V6, V4]]
    office.bootstrap.close()
    other = Office(refuses(5, says(60, V4)))
    other.want()
    other.run(62 + 1000 * RESOLUTION_DELAY)
    assert other.found == [[V4]]
    other.bootstrap.close()


def test_retries_come_further_apart(office: Office) -> None:
    """The time between two lookups that fail doubles up to `LONGEST_RETRY`."""
    office.script(fails(0))
    gaps = []
    for _ in range(9):
        office.want()
        office.run(1)
        waited = 0.0
        asked = len(office.launches)
        while len(office.launches) == asked:
            office.clock.advance(0.25)
            waited += 0.25
            office.want()
        gaps.append(waited)
        office.run(1)
    assert gaps[:4] == [0.5, 1.0, 2.0, 4.0]
    assert gaps[-1] == LONGEST_RETRY


def test_one_good_resolver_is_enough() -> None:
    """What one does not know, or does not say, another does."""
    office = Office(fails(1), SILENT, negative(1), DUAL)
    office.want()
    office.run(20)
    assert office.found == [[V6, V4]]
    office.bootstrap.close()


def test_ipv4_does_not_wait_for_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without AAAA a connection begins `RESOLUTION_DELAY` after A; AAAA joins when it comes."""
    office = Office(DUAL)
    script = office.resolvers[0].script
    send = script.send

    def by_type(exchange: Exchange) -> None:
        script.act = says(200, V6) if exchange.question.qtype == AAAA else says(20, V4)
        send(exchange)

    monkeypatch.setattr(script, "send", by_type)
    office.want()
    office.run(20 + RESOLUTION_DELAY * 1000 - 1)
    assert office.found == []
    office.run(3)
    assert office.found == [[V4]]
    office.want()
    assert office.found == [[V4]] * 2
    office.run(200)
    office.want()
    assert office.found[2] == [V6, V4]
    office.bootstrap.close()


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
    office = Office(act)
    office.want()
    office.run(5)
    assert office.found == [expected]
    office.bootstrap.close()


def test_addresses_are_bounded() -> None:
    """Of an endless answer `MAX_ADDRESSES` of each family are kept."""
    many = [f"192.0.2.{number}" for number in range(MAX_ADDRESSES + 1)]
    office = Office(both(says(1, *many), negative(1)))
    office.want()
    office.run(5)
    assert office.found == [many[:MAX_ADDRESSES]]
    office.bootstrap.close()


def test_an_address_family_that_is_gone(office: Office) -> None:
    """What is denied is dropped, what could not be learnt is kept."""
    office.want()
    office.run(20)
    office.script(both(says(1, V4), negative(1)))
    office.clock.advance(300)
    office.want()
    office.run(5)
    assert office.found[-1] == [V4]
    office.script(both(fails(1), says(1, V6)))
    office.clock.advance(300)
    office.want()
    office.run(5)
    assert office.found[-1] == [V6, V4]


def test_names_are_apart(office: Office) -> None:
    """Each name has its own lookup."""
    office.want("a.example")
    office.want("b.example")
    office.run(20)
    assert len(office.found) == 2
    assert {str(question) for question in office.questions()} == {
        "a.example. A", "a.example. AAAA", "b.example. A", "b.example. AAAA",
    }  # fmt: skip


def test_cancelled(office: Office) -> None:
    """Who no longer waits is not told."""
    waiting = office.bootstrap.resolve("dns.example")
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    office.run(20)
    office.want()
    assert office.found == [[V6, V4]]
