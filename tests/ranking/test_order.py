"""From costs to an order: pure the first time, with hysteresis after that (docs/specification.rst,
Ranking).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staggerdns.ranking.order import LEAST_JITTER, order
from staggerdns.ranking.rtt import RttTable
from staggerdns.settings.sections import RankingSettings
from tests.kit.compiled import PURE_ONLY
from tests.kit.probing import address, measure
from tests.kit.simulated import START

A, B, C, D, E = map(address, range(5))
Samples = list[float | None]
ADDRESSES = st.lists(st.sampled_from([address(number) for number in range(12)]), unique=True)
MEASURED = st.dictionaries(
    st.sampled_from([address(number) for number in range(12)]),
    st.lists(st.none() | st.floats(0.0001, 0.2), min_size=1, max_size=3),
)
CLOSE = st.dictionaries(
    st.sampled_from([address(number) for number in range(12)]),
    st.lists(st.sampled_from([0.01, 0.0102, 0.011, 0.0111, 0.012, 0.015]), min_size=1, max_size=3),
)
STEADY = st.dictionaries(
    st.sampled_from([address(number) for number in range(12)]),
    st.floats(0.0001, 0.02).map(lambda seconds: [seconds]),
)


def known(measured: dict[bytes, Samples]) -> RttTable:
    """A table with one measurement per address."""
    table = RttTable(RankingSettings())
    for one, samples in measured.items():
        measure(table, one, samples, START)
    return table


def milliseconds(**trips: float) -> RttTable:
    """A table of A, B, C... with steady round-trip times."""
    return known({address("abcde".index(key)): [trip / 1000] for key, trip in trips.items()})


def inserted(
    addresses: Sequence[bytes], table: RttTable, ranked: Sequence[bytes]
) -> tuple[bytes, ...]:
    """What `order` returns, by inserting one address after the other: the model."""
    costs = {one: 1e9 if (cost := table.cost(one)) is None else cost for one in addresses}
    if not ranked:
        return tuple(sorted(addresses, key=costs.__getitem__))
    arranged = [one for one in ranked if one in costs]
    before = set(arranged)
    for one in addresses:
        if one not in before:
            place = len(arranged)
            while place and costs[one] < costs[arranged[place - 1]]:
                place -= 1
            arranged.insert(place, one)

    def clearly_nearer(one: bytes, other: bytes) -> bool:
        margin = max(LEAST_JITTER, table.jitter(one) + table.jitter(other))
        return costs[one] + margin < costs[other]

    result: list[bytes] = []
    for one in arranged:
        place = 0
        while place < len(result) and not clearly_nearer(one, result[place]):
            place += 1
        result.insert(place, one)
    return tuple(result)


class CountingTable(RttTable):
    """Notes for which addresses it was asked."""

    def __init__(self, measured: dict[bytes, Samples]) -> None:
        super().__init__(RankingSettings())
        for one, samples in measured.items():
            measure(self, one, samples)
        self.costs: list[bytes] = []
        self.jitters: list[bytes] = []

    def cost(self, address: bytes) -> float | None:
        """Note it."""
        self.costs.append(address)
        return super().cost(address)

    def jitter(self, address: bytes) -> float:
        """Note it."""
        self.jitters.append(address)
        return super().jitter(address)


@given(ADDRESSES, MEASURED | STEADY | CLOSE, ADDRESSES)
@settings(max_examples=200)
def test_the_same_as_by_insertion(
    addresses: list[bytes], measured: dict[bytes, Samples], ranked: list[bytes]
) -> None:
    """Whatever is skipped changes no result."""
    table = known(measured)
    assert order(addresses, table, ranked) == inserted(addresses, table, ranked)


@PURE_ONLY
@given(ADDRESSES, MEASURED | STEADY | CLOSE, ADDRESSES)
def test_nobody_is_looked_up_twice(
    addresses: list[bytes], measured: dict[bytes, Samples], ranked: list[bytes]
) -> None:
    """Neither what an address costs nor how much that varies."""
    table = CountingTable(measured)
    order(addresses, table, ranked)
    assert len(set(table.costs)) == len(table.costs)
    assert len(set(table.jitters)) == len(table.jitters)


@PURE_ONLY
@pytest.mark.parametrize("ranked", [[], [C], [A, B], [A, B, C]])
def test_nothing_to_order(ranked: list[bytes]) -> None:
    """A tuple in order is returned itself, and nobody's jitter matters; one that is not is not."""
    table = CountingTable({A: [0.001], B: [0.002], C: [0.003]})
    addresses = (A, B, C)
    assert order(addresses, table, ranked) is addresses
    assert table.jitters == []
    assert order((B, A, C), table, ranked) == addresses


def test_nearest_first() -> None:
    """The first ranking goes by the round-trip times and nothing else."""
    assert order([A, B, C], milliseconds(a=3, b=1, c=2)) == (B, C, A)


def test_first_ranking_is_pure() -> None:
    """No jitter protects an order that nobody has ranked."""
    assert order([A, B], milliseconds(a=1.0002, b=1.0001)) == (B, A)


def test_unknown_and_silent() -> None:
    """Near before far, far and lossy before never measured, those before silent ones."""
    table = known({A: [None], C: [0.9], D: [0.001, None, None]})
    assert order([A, B, C, D], table) == (C, D, B, A)


def test_equals_keep_their_places() -> None:
    """Who is equal, unknown or silent alike, stays as received."""
    table = known({A: [0.005], B: [0.005], C: [None], D: [None]})
    assert order([D, B, C, A], table) == (B, A, D, C)
    assert order([E, D, B], known({})) == (E, D, B)


@given(ADDRESSES, MEASURED, ADDRESSES)
def test_a_permutation(
    addresses: list[bytes], measured: dict[bytes, Samples], ranked: object
) -> None:
    """Nobody is dropped, nobody comes twice, nobody of an earlier pool comes back."""
    found = order(addresses, known(measured), ranked)  # type: ignore[arg-type]
    assert sorted(found) == sorted(addresses)


@given(ADDRESSES, MEASURED)
def test_first_ranking_is_a_stable_sort(
    addresses: list[bytes], measured: dict[bytes, Samples]
) -> None:
    """What a stable sort by cost does is what the first ranking does."""
    table = known(measured)

    def key(address: bytes) -> tuple[int, float]:
        cost = table.cost(address)
        return (1, 0.0) if cost is None else (2 * (cost == float("inf")), cost)

    assert order(addresses, table) == tuple(sorted(addresses, key=key))


@given(ADDRESSES, MEASURED, ADDRESSES)
def test_ranking_again_changes_nothing(
    addresses: list[bytes], measured: dict[bytes, Samples], ranked: list[bytes]
) -> None:
    """With the same times an order stays as it is, however often it is ranked."""
    table = known(measured)
    found = order(addresses, table, ranked)
    assert order(addresses, table, found) == found
    assert order(found[::-1], table, found) == found
    assert order(found, table, ranked) == found, "a sort that is over at once orders no more"


@given(ADDRESSES, MEASURED)
def test_nobody_clearly_nearer_stays_behind(
    addresses: list[bytes], measured: dict[bytes, Samples]
) -> None:
    """After a re-rank nobody is clearly nearer than one in front, whoever is between them."""
    table = known(measured)
    found = order(addresses, table, addresses)
    costs = [table.cost(one) for one in found]
    for place, far in enumerate(costs):
        for behind, near in list(enumerate(costs))[place + 1 :]:
            if far is not None and near is not None:
                margin = table.jitter(found[place]) + table.jitter(found[behind])
                assert near + max(LEAST_JITTER, margin) >= far


def test_small_steps_add_up() -> None:
    """A chain of neighbours within jitter does not keep the best from the front."""
    addresses = [address(number) for number in range(15)]
    table = known({one: [(10 + 0.9 * (14 - n)) / 1000] for n, one in enumerate(addresses)})
    first = table.cost(order(addresses, table, addresses)[0])
    assert first is not None
    assert first <= 0.010 + LEAST_JITTER


@given(STEADY, ADDRESSES)
def test_newcomers_go_where_they_belong(measured: dict[bytes, Samples], new: list[bytes]) -> None:
    """Newcomers join a sorted order without disturbing it, each behind nobody who is farther."""
    table = known(measured)
    old = order([one for one in measured if one not in new], table)
    found = order([*new, *old], table, old)
    assert [one for one in found if one in old] == list(old)
    assert found == order([*old, *new], table)


def test_a_newcomer_behind_jitter() -> None:
    """A newcomer passes whoever is clearly farther, also when an unsteady one is between them."""
    table = known({A: [0.100] * 3, B: [0.095, 0.100, 0.120], C: [0.097] * 3})
    assert order([A, B], table, [A, B]) == (A, B)
    found = order([A, B, C], table, [A, B])
    assert found.index(C) < found.index(A)
    assert order([A, B, C], table, found) == found


@pytest.mark.parametrize(
    ("nearer", "swapped"), [(9.9, False), (9.1, False), (8.9, True), (1.0, True)]
)
def test_least_jitter(nearer: float, swapped: bool) -> None:
    """Steady addresses swap when the difference is more than a millisecond, and not before."""
    table = milliseconds(a=10, b=nearer)
    assert order([A, B], table, [A, B]) == ((B, A) if swapped else (A, B))


@pytest.mark.parametrize(("nearer", "swapped"), [(7.1, False), (6.9, True)])
def test_measured_jitter(nearer: float, swapped: bool) -> None:
    """Unsteady ones swap when the difference is more than both deviate together."""
    table = known(
        {
            A: [0.010, 0.010, 0.016],  # 2 ms
            B: [nearer / 1000, nearer / 1000 + 0.001, nearer / 1000 + 0.002],  # 1 ms
        }
    )
    assert order([A, B], table, [A, B]) == ((B, A) if swapped else (A, B))


@pytest.mark.parametrize("seed", range(10))
def test_jitter_does_not_swap_on_every_rank(seed: int) -> None:
    """Two addresses as near as each other keep their order over a hundred measurements."""
    chance = random.Random(seed)
    table = RttTable(RankingSettings())
    held: tuple[bytes, ...] = ()
    swaps = 0
    for _ in range(100):
        for one in (A, B):
            measure(table, one, [0.020 + abs(chance.gauss(0, 0.002)) for _ in range(3)], START)
        found = order([A, B], table, held)
        swaps += bool(held) and found != held
        held = found
    assert swaps <= 2


def test_clearly_nearer_swaps() -> None:
    """An address that has come much nearer is first as soon as its average is, for good."""
    table = milliseconds(a=10, b=50)
    held = order([A, B], table)
    orders = []
    for _ in range(12):
        measure(table, A, [0.010] * 3, START)
        measure(table, B, [0.002] * 3, START)
        held = order([A, B], table, held)
        orders.append(held)
    assert orders.index((B, A)) == 5
    assert sum(one != other for one, other in pairwise(orders)) == 1


def test_a_change_of_level_is_no_jitter() -> None:
    """Two addresses that change places by much swap at the first re-rank."""
    table = known({A: [0.010] * 3, B: [0.030] * 3})
    measure(table, A, [0.200, 0.201, 0.199], START)
    measure(table, B, [0.001, 0.001, 0.001], START)
    assert order([A, B], table, [A, B]) == (B, A)


def test_a_loss_overrules_hysteresis() -> None:
    """The first that begins to lose samples does not stay the first."""
    table = known({A: [0.010] * 3, B: [0.012] * 3})
    measure(table, A, [0.010, None, None], START)
    measure(table, B, [0.012] * 3, START)
    assert order([A, B], table, [A, B]) == (B, A)


def test_silence_overrules_hysteresis() -> None:
    """The first that falls silent becomes the last and stays in the list."""
    table = known({A: [0.010], B: [0.012], C: [0.9]})
    measure(table, A, [None, None, None], START)
    assert order([A, B, C], table, [A, B, C]) == (B, C, A)


def test_the_silent_one_that_answers_again() -> None:
    """Hysteresis does not keep back an address that was silent."""
    table = known({A: [0.010], B: [None]})
    measure(table, B, [0.002], START)
    assert order([A, B], table, [A, B]) == (B, A)


def test_no_addresses() -> None:
    """Nothing to order is no error."""
    assert order([], known({}), [A]) == ()
