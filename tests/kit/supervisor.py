"""A supervisor that passes sockets in and wants to be told, as systemd does."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Self

from tests.kit.program import CLEAN, FOREGROUND, command, environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.kit.ports import Endpoint

PATIENCE = 60.0
"""Seconds until the program has started or ended, on a busy machine."""
_SHIM = """
import os, sys
count = int(sys.argv[1])
passed = [os.dup(int(text)) for text in sys.argv[2 : 2 + count]]
passed = [os.dup2(number, 100 + index) for index, number in enumerate(passed)]
for index, number in enumerate(passed):
    os.dup2(number, 3 + index)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2 + count], sys.argv[2 + count :])
"""
"""What systemd does between fork and exec."""
_SO_RCVBUFFORCE = 33
_BUFFER = 4 * 1024 * 1024


def listening(endpoint: Endpoint, kind: socket.SocketKind) -> socket.socket:
    """A socket as systemd opens one."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    opened = socket.socket(family, kind)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind((endpoint.host, endpoint.port))
    if kind == socket.SOCK_STREAM:
        opened.listen(128)
    else:
        try:
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        except OSError:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    return opened


class Supervisor:
    """Runs the program of a configuration with ``sockets``, each a name and a socket: a context
    manager that ends it.
    """

    def __init__(
        self,
        directory: Path,
        configuration: Path,
        sockets: Sequence[tuple[str, socket.socket]],
        runner: Sequence[str] = FOREGROUND,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.log = directory / "supervised.log"
        self._command = command(configuration, runner)
        self._sockets = sockets
        self._environ = dict(environ or {})
        self._path = directory / "notify"
        self._process: subprocess.Popen[bytes] | None = None
        self._heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._heard.bind(str(self._path))
        self._heard.settimeout(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(PATIENCE)
        self._heard.close()
        for each in self._sockets:
            each[1].close()

    def begin(self) -> subprocess.Popen[bytes]:
        """Start the program, and wait for nothing."""
        numbers = [opened.fileno() for _, opened in self._sockets]
        environ = {
            **environment(),
            "NOTIFY_SOCKET": str(self._path),
            "LISTEN_FDS": str(len(numbers)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in self._sockets),
            **self._environ,
        }
        shim = [sys.executable, "-SEIc", _SHIM, str(len(numbers)), *map(str, numbers)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*shim, *self._command],
                env=environ,
                pass_fds=numbers,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
            )
        return self._process

    def start(self) -> None:
        """Start the program and wait until it says that it answers."""
        self.begin()
        self.wait_for(b"READY=1")

    def wait_for(self, message: bytes) -> None:
        """Wait until the program says this."""
        while self._heard.recv(4096) != message:
            assert self._process is not None
            assert self._process.poll() is None, self.log.read_text()

    def stop(self) -> None:
        """End the program as systemd does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self.wait_for(b"STOPPING=1")
        assert self._process.wait(PATIENCE) in CLEAN, self.log.read_text()
