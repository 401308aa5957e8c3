"""Which addresses may yet be the nearest (docs/specification.rst, Measuring)."""

from __future__ import annotations

import pytest

from staggerdns.ranking.contenders import MAX_CONTENDERS, contenders
from staggerdns.ranking.rtt import RttTable
from staggerdns.settings.sections import RankingSettings
from tests.kit.probing import address, measure


def near(*trips: float | None) -> list[int]:
    """Which of addresses with such round trips (milliseconds, `None`: silent) are contenders."""
    table = RttTable(RankingSettings())
    for number, trip in enumerate(trips):
        measure(table, address(number), [None if trip is None else trip / 1000])
    addresses = [address(number) for number in range(len(trips) + 1)]  # the last one is unknown
    return [addresses.index(one) for one in contenders(addresses, table)]


@pytest.mark.parametrize(
    ("trips", "found"),
    [
        ([], []),
        ([None, None], []),
        ([30], [0]),
        ([100, 30, None], [1]),
        ([44.9, 30, 45.1], [1, 0]),
        ([0.2, 1.1, 1.3], [0, 1]),
        ([1.0, 1.0], [0, 1]),
    ],
)
def test_contenders(trips: list[float | None], found: list[int]) -> None:
    """The nearest, and what is within half of its round trip, or a millisecond, of it."""
    assert near(*trips) == found


@pytest.mark.parametrize("count", [MAX_CONTENDERS - 1, MAX_CONTENDERS, MAX_CONTENDERS + 1])
def test_most_contenders(count: int) -> None:
    """The nearest three at most."""
    trips = [30.0 + number for number in range(count)]
    assert near(*trips[::-1]) == [*reversed(range(count))][:MAX_CONTENDERS]


def test_a_lossy_one_is_no_contender() -> None:
    """It costs more than any round trip; alone it is the nearest all the same."""
    table = RttTable(RankingSettings())
    measure(table, address(1), [0.010, None])
    assert contenders([address(1)], table) == [address(1)]
    measure(table, address(2), [0.200])
    assert contenders([address(1), address(2)], table) == [address(2)]
