"""How much EDNS an upstream copes with: no single reply, and no outage, decides."""

from __future__ import annotations

import pytest

from staggerdns.upstream.edns import BARE, DESCENTS, FULL, MEMORY, PATIENCE, PLAIN, Edns

NOW = 1000.0
FORMERR, SERVFAIL, NOTIMP, REFUSED, BADVERS = 1, 2, 4, 5, 16


def descend(edns: Edns, asked: float, *, to: int = PLAIN) -> None:
    """A question that was answered at that level only, 20 ms after it was asked."""
    edns.good(to, FULL, asked, asked + 0.02)


@pytest.mark.parametrize("to", [PLAIN, BARE])
@pytest.mark.parametrize("count", range(DESCENTS + 1))
def test_descents_in_a_row(count: int, to: int) -> None:
    """Three questions that were answered lower down only make it a habit, one fewer does not."""
    edns = Edns()
    for number in range(count):
        descend(edns, NOW + number, to=to)
    assert edns.level == (to if count == DESCENTS else FULL)
    assert edns.is_settled == (count in (0, DESCENTS))


def test_good_replies_in_between() -> None:
    """One odd name a day is no habit; a good reply where descents end says nothing against one."""
    edns = Edns()
    for number in range(10 * DESCENTS):
        descend(edns, NOW + 2 * number)
        edns.good(FULL, PLAIN, NOW + 2 * number + 1, NOW + 2 * number + 1)
    assert edns.level == FULL
    for number in range(DESCENTS):
        descend(edns, NOW + 100 + number, to=BARE)
        edns.good(BARE, PLAIN, NOW + 100.5 + number, NOW + 100.5 + number)
    assert edns.level == BARE


def test_descents_under_way_together_count_once() -> None:
    """What hits fifty questions at the same moment, like the end of an outage, is one sign."""
    edns = Edns()
    for _ in range(50):
        descend(edns, NOW)
    assert edns.level == FULL


@pytest.mark.parametrize("rcode", [FORMERR, NOTIMP, BADVERS])
def test_explicit_complaints_are_always_heard(rcode: int) -> None:
    """One server of a farm may be older than the others."""
    edns = Edns()
    edns.good(FULL, PLAIN, NOW, NOW)
    assert edns.complains(rcode, FULL, NOW)
    assert edns.complains(rcode, BARE, NOW)
    assert not edns.complains(rcode, PLAIN, NOW)


@pytest.mark.parametrize("rcode", [SERVFAIL, REFUSED, 9, 4095])
def test_other_errors_are_heard_until_the_level_is_proven(rcode: int) -> None:
    """A good reply at a level proves it, and those below."""
    edns = Edns()
    assert edns.complains(rcode, FULL, NOW)
    edns.good(BARE, PLAIN, NOW, NOW)
    assert edns.complains(rcode, FULL, NOW)
    assert not edns.complains(rcode, BARE, NOW)
    edns.good(FULL, PLAIN, NOW, NOW)
    assert not edns.complains(rcode, FULL, NOW)
    edns.forget_proof()
    assert edns.complains(rcode, FULL, NOW)


@pytest.mark.parametrize("rcode", [SERVFAIL, REFUSED, 9, 4095])
@pytest.mark.parametrize("count", range(PATIENCE + 2))
def test_other_errors_in_a_row_are_heard_at_a_proven_level(rcode: int, count: int) -> None:
    """Whoever answers nothing any more may have ceased to cope with EDNS; one good reply ends that,
    and one row of errors is not lengthened by an earlier one.
    """
    edns = Edns()
    for _ in range(3):
        edns.good(FULL, PLAIN, NOW, NOW)
        heard = [edns.complains(rcode, FULL, NOW) for _ in range(count)]
        assert heard == ([False] * PATIENCE + [True] * count)[:count]
        assert edns.is_settled == (count == 0)
    assert edns.complains(rcode, BARE, NOW) == (count > PATIENCE)


def test_who_refuses_everything_is_not_asked_thrice_for_ever() -> None:
    """In a day of a question a second few go down the levels, one in 15 minutes in the end."""
    edns, descents = Edns(), []
    for second in range(86_400):
        now = NOW + second
        if edns.complains(REFUSED, FULL, now):
            descents.append(second)
            edns.failed_at_all_levels(now, now + 0.1)
    assert descents[:PATIENCE] == [0, 1, 2]
    assert len(descents) < 120
    assert descents[-1] - descents[-2] >= MEMORY


def test_vain_descents_under_way_together_count_once() -> None:
    """A burst of names that an upstream refuses does not end its learning."""
    edns = Edns()
    for _ in range(50):
        edns.failed_at_all_levels(NOW, NOW + 0.1)
    assert edns.complains(REFUSED, FULL, NOW + 0.2)


def test_a_descent_that_helps_ends_the_rest() -> None:
    """Then it is about EDNS after all."""
    edns = Edns()
    for number in range(PATIENCE + 5):
        edns.failed_at_all_levels(NOW + number, NOW + number)
    assert not edns.complains(FORMERR, FULL, NOW + 10)
    descend(edns, NOW + 10)
    assert edns.complains(FORMERR, FULL, NOW + 11)


def test_probes_climb_step_by_step() -> None:
    """Each good one raises the level by one; a bad one waits for as long again."""
    edns, now = Edns(), NOW
    for number in range(DESCENTS):
        descend(edns, NOW + number)
    assert NOW + MEMORY <= edns.probe_at <= NOW + MEMORY + DESCENTS
    for level, good in ((BARE, False), (BARE, True), (FULL, False), (FULL, True)):
        now = edns.probe_at
        before = edns.level
        edns.probed(level, now, good=good)
        assert edns.level == (level if good else before)
        assert edns.probe_at == (now + MEMORY if edns.level < FULL else float("inf"))
