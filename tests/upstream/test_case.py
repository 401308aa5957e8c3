"""Whether an upstream copes with random case: what moves between the states."""

from __future__ import annotations

from math import inf

import pytest

from staggerdns.upstream.case import CASE_MISSES, NEGATIVES, Case
from staggerdns.upstream.edns import MEMORY

NOW = 1000.0


@pytest.mark.parametrize("proven", [True, False])
def test_misses(proven: bool) -> None:
    """Three in a row end random case for a while, proven or not; a right reply ends the row."""
    case = Case(wanted=True)
    if proven:
        case.answered()
    for _ in range(CASE_MISSES - 1):
        case.missed(NOW)
    case.repeated()
    for _ in range(CASE_MISSES - 1):
        case.missed(NOW)
    assert (case.is_mixed, case.is_settled) == (True, False)
    case.missed(NOW)
    assert (case.is_mixed, case.is_settled) == (False, True)
    assert case.probe_at == NOW + MEMORY


def test_names_found_in_lower_case_only() -> None:
    """Three, asked one after the other; those under way together count as one."""
    case = Case(wanted=True)
    for _ in range(50):
        case.in_lower_case(NOW, NOW + 0.1, positive=True)
    assert case.is_mixed
    for number in range(1, CASE_MISSES):
        case.in_lower_case(NOW + number, NOW + number + 0.1, positive=True)
    assert case.doubts_negatives is False
    assert case.probe_at > NOW + MEMORY


def test_negatives_confirmed() -> None:
    """After eight that were right in the first place the next answer is waited for: no name
    costs two queries for ever.
    """
    case = Case(wanted=True)
    for _ in range(NEGATIVES - 1):
        case.in_lower_case(NOW, NOW, positive=False)
    assert (case.doubts_negatives, case.probe_at) == (True, inf)
    case.in_lower_case(NOW, NOW, positive=False)
    assert (case.doubts_negatives, case.probe_at) == (False, NOW)
    case.probed(NOW, good=True)
    assert (case.is_mixed, case.is_proven, case.probe_at) == (True, True, inf)


def test_proof_is_for_good() -> None:
    """What was under way when the first answer came says nothing any more."""
    case = Case(wanted=True)
    case.answered()
    assert not case.doubts_negatives
    for number in range(10):
        case.in_lower_case(NOW + number, NOW + number, positive=True)
    assert case.is_mixed


def test_a_bad_probe() -> None:
    """Tried again after as long."""
    case = Case(wanted=True)
    for _ in range(CASE_MISSES):
        case.missed(NOW)
    case.probed(NOW + MEMORY, good=False)
    assert not case.is_mixed
    assert case.probe_at == NOW + 2 * MEMORY


def test_not_wanted() -> None:
    """Never mixed, never probed, and settled from the start."""
    case = Case(wanted=False)
    assert not case.is_mixed
    assert case.is_settled
    assert case.probe_at == inf
    case.answered()
    assert not case.is_mixed
