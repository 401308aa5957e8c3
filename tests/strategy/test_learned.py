"""``ask: learned``: who is left out, and who is not."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from staggerdns.settings.sections import CacheSettings
from staggerdns.settings.upstreams import LEARNED, ParallelSettings
from staggerdns.strategy.learned import (
    ENOUGH,
    MEASURED,
    MOST_IN_A_ROW,
    SALT_OCTETS,
    TURN,
    WINDOW,
    Learned,
)
from tests.kit.acts import SILENT, Act, fails, negative, own, says
from tests.kit.simulated import SimulatedResolver

if TYPE_CHECKING:
    from staggerdns.wire.question import Question

SHARED = [own(10), own(11)]
AGREE = [says(5 + index, *SHARED) for index in range(5)]
GENTLE = ParallelSettings(ask=LEARNED)
NAMES = 400
LIFE = 301
TXT = 16


def resolver(*acts: Act, **more: object) -> SimulatedResolver:
    """A resolver of five upstreams, the first two the nearest, that has learnt nothing yet."""
    made = SimulatedResolver(*acts, parallel=GENTLE, rng=Random(1).randbytes)
    assert made.adaptive.learned is not None
    return made


def asked_for(made: SimulatedResolver, question: Question) -> list[int]:
    """Ask a question, and return who was asked."""
    before = len(made.launches)
    made.ask(question)
    made.run()
    return [upstream for _, upstream in made.launches[before:]]


def teach(made: SimulatedResolver, count: int = ENOUGH) -> None:
    """Have it ask for new names until it has learnt from so many."""
    learned = made.adaptive.learned
    assert learned is not None
    number = 0
    while learned.samples < count:
        asked_for(made, made.question(f"t{number}.example"))
        number += 1


def usual(made: SimulatedResolver, label: str = "n") -> Question:
    """A question for a name that is not measured."""
    learned = made.adaptive.learned
    assert learned is not None
    now = made.clock.seconds()
    questions = (made.question(f"{label}{number}.example") for number in range(NAMES))
    return next(one for one in questions if not learned.is_measured(one.name, now))


def test_the_first_collections_ask_everybody() -> None:
    """Until enough is known; then nobody who says the same as others."""
    made = resolver(*AGREE)
    for number in range(ENOUGH):
        assert sorted(asked_for(made, made.question(f"t{number}.example"))) == [0, 1, 2, 3, 4]
    question = usual(made)
    assert asked_for(made, question) == [0, 1]
    assert made.pool(question) == SHARED
    assert made.metrics.staggered_spared.cell().value == 3
    trace = made.traces.find(question.key)
    assert trace is not None
    assert trace.spared == 3
    made.assert_nothing_left()


def test_who_has_more_is_asked() -> None:
    """One upstream has an address that no other has."""
    made = resolver(*AGREE[:3], says(8, *SHARED, own(3)), AGREE[4])
    teach(made)
    question = usual(made)
    assert asked_for(made, question) == [0, 1, 3]
    assert made.pool(question) == [*SHARED, own(3)]


def test_one_of_two_who_have_the_same_is_asked() -> None:
    """Each of them adds nothing as long as the other is asked."""
    made = resolver(*AGREE[:3], says(8, *SHARED, own(3)), says(9, *SHARED, own(3)))
    teach(made)
    question = usual(made)
    assert len(asked_for(made, question)) == 3
    assert made.pool(question) == [*SHARED, own(3)]


def test_who_is_left_out_is_not_missing() -> None:
    """The metrics count whoever was to be asked."""
    made = resolver(*AGREE)
    teach(made)
    cell = made.metrics.pool_upstreams.cell
    before = cell("answered").value, cell("missing").value
    asked_for(made, usual(made))
    assert (cell("answered").value, cell("missing").value) == (before[0] + 2, before[1])


@pytest.mark.parametrize("pause", [LIFE, LIFE + CacheSettings().max_stale])
def test_a_refresh_asks_whom_the_name_needs(pause: int) -> None:
    """What others teach would have everybody asked, but this name has its addresses of three; also
    when they may not be given any more.
    """
    made = resolver(*(says(5 + index, *SHARED, own(index)) for index in range(5)))
    teach(made)
    question = usual(made)
    assert len(asked_for(made, question)) == 5
    made.script(*(says(5 + index, *SHARED, *[own(3)] * (index == 3)) for index in range(5)))
    made.clock.advance(pause)
    assert len(asked_for(made, question)) == 5  # what was known before
    made.clock.advance(pause)
    assert asked_for(made, question) == [0, 1, 3]
    assert made.pool(question) == [*SHARED, own(3)]


def test_what_changes_is_noticed_by_refreshes() -> None:
    """The pools of known names do not have what somebody gives since: others teach it."""
    made = resolver(*AGREE)
    teach(made)
    questions = [made.question(f"k{number}.example") for number in range(NAMES)]
    for question in questions:
        asked_for(made, question)
    made.script(*AGREE[:4], says(9, *SHARED, own(4)))
    made.clock.advance(LIFE)
    asked = [asked_for(made, question) for question in questions]
    first = next(place for place, upstreams in enumerate(asked) if 4 in upstreams)
    assert first < 200
    assert [upstreams for upstreams in asked[first + 2 :] if 4 not in upstreams] == []


def test_before_there_is_an_answer_everybody_is_asked() -> None:
    """Who is left out is decided when there is one."""
    made = resolver(*AGREE)
    teach(made)
    made.script(*[fails(5)] * 3, *AGREE[3:])
    assert sorted(asked_for(made, usual(made))) == [0, 1, 2, 3]


def test_after_a_negative() -> None:
    """Whoever adds addresses to others is asked for those of a name that others deny."""
    made = resolver(*AGREE[:3], says(8, *SHARED, own(3)), AGREE[4])
    teach(made)
    made.script(negative(5), negative(6), *AGREE[2:])
    assert asked_for(made, usual(made)) == [0, 1, 3]


@pytest.mark.parametrize("other", [fails(6), SILENT])
@pytest.mark.parametrize("is_known", [False, True])
def test_after_a_negative_of_one(other: Act, *, is_known: bool) -> None:
    """Where not all who were asked at once agree, everybody is asked: addresses take its place, and
    who denies them is not asked first for ever.
    """
    made = resolver(*AGREE)
    teach(made)
    question = usual(made)
    if is_known:
        asked_for(made, question)
        made.clock.advance(LIFE)
    made.script(negative(5), other, *AGREE[2:])
    assert {*asked_for(made, question)} == {0, 1, 2, 3, 4}
    assert made.pool(question) == SHARED
    assert made.upstreams[0].negative_trust.contradicted > 0


def test_who_has_failed_brings_nothing() -> None:
    """What one who does not answer would have brought another one is asked for."""
    made = resolver(AGREE[0], says(6, *SHARED, own(3)), says(7, *SHARED, own(3)), *AGREE[3:])
    teach(made)
    assert asked_for(made, usual(made)) == [0, 1]
    made.script(AGREE[0], fails(1), *[says(7 + index, *SHARED, own(3)) for index in range(3)])
    question = usual(made, "m")
    assert asked_for(made, question) == [0, 1, 2]
    assert made.pool(question) == [*SHARED, own(3)]


@pytest.mark.parametrize("few", [1, 5])
def test_few_names(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """Where no name is measured for hours, collections are now and then."""
    made = resolver(*AGREE)
    teach(made)
    monkeypatch.setattr(Learned, "is_measured", lambda *_: False)
    made.script(*AGREE[:4], says(9, *SHARED, own(4)))
    questions = [made.question(f"few{number}.example") for number in range(few)]
    noticed = None
    for count in range(1, 3 * MOST_IN_A_ROW):
        made.clock.advance(LIFE)
        if len(asked_for(made, questions[count % few])) == 5:
            assert count == MOST_IN_A_ROW + 1
            break
    for count in range(200):
        made.clock.advance(LIFE)
        asked = asked_for(made, questions[count % few])
        if len(asked) == 3 and 4 in asked:
            noticed = count
            break
    assert noticed is not None
    assert noticed < 200 - MOST_IN_A_ROW


def test_what_cannot_be_merged_teaches_nothing() -> None:
    """Nobody else is asked after such an answer anyway."""
    made = resolver(*AGREE)
    for number in range(ENOUGH):
        asked_for(made, made.question(f"t{number}.example", TXT))
    for number in range(ENOUGH):
        assert made.adaptive.learned is not None
        assert made.adaptive.learned.samples == number
        asked_for(made, made.question(f"u{number}.example"))


def test_one_name_in_twenty_is_measured() -> None:
    """Which ones they are changes every hour, and with the salt."""
    made = resolver(*AGREE)
    teach(made)
    learned = made.adaptive.learned
    assert learned is not None
    names = [b"\5%05d\0" % number for number in range(10_000)]
    chosen = [
        {name for name in names if one.is_measured(name, at)}
        for one, at in ((learned, 0.0), (learned, TURN - 1), (learned, TURN))
    ]
    assert chosen[0] == chosen[1]
    for some in chosen:
        assert len(some) == pytest.approx(len(names) / MEASURED, rel=0.2)
    assert len(chosen[0] & chosen[2]) < len(chosen[0]) / 3


def test_completeness() -> None:
    """Of what everybody brings, what would be found without those left out."""
    made = resolver(*AGREE)
    teach(made)
    gauge = made.metrics.pool_completeness.values
    assert gauge() == {(): 1.0}
    made.script(*AGREE[:4], says(9, *SHARED, own(4)))
    teach(made, ENOUGH + 1)
    assert gauge() == {(): pytest.approx(2 / 3)}  # the first to show it would have been without it
    teach(made, ENOUGH + 2)
    assert gauge() == {(): pytest.approx(5 / 6)}
    teach(made, ENOUGH + WINDOW)
    assert gauge() == {(): pytest.approx(1 - 1 / (3 * WINDOW))}
    teach(made, ENOUGH + WINDOW + 1)
    assert gauge() == {(): 1.0}


def test_nothing_is_known_at_first() -> None:
    """Nothing has been found to be missing."""
    assert Learned(bytes(SALT_OCTETS)).completeness() == 1.0


def test_all_are_asked_by_default() -> None:
    """There is nothing to learn, and no gauge."""
    made = SimulatedResolver(*AGREE)
    assert made.adaptive.learned is None
    for number in range(ENOUGH + 1):
        assert len(asked_for(made, made.question(f"t{number}.example"))) == 5
    assert made.metrics.pool_completeness.values() == {}
