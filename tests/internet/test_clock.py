"""Ranking goes by a clock that nobody sets: the wall clock may jump under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.kit import behaviours as b
from tests.kit.clients import eventually
from tests.kit.clock import WallClock
from tests.kit.internet.places import by_distance, near
from tests.kit.internet.testbed import SHORT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.internet.conftest import BuildTown
    from tests.kit.internet.testbed import Town

DAY = 86_400.0


@pytest.fixture(params=[DAY, -DAY], ids=["ahead", "back"])
def jump(request: pytest.FixtureRequest) -> float:
    """By how many seconds the wall clock is set."""
    seconds: float = request.param
    return seconds


class Jumping(NamedTuple):
    """A program with a wall clock of its own, a name in it, and the addresses of that."""

    town: Town
    clock: WallClock
    name: str
    pool: list[str]


@pytest.fixture
def start(build: BuildTown, tmp_path: Path, host: int) -> Callable[[float], Jumping]:
    """Start a program whose orders are good for so many seconds; its name is ranked."""

    def started(rtt_cache_ttl: float) -> Jumping:
        clock = WallClock(tmp_path / "clock")
        prefix = ["env", *(f"{name}={value}" for name, value in clock.environ.items())]
        town = build({"ranking": {"rtt_cache_ttl": rtt_cache_ttl}}, prefix=prefix)
        pool = [near(60, host), near(20, host), near(40, host)]
        town.ask(name := town.everywhere("old", b.answers(*pool)))
        town.settled(name, pool)
        return Jumping(town, clock, name, pool)

    return started


def test_a_jump_makes_no_order_old(
    start: Callable[[float], Jumping], host: int, jump: float
) -> None:
    """What was sorted stays so, and new names are sorted by what their addresses are away."""
    town, clock, old, pool = start(300)
    clock.set_off(jump)
    reply = town.ask(old)
    assert reply.addresses == by_distance(pool)
    assert reply.ttl > SHORT
    other = [near(70, host), near(30, host), near(50, host)]
    town.ask(new := town.everywhere("new", b.answers(*other)))
    town.settled(new, other)
    clock.set_off(0)
    for name, addresses in ((old, pool), (new, other)):
        assert town.ask(name).addresses == by_distance(addresses)
    town.idle()
    assert town.sorts("rtt_stale") == town.sorts("refresh") == 0


def test_orders_grow_old_after_a_jump(start: Callable[[float], Jumping], jump: float) -> None:
    """When its time has come a name is sorted again, whatever the wall clock says."""
    town, clock, name, pool = start(1)
    clock.set_off(jump)
    before = town.sorts("rtt_stale") + town.sorts("refresh")

    def again() -> float:
        town.ask(name)
        return town.sorts("rtt_stale") + town.sorts("refresh")

    eventually(again, lambda sorts: sorts > before)
    town.settled(name, pool)
    town.idle()
