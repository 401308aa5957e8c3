"""Debian's redis-server on loopback, with nothing on disk, and what tests do with it."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Self

from tests.kit.daemons import find_program
from tests.kit.ports import Endpoint, free_endpoint
from tests.kit.program import Program

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from tests.kit.certificates import Certificate

PATIENT = "500ms"
"""A timeout for a store on a machine that is busy with other tests."""


class RedisServer:
    """A store; a context manager. ``options`` are those of redis-server, without their dashes."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        endpoint: Endpoint | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        self.endpoint = endpoint or free_endpoint()
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        port, tls_port = str(self.endpoint.port), "0"
        if certificate is not None:
            port, tls_port = tls_port, port
        self._options = [
            *("--port", port, "--bind", self.endpoint.host, "--save", "", "--appendonly", "no"),
            *("--dir", str(directory), "--daemonize", "no"),
            *options,
        ]
        if certificate is not None:
            files = (
                "--tls-cert-file",
                str(certificate.chain),
                "--tls-key-file",
                str(certificate.key),
            )
            self._options += ["--tls-port", tls_port, *files, "--tls-auth-clients", "no"]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is, for one that has neither password nor TLS."""
        return f"redis://{self.endpoint}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with (self._directory / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(
                [find_program("redis-server"), *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 20
        while not self._listens():
            assert self.process.poll() is None, (self._directory / "redis.log").read_text()
            assert time.monotonic() < deadline, "redis-server does not listen"
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def do(self, *command: str | bytes) -> bytes:
        """Have it do a command in plain text; what it replies, as it comes."""
        words = [word.encode() if isinstance(word, str) else word for word in command]
        text = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
        with socket.create_connection((self.endpoint.host, self.endpoint.port), 5) as connection:
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            reply = b""
            while data := connection.recv(65_536):
                reply += data
        return reply

    def all_keys(self) -> list[bytes]:
        """All keys that it has."""
        return [line for line in self.do("KEYS", "*").split(b"\r\n") if b":" in line]

    def _listens(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection((self.endpoint.host, self.endpoint.port), 1).close()
            return True
        return False


def reads(program: Program, result: str) -> float:
    """How many questions to the second level had this result."""
    return program.metrics().value("staggerdns_shared_reads_total", result=result)


def is_asked(program: Program) -> bool:
    """Whether the program asks its second level."""
    return program.metrics().value("staggerdns_shared_up") == 1
