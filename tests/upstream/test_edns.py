"""Whether an upstream copes with EDNS: no single reply, and no outage, decides."""

from __future__ import annotations

from random import Random

import pytest

from staggerdns.upstream.edns import FORMERRS, MEMORY, PROOFS, SILENCES, Edns

NOW = 1000.0


def silent(edns: Edns, asked: float, *, with_opt: bool = True) -> None:
    """A query without a reply, three seconds long."""
    edns.silent(asked, asked + 3, with_opt=with_opt)


@pytest.mark.parametrize("count", range(FORMERRS + 1))
def test_formerrs_in_a_row(count: int) -> None:
    """Three repetitions that were answered make it plain, one fewer does not."""
    edns = Edns()
    for _ in range(count):
        edns.answered(NOW, with_opt=False, repeated="formerr")
    assert edns.is_plain(NOW) == (count >= FORMERRS)
    assert edns.goes_plain(NOW, "") == (count >= FORMERRS)
    assert edns.goes_plain(NOW, "formerr")
    assert not edns.is_plain(NOW + MEMORY)


def test_formerrs_with_answers_in_between() -> None:
    """One odd name a day is no habit."""
    edns = Edns()
    for _ in range(10 * FORMERRS):
        edns.answered(NOW, with_opt=False, repeated="formerr")
        edns.answered(NOW, with_opt=True, repeated="")
    assert not edns.is_plain(NOW)


def test_a_server_that_drops_edns() -> None:
    """Silence, an answer without OPT, silence again: plain; few questions suffer from it."""
    edns, now, plain = Edns(), NOW, []
    while not edns.is_plain(now):
        goes = edns.goes_plain(now, "")
        plain.append(goes)
        if goes:
            edns.answered(now + 0.02, with_opt=False, repeated="")
        else:
            silent(edns, now)
        now += 3.1
    assert plain == [False] * SILENCES + [True] + [False] * PROOFS


@pytest.mark.parametrize("outage", [5.0, 9.0, 13.0, 17.0, 60.0])
@pytest.mark.parametrize("rate", [0.5, 5.0, 50.0])
@pytest.mark.parametrize("seed", range(10))
def test_an_outage_at_the_start(outage: float, rate: float, seed: int) -> None:
    """The network is down when we begin, and comes back some time: a good upstream keeps EDNS."""
    random, edns, end = Random(seed), Edns(), NOW + outage
    events: list[tuple[float, int, str, float]] = []
    at, number = NOW, 0
    while at < end + 60:
        events.append((at, number, "ask", at))
        at += random.expovariate(rate)
        number += 1
    events.sort()
    while events:
        at, number, what, asked = events.pop(0)
        if what == "ask":
            with_opt = not edns.goes_plain(at, "")
            assert not edns.is_plain(at), "taken for one that does not cope"
            kind = "with" if with_opt else "without"
            answered = at >= end
            events.append((at + (0.02 if answered else 3), number, kind + " " * answered, at))
            events.sort()
        elif what.endswith(" "):
            edns.answered(at, with_opt=what == "with ", repeated="")
        else:
            edns.silent(asked, at, with_opt=what == "with")
    assert not edns.is_plain(at)


def test_silence_of_one_that_knows_edns() -> None:
    """It is down, or the net is: EDNS has nothing to do with that."""
    edns = Edns()
    edns.answered(NOW, with_opt=True, repeated="")
    for number in range(10):
        silent(edns, NOW + number)
        assert not edns.goes_plain(NOW + number, "")


def test_silence_to_everything() -> None:
    """A trial without OPT that is silent, too, is followed by queries with it, and a new trial."""
    edns, plain = Edns(), []
    for number in range(20):
        goes = edns.goes_plain(NOW + 4 * number, "")
        plain.append(goes)
        silent(edns, NOW + 4 * number, with_opt=not goes)
    assert plain.count(True) == 5
    assert not edns.is_plain(NOW + 100)


def test_what_was_lost_before_the_plain_answer_proves_nothing() -> None:
    """Time-outs of queries asked before it still come in after it."""
    edns = Edns()
    for number in range(SILENCES):
        silent(edns, NOW + number)
    assert edns.goes_plain(NOW + 5, "")
    edns.answered(NOW + 5.02, with_opt=False, repeated="")
    for number in range(10):
        edns.silent(NOW + 4 + number / 10, NOW + 7 + number / 10, with_opt=True)
    assert not edns.is_plain(NOW + 9)
