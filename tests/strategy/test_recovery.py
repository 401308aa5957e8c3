"""Lost queries, slow names, and upstreams that have recovered: nobody is given up too soon."""

from __future__ import annotations

import pytest

from staggerdns.settings.upstreams import RacingSettings
from staggerdns.strategy.run import RETRY_INTERVAL
from staggerdns.upstream.health import State
from staggerdns.wire.judge import Judge
from tests.kit.acts import (
    NOERROR,
    NXDOMAIN,
    SERVFAIL,
    SILENT,
    Act,
    fails,
    negative,
    own,
    says_own,
    unreachable,
)
from tests.kit.simulated import SimulatedResolver

HEALTHY, DEGRADED, UNHEALTHY = State
ALL = ("parallel", "racing", "sequential", "random", "auto")
SINGLE = ("racing", "sequential", "random")


def open_circuit(resolver: SimulatedResolver, index: int) -> None:
    """Open the circuit of one upstream now."""
    now = resolver.clock.seconds()
    for _ in range(5):
        resolver.upstreams[index].health.failed(now, now, alone=True)


def ask_each_second(resolver: SimulatedResolver, seconds: int) -> None:
    """Ask a new name every second."""
    begun = resolver.now
    for second in range(seconds):
        resolver.ask(resolver.question(f"n{begun + second}.example"))
        resolver.run_to(begun + (second + 1) * 1000)


# Lost queries.


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("upstreams", [1, 2, 3])
def test_a_lost_packet_is_sent_again(strategy: str, upstreams: int) -> None:
    """All queries of the first round are lost: the client has its answer two seconds later."""
    resolver = SimulatedResolver(*[SILENT] * upstreams, strategy=strategy)
    client = resolver.ask()
    resolver.run_to(900)
    resolver.script(*[says_own(index, 20) for index in range(upstreams)])
    resolver.run()
    assert client.rcode == NOERROR
    assert client.at is not None
    assert client.at <= 2020
    assert [upstream.health.state for upstream in resolver.upstreams] == [HEALTHY] * upstreams
    resolver.assert_nothing_left()


@pytest.mark.parametrize("strategy", ["parallel", "auto", "sequential", "random"])
@pytest.mark.parametrize("before", [50, 500, 950])
def test_names_asked_just_before_the_uplink_returns(strategy: str, before: int) -> None:
    """They are answered within two seconds of its return."""
    good = [says_own(index, 20 + 10 * index) for index in range(5)]
    resolver = SimulatedResolver(*[SILENT] * 5, strategy=strategy)
    client = resolver.ask()
    resolver.run_to(before)
    resolver.script(*good)
    resolver.run()
    assert client.rcode == NOERROR
    assert client.at < before + 2000


def test_again_goes_to_the_silent_in_turn() -> None:
    """Two at a time, a second apart, and to nobody who has replied."""
    resolver = SimulatedResolver(SILENT, fails(50), SILENT, SILENT)
    client = resolver.ask()
    resolver.run()
    again = [(round(at), upstream) for at, upstream in resolver.launches if at > 900]
    assert again == [(1300, 0), (1300, 2), (2300, 3), (2300, 0)]
    assert client.rcode == SERVFAIL
    resolver.assert_nothing_left()


def test_again_is_not_asked_when_somebody_has_answered() -> None:
    """A client that has its answer costs silent upstreams nothing more."""
    resolver = SimulatedResolver(says_own(0, 20), SILENT, SILENT, SILENT)
    resolver.ask()
    resolver.run()
    assert len(resolver.launches) == 4


def test_again_waits_its_second() -> None:
    """Just before a second is over nothing is sent, at it the next round."""
    resolver = SimulatedResolver(SILENT)
    resolver.ask()
    resolver.run_to(1000 * RETRY_INTERVAL - 1)
    assert len(resolver.launches) == 1
    resolver.run_to(1000 * RETRY_INTERVAL + 1)
    assert len(resolver.launches) == 2
    resolver.run()


def test_again_obeys_max_concurrent() -> None:
    """A race has no more queries under way than it may, however silent everybody is."""
    resolver = SimulatedResolver(
        *[SILENT] * 6, strategy="racing", racing=RacingSettings(max_concurrent=3)
    )
    resolver.ask()
    resolver.run_to(2900)
    assert resolver.peak == 3
    resolver.run()


def test_again_only_to_usable_ones() -> None:
    """An open circuit stays closed to further rounds, too."""
    resolver = SimulatedResolver(SILENT, SILENT)
    open_circuit(resolver, 0)
    resolver.ask()
    resolver.run()
    assert {upstream for _, upstream in resolver.launches} == {1}


# Slow names.


@pytest.mark.parametrize("strategy", ALL)
def test_a_slow_name(strategy: str) -> None:
    """800 ms, from an upstream that takes 20 ms as a rule: answered, and no mark."""
    resolver = SimulatedResolver(says_own(0, 20), strategy=strategy)
    resolver.ask(resolver.question("quick.example"))
    resolver.run()
    resolver.script(says_own(0, 800))
    for number in range(7):
        asked = resolver.now
        client = resolver.ask(resolver.question(f"slow{number}.example"))
        resolver.run()
        assert client.rcode == NOERROR
        assert round(client.at - asked) == 800
    assert resolver.upstreams[0].marks == 0


@pytest.mark.parametrize("strategy", ["sequential", "random"])
def test_a_slow_first_one_may_still_answer(strategy: str) -> None:
    """The second try is under way when the first is answered: that answer counts."""
    resolver = SimulatedResolver(says_own(0, 1200), says_own(1, 1200), strategy=strategy)
    client = resolver.ask()
    resolver.run()
    assert (client.at, len(resolver.launches)) == (1200, 2)
    assert client.addresses == [own(resolver.launches[0][1])]
    resolver.assert_nothing_left()


# Upstreams that have recovered.


@pytest.mark.parametrize("strategy", SINGLE)
@pytest.mark.parametrize("milliseconds", [5, 45, 80])
def test_a_recovered_upstream_gets_its_trial(strategy: str, milliseconds: float) -> None:
    """Faster or slower than the one that answers: it is healthy within a minute of its return."""
    resolver = SimulatedResolver(says_own(0, milliseconds), says_own(1, 40), strategy=strategy)
    open_circuit(resolver, 0)
    ask_each_second(resolver, 60)
    assert resolver.upstreams[0].health.state == HEALTHY
    resolver.run()


@pytest.mark.parametrize("strategy", SINGLE)
def test_a_degraded_upstream_heals(strategy: str) -> None:
    """It stands behind the others, where nobody would ask it: it is visited all the same."""
    resolver = SimulatedResolver(says_own(0, 80), says_own(1, 40), strategy=strategy)
    now = resolver.clock.seconds()
    for _ in range(3):
        resolver.upstreams[0].health.failed(now, now, alone=True)
    ask_each_second(resolver, 60)
    assert resolver.upstreams[0].health.state == HEALTHY
    resolver.run()


@pytest.mark.parametrize("strategy", SINGLE)
@pytest.mark.parametrize("act", [SILENT, unreachable(1), fails(5)])
def test_a_dead_upstream_is_visited_rarely(strategy: str, act: Act) -> None:
    """Half an hour, a name a second: trials at 30 s, 60 s and so on, and nobody waits for them."""
    resolver = SimulatedResolver(act, says_own(1, 40), strategy=strategy)
    open_circuit(resolver, 0)
    clients = []
    for second in range(1800):
        clients.append((resolver.now, resolver.ask(resolver.question(f"n{second}.example"))))
        resolver.run_to((second + 1) * 1000)
    visits = sum(upstream == 0 for _, upstream in resolver.launches)
    assert 4 <= visits <= 8
    assert all(client.at - asked < 41 for asked, client in clients)
    resolver.run()


@pytest.mark.parametrize("strategy", SINGLE)
def test_visits_change_no_answer(strategy: str) -> None:
    """What a visited upstream says joins nobody's answer, not even a denial."""
    resolver = SimulatedResolver(says_own(0, 80), negative(40), strategy=strategy)
    open_circuit(resolver, 0)
    resolver.run_to(31_000)
    question = resolver.question()
    client = resolver.ask(question)
    resolver.run()
    assert client.rcode == NXDOMAIN
    assert resolver.pool(question) == []
    assert resolver.upstreams[0].health.state == DEGRADED


@pytest.mark.parametrize("strategy", ALL)
def test_all_are_tried_although_a_trial_is_due(strategy: str) -> None:
    """Every circuit is open and one has its trial, in vain: the others are asked as well."""
    resolver = SimulatedResolver(SILENT, says_own(1, 20), says_own(2, 20), strategy=strategy)
    open_circuit(resolver, 0)
    resolver.run_to(25_000)
    open_circuit(resolver, 1)
    open_circuit(resolver, 2)
    resolver.run_to(31_000)
    client = resolver.ask()
    resolver.run()
    assert client.rcode == NOERROR
    assert {1, 2} & {upstream for _, upstream in resolver.launches}


def test_auto_counts_all_when_none_is_usable() -> None:
    """A single trial that is due does not make `auto` ask one at a time."""
    resolver = SimulatedResolver(*[says_own(index, 20) for index in range(4)], strategy="auto")
    for index in range(4):
        open_circuit(resolver, index)
        resolver.run_to(resolver.now + 10_000)
    judge = Judge(resolver.question())
    run = resolver.strategies.chosen.ask(judge, resolver.forwarder)  # type: ignore[arg-type]
    assert run.strategy == "parallel"


def test_a_negative_in_hand_at_the_end() -> None:
    """A denial that comes in the last moment is given, not SERVFAIL."""
    resolver = SimulatedResolver(negative(2990), SILENT)
    client = resolver.ask()
    resolver.run()
    assert (client.rcode, round(client.at)) == (NXDOMAIN, 3000)


@pytest.mark.parametrize("strategy", ALL)
def test_concurrency_is_shown_for_every_strategy(strategy: str) -> None:
    """The most queries of one name that started together: two for `parallel`, one for one at a
    time, and what a race launches after its delay.
    """
    resolver = SimulatedResolver(*[SILENT] * 5, strategy=strategy)
    resolver.ask()
    resolver.run_to(600)
    shown = resolver.adaptive.launches_window.at(resolver.clock.seconds())
    assert shown == {"parallel": 2, "auto": 2, "racing": 3}.get(strategy, 1)
    resolver.run()
