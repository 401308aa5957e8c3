"""What holds for every test of saved state: each run lets go of its directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.saved import RUNS

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def runs_are_stopped() -> Iterator[None]:
    """Stop the runs that the test has started."""
    yield
    for run in RUNS:
        run.worker.release()
        run.stop()
    RUNS.clear()
