"""What a restart keeps of upstreams and of addresses (docs/specification.rst, Saved state)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from staggerdns.ranking import rtt
from staggerdns.ranking.rtt import Rtt
from staggerdns.state.measurements import LONG_AGO
from staggerdns.state.save import BLOCK_ADDRESSES
from staggerdns.upstream.health import State
from tests.kit.probing import address, measure
from tests.kit.saved import SavedRun, World

if TYPE_CHECKING:
    from pathlib import Path

    from staggerdns.upstream.upstream import Upstream


def begun(directory: Path) -> SavedRun:
    """A first run."""
    run = SavedRun(directory, World())
    run.start()
    return run


def restarted(run: SavedRun, directory: Path, down: float = 0.0) -> SavedRun:
    """The next run, after so many seconds."""
    assert run.stop()
    run.world.now += down
    after = SavedRun(directory, run.world, born=99.0, upstreams=("192.0.2.3", "192.0.2.1"))
    after.start()
    return after


def fail(upstream: Upstream, run: SavedRun, times: int) -> None:
    """Have so many queries of an upstream fail, while others are well."""
    for _ in range(times):
        now = run.awake.seconds()
        upstream.health.failed(now, now, alone=True)


def shown(known: Rtt | None) -> dict[str, object]:
    """All that is known of an address but when it was measured."""
    assert known is not None
    return {name: getattr(known, name) for name in Rtt.__slots__ if name != "measured"}


def test_latency(tmp_path: Path) -> None:
    """The average goes on from where it was, by the name of the upstream, and decays meanwhile."""
    run = begun(tmp_path)
    for seconds in (0.02, 0.04, 0.03):
        run.members[0].latency.add(seconds, run.awake.seconds())
    mean = run.members[0].latency.mean(run.awake.seconds())
    spread = run.members[0].latency.deviation(run.awake.seconds())
    after = restarted(run, tmp_path)
    unmeasured, same = (upstream.latency for upstream in after.members)
    now = after.awake.seconds()
    assert (same.mean(now), same.deviation(now)) == pytest.approx((mean, spread), rel=0.01)
    assert not unmeasured.measured
    old = restarted(after, tmp_path, down=100_000).members[1].latency
    assert old.mean(after.awake.seconds()) == pytest.approx(0.2, abs=0.001)


def test_what_is_measured_meanwhile_wins(tmp_path: Path) -> None:
    """Of upstreams as of addresses."""
    run = begun(tmp_path)
    run.members[0].latency.add(0.02, run.awake.seconds())
    fail(run.members[0], run, 5)
    run.members[0].negative_trust.negative(contradicted=True)
    measure(run.round_trips, address(1), [0.001], run.clock.seconds())
    assert run.stop()
    after = SavedRun(tmp_path, run.world)
    now = after.awake.seconds()
    upstream = after.members[0]
    upstream.latency.add(0.5, now)
    upstream.health.succeeded(now, now)
    measure(after.round_trips, address(1), [0.7], now)
    after.start()
    assert upstream.latency.mean(after.awake.seconds()) == pytest.approx(0.5)
    assert upstream.health.state is State.HEALTHY
    assert after.round_trips.cost(address(1)) == 0.7


@pytest.mark.parametrize(("down", "usable"), [(10.0, False), (29.0, False), (30.5, True)])
def test_an_open_circuit(tmp_path: Path, down: float, usable: bool) -> None:
    """It stays open for what was left of its time, by the wall clock; then a trial is due."""
    run = begun(tmp_path)
    fail(run.members[0], run, 5)
    after = restarted(run, tmp_path, down)
    upstream = after.members[1]
    assert upstream.health.state is State.UNHEALTHY
    assert upstream.usable(after.awake.seconds()) == usable
    other = after.members[0]
    assert other.health.state is State.HEALTHY


def test_degraded(tmp_path: Path) -> None:
    """Failures in a row count on."""
    run = begun(tmp_path)
    fail(run.members[0], run, 3)
    for _ in range(10):
        run.members[0].negative_trust.negative(contradicted=True)
    after = restarted(run, tmp_path)
    upstream = after.members[1]
    assert (upstream.health.state, upstream.health.failures) == (State.DEGRADED, 3)
    assert upstream.negative_trust.doubtful
    fail(upstream, after, 2)
    assert upstream.health.state is State.UNHEALTHY


def test_round_trips(tmp_path: Path) -> None:
    """All that is known of each address comes back, silence and losses included."""
    run = begun(tmp_path)
    samples: list[list[float | None]] = [[0.01, 0.02, 0.015], [None], [0.03, None], [0.5]]
    for number, taken in enumerate(samples):
        measure(run.round_trips, address(number), taken, run.clock.seconds())
    six = bytes(range(16))
    measure(run.round_trips, six, [0.04], run.clock.seconds())
    after = restarted(run, tmp_path, down=30)
    for one in [*map(address, range(len(samples))), six]:
        assert shown(after.round_trips.get(one)) == shown(run.round_trips.get(one))
        assert after.round_trips.cost(one) == run.round_trips.cost(one)
    known = after.round_trips.get(six)
    assert known is not None
    assert after.clock.seconds() - known.measured == pytest.approx(30.6, abs=0.5)


def test_many_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one block of them, and no more than the table has room for."""
    run = begun(tmp_path)
    total = 2 * BLOCK_ADDRESSES + 3
    for number in range(total):
        measure(run.round_trips, address(number), [0.01], run.clock.seconds())
    after = restarted(run, tmp_path)
    assert len(after.round_trips) == total
    assert after.stop()
    monkeypatch.setattr(rtt, "MAX_ADDRESSES", 100)
    full = SavedRun(tmp_path, run.world)
    measure(full.round_trips, address(total), [0.01], full.clock.seconds())
    full.start()
    assert len(full.round_trips) == 100
    measure(full.round_trips, address(total + 1), [0.01], full.clock.seconds())
    assert full.round_trips.answers(address(total))  # what was read goes first


def test_what_is_very_old(tmp_path: Path) -> None:
    """An age without end does not grow from save to save."""
    run = begun(tmp_path)
    measure(run.round_trips, address(1), [0.01], -1e18)
    after = restarted(restarted(run, tmp_path), tmp_path)
    known = after.round_trips.get(address(1))
    assert known is not None
    assert after.clock.seconds() - known.measured == pytest.approx(LONG_AGO, rel=0.01)
