"""The command ``staggerdns`` as a process."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import yaml

from tests.kit.clients import eventually, question, raw_udp
from tests.kit.ports import free_endpoint
from tests.kit.program import CLEAN, environment, run_to_end

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.ports import Endpoint

COMMAND = (sys.executable, "-m", "staggerdns")
PATIENCE = 30.0
"""Seconds that a command may take on a busy machine."""


def staggerdns(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        env=environment(),
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def answers(endpoint: Endpoint) -> bool:
    """Whether there is an answer."""
    with contextlib.suppress(ConnectionRefusedError):
        return raw_udp(endpoint, question("localhost.").to_wire(), 1.0) is not None
    return False


def test_run(tmp_path: Path) -> None:
    """It answers, in the foreground, and ends by SIGTERM as the program does under twistd."""
    endpoint = free_endpoint()
    path = tmp_path / "staggerdns.yaml"
    settings = {
        "server": {"listen": [str(endpoint)]},
        "upstream": {"servers": ["127.0.0.1:9"]},
        "metrics": {"listen": None},
    }
    path.write_text(yaml.safe_dump(settings))
    checked = staggerdns("check", path)
    assert (checked.returncode, checked.stdout) == (0, f"{path}: this can be used\n")
    with subprocess.Popen([*COMMAND, "--config", path, "run"], env=environment()) as process:
        try:
            eventually(lambda: answers(endpoint), timeout=PATIENCE)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) in CLEAN
        finally:
            process.kill()


def test_a_start_counts_the_errors(tmp_path: Path) -> None:
    """The one line that it ends with has the first, which `check` has too, with all others."""
    path = tmp_path / "staggerdns.yaml"
    path.write_text("upstream: {servers: [192.0.2.1]}\nserver: {listen: [1]}\ncache: 1\n")
    output = run_to_end(path, tmp_path)
    assert (output.stdout + output.stderr).strip().endswith(" (and 1 more)")
    checked = staggerdns("check", path)
    assert checked.returncode == 1
    assert [line.split(": ")[:2] for line in checked.stdout.splitlines()] == [
        [f"{path}:2", "server.listen[0]"],
        [f"{path}:3", "cache"],
    ]
