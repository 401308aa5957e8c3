"""The program under test, run as its users run it: ``twistd -n staggerdns --config FILE``."""

from __future__ import annotations

import copy
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.kit import clients
from tests.kit.forkserver import Forked, fork_server
from tests.kit.ports import Endpoint, free_endpoint

if TYPE_CHECKING:
    from types import TracebackType

Settings = dict[str, Any]

# What must never stand in the log, whatever a client or an upstream sends.
_BAD_WORDS = ("Traceback (most recent call last)", "Unhandled", "[critical]", "#critical")

TWISTD = str(Path(sys.executable).with_name("twistd"))

# twistd shuts down and then dies by the very signal that asked for it, as daemons should: a
# supervisor sees an orderly end either way.
CLEAN = (0, -signal.SIGTERM)


def merged(base: Settings, extra: Mapping[str, Any]) -> Settings:
    """Return ``base`` with ``extra`` laid over it, mapping by mapping."""
    result = copy.deepcopy(base)
    for key, value in extra.items():
        below = result.get(key)
        result[key] = (
            merged(below, value)
            if isinstance(value, Mapping) and isinstance(below, dict)
            else value
        )
    return result


FOREGROUND = ("twistd", "-n", "--pidfile=")
"""Twisted's program that runs ours, with its options, as supervisors use it."""


def command(configuration: Path, runner: Sequence[str] = FOREGROUND) -> list[str]:
    """The command line that starts the program with this file."""
    program, *options = runner
    found = str(Path(sys.executable).with_name(program))
    return [found, *options, "staggerdns", "--config", str(configuration)]


def environment() -> dict[str, str]:
    """The environment that starts the very package which the tests import."""
    spec = importlib.util.find_spec("staggerdns")
    assert spec is not None, "staggerdns cannot be imported"
    assert spec.origin is not None, "staggerdns has no __init__.py"
    found = str(Path(spec.origin).parent.parent)
    return {**os.environ, "PYTHONPATH": found, "PYTHONUNBUFFERED": "1"}


def launch(
    arguments: Sequence[str],
    directory: Path,
    environ: Mapping[str, str] | None,
    stdout: IO[bytes],
    stderr: IO[bytes],
) -> subprocess.Popen[bytes] | Forked:
    """Start a command line, by the fork server if it is the program as it usually runs."""
    usual = [TWISTD, *FOREGROUND[1:]]
    if list(arguments[: len(usual)]) == usual and not environ:
        output = stdout.fileno(), stderr.fileno()
        return fork_server().start(arguments, directory, environment(), *output)
    return subprocess.Popen(
        arguments,
        cwd=directory,
        env=environment() | dict(environ or {}),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        # A shell starts what is in the background with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def run_to_end(
    configuration: Path,
    directory: Path,
    timeout: float = 20.0,
    runner: Sequence[str] = FOREGROUND,
) -> subprocess.CompletedProcess[str]:
    """Run the program with a file that it is expected to reject; what it wrote and returned."""
    arguments = command(configuration, runner)
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = launch(arguments, directory, None, stdout, stderr)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
            raise
        written = []
        for file in (stdout, stderr):
            file.seek(0)
            written.append(file.read().decode())
    return subprocess.CompletedProcess(arguments, status, *written)


@dataclass(frozen=True)
class Sample:
    """One line of ``/metrics``."""

    name: str
    labels: Mapping[str, str]
    value: float


class Samples:
    """One reading of ``/metrics``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.types: dict[str, str] = {}
        self.samples: list[Sample] = []
        for family in text_string_to_metric_families(text):
            self.types[family.name] = family.type
            for sample in family.samples:
                self.samples.append(Sample(sample.name, sample.labels, sample.value))

    def find(self, name: str, **labels: str) -> list[Sample]:
        """The samples of this name which have all these labels."""
        return [
            sample
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def value(self, name: str, **labels: str) -> float:
        """The sum of these samples; 0 when there is none."""
        return sum(sample.value for sample in self.find(name, **labels))


class Program:
    """A running program; a context manager that terminates it and looks through its log."""

    def __init__(
        self,
        directory: Path,
        upstreams: Sequence[Endpoint | str],
        settings: Mapping[str, Any] | None = None,
        *,
        listen: Endpoint | None = None,
        environ: Mapping[str, str] | None = None,
        runner: Sequence[str] = FOREGROUND,
        output: int | None = None,
    ) -> None:
        self._runner = runner
        self._output = output  # a descriptor in the place of the log
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._environ = dict(environ or {})
        self.endpoint = listen or free_endpoint()
        self.web = free_endpoint()
        base: Settings = {
            "server": {"listen": [str(self.endpoint)]},
            "upstream": {"servers": [str(upstream) for upstream in upstreams]},
            "metrics": {"listen": str(self.web)},
            # Probes would leave the machine: only the test internet has them.
            "ranking": {"enabled": False},
            # What a test sees must not depend on the machine.
            "local": {"hosts": None},
            # One for each program, or none.
            "control": {"socket": None},
        }
        self.settings = merged(base, settings or {})
        self.configuration = directory / "staggerdns.yaml"
        self.configuration.write_text(yaml.safe_dump(self.settings))
        self._log = directory / "program.log"
        self._process: subprocess.Popen[bytes] | Forked | None = None

    # Life.

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        status = None
        if self._process is not None and self._process.poll() is None:
            status = self.terminate()[0]
        if error is not None:
            error.add_note(f"--- log of the program ---\n{self.log[-6000:]}")
            return
        self.check_log()
        assert status in (None, *CLEAN), f"exit status {status}:\n{self.log}"

    def start(self, timeout: float = 20.0) -> None:
        """Start the program and wait until it listens; AssertionError with its log if not."""
        with self._log.open("ab") as output:
            if self._output is not None:
                os.dup2(self._output, output.fileno())
            self._process = launch(
                command(self.configuration, self._runner),
                self.directory,
                self._environ,
                output,
                output,
            )
        deadline = time.monotonic() + timeout
        while not self._is_ready():
            if self._process.poll() is not None:
                raise AssertionError(f"exit {self._process.returncode}:\n{self.log}")
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"not ready after {timeout} s:\n{self.log}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        try:
            clients.TcpClient(self.endpoint).close()
            if self.settings["metrics"]["listen"] is not None:
                self.health()
        except OSError:
            return False
        return True

    @property
    def process(self) -> subprocess.Popen[bytes] | Forked:
        """The process; AssertionError before `start`."""
        assert self._process is not None, "not started"
        return self._process

    def terminate(self, timeout: float = 10.0) -> tuple[int, float]:
        """Send SIGTERM; the exit status and how many seconds the end took."""
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"alive {timeout} s after SIGTERM:\n{self.log}") from None
        return status, time.monotonic() - start

    def kill(self) -> None:
        """Send SIGKILL and wait."""
        self.process.kill()
        self.process.wait(5)

    # What it tells.

    @property
    def log(self) -> str:
        """All that it wrote so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def check_log(self) -> None:
        """Assert that the log holds no traceback and nothing critical."""
        log = self.log
        for word in _BAD_WORDS:
            assert word not in log, f"{word!r} in the log:\n{log[-6000:]}"

    def get(self, path: str) -> tuple[int, str]:
        """GET a page of the metrics listener: status and body; OSError when there is none."""
        try:
            with urllib.request.urlopen(f"http://{self.web}{path}", timeout=5) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def health(self) -> int:
        """The status of ``/healthz``."""
        return self.get("/healthz")[0]

    def metrics(self) -> Samples:
        """One reading of ``/metrics``."""
        status, text = self.get("/metrics")
        assert status == 200, f"/metrics says {status}"
        return Samples(text)

    # What it answers.

    def ask(self, name: str, rdtype: str = "A", **keywords: Any) -> clients.Reply:
        """Ask it one question: see `clients.ask`."""
        return clients.ask(self.endpoint, name, rdtype, **keywords)

    def pool(
        self, name: str, wanted: set[str], rdtype: str = "A", timeout: float = 5.0
    ) -> clients.Reply:
        """Ask until the answer holds exactly ``wanted``; AssertionError if it never does."""
        return clients.eventually(
            lambda: self.ask(name, rdtype, payload=1232),
            lambda reply: set(reply.addresses) == wanted,
            timeout,
        )
