"""Loading lists is measured in a process of its own, with all that it starts."""

from __future__ import annotations

import pytest

from bench import lists
from bench.daemons import Laboratory

NAMES = 30_000


@pytest.mark.long
@pytest.mark.live
@pytest.mark.slow
def test_a_load_is_measured() -> None:
    """The memory and the turns of a short list are within the bounds of a long one."""
    with Laboratory() as laboratory:
        section = lists.measure(laboratory, count=NAMES, rounds=1)
    figures = {figure.measure: figure for figure in section.figures}
    assert len(figures) == 6
    for name in ("first load", "load again"):
        assert figures[f"{name}, s"].median > 0.01
        assert figures[f"{name}, longest turn, ms"].met
        peak = figures[f"{name}, more at the peak, MiB"]
        assert peak.median > 4  # there is another process
        assert peak.met
