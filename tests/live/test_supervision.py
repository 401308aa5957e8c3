"""The program under a supervisor that wants to be told, as systemd does; the test plays it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import yaml

from tests.kit.clients import question, raw_udp
from tests.kit.ports import free_endpoint
from tests.kit.program import CLEAN, environment

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 30.0
"""Seconds until the program has started or ended, on a busy machine."""


def test_up_alive_and_about_to_end(tmp_path: Path) -> None:
    """READY=1 when it answers, WATCHDOG=1 twice as often as asked for, STOPPING=1 on SIGTERM."""
    endpoint = free_endpoint()
    path = tmp_path / "staggerdns.yaml"
    settings = {
        "server": {"listen": [str(endpoint)]},
        "upstream": {"servers": ["127.0.0.1:9"]},
        "metrics": {"listen": None},
    }
    path.write_text(yaml.safe_dump(settings))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(PATIENCE)
        environ = {
            **environment(),
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "400000",
        }
        command = [sys.executable, "-m", "staggerdns", "--config", str(path), "run"]
        with subprocess.Popen(command, env=environ) as process:
            try:
                assert supervisor.recv(4096) == b"READY=1"
                assert raw_udp(endpoint, question("localhost.").to_wire()) is not None
                for _ in range(3):
                    assert supervisor.recv(4096) == b"WATCHDOG=1"
                process.send_signal(signal.SIGTERM)
                heard = b"WATCHDOG=1"
                while heard == b"WATCHDOG=1":
                    heard = supervisor.recv(4096)
                assert heard == b"STOPPING=1"
                assert process.wait(PATIENCE) in CLEAN
            finally:
                process.kill()
