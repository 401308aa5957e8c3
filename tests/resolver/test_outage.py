"""Every upstream dead for an hour: stale answers meanwhile, and good ones soon after the end."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from staggerdns.resolver.freshness import FAILURE_TTL
from staggerdns.settings.sections import CacheSettings
from staggerdns.upstream.health import State
from staggerdns.upstream.reason import Reason
from staggerdns.wire.answer import FailureAnswer
from tests.kit.acts import SILENT, Act, fails, own, says_own, unreachable
from tests.kit.simulated import Client, SimulatedResolver

HOUR = 3_600_000.0
STEP = 20_000.0
"""Milliseconds between two questions of the hour: far less than a circuit stays open at its end."""
TO_THE_LONGEST_REST = 1_800_000.0
"""Milliseconds of an outage behind which circuits stay open for as long as they ever do."""
RECOVERY = 2_000.0
"""Milliseconds after the return of the upstreams by which names are answered again."""
DEATHS = {
    "silent": SILENT,
    "refused": unreachable(1),
    "no route": unreachable(None, Reason.UNREACHABLE),
    "servfail": fails(5),
}
STRATEGIES = ("parallel", "racing", "sequential", "random", "auto")
GOOD = [says_own(index, 20 + index) for index in range(5)]


def outage(
    resolver: SimulatedResolver, deaths: Sequence[Act], length: float = HOUR
) -> list[Client]:
    """Let the upstreams die for an hour, in which clients go on asking; those who asked for
    names that nobody knows.
    """
    resolver.script(*deaths)
    end = resolver.now + length
    strangers: list[Client] = []
    while resolver.now < end:
        resolver.ask()
        strangers.append(resolver.ask(resolver.question(f"n{len(strangers)}.example")))
        resolver.run_to(min(resolver.now + STEP, end))
    return strangers


def is_good(client: Client) -> bool:
    """Whether a client has got an answer."""
    return bool(client.answers) and not isinstance(client.entry.answer, FailureAnswer)


@pytest.mark.parametrize("death", DEATHS.values(), ids=DEATHS)
def test_stale_answers_for_an_hour(death: Act) -> None:
    """What was known is answered at once all the hour, as stale from its TTL on; what was not
    gets SERVFAIL.
    """
    resolver = SimulatedResolver(*GOOD)
    resolver.ask()
    resolver.run()
    began = resolver.now
    resolver.script(*[death] * 5)
    while resolver.now < began + HOUR:
        client = resolver.ask()
        assert client.at == resolver.now
        assert sorted(client.addresses) == sorted(map(own, range(5)))
        age = resolver.now - began
        if age < 290_000:
            assert not resolver.cache.freshness.is_stale(client.entry, resolver.clock.seconds())
        elif age > 300_000:
            assert resolver.cache.freshness.is_stale(client.entry, resolver.clock.seconds())
            assert resolver.cache.reply_ttl(client.entry, resolver.clock.seconds()) == 5
        stranger = resolver.ask(resolver.question(f"n{resolver.now}.example"))
        resolver.run_to(resolver.now + STEP)
        assert isinstance(stranger.entry.answer, FailureAnswer)
    resolver.run()
    resolver.assert_nothing_left()


def test_the_end_of_stale() -> None:
    """When the outage outlasts `max_stale` there is nothing more to give."""
    resolver = SimulatedResolver(*GOOD, cache=CacheSettings(max_stale=1800))
    resolver.ask()
    resolver.run()
    outage(resolver, [SILENT] * 5)
    client = resolver.ask()
    resolver.run()
    assert isinstance(client.entry.answer, FailureAnswer)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("death", DEATHS.values(), ids=DEATHS)
@pytest.mark.parametrize("returning", [5, 1])
def test_recovery(death: Act, strategy: str, returning: int) -> None:
    """Within `RECOVERY` of their return, or of one of them, a name never asked before is
    answered, and so is another after all that; who answers is found healthy.
    """
    resolver = SimulatedResolver(*GOOD, strategy=strategy, rng=random.Random(1).randbytes)
    resolver.ask()
    resolver.run()
    outage(resolver, [death] * 5)
    resolver.script(*[death] * (5 - returning), *GOOD[5 - returning :])
    back = resolver.now
    clients: list[Client] = []
    while resolver.now < back + 2 * RECOVERY:
        clients.append(resolver.ask(resolver.question(f"back{len(clients)}.example")))
        resolver.run_to(resolver.now + 100)
    resolver.run()
    in_time = [client for client in clients if is_good(client) and client.at <= back + RECOVERY]
    assert in_time
    late = resolver.ask(resolver.question("late.example"))
    resolver.run()
    assert is_good(late)
    assert State.HEALTHY in {upstream.health.state for upstream in resolver.upstreams}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("death", DEATHS.values(), ids=DEATHS)
def test_what_was_known_is_fresh_again(death: Act, strategy: str) -> None:
    """Who asks for a name that is known has a fresh answer within `RECOVERY`, too."""
    resolver = SimulatedResolver(*GOOD, strategy=strategy)
    resolver.ask()
    resolver.run()
    outage(resolver, [death] * 5)
    resolver.script(*GOOD)
    assert resolver.cache.freshness.is_stale(resolver.ask().entry, resolver.clock.seconds())
    resolver.run_to(resolver.now + RECOVERY)
    assert not resolver.cache.freshness.is_stale(resolver.ask().entry, resolver.clock.seconds())
    resolver.run()


@pytest.mark.parametrize("strategy", ["parallel", "auto"])
@pytest.mark.parametrize("before", [0, 500, 1000, 1500, 2000, 2500, 2900])
def test_a_name_under_way_at_the_return(strategy: str, before: float) -> None:
    """Who goes on asking for a name that went to all of them in vain just before they returned
    is answered within `RECOVERY`, too.
    """
    resolver = SimulatedResolver(*GOOD, strategy=strategy)
    outage(resolver, [SILENT] * 5, TO_THE_LONGEST_REST)
    lost = resolver.question("lost.example")
    resolver.ask(lost)
    resolver.run_to(resolver.now + before)
    resolver.script(*GOOD)
    back = resolver.now
    clients: list[Client] = []
    while resolver.now < back + RECOVERY:
        clients.append(resolver.ask(lost))
        resolver.run_to(resolver.now + 100)
    assert any(is_good(client) and client.at <= back + RECOVERY for client in clients)
    resolver.run()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("before", [0, 500, 1000, 2900])
def test_a_name_under_way_at_the_end(strategy: str, before: float) -> None:
    """With any strategy such a question ends with its collection at the latest; whoever asks
    again then is answered.
    """
    resolver = SimulatedResolver(*GOOD, strategy=strategy)
    outage(resolver, [SILENT] * 5, TO_THE_LONGEST_REST)
    lost = resolver.question("lost.example")
    resolver.ask(lost)
    resolver.run_to(resolver.now + before)
    resolver.script(*GOOD)
    resolver.run_to(resolver.now + 6000 - before + 1000 * FAILURE_TTL)
    client = resolver.ask(lost)
    resolver.run()
    assert is_good(client)
