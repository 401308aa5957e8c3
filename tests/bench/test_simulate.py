from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from bench.simulate import learned, ordinary, pictures
from bench.simulate.__main__ import PLANS, main
from bench.simulate.figures import baseline, figures, table
from bench.simulate.landscapes import LANDSCAPES, Character, Draws, Kind, Landscape, Sample, draw
from bench.simulate.ordinary import Traffic, first_reply_alone, replay_traffic
from bench.simulate.reference import ask_all, best_pace, percentile
from bench.simulate.replay import Name, Plan, replay
from bench.traffic import NAMES, TTL, Ages, one_address, popular

PARALLEL = Plan("parallel", {"strategy": "parallel"})
TOPS = ("p50", " 10.0", " 10.0")


def good(*milliseconds: float) -> list[Sample]:
    """Return one good reply per time."""
    return [(Kind.GOOD, time / 1000) for time in milliseconds]


def always(*samples: Sample, names: int = 3, warm: int = 0) -> Draws:
    """Return draws in which every name meets the same replies."""
    return Draws([list(samples)] * (warm + names), [0.5] * (warm + names), warm, 1)


def test_real_strategy_on_known_times() -> None:
    """Replies at known times give the schedule of docs/specification.rst, Tiers: tiers, windows and
    full pool.
    """
    done = replay(PARALLEL, always(*good(48, 60, 30, 90, 20), names=1))
    (name,) = done.names
    assert name.launches == pytest.approx([0, 0, 0.05, 0.05, 0.1])
    assert name.first == pytest.approx(0.048)
    assert name.last == pytest.approx(0.14)
    assert name.good
    assert done.missing == [0]
    assert name.window(0.05) == 2
    assert name.window(0.06) == 4


def test_warm_names_teach_the_order_and_are_not_measured() -> None:
    """After the warm-up the nearest upstreams are the active tier, wherever they are listed."""
    done = replay(PARALLEL, always(*good(90, 80, 70, 20, 10), names=2, warm=3))
    assert len(done.names) == len(done.missing) == 2
    assert {*done.names[0].asked[:2]} == {3, 4}
    assert done.names[0].first == pytest.approx(0.01)


def test_single_answer_strategies_leave_pools_incomplete() -> None:
    """Sequential asks one upstream, and the four addresses that it did not ask for are missing."""
    done = replay(Plan("one", {"strategy": "sequential"}), always(*good(20, 20, 20, 20, 20)))
    assert done.missing == [4, 4, 4]
    assert [len(name.launches) for name in done.names] == [1, 1, 1]


def test_failure_of_everybody_is_neither_good_nor_missing() -> None:
    """When nobody answers well, no address is missing and the time is the end of the run."""
    done = replay(PARALLEL, always((Kind.SERVFAIL, 0.01), (Kind.SILENT, 1.0), names=1))
    assert not done.names[0].good
    assert done.names[0].first == pytest.approx(3, abs=0.01)
    assert done.missing == [0]


def test_wrong_first_answer_is_seen() -> None:
    """A denial that beats good answers by more than the grace counts as wrong."""
    draws = always((Kind.NXDOMAIN, 0.005), *good(80, 90))
    made = figures(PARALLEL, draws)
    assert made.firsts.wrong == 1
    assert made.firsts.p50 == pytest.approx(0.035)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (good(30, 20, 50), (0.02, True)),
        ([(Kind.NXDOMAIN, 0.01), *good(30)], (0.03, True)),
        ([(Kind.NXDOMAIN, 0.01), *good(50)], (0.04, False)),
        ([(Kind.NXDOMAIN, 0.01), (Kind.SERVFAIL, 0.02)], (0.02, False)),
        ([(Kind.SILENT, 1.5), (Kind.SERVFAIL, 0.02)], (3.0, False)),
        ([(Kind.SERVFAIL, 0.01), (Kind.SERVFAIL, 0.02)], (0.02, False)),
    ],
)
def test_asking_all_obeys_the_same_rules(
    samples: list[Sample], expected: tuple[float, bool]
) -> None:
    """A positive counts at once, a negative after the grace, a failure when nobody is left."""
    assert ask_all(samples, 0.03, 3.0) == pytest.approx(expected)


@pytest.mark.parametrize("landscape", LANDSCAPES, ids=lambda one: one.name)
def test_asking_all_is_what_the_program_does_with_one_large_tier(landscape: Landscape) -> None:
    """With every upstream in the active tier the replay and the computed baseline agree."""
    count = len(landscape.characters)
    everybody = Plan(
        "all",
        {
            "strategy": "parallel",
            "parallel": {"active_tier_size": count},
            "health": {"degraded_after": 100_000, "unhealthy_after": 100_000},
        },
    )
    draws = draw(landscape, 3, 40, 0)
    firsts = [(name.first, name.good) for name in replay(everybody, draws).names]
    computed = [ask_all(samples, 0.03, 3.0) for samples in draws.samples]
    assert [good for _, good in firsts] == [good for _, good in computed]
    times = [time for time, _ in firsts]
    assert times == pytest.approx([time for time, _ in computed], abs=0.001)


def test_bound_is_the_best_order_that_never_waits() -> None:
    """Two at once and one more every step: the best order takes the nearest two first."""
    draws = always(*good(300, 70, 60, 10))
    assert best_pace(draws, active=1, batch=1, stagger=0.02) == pytest.approx(0.01)
    unlucky = Draws([good(10, 200, 50)] * 9 + [good(200, 10, 50)], [0.1] * 10, 0, 1)
    assert best_pace(unlucky, active=1, batch=1, stagger=0.02) == pytest.approx(0.03)
    assert best_pace(unlucky, active=2, batch=1, stagger=0.02) == pytest.approx(0.01)


def test_percentile_is_a_value_that_occurred() -> None:
    """The nearest rank: no interpolation, and the last value for all."""
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.01, 0.5, 0.95, 1)] == [1, 50, 95, 100]
    assert percentile([7.0], 0.5) == 7


def test_draws_repeat_by_seed_and_keep_characters() -> None:
    """A seed gives the same replies again, another seed others; the dead stay silent."""
    landscape = Landscape("x", "", (Character(0.01), Character(0.02, dies_after=0.5)))
    first = draw(landscape, 1, 100, 10)
    assert first == draw(landscape, 1, 100, 10)
    assert first.samples != draw(landscape, 2, 100, 10).samples
    kinds = [{kind for kind, _ in samples} for samples in first.samples]
    assert kinds == [{Kind.GOOD}] * 60 + [{Kind.GOOD, Kind.SILENT}] * 50


def test_window_slides() -> None:
    """The window is the most launches within its length, its end left out."""
    name = Name(0.0)
    name.launches = [0.0, 0.0, 0.05, 0.05, 0.07, 0.1]
    assert [name.window(length) for length in (0.05, 0.051, 0.2)] == [3, 4, 6]


def test_targets_are_judged() -> None:
    """Three of five at once miss the window, and the line says so; two of five meet all."""
    draws = always(*good(10, 10, 10, 10, 10))
    assert figures(PARALLEL, draws).missed == ()
    three = Plan("three", {"strategy": "parallel", "parallel": {"active_tier_size": 3}})
    assert figures(three, draws).missed == ("window 60%",)
    slow = always(*good(10, 100, 100, 100), names=5)  # cold: the nearest is last in the list
    late = Draws([samples[::-1] for samples in slow.samples], slow.gaps, 0, 1)
    one = Plan("one", {"strategy": "parallel", "parallel": {"active_tier_size": 1}})
    missed = figures(one, late).missed
    assert missed is not None
    assert missed[0] == "p95 +900%"


def test_whole_failed_tier_is_counted_apart() -> None:
    """The next batch need not wait for a failed active tier: that window stands in brackets."""
    failed = (Kind.SERVFAIL, 0.01)
    made = figures(PARALLEL, always(failed, failed, *good(30, 40), names=1))
    assert (made.window, made.window_failed) == (0, 4)


@pytest.mark.long
def test_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One landscape gives a line per plan and the numbers to try, on paper and as JSON."""
    path = tmp_path / "figures.json"
    tried = "stagger_delay: 20ms, fallback_timeout: auto"
    main(["--quick", "--seed=5", f"--json={path}", "--only=near 5", f"--try={tried}"])
    printed = capsys.readouterr().out
    (landscape,) = json.loads(path.read_text(encoding="utf-8"))["landscapes"]
    names = [plan["plan"] for plan in landscape["plans"]]
    assert names == [*(plan.name for plan in PLANS), tried]
    assert all(f"  {name} " in printed for name in names)
    assert landscape["ask_all"]["p95"] > 0


@pytest.mark.long
def test_command_prints_and_writes_ordinary_traffic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ordinary traffic gives a line per plan, on paper and as JSON, too."""
    path = tmp_path / "figures.json"
    main(["--quick", f"--json={path}", "--only=ordinary own"])
    printed = capsys.readouterr().out
    (landscape,) = json.loads(path.read_text(encoding="utf-8"))["landscapes"]
    assert landscape["landscape"] == "ordinary own"
    assert [plan["plan"] for plan in landscape["plans"]] == [plan.name for plan in PLANS]
    assert all(f"  {plan.name} " in printed for plan in PLANS)
    assert 0 < landscape["first_reply_alone"]["upstream"] < 5


@pytest.mark.long
def test_command_prints_and_writes_what_is_learnt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for who asks everybody and for who does not, for new names and for a day."""
    path = tmp_path / "figures.json"
    main(["--quick", f"--json={path}", "--only=agree"])
    printed = capsys.readouterr().out
    (landscape,) = json.loads(path.read_text(encoding="utf-8"))["landscapes"]
    for lines in (landscape["plans"], landscape["day"]):
        everybody, chosen = lines
        assert (everybody["plan"], chosen["plan"]) == ("all", "learned")
        assert chosen["queries"] < everybody["queries"]
        assert chosen["measured"] == 1
    assert printed.count("  learned ") == 2
    assert "2 of 2 lines meet all targets" in printed


def by_number(landscape: str) -> learned.Learnt:
    """What is learnt in a landscape, from a few names."""
    (kind,) = [one for one in learned.DIFFERING if one.name == landscape]
    return learned.learn(learned.PLANS[1], kind, seed=1, names=200)


def test_what_is_learnt_depends_on_who_differs() -> None:
    """Nobody is asked in vain where all agree, and everybody where each may have more."""
    agree, each = by_number("agree"), by_number("by name")
    assert 2 < agree.queries < 2.6  # twenty names of two hundred ask everybody, and a few more
    assert each.queries == 5
    assert (agree.complete, each.complete) == (1, 1)


@pytest.mark.parametrize(
    ("asked", "noticed"), [(range(100, 200), 0), (range(130, 200), 30), ((), 100), ((105,), 100)]
)
def test_when_a_change_is_noticed(asked: Sequence[int], noticed: int) -> None:
    """When the upstream is asked for every name from then on."""
    assert learned._noticed([(name, 4) for name in asked], 200) == noticed


@pytest.mark.parametrize("text", ["stagger_delay: 0", "no_such: 1", "{", "5"])
def test_impossible_numbers_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers that the configuration would refuse end the command with status 2."""
    with pytest.raises(SystemExit) as ended:
        main(["--try", text])
    assert ended.value.code == 2
    assert "--try" in capsys.readouterr().err


def test_table_is_aligned() -> None:
    """Every line of the table has its first figure ending in the same column."""
    draws = always(*good(10, 20))
    lines = table([figures(PARALLEL, draws)], baseline(PARALLEL, draws), 2).split("\n")
    ends = [line.index(text) + len(text) for line, text in zip(lines, TOPS, strict=True)]
    assert len(set(ends)) == 1


WHOLE = Traffic("x", "", one_address, ageing=False)


def test_ordinary_traffic_in_which_all_agree_costs_what_the_first_reply_does() -> None:
    """One address everywhere and TTLs that do not run down: the same names are asked again."""
    cost = replay_traffic(PARALLEL, WHOLE, seed=1, seconds=70)
    alone = first_reply_alone(WHOLE, seed=1, seconds=70)
    assert cost.upstream == pytest.approx(alone.upstream, rel=0.01)
    assert cost.failed == 0
    over = cost.over(alone)
    assert over is not None
    assert ("MISSED" in ordinary.table([cost], alone)) == (over > 0)


def test_ordinary_traffic_counts_every_client_query() -> None:
    """In less time than any TTL each name is asked for once, of each of five upstreams."""
    names = len(set(popular(Random("1 queries"), 1_000)))
    for cost in (
        replay_traffic(PARALLEL, WHOLE, seed=1, seconds=4),
        first_reply_alone(WHOLE, seed=1, seconds=4),
    ):
        assert cost.upstream * 1_000 == 5 * names
        assert cost.hits == pytest.approx(1 - names / 1_000, abs=0.01)  # some came too early


def test_names_are_popular_by_rank() -> None:
    """The first name is asked for twice as often as the second, a hundred times as often as the
    hundredth.
    """
    counts = Counter(popular(Random(1), 200_000))
    assert counts[0] / counts[1] == pytest.approx(2, rel=0.1)
    assert counts[0] / counts[99] == pytest.approx(100, rel=0.3)
    assert max(counts) < NAMES


def test_ttls_run_down_and_begin_again() -> None:
    """What is left is never more than the TTL, falls by one a second and is never nothing."""
    ages = Ages(Random(1), 5)
    assert len({ages.left(one, 0, 0) for one in range(5)}) > 1
    left = [ages.left(2, 7, now) for now in range(3 * TTL)]
    assert set(left) == set(range(1, TTL + 1))
    falls = [earlier - later for earlier, later in pairwise(left)]
    assert set(falls) == {1, 1 - TTL}


def test_pictures_are_drawn_of_what_was_tried(tmp_path: Path) -> None:
    """One of first answers, one of who is asked; both where there is something to draw."""
    landscape = always(*good(10, 20, 30))
    plans = [
        asdict(figures(Plan(name, plan.upstream), landscape))
        for name, plan in ((pictures.FIXED, PARALLEL), (pictures.BALANCED, PARALLEL))
    ]
    tried = {"landscape": "near", "upstreams": 3, "ask_all": {}, "plans": plans}
    learnt = {
        "landscape": "agree",
        "upstreams": 5,
        "plans": [{"queries": 5}, {"queries": 2.25}],
        "day": [{"queries": 4}, {"queries": 1.5}],
    }
    pictures.draw([{**tried, "upstreams": 50}], tmp_path)
    assert list(tmp_path.iterdir()) == []
    pictures.draw([tried], tmp_path)
    assert [found.name for found in tmp_path.iterdir()] == [pictures.FALLBACK]
    pictures.draw([tried, learnt], tmp_path)
    assert {found.name for found in tmp_path.iterdir()} == {pictures.FALLBACK, pictures.LEARNED}
    drawn = (tmp_path / pictures.LEARNED).read_text(encoding="utf-8")
    assert ">agree<" in drawn
    assert ">near<" not in drawn
