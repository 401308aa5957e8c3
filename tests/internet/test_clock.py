"""Ranking goes by a clock that nobody sets: the wall clock may jump under it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.harness import behaviours as b
from tests.harness.clients import eventually
from tests.harness.clock import WallClock
from tests.internet.places import by_distance, near
from tests.internet.town import SHORT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.internet.conftest import BuildTown

DAY = 86_400.0


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["ahead", "back"])
def test_sorts_when_the_wall_clock_is_set(
    build: BuildTown, tmp_path: Path, host: int, jump: float
) -> None:
    """What was sorted stays so and is sorted again when its time has come; new names are
    sorted by what their addresses are really away.
    """
    clock = WallClock(tmp_path / "clock")
    prefix = ["env", *(f"{name}={value}" for name, value in clock.environ.items())]
    town = build({"ranking": {"rtt_cache_ttl": 3}}, prefix=prefix)
    pool = [near(60, host), near(20, host), near(40, host)]
    town.ask(old := town.everywhere("old", b.answers(*pool)))
    town.settled(old, pool)
    ranked = time.monotonic()
    clock.set_off(jump)
    reply = town.ask(old)
    assert reply.addresses == by_distance(pool)
    if time.monotonic() < ranked + 2:
        assert reply.ttl > SHORT, "the jump has made its order old"
        assert town.sorts("rtt_stale") == 0
    other = [near(70, host), near(30, host), near(50, host)]
    town.ask(new := town.everywhere("new", b.answers(*other)))
    town.settled(new, other)
    time.sleep(3.1)
    town.ask(old)
    eventually(lambda: town.sorts("rtt_stale") + town.sorts("refresh"))
    town.settled(old, pool)
    clock.set_off(0)
    assert town.ask(new).addresses == by_distance(other)
    town.idle()
