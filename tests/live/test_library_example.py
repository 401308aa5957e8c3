"""The example for those who use StaggerDNS as a library, as docs/library.rst prints it."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.kit import behaviours as b
from tests.kit.checkout import ROOT
from tests.kit.program import environment
from tests.kit.scripted import ScriptedUpstream

SERVERS = "servers: [1.1.1.1, 9.9.9.9]"


@pytest.fixture
def example() -> str:
    """Return the program on the page."""
    section = (ROOT / "docs" / "library.rst").read_text("utf-8")
    block = re.search(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", section)
    assert block is not None
    program = textwrap.dedent(block[1])
    assert SERVERS in program
    return program


def run(path: Path, *command: str) -> str:
    """Run Python in the directory of ``path``; return what it printed."""
    done = subprocess.run(
        [sys.executable, *command, path.name],
        cwd=path.parent,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    return done.stdout


def test_it_runs(example: str, tmp_path: Path) -> None:
    """With another upstream it prints the record and the numbers, and ends by itself."""
    with ScriptedUpstream(b.answers("192.0.2.77")) as upstream:
        path = tmp_path / "example.py"
        path.write_text(example.replace(SERVERS, f"servers: ['{upstream.endpoint}']"))
        printed = run(path)
    assert "example.com" in printed
    assert "192.0.2.77" in printed
    assert "racing" in printed


@pytest.mark.long
@pytest.mark.slow
def test_it_is_typed(example: str, tmp_path: Path) -> None:
    """As strict as mypy can be, without its plugin for zope, it has no complaint."""
    path = tmp_path / "example.py"
    path.write_text(example)
    assert "Success" in run(path, "-m", "mypy", "--strict", "--config-file=")
