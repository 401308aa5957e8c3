"""The waiting list: urgencies, and a turn for whoever has waited for the longest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.ranking.waiting import (
    FAIR_TURN,
    FIRST,
    FURTHER,
    IN_DEMAND,
    UNDER_WAY,
    Waiting,
    WaitingList,
)
from tests.kit.compiled import PURE_ONLY


class Named(Waiting):
    """One that waits, with a name."""

    def __init__(self, name: str) -> None:
        super().__init__(FIRST)
        self.name = name


def sent(waiting: WaitingList, count: int, *, only_under_way: bool = False) -> str:
    """Send so many, or as many as there are; their names."""
    names = ""
    for _ in range(count):
        one = waiting.first(only_under_way=only_under_way)
        if one is None:
            break
        assert isinstance(one, Named)
        waiting.sent(one)
        names += one.name
    return names


def filled(*groups: tuple[str, int]) -> tuple[WaitingList, dict[str, Named]]:
    """A list in which these wait, a letter each, with an urgency each group."""
    waiting, by_name = WaitingList(), {}
    for names, urgency in groups:
        for name in names:
            by_name[name] = Named(name)
            waiting.add(by_name[name], urgency)
    return waiting, by_name


def test_the_most_urgent_first() -> None:
    """Within an urgency in the order in which they came."""
    waiting, _ = filled(("d", FURTHER), ("c", FIRST), ("b", IN_DEMAND), ("a", UNDER_WAY))
    assert sent(waiting, 3) == "abc"
    assert sent(waiting, 9) == "d"
    assert waiting.first(only_under_way=False) is None


def test_only_under_way() -> None:
    """Where no other may begin, nobody else is sent, not even by a fair turn."""
    waiting, _ = filled(("xyz", FIRST), ("abcde", UNDER_WAY))
    assert sent(waiting, 9, only_under_way=True) == "abcde"
    assert len(waiting) == 3


@pytest.mark.parametrize("urgency", [FIRST, FURTHER])
def test_a_fair_turn(urgency: int) -> None:
    """One in four goes to whoever has waited for the longest."""
    assert FAIR_TURN == 4
    waiting, _ = filled(("xyz", urgency), ("abcdefgh", IN_DEMAND))
    assert sent(waiting, 11) == "abcxdefyghz"


def test_raised() -> None:
    """It goes among the more urgent, behind those there; never back."""
    waiting, named = filled(("xyz", FIRST), ("ab", IN_DEMAND))
    waiting.raise_urgency(named["z"], IN_DEMAND)
    waiting.raise_urgency(named["a"], FIRST)
    waiting.raise_urgency(named["b"], IN_DEMAND)
    assert sent(waiting, 3) == "abz"
    waiting.raise_urgency(named["z"], UNDER_WAY)  # it waits no more
    assert sent(waiting, 3) == "xy"


def test_removed_and_cleared() -> None:
    """Who is taken out is not sent; taking out twice is nothing."""
    waiting, named = filled(("xyz", FIRST))
    waiting.remove(named["y"])
    waiting.remove(named["y"])
    assert sent(waiting, 1) == "x"
    waiting.clear()
    assert not named["z"].waits
    assert (len(waiting), sent(waiting, 1)) == (0, "")


def test_length() -> None:
    """Who is under way does not count."""
    waiting, _ = filled(("a", UNDER_WAY), ("b", IN_DEMAND), ("c", FIRST), ("d", FURTHER))
    assert len(waiting) == 3


@PURE_ONLY
@given(st.lists(st.sampled_from([UNDER_WAY, IN_DEMAND, FIRST, FURTHER]), max_size=60))
def test_nobody_waits_for_ever(urgencies: list[int]) -> None:
    """Whoever comes behind, the first of all is sent within as many fair turns as it is old."""
    waiting, named = filled(("x", FURTHER))
    for number, urgency in enumerate(urgencies, 1):
        waiting.add(Named(str(number)), urgency)
        waiting.add(Named(str(number)), urgency)
        sent(waiting, 1)
        assert not named["x"].waits or number < FAIR_TURN
