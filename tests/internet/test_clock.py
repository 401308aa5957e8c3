"""Ranking goes by a clock that nobody sets: the wall clock may jump under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.kit import behaviours as b
from tests.kit.clients import eventually
from tests.kit.clock import WallClock
from tests.kit.internet.hosts import by_distance, near
from tests.kit.internet.testbed import SHORT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.internet.conftest import BuildTestbed
    from tests.kit.internet.testbed import InternetTestbed

DAY = 86_400.0


@pytest.fixture(params=[DAY, -DAY], ids=["ahead", "back"])
def jump(request: pytest.FixtureRequest) -> float:
    """By how many seconds the wall clock is set."""
    seconds: float = request.param
    return seconds


class Jumping(NamedTuple):
    """A program with a wall clock of its own, a name in it, and the addresses of that."""

    testbed: InternetTestbed
    clock: WallClock
    name: str
    pool: list[str]


@pytest.fixture
def start(build: BuildTestbed, tmp_path: Path, host: int) -> Callable[[float], Jumping]:
    """Start a program whose orders are good for so many seconds; its name is ranked."""

    def started(rtt_cache_ttl: float) -> Jumping:
        clock = WallClock(tmp_path / "clock")
        prefix = ["env", *(f"{name}={value}" for name, value in clock.environ.items())]
        testbed = build({"ranking": {"rtt_cache_ttl": rtt_cache_ttl}}, prefix=prefix)
        pool = [near(60, host), near(20, host), near(40, host)]
        testbed.ask(name := testbed.everywhere("old", b.answers(*pool)))
        testbed.settled(name, pool)
        return Jumping(testbed, clock, name, pool)

    return started


@pytest.mark.long
def test_a_jump_makes_no_order_old(
    start: Callable[[float], Jumping], host: int, jump: float
) -> None:
    """What was sorted stays so, and new names are sorted by what their addresses are away."""
    testbed, clock, old, pool = start(300)
    clock.set_off(jump)
    reply = testbed.ask(old)
    assert reply.addresses == by_distance(pool)
    assert reply.ttl > SHORT
    other = [near(70, host), near(30, host), near(50, host)]
    testbed.ask(new := testbed.everywhere("new", b.answers(*other)))
    testbed.settled(new, other)
    clock.set_off(0)
    for name, addresses in ((old, pool), (new, other)):
        assert testbed.ask(name).addresses == by_distance(addresses)
    testbed.idle()
    assert testbed.sorts("rtt_stale") == testbed.sorts("refresh") == 0


@pytest.mark.long
def test_orders_grow_old_after_a_jump(start: Callable[[float], Jumping], jump: float) -> None:
    """When its time has come a name is sorted again, whatever the wall clock says."""
    testbed, clock, name, pool = start(1)
    clock.set_off(jump)
    before = testbed.sorts("rtt_stale") + testbed.sorts("refresh")

    def again() -> float:
        testbed.ask(name)
        return testbed.sorts("rtt_stale") + testbed.sorts("refresh")

    eventually(again, lambda sorts: sorts > before)
    testbed.settled(name, pool)
    testbed.idle()
