"""Ages over restarts go by the wall clock, and by nothing else (docs/specification.rst, Saved
state).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from twisted.logger import capturedLogs, formatEvent

from staggerdns.state.load import LOOK_EVERY, PATIENCE
from tests.kit.probing import address, measure
from tests.kit.ranked import asks, pool, shown
from tests.kit.saved import SavedRun, World

if TYPE_CHECKING:
    from pathlib import Path

WWW = asks()
DAY = 86_400.0


def first_run(directory: Path, off: float = 0.0) -> SavedRun:
    """A run that has a pool for WWW, of 300 s, and has measured one of its addresses."""
    world = World()
    world.off = off
    run = SavedRun(directory, world)
    run.start()
    run.cache.commit(WWW.key, 1, pool(20, 10, ttl=300), run.clock.seconds())
    run.cache.complete(WWW.key, 1, 300, 300)
    measure(run.round_trips, address(10), [0.01], run.clock.seconds())
    return run


def ttl(run: SavedRun) -> int:
    """What is left of the TTL that a client gets, 0 without an answer."""
    now = run.clock.seconds()
    entry = run.cache.held(WWW.key)
    return 0 if entry is None else max(0, int(entry.expires - now))


def later(run: SavedRun, directory: Path, down: float, step: float = 0.0) -> SavedRun:
    """Stop a run, and start another one, when the clock has been set by ``step`` meanwhile."""
    assert run.stop()
    run.world.now += down
    run.world.off += step
    after = SavedRun(directory, run.world, born=31_000.0)
    after.start()
    return after


@pytest.mark.parametrize("step", [-DAY, DAY])
def test_a_step_while_it_runs(tmp_path: Path, step: float) -> None:
    """Somebody sets the clock by a day while the program runs: no age is another one by that."""
    run = first_run(tmp_path)
    run.pass_time(50, steps=50)
    run.world.off += step
    run.pass_time(50, steps=50)
    assert ttl(run) == pytest.approx(200, abs=1)
    after = later(run, tmp_path, down=100)
    assert ttl(after) == pytest.approx(100, abs=1)
    after.world.off -= step
    after.pass_time(50, steps=50)
    assert ttl(after) == pytest.approx(50, abs=1)


def test_a_step_during_a_save(tmp_path: Path) -> None:
    """All ages of a file count from one time, whatever the clock does before the file is whole."""
    run = SavedRun(tmp_path, World(), slices=True)
    run.start()
    questions = [asks(f"n{number}.example") for number in range(200)]
    for question in questions:
        run.cache.commit(question.key, 1, pool(10, ttl=300), run.clock.seconds())
        run.cache.complete(question.key, 1, 300, 300)
    over: list[None] = []
    run.state.stop().addCallback(over.append)
    for _ in range(5):
        run.clock.advance(0.001)
    assert not over
    run.world.off += DAY
    while not over:
        run.clock.advance(0.001)
    run.world.off -= DAY
    after = SavedRun(tmp_path, run.world)
    after.start()
    ages = {round(after.clock.seconds() - entry.stored) for entry in after.cache.entries.values()}
    assert len(after.cache) == len(questions)
    assert ages == {0}


def test_a_clock_before_the_time_of_the_file(tmp_path: Path) -> None:
    """Round trips order answers, and answers wait; when the clock is right they are read, and are
    as old as they are.
    """
    with capturedLogs() as events:
        after = later(first_run(tmp_path), tmp_path, down=60, step=-400 * DAY)
    assert [formatEvent(event) for event in events if "the clock is" in str(event)] != []
    assert len(after.cache) == 0
    assert after.round_trips.cost(address(10)) == 0.01
    assert not after.round_trips.fresh(address(10), after.clock.seconds())
    after.pass_time(20, steps=20)
    assert len(after.cache) == 0
    after.cache.commit(WWW.key, 1, pool(20, 10, ttl=300), after.clock.seconds())
    assert shown(after.cache.held(WWW.key)) == [10, 20]  # by the round trip that was read
    after.cache.forget(WWW.key)
    after.world.off += 400 * DAY
    after.pass_time(LOOK_EVERY)
    after.finish()
    assert ttl(after) == pytest.approx(300 - 60 - 20 - LOOK_EVERY, abs=2)


def test_nothing_is_saved_while_answers_wait(tmp_path: Path) -> None:
    """A stop leaves the file as it is, for a start with a clock that is right."""
    after = later(first_run(tmp_path), tmp_path, down=10, step=-DAY)
    before = (tmp_path / "cache.state").read_bytes()
    after.pass_time(1000, steps=1000)
    right = later(after, tmp_path, down=0, step=DAY)
    assert (tmp_path / "cache.state").read_bytes() == before
    assert ttl(right) == 0  # that was 1,010 s ago
    assert len(right.cache) == 1  # but it may still be given


def test_answers_do_not_wait_for_ever(tmp_path: Path) -> None:
    """After `PATIENCE` they are given up, and the state is saved again."""
    after = later(first_run(tmp_path), tmp_path, down=10, step=-DAY)
    before = (tmp_path / "cache.state").read_bytes()
    after.pass_time(PATIENCE + LOOK_EVERY, steps=int(PATIENCE) + 1)
    after.finish()
    assert len(after.cache) == 0
    assert after.stop()
    assert (tmp_path / "cache.state").read_bytes() != before


@pytest.mark.parametrize("down", [30.0, 290.0])
def test_round_trips_age_as_well(tmp_path: Path, down: float) -> None:
    """A measurement that has grown old meanwhile still orders, and is made anew."""
    after = later(first_run(tmp_path), tmp_path, down=down + 11)
    assert after.round_trips.cost(address(10)) == 0.01
    assert after.round_trips.fresh(address(10), after.clock.seconds()) == (down == 30.0)
