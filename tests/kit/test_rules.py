"""What `tests/conftest.py` enforces, seen on a few tests that break the rules."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.kit.checkout import ROOT

BROKEN = """
import subprocess
from pathlib import Path

import pytest

FLAG = Path(__file__).with_name("flag")


@pytest.mark.live
def test_live_and_unlucky():
    subprocess.run(["true"])
    first = not FLAG.exists()
    FLAG.touch()
    assert not first, "the machine was busy"


@pytest.mark.live
def test_live_and_broken():
    assert False


def test_logic():
    assert False


def test_unmarked():
    subprocess.run(["true"])
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest prints about them."""
    path = tmp_path_factory.mktemp("rules") / "test_broken.py"
    path.write_text(BROKEN)
    options = ["--rootdir", str(path.parent), "-c", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", *options, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


pytestmark = pytest.mark.live


def test_a_live_test_gets_a_second_look(said: str) -> None:
    """It passes when the second run does; how many there were is said, and why."""
    assert "live tests that were run again: 2" in said
    assert "AssertionError: the machine was busy" in said
    assert re.search(r"=+ 2 failed, 2 passed, 1 error, 2 rerun in ", said)


def test_logic_gets_none(said: str) -> None:
    """A test without processes is run once."""
    again = said.partition("live tests that were run again")[2].partition("short test summary")[0]
    assert "test_live_and_broken" in again
    assert "test_logic" not in again


def test_a_process_makes_a_test_live(said: str) -> None:
    """A test that starts a process without the mark does not pass."""
    assert "not marked as live, and starts true" in said
