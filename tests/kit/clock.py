"""A wall clock that a test can set, for the program alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kit.program import environment

if TYPE_CHECKING:
    from pathlib import Path

_SITE = """
import os, time
_true, _shift = time.time, os.environ["CLOCK_SHIFT"]
def _shifted():
    with open(_shift) as file:
        return _true() + float(file.read() or 0)
time.time = _shifted
"""


class WallClock:
    """A clock that is off by as many seconds as `set_off` says; start the program in ``environ``.

    Python's `time.time` alone is off, in the program alone: kernel and neighbours are not.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        (directory / "sitecustomize.py").write_text(_SITE)
        self._shift = directory / "shift"
        self.environ = {
            "CLOCK_SHIFT": str(self._shift),
            "PYTHONPATH": f"{directory}:{environment()['PYTHONPATH']}",
        }
        self.set_off(0)

    def set_off(self, seconds: float) -> None:
        """Set the clock."""
        new = self._shift.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._shift)
