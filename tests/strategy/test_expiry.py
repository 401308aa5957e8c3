"""What the end of a run means for those who have not answered by then."""

from __future__ import annotations

import pytest

from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.strategy import run
from tests.kit.acts import SILENT, says_own
from tests.kit.simulated import SimulatedResolver

TIMEOUT = 3.0


@pytest.fixture(autouse=True)
def one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody be asked a second time."""
    monkeypatch.setattr(run, "RETRY_INTERVAL", 10 * TIMEOUT)


def resolver_with(fallback: float) -> SimulatedResolver:
    """Two active upstreams that say nothing; the others are asked after ``fallback`` seconds."""
    pace = ParallelSettings(
        fallback_timeout=fallback, total_collect_timeout=TIMEOUT, active_tier_size=2
    )
    return SimulatedResolver(SILENT, SILENT, SILENT, parallel=pace, timeout=TIMEOUT)


def failures(resolver: SimulatedResolver) -> list[int]:
    """The marks against each upstream."""
    return [upstream.health.failures for upstream in resolver.upstreams]


@pytest.mark.parametrize(
    ("fallback", "marks"),
    [(0.5, [1, 1, 1]), (1.499, [1, 1, 1]), (1.5, [1, 1, 1]), (1.51, [1, 1, 0]), (2.9, [1, 1, 0])],
)
def test_half_its_time(fallback: float, marks: list[int]) -> None:
    """Who had half of its time or more when the run ended has failed; who had less has not."""
    resolver = resolver_with(fallback)
    resolver.ask()
    resolver.run_to(1000 * TIMEOUT - 1)
    assert failures(resolver) == [0, 0, 0]
    resolver.run()
    assert failures(resolver) == marks, "three seconds are enough for the first two in any case"
    assert resolver.now == 1000 * TIMEOUT
    resolver.assert_nothing_left()


def test_the_end_of_the_run_is_a_timeout_for_all() -> None:
    """Marked or not, nobody is left waiting, and each counts as one that did not answer."""
    resolver = SimulatedResolver(
        SILENT,
        says_own(1, 10),
        SILENT,
        parallel=ParallelSettings(fallback_timeout=0.3, total_collect_timeout=2.0),
        timeout=TIMEOUT,
    )
    client = resolver.ask()
    resolver.run()
    assert client.at == 10
    assert resolver.now == 2000
    assert failures(resolver) == [1, 0, 1]
    resolver.assert_nothing_left()
