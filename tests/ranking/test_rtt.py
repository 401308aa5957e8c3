"""The table of round-trip times: averages, losses, age, bound (docs/specification.rst, Ranking)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.ranking import rtt as rtt_module
from staggerdns.ranking.rtt import MANY_LOST, MAX_ADDRESSES, SILENT_LIFETIME, RttTable
from staggerdns.settings.sections import RankingSettings
from tests.kit.probing import LIFETIME, TIMEOUT, address, measure
from tests.kit.simulated import START

ONE, OTHER = address(1), address(2)
ROUND_TRIPS = st.floats(0.00001, TIMEOUT)


def cost(table: RttTable, address: bytes) -> float:
    """The cost of an address that is in the table."""
    found = table.cost(address)
    assert found is not None
    return found


@pytest.fixture
def table() -> RttTable:
    """An empty table."""
    return RttTable(RankingSettings())


def new_table() -> RttTable:
    """An empty table for one example of a property."""
    return RttTable(RankingSettings())


def test_nothing_known(table: RttTable) -> None:
    """An address that was never measured has no cost and needs a measurement."""
    assert table.cost(ONE) is None
    assert (table.fresh(ONE, START), table.answers(ONE), table.jitter(ONE)) == (False, False, 0)
    assert len(table) == 0


def test_best_sample_is_the_path(table: RttTable) -> None:
    """Of one measurement the least round trip counts, the rest says how much it deviates."""
    measure(table, ONE, [0.030, 0.010, 0.020], START)
    assert cost(table, ONE) == pytest.approx(0.010)
    assert table.jitter(ONE) == pytest.approx(0.010)
    assert table.answers(ONE)


def test_moving_average(table: RttTable) -> None:
    """A later measurement moves the average by three tenths of the difference."""
    measure(table, ONE, [0.010], START)
    measure(table, ONE, [0.020], START)
    assert cost(table, ONE) == pytest.approx(0.013)
    measure(table, ONE, [0.020], START)
    assert cost(table, ONE) == pytest.approx(0.0151)


@given(st.lists(ROUND_TRIPS, min_size=1, max_size=30))
def test_average_stays_between(trips: list[float]) -> None:
    """Without losses the cost is between the least and the greatest that was measured."""
    table = new_table()
    for trip in trips:
        measure(table, ONE, [trip], START)
    assert min(trips) * 0.999 <= cost(table, ONE) <= max(trips) * 1.001
    assert 0 <= table.jitter(ONE) <= max(trips)


def test_average_follows_a_change(table: RttTable) -> None:
    """What an address has become outweighs what it was within a dozen measurements."""
    measure(table, ONE, [0.5], START)
    for _ in range(12):
        measure(table, ONE, [0.010], START)
    assert cost(table, ONE) < 0.02


def test_jitter_is_what_varies_within_a_measurement(table: RttTable) -> None:
    """Samples that differ widen the deviation; a new level, or equal samples, do not."""
    measure(table, ONE, [0.010, 0.010], START)
    measure(table, ONE, [0.200, 0.200], START)
    assert table.jitter(ONE) == 0
    measure(table, ONE, [0.010, 0.050], START)
    wide = table.jitter(ONE)
    assert wide == pytest.approx(0.006)
    for _ in range(20):
        measure(table, ONE, [0.010, 0.010], START)
    assert table.jitter(ONE) < wide / 100


@given(
    trip=st.floats(0.00001, 0.010),
    far=st.floats(0.00001, TIMEOUT),
    answered=st.integers(1, 9),
    lost=st.integers(1, 9),
)
def test_a_loss_costs_more_than_any_round_trip(
    trip: float, far: float, answered: int, lost: int
) -> None:
    """A near address that lost a sample comes behind a clean one, however far that is."""
    samples = answered + lost
    if samples > 10:  # the most that the configuration allows
        return
    table = new_table()
    measure(table, ONE, [trip] * answered + [None] * lost, START)
    measure(table, OTHER, [far] * samples, START)
    assert cost(table, ONE) > cost(table, OTHER)


@given(st.integers(1, 8))
def test_more_losses_cost_more(lost: int) -> None:
    """Of two lossy addresses the one that loses less is better, and silence is worse than both."""
    table = new_table()
    measure(table, ONE, [0.010] * (10 - lost) + [None] * lost, START)
    measure(table, OTHER, [0.010] * (9 - lost) + [None] * (lost + 1), START)
    measure(table, address(3), [None] * 10, START)
    assert cost(table, ONE) < cost(table, OTHER) < cost(table, address(3))


def test_losses_are_forgiven(table: RttTable) -> None:
    """Clean measurements bring a once lossy address back."""
    measure(table, ONE, [0.010, None, None], START)
    for _ in range(25):
        measure(table, ONE, [0.010] * 3, START)
    assert cost(table, ONE) == pytest.approx(0.010, abs=0.001)


def test_silent(table: RttTable) -> None:
    """A silent address costs more than the worst that answers, and is in the table."""
    measure(table, ONE, [None] * 3, START)
    measure(table, OTHER, [None, None, TIMEOUT], START)
    assert cost(table, ONE) == float("inf")
    assert cost(table, OTHER) < float("inf")
    assert (table.answers(ONE), table.answers(OTHER), len(table)) == (False, True, 2)


def test_silence_and_back(table: RttTable) -> None:
    """Silence wipes out what was known; the first answer after it counts alone."""
    measure(table, ONE, [0.010], START)
    measure(table, ONE, [None, None], START)
    assert cost(table, ONE) == float("inf")
    measure(table, ONE, [0.040], START)
    assert cost(table, ONE) == pytest.approx(0.040)


@pytest.mark.parametrize(
    ("samples", "lifetime", "fresh_for"),
    [
        ([0.010], LIFETIME, LIFETIME),
        ([0.010, None], LIFETIME, LIFETIME),
        ([None], LIFETIME, SILENT_LIFETIME),
        ([None], 20, 20),
        ([0.010], 20, 20),
    ],
)
def test_freshness(samples: list[float | None], lifetime: int, fresh_for: float) -> None:
    """A measurement is fresh until just before its lifetime; a silent one's is short."""
    table = RttTable(RankingSettings(rtt_cache_ttl=lifetime))
    measure(table, ONE, samples, START)
    assert table.fresh(ONE, START + fresh_for - 0.001)
    end = START + fresh_for
    assert not table.fresh(ONE, end)
    assert table.cost(ONE) is not None
    measure(table, ONE, samples, end)
    assert table.fresh(ONE, end)


def test_bound(table: RttTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table takes exactly its number; one more pushes out the longest untouched."""
    monkeypatch.setattr(rtt_module, "MAX_ADDRESSES", 3)
    for number in range(3):
        measure(table, address(number), [0.001], START)
    measure(table, address(0), [0.001], START)
    assert len(table) == 3
    measure(table, address(3), [0.001], START)
    assert len(table) == 3
    assert table.cost(address(1)) is None
    assert None not in [table.cost(address(number)) for number in (0, 2, 3)]


def test_bound_is_real(table: RttTable) -> None:
    """The number that the program has holds, too."""
    for number in range(MAX_ADDRESSES + 10):
        measure(table, number.to_bytes(4, "big"), [0.001], START)
    assert len(table) == MAX_ADDRESSES


def test_families_do_not_meet(table: RttTable) -> None:
    """An IPv4 and an IPv6 address with the same bytes in front are two."""
    measure(table, ONE, [0.010], START)
    assert table.cost(ONE + b"\0" * 12) is None


# Losses within a measurement.


@pytest.mark.parametrize(("lost", "counts"), [(MANY_LOST - 1, False), (MANY_LOST, True)])
def test_echoes_lost_here_and_there(table: RttTable, lost: int, counts: bool) -> None:
    """So many lost echoes of one measurement are a loss though each was answered in the end."""
    table.begin(ONE, 0.010, 1, "icmp", START)
    for _ in range(lost - 1):
        table.extend(ONE, 0.010, 1, "icmp", START)
    assert (cost(table, ONE) > TIMEOUT) is counts
    assert table.settled(ONE, 3) is counts


@pytest.mark.parametrize("lost", [0, 1, 2, 4])
def test_settled(table: RttTable, lost: int) -> None:
    """As many answers as samples are wanted, and three for each echo that was lost."""
    assert not table.settled(ONE, 1)
    table.begin(ONE, 0.010, lost, "icmp", START)
    answers = 1
    while not table.settled(ONE, 2):
        table.extend(ONE, 0.010, 0, "icmp", START)
        answers += 1
    assert answers == max(2, 3 * lost)
    assert cost(table, ONE) == pytest.approx(0.010)


def test_a_new_measurement_begins_anew(table: RttTable) -> None:
    """What was lost in the one before is not carried over, nor is what was answered."""
    table.begin(ONE, 0.010, 4, "icmp", START)
    table.begin(ONE, 0.010, 0, "tcp:443", START)
    assert not table.settled(ONE, 2)
    assert table.way(ONE) == "tcp:443"
    table.extend(ONE, 0.010, 0, "tcp:443", START)
    assert table.settled(ONE, 2)


def test_a_further_sample_of_a_forgotten_address(table: RttTable) -> None:
    """It begins a measurement; nothing is known of the way then."""
    assert table.way(ONE) == ""
    table.extend(ONE, 0.010, 0, "icmp", START)
    assert cost(table, ONE) == pytest.approx(0.010)
    table.begin(ONE, None, 3, "", START)
    table.extend(ONE, 0.020, 0, "icmp", START)
    assert cost(table, ONE) == pytest.approx(0.020)


@given(st.lists(st.lists(ROUND_TRIPS, min_size=1, max_size=4), min_size=1, max_size=8))
def test_averages_are_those_of_whole_measurements(measurements: list[list[float]]) -> None:
    """Sample by sample, the averages come out as if each measurement came at once."""
    table = new_table()
    seconds = deviation = None
    for samples in measurements:
        measure(table, ONE, samples)
        best, spread = min(samples), sum(samples) / len(samples) - min(samples)
        seconds = best if seconds is None else seconds + 0.3 * (best - seconds)
        deviation = spread if deviation is None else deviation + 0.3 * (spread - deviation)
    assert cost(table, ONE) == pytest.approx(seconds)
    assert table.jitter(ONE) == pytest.approx(deviation, abs=1e-12)
