"""The program under a real supervisord, from the file that operators copy."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import pytest
import yaml

from tests.kit.checkout import ROOT

BIN = Path(sys.executable).parent
SECTION = "program:staggerdns"
DEADLINE = 30.0
"""Seconds that anything may take before it counts as broken; a busy machine needs a few."""


def _free_port() -> int:
    """Return a port of 127.0.0.1 that is free for UDP and TCP."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
        ):
            stream.bind(("127.0.0.1", 0))
            port: int = stream.getsockname()[1]
            try:
                datagram.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _write_configuration(path: Path, port: int) -> None:
    """Write the default configuration, moved to a free port, with an upstream that is nobody."""
    settings = yaml.safe_load((ROOT / "etc" / "staggerdns.yaml").read_text())
    settings["server"]["listen"] = [f"127.0.0.1:{port}"]
    settings["upstream"]["servers"] = ["127.0.0.1:9"]
    settings["metrics"]["listen"] = None
    path.write_text(yaml.safe_dump(settings))


def _write_supervisor_configuration(path: Path, configuration: Path) -> None:
    """Write etc/supervisord.conf with its paths and account replaced, and a daemon around it."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string((ROOT / "etc" / "supervisord.conf").read_text())
    program = parser[SECTION]
    replaced = {
        "/opt/staggerdns/bin/twistd": [str(BIN / "twistd")],
        "/etc/staggerdns/staggerdns.yaml": [str(configuration)],
        # Needs root, and an account that only an installation has.
        "--uid staggerdns": [],
        "--gid staggerdns": [],
    }
    command = program["command"]
    for old, new in replaced.items():
        assert command.count(old) == 1, f"{old} in {command}"
        command = command.replace(old, shlex.join(new))
    program["command"] = command
    program["stdout_logfile"] = str(path.parent / "staggerdns.log")
    control = path.parent / "s"
    parser.read_dict(
        {
            "unix_http_server": {"file": str(control)},
            "rpcinterface:supervisor": {
                "supervisor.rpcinterface_factory": (
                    "supervisor.rpcinterface:make_main_rpcinterface"
                )
            },
            "supervisorctl": {"serverurl": f"unix://{control}"},
            "supervisord": {
                "nodaemon": "true",
                "logfile": str(path.parent / "supervisord.log"),
                "pidfile": str(path.parent / "supervisord.pid"),
                "childlogdir": str(path.parent),
            },
        }
    )
    with path.open("w") as file:
        parser.write(file)


class Supervised:
    """A running supervisord with its one program, which listens on ``port``."""

    def __init__(self, directory: Path) -> None:
        self.port = _free_port()
        self._configuration = directory / "supervisord.conf"
        self._log = directory / "staggerdns.log"
        _write_configuration(directory / "staggerdns.yaml", self.port)
        _write_supervisor_configuration(self._configuration, directory / "staggerdns.yaml")
        self._daemon = subprocess.Popen(
            [BIN / "supervisord", "-c", self._configuration],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> int:
        """Stop supervisord, which stops its program first; return its exit status."""
        self._daemon.terminate()
        try:
            return self._daemon.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()
            raise

    def pid(self) -> int:
        """Return the process id of the program once supervisord calls it RUNNING, else 0.

        Killed earlier it is a failed start, which is retried whatever `autorestart` says.
        """
        done = subprocess.run(
            [BIN / "supervisorctl", "-c", self._configuration, "status", "staggerdns"],
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
        )
        found = re.search(r"\bRUNNING\s+pid (\d+),", done.stdout)
        return int(found[1]) if found else 0

    def answers(self) -> bool:
        """Ask once for the version: class CH is answered without an upstream."""
        query = dns.message.make_query("version.bind.", "TXT", "CH")
        try:
            dns.query.udp(query, "127.0.0.1", port=self.port, timeout=0.5)
        except (OSError, dns.exception.Timeout):
            return False
        return True

    def wait_for_answer(self, *, other_than: int = 0) -> int:
        """Wait until a process other than this one answers; return its process id."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            before = self.pid()
            if before not in (0, other_than) and self.answers() and self.pid() == before:
                return before
            time.sleep(0.1)
        log = self._log.read_text() if self._log.exists() else "(no log)"
        pytest.fail(f"no answer within {DEADLINE} s\n{log}")


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    """Run the program under supervisord for one test."""
    running = Supervised(tmp_path)
    try:
        yield running
    finally:
        running.stop()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_answers_again_after_sigkill(supervised: Supervised) -> None:
    """Killed without warning, the program is started again and answers on the same port."""
    first = supervised.wait_for_answer()
    os.kill(first, signal.SIGKILL)
    second = supervised.wait_for_answer(other_than=first)
    assert second != first
    assert not _alive(first)


@pytest.mark.long
@pytest.mark.slow
def test_leaves_nothing_behind_when_supervisord_stops(supervised: Supervised) -> None:
    """Stopped in order, the program is gone and its port is silent."""
    pid = supervised.wait_for_answer()
    assert supervised.stop() == 0
    assert not _alive(pid)
    assert not supervised.answers()
