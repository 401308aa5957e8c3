"""Whom to ask so that hardly an address is missing."""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import staggerdns.strategy.coverage as coverage_module
from staggerdns.strategy.coverage import FADING, MAX_CHOICES, MAX_MASKS, Coverage, cover
from tests.kit.compiled import PURE_ONLY

A, B, C, D, E = (1 << place for place in range(5))
ALL = (A, B, C, D, E)


@pytest.mark.parametrize(
    ("masks", "asked", "chosen"),
    [
        ([A | B | C], A, 0),  # who was asked has it
        ([A, C], A, C),
        ([C, D | E], A | B, C | D),  # the better one of two that would do
        ([B | C, C | D, B | D], A, B | C),  # two are enough
        ([B, B, B | C, C | D], A, B | C),
        ([1 << 9], A, 0),  # nobody who could be asked
        ([1 << 9, B | C, C | D, B | D], A, B | C),  # nor is that a reason to ask all the others
        ([], A, 0),
    ],
)
def test_cover(masks: list[int], asked: int, chosen: int) -> None:
    """Every address has one of those asked or chosen; who adds most comes first."""
    waiting = [bit for bit in ALL if not bit & asked]
    weights = {mask: float(masks.count(mask)) for mask in masks}
    assert cover(weights, asked, waiting, 0.0) == chosen


def test_who_is_superfluous_in_the_end_is_left_out() -> None:
    """The one with the most addresses is not needed when two others have all of them."""
    weights = {B | C: 2.0, B | D: 2.0, C: 1.0, D: 1.0}
    assert cover(weights, A, [B, C, D], 0.0) == C | D


def test_who_is_out_keeps_nobody_superfluous() -> None:
    """What only he has is no reason to ask one whom two others make superfluous, nor one who has
    less than may be missing.
    """
    out = 1 << 9
    assert cover({out: 9.0, B | C: 2.0, B | D: 2.0, C: 1.0, D: 1.0}, A, [B, C, D], 0.0) == C | D
    assert cover({out: 9.0, C: 1.0}, A, [B, C, D], 1.0) == 0


def uncovered(masks: list[int], asked: int) -> int:
    """How many addresses nobody of those asked has."""
    return sum(not mask & asked for mask in masks)


@given(st.lists(st.integers(1, 63), max_size=12), st.integers(0, 31), st.integers(0, 4))
def test_no_more_is_missing_than_may_be(masks: list[int], asked: int, spare: int) -> None:
    """Of what anybody can be asked for; the sixth upstream is out. Nobody who was chosen could be
    left out.
    """
    waiting = [bit for bit in ALL if not bit & asked]
    weights = {mask: float(masks.count(mask)) for mask in masks}
    chosen = cover(weights, asked, waiting, spare)
    there = [mask for mask in masks if mask & (asked | sum(waiting))]
    assert not chosen & asked
    assert uncovered(there, asked | chosen) <= spare
    for bit in waiting:
        if bit & chosen:
            assert uncovered(there, asked | (chosen ^ bit)) > spare
    fewest = min(
        len(some)
        for some in chain.from_iterable(combinations(waiting, size) for size in range(6))
        if uncovered(there, asked | sum(some)) <= spare
    )
    assert chosen.bit_count() <= fewest + 1


def test_old_collections_fade() -> None:
    """What was true once is of no account later."""
    coverage = Coverage()
    for _ in range(100):
        coverage.add([A | B | C, C])
    assert coverage.choose(A, [B, C]) == C
    added = 0
    while coverage.choose(A, [B, C]):
        coverage.add([A | B | C, A | B | C])
        added += 1
    assert added == pytest.approx(89, abs=1)  # half of all, faded to half a percent
    assert FADING**added / 2 < 0.005 < FADING ** (added - 2) / 2


def test_a_change_is_noticed() -> None:
    """One of sixteen addresses that somebody has for himself shows by the second collection."""
    coverage = Coverage()
    for _ in range(100):
        coverage.add([A | B | C] * 15)
    assert coverage.choose(A, [B, C]) == 0
    coverage.add([*[A | B | C] * 15, C])
    coverage.add([*[A | B | C] * 15, C])
    assert coverage.choose(A, [B, C]) == C
    assert coverage.samples == 102


@pytest.mark.parametrize("more", [0, 1])
def test_masks_are_bounded(more: int) -> None:
    """Those that count least make room."""
    coverage = Coverage()
    coverage.add([1 << 20])
    coverage.add([2 + number for number in range(MAX_MASKS - 1 + more)])
    assert coverage.choose(0, [1 << 20]) == (0 if more else 1 << 20)


@PURE_ONLY
@pytest.mark.parametrize("more", [0, 1])
def test_choices_are_bounded(more: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders of upstreams that differ have no end, and what is asked may teach nothing."""
    made: list[int] = []

    def counted(*given: Any) -> int:
        made.append(cover(*given))
        return made[-1]

    monkeypatch.setattr(coverage_module, "cover", counted)
    coverage = Coverage()
    coverage.add([A | B, C])
    for number in range(MAX_CHOICES + more):
        assert coverage.choose(A, [C, 1 << (8 + number)]) == C
    assert coverage.choose(A, [C, 1 << 8]) == C
    assert len(made) == MAX_CHOICES + 2 * more
