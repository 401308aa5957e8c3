"""What the fork server starts is what a command line would start."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit import behaviours as b
from tests.kit.clients import eventually
from tests.kit.forkserver import Forked, ForkServer
from tests.kit.program import CLEAN, Program, command, environment, run_to_end
from tests.kit.scripted import ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = pytest.mark.live

REAL = {"PYTHONUNBUFFERED": "1"}
"""An environment of its own: the program is started from its command line."""


def _seen(program: Program) -> Mapping[str, object]:
    """What a process may have inherited, and what it was started with."""
    process = Path(f"/proc/{program.process.pid}")
    status = dict(
        line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line
    )
    kinds = []
    for number in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a connection that is closed just now
            kinds.append(str(number.readlink()).partition(":[")[0])
    return {
        "descriptors": sorted(kind.replace(str(program.directory), "") for kind in kinds),
        "threads": status["Threads"],
        **{key: status[key] for key in ("SigBlk", "SigIgn", "SigCgt", "Uid", "Groups", "Umask")},
        "namespace": (process / "ns" / "net").readlink(),
        "directory": str((process / "cwd").readlink()).replace(str(program.directory), ""),
    }


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream that answers."""
    with ScriptedUpstream(b.answers("203.0.113.1")) as running:
        yield running


@pytest.mark.long
def test_inherits_nothing(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Descriptors, signals, rights and place are those of a program started in the usual way."""
    with (
        Program(tmp_path / "real", [upstream.endpoint], environ=REAL) as real,
        Program(tmp_path / "fork", [upstream.endpoint]) as fork,
    ):
        assert isinstance(real.process, subprocess.Popen)
        assert isinstance(fork.process, Forked)
        for program in (real, fork):
            assert program.ask("www.example.").addresses == ["203.0.113.1"]
        eventually(lambda: (_seen(fork), _seen(real)), lambda both: both[0] == both[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_status(tmp_path: Path, upstream: ScriptedUpstream, number: signal.Signals) -> None:
    """The status is that of the process, once it has ended."""
    program = Program(tmp_path, [upstream.endpoint])
    program.start()
    process = program.process
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    process.send_signal(number)
    assert process.wait(10) in (0, -number)
    assert process.poll() == process.returncode
    process.kill()  # nothing to kill, and nobody else is hit


def test_output(tmp_path: Path) -> None:
    """Both outputs come back apart, with the status of a refusal."""
    done = run_to_end(tmp_path / "none.yaml", tmp_path)
    assert done.returncode == os.EX_CONFIG
    assert done.stdout == ""
    assert "none.yaml" in done.stderr


@pytest.mark.long
def test_ends_with_its_owner(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """When the owner lets go of the server, what it has started ends, too."""
    program = Program(tmp_path, [upstream.endpoint])
    server = ForkServer(environment())
    with (tmp_path / "log").open("wb") as log:
        started = server.start(
            command(program.configuration), tmp_path, environment(), log.fileno(), log.fileno()
        )
    assert started.poll() is None
    server.stop()
    assert started.wait(10) == -signal.SIGKILL


def test_once_more(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """A program that has ended can be started again."""
    program = Program(tmp_path, [upstream.endpoint])
    for _ in range(2):
        program.start()
        assert program.ask("www.example.").rcode == "NOERROR"
        assert program.terminate()[0] in CLEAN
