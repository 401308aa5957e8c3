"""Measuring: joining, concurrency, budget, whose sample comes first (docs/specification.rst,
Measuring).
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.ranking.budget import BURST
from staggerdns.ranking.measure import GROUP_INTERVAL, MAX_WAITING
from staggerdns.ranking.waiting import FIRST, FURTHER, IN_DEMAND
from tests.kit.compiled import PURE_ONLY
from tests.kit.probing import NotedAsker, Script, SimulatedRanking, address, silent, written

ONE, OTHER = address(10), address(20)


def test_no_way_of_probing() -> None:
    """Without any way the asker is told at once, and nothing is said of the address."""
    ranking = SimulatedRanking(names=[])
    asker = NotedAsker(ranking)
    asker.ask(ONE)
    assert asker.at == {ONE: 0}
    assert ranking.table.cost(ONE) is None
    assert not ranking.measurer.usable(ONE)


def test_one_sample_of_an_address() -> None:
    """Whoever asks meanwhile joins, and all are told at the same time."""
    ranking = SimulatedRanking()
    askers = []
    for at in (0, 0.003, 0.009):
        ranking.at(at)
        askers.append(NotedAsker(ranking))
        askers[-1].ask(ONE)
    ranking.at(30)
    assert [asker.at for asker in askers] == [{ONE: 0.010}] * 3
    assert len(ranking.sent) == 1


def test_one_asker_leaves() -> None:
    """Who goes away is told nothing, and disturbs nobody."""
    ranking = SimulatedRanking()
    first, second = NotedAsker(ranking), NotedAsker(ranking)
    first.ask(ONE)
    second.ask(ONE)
    ranking.at(0.005)
    first.leave(ONE)
    ranking.at(30)
    assert (first.at, second.at) == ({}, {ONE: 0.010})
    ranking.assert_nothing_left()


def test_all_leave_while_it_is_under_way() -> None:
    """What has begun goes on: the next sort finds the round-trip time in the table."""
    ranking = SimulatedRanking(silent, written, names=["icmp", "tcp:443"])
    asker = NotedAsker(ranking)
    asker.ask(ONE)
    ranking.at(0.005)
    asker.leave(ONE)
    ranking.at(30)
    assert asker.at == {}
    assert ranking.table.fresh(ONE, ranking.clock.seconds())
    ranking.assert_nothing_left()


@pytest.mark.parametrize("limit", ["concurrency", "max_probes_per_second"])
def test_all_leave_before_it_begins(limit: str) -> None:
    """What waits for its turn and is wanted no more is not sampled."""
    changes: dict[str, Any] = {limit: 1}
    ranking = SimulatedRanking(**changes)
    asker, other = NotedAsker(ranking), NotedAsker(ranking)
    asker.ask(ONE)
    other.ask(OTHER)
    other.leave(OTHER)
    other.leave(OTHER)
    ranking.at(30)
    assert [sample.address for sample in ranking.sent] == [ONE]
    ranking.assert_nothing_left()


def test_leave_and_come_back() -> None:
    """An address that was deserted in the waiting list can be asked for again."""
    ranking = SimulatedRanking(concurrency=1)
    asker = NotedAsker(ranking)
    asker.ask(ONE)
    asker.ask(OTHER)
    asker.leave(OTHER)
    asker.ask(OTHER)
    ranking.at(30)
    assert asker.at == {ONE: 0.010, OTHER: 0.030}
    ranking.assert_nothing_left()


@pytest.mark.parametrize("concurrency", [1, 2, 5])
def test_concurrency(concurrency: int) -> None:
    """So many addresses at once, one more waits for the first that ends; in order of asking."""
    ranking = SimulatedRanking(concurrency=concurrency)
    asker = NotedAsker(ranking)
    addresses = [address(10 + number) for number in range(concurrency + 1)]
    for one in addresses:
        asker.ask(one)
    assert ranking.measurer.running == concurrency
    ranking.at(0.0099)
    assert [sample.address for sample in ranking.sent] == addresses[:-1]
    ranking.at(0.0101)
    assert [sample.address for sample in ranking.sent] == addresses
    ranking.at(30)
    ranking.assert_nothing_left()


def test_repetitions_need_no_place() -> None:
    """With all places taken, those who have them go on."""
    ranking = SimulatedRanking(silent, names=["icmp"], concurrency=1)
    asker = NotedAsker(ranking)
    asker.ask(ONE)
    asker.ask(OTHER)
    ranking.at(30)
    assert [sample.address for sample in ranking.sent] == [ONE] * 3 + [OTHER] * 3
    assert asker.at == {ONE: 1.5, OTHER: 3.0}


def test_gauge_of_addresses() -> None:
    """The gauge shows the addresses that are measured and those that wait."""
    ranking = SimulatedRanking(concurrency=1)
    gauge = ranking.metrics.addresses_measured
    asker = NotedAsker(ranking)
    asker.ask(ONE)
    asker.ask(OTHER)
    for at, count in ((0.009, 2), (0.011, 1), (30, 0)):
        ranking.at(at)
        assert gauge.collect().samples[0].value == count


# Whose turn it is.


def order_of_sending(ranking: SimulatedRanking) -> list[int]:
    """Which addresses were sampled, by their last octets."""
    ranking.at(ranking.now + 60)
    ranking.assert_nothing_left()
    return [sample.address[-1] for sample in ranking.sent]


def test_urgency() -> None:
    """In demand, then first samples, then further ones, whatever the order of asking."""
    ranking = SimulatedRanking(max_probes_per_second=1)
    asker = NotedAsker(ranking)
    for number, urgency in ((1, FIRST), (2, FURTHER), (3, FIRST), (4, IN_DEMAND)):
        asker.ask(address(number), urgency)
    assert order_of_sending(ranking) == [1, 4, 3, 2]


def test_demand_while_it_waits() -> None:
    """An address that comes into demand goes before those that nobody asks for."""
    ranking = SimulatedRanking(max_probes_per_second=1)
    asker = NotedAsker(ranking)
    for number in range(1, 5):
        asker.ask(address(number))
    for _ in range(100):
        ranking.measurer.demand(address(4))
    ranking.measurer.demand(address(9))
    assert order_of_sending(ranking) == [1, 4, 2, 3]


def test_demand_of_somebody_else() -> None:
    """An address that another name asks for more urgently is sampled sooner, once."""
    ranking = SimulatedRanking(max_probes_per_second=1)
    patient, urgent = NotedAsker(ranking), NotedAsker(ranking)
    for number in range(1, 5):
        patient.ask(address(number))
    urgent.ask(address(4), IN_DEMAND)
    patient.ask(address(4))
    assert order_of_sending(ranking) == [1, 4, 2, 3]
    assert urgent.at[address(4)] == patient.at[address(4)]


def test_groups() -> None:
    """While the budget is short echoes go in groups, as many in all."""
    ranking = SimulatedRanking(max_probes_per_second=500, concurrency=1000)
    asker = NotedAsker(ranking)
    for number in range(1000):
        asker.ask(number.to_bytes(2, "big") + bytes(1) + bytes([1 + number % 100]))
    ranking.at(1)
    at_once, *times = sorted(set(ranking.probes[0].times))
    assert at_once == 0
    assert len(ranking.sent) == pytest.approx(500 * (1 + BURST), abs=500 * GROUP_INTERVAL)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) >= GROUP_INTERVAL - 1e-5
    assert max(gaps) <= GROUP_INTERVAL + 1 / 500
    ranking.measurer.close()
    ranking.assert_nothing_left()


def test_demand_for_what_is_under_way() -> None:
    """It has its place; nothing is sent twice."""
    ranking = SimulatedRanking(silent, names=["icmp"])
    NotedAsker(ranking).ask(ONE)
    ranking.at(0.1)
    ranking.measurer.demand(ONE)
    assert order_of_sending(ranking) == [10] * 3


def test_nobody_starves() -> None:
    """However much is in demand, the others get their share and none waits for ever."""
    ranking = SimulatedRanking(max_probes_per_second=10)
    asker, crowd = NotedAsker(ranking), NotedAsker(ranking)
    asker.ask(address(250), FURTHER)
    for number in range(5):
        asker.ask(address(200 + number))
    for step in range(100):
        for number in range(2):  # twice as many as may be sent
            crowd.ask((2 * step + number).to_bytes(4, "big"), IN_DEMAND)
        ranking.at((step + 1) / 10)
    assert len(asker.at) == 6
    assert max(asker.at.values()) < 4


# The budget.


def assert_within_budget(ranking: SimulatedRanking, rate: float) -> None:
    """Assert that what was really sent keeps the rate and the burst in every window."""
    sent = [sample.at for sample in ranking.sent]
    burst = max(1, rate * BURST)
    for first, start in enumerate(sent):
        for last in range(first, len(sent)):
            assert last - first + 1 <= rate * (sent[last] - start) + burst + 0.01


@pytest.mark.parametrize("rate", [1, 7, 40])
@pytest.mark.parametrize("answers", [True, False])
def test_budget_with_many_addresses(rate: int, answers: bool) -> None:
    """A crowd of addresses gets through a small budget: later, but every one, within the rate."""
    scripts: list[Script] = [written] if answers else [silent, silent, silent]
    ranking = SimulatedRanking(*scripts, max_probes_per_second=rate)
    asker = NotedAsker(ranking)
    for number in range(1, 60):
        asker.ask(address(number))
    ranking.at(600)
    assert len(asker.at) == 59
    assert len({sample.address for sample in ranking.sent}) == 59
    assert_within_budget(ranking, rate)
    ranking.assert_nothing_left()


@pytest.mark.parametrize("rate", [10, 40])
def test_no_slot_is_wasted(rate: int) -> None:
    """Who waits for the budget gets no company for that: a hundred addresses take a sample each."""
    ranking = SimulatedRanking(written, written, written, max_probes_per_second=rate)
    asker = NotedAsker(ranking)
    for number in range(1, 101):
        asker.ask(address(number))
    ranking.at(600)
    assert len(asker.at) == 100
    assert max(asker.at.values()) < 100 / rate + 0.5
    assert [len(probe.samples) for probe in ranking.probes] == [100, 0, 0]


def test_a_repetition_that_waits_for_the_budget() -> None:
    """It gets no company for that either; an answer meanwhile takes it out of the waiting list."""
    ranking = SimulatedRanking(
        lambda one, _: 0.9 if one == ONE else None, names=["icmp"], max_probes_per_second=1
    )
    asker = NotedAsker(ranking)
    asker.ask(ONE)
    ranking.at(0.5)
    assert len(ranking.sent) == 1
    ranking.at(30)
    assert asker.at == {ONE: 0.9}
    assert len(ranking.sent) == 1
    ranking.assert_nothing_left()


def test_many_that_wait() -> None:
    """Hundreds in the waiting list that end at once are no recursion."""
    ranking = SimulatedRanking(
        lambda one, _: 0.010 if one == ONE else OSError("unreachable"),
        names=["icmp"],
        concurrency=1,
        max_probes_per_second=1_000_000,
    )
    asker = NotedAsker(ranking)
    asker.ask(ONE)
    for number in range(3000):
        asker.ask(number.to_bytes(4, "big"))
    ranking.at(1)
    assert len(asker.at) == 3001
    ranking.assert_nothing_left()


@pytest.mark.parametrize("at", [0, 0.1, 0.3, 0.6, 1.2])
def test_close(at: float) -> None:
    """The end gives up every sample and timer, at whatever moment it comes."""
    ranking = SimulatedRanking(silent, silent, silent, concurrency=2, max_probes_per_second=3)
    asker = NotedAsker(ranking)
    for number in range(5):
        asker.ask(address(number))
    ranking.at(at)
    ranking.measurer.close()
    assert ranking.clock.getDelayedCalls() == []
    ranking.assert_nothing_left()
    ranking.at(30)
    assert asker.at == {}
    assert len(ranking.table) == 0


@pytest.mark.parametrize(("waiting", "full"), [(MAX_WAITING - 1, False), (MAX_WAITING, True)])
def test_waiting_addresses_are_bounded(waiting: int, full: bool) -> None:
    """With too many addresses waiting no sort brings more."""
    ranking = SimulatedRanking(silent, concurrency=1)
    asker = NotedAsker(ranking)
    for number in range(waiting + 1):
        asker.ask(number.to_bytes(4, "big"))
    assert ranking.measurer.full is full
    ranking.measurer.close()


TRIPS = st.sampled_from([0.001, 0.05, 0.24, 0.26, 0.9, 1.1, None, OSError("unreachable")])
STEPS = st.tuples(
    st.integers(1, 6), st.floats(0, 1), st.sampled_from([FIRST, IN_DEMAND, FURTHER]), st.booleans()
)


@PURE_ONLY
@given(
    scripts=st.lists(st.lists(TRIPS, min_size=1, max_size=3), min_size=3, max_size=3),
    rate=st.sampled_from([5, 50, 1000]),
    concurrency=st.integers(1, 4),
    steps=st.lists(STEPS, min_size=1, max_size=12),
)
def test_whatever_happens(
    scripts: list[list[float | OSError | None]],
    rate: int,
    concurrency: int,
    steps: list[tuple[int, float, int, bool]],
) -> None:
    """Everybody is told, budget and numbers hold, and nothing is left, in any order of events."""

    def script(answers: list[float | OSError | None]) -> Script:
        return lambda _, echo: answers[min(echo, len(answers) - 1)]

    ranking = SimulatedRanking(
        *map(script, scripts), max_probes_per_second=rate, concurrency=concurrency
    )
    askers = []
    for number, pause, urgency, leaves in steps:
        ranking.at(ranking.now + pause)
        asker = NotedAsker(ranking)
        asker.ask(address(number), urgency)
        if leaves:
            told = address(number) in asker.at
            asker.leave(address(number))
            askers.append((asker, number, told))
        else:
            askers.append((asker, number, True))
        assert ranking.measurer.running <= concurrency
    ranking.at(ranking.now + 120)
    for asker, number, told in askers:
        assert (address(number) in asker.at) is told
    assert_within_budget(ranking, rate)
    ranking.assert_nothing_left()
    for probe in ranking.probes:
        sent = ranking.metrics.probes.cell(probe.name).value
        assert sent <= len(probe.samples), "what the system refuses to send is not sent"
        assert ranking.metrics.probe_losses.cell(probe.name).value <= sent
