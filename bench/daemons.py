"""Daemons in a temporary directory: started, pinned to a core, watched and ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from bench import programs
from bench.client import ask

#: Seconds that a daemon may take until it answers, and until it has gone.
START_TIME = 60.0
STOP_TIME = 5.0
#: Seconds that a daemon may take until it has nothing left to do.
IDLE_TIME = 15.0

_UNDER_WAY = "staggerdns_(?:collections_running|sorts_running|addresses_measuring)"

_T = TypeVar("_T")
_SCHEDULED = 2  # CPUCLOCK_SCHED of the kernel: time on a processor, in nanoseconds


class StartError(Exception):
    """A daemon did not start; the message ends with the last lines of its log."""


def free_port(*addresses: str) -> int:
    """Return a port that is free over UDP and TCP on every address.

    Daemons get their ports in their configuration, so somebody else may take the port
    before they do: then the start fails loudly.
    """
    for _ in range(50):
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            first.bind((addresses[0], 0))
            port: int = first.getsockname()[1]
            try:
                for number, address in enumerate(addresses):
                    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                        if number == 0 and kind == socket.SOCK_DGRAM:
                            continue
                        stack.enter_context(socket.socket(socket.AF_INET, kind)).bind(
                            (address, port)
                        )
            except OSError:
                continue
            return port
    raise StartError("no free port on loopback")


def wait_for(reached: Callable[[], bool], patience: float) -> bool:
    """Poll ``reached`` for ``patience`` seconds; False when it never came true."""
    deadline = time.monotonic() + patience
    while not reached():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class Daemon:
    """One running server: where it listens and what it has used so far."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.address = ("127.0.0.1", 0)
        #: Where StaggerDNS has its metrics.
        self.web = ("127.0.0.1", 0)
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Process id: the pinning program is replaced by the daemon, which keeps the id."""
        return self._process.pid

    def cpu_seconds(self) -> float:
        """User and system time of all threads so far, in seconds."""
        # The clock that clock_getcpuclockid(3) names; /proc has nothing finer than ticks.
        return time.clock_gettime(~self.pid << 3 | _SCHEDULED)

    def metric(self, name: str) -> float:
        """The sum of all samples of this name, a regular expression, in `/metrics`."""
        with urllib.request.urlopen(
            f"http://{self.web[0]}:{self.web[1]}/metrics", timeout=5
        ) as page:
            text = page.read().decode()
        found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def wait_until_idle(self) -> None:
        """Wait until StaggerDNS has nothing left to do for what was asked; upstreams do not see
        all of it. Others, of which that is not known, are not waited for.
        """
        if self.web[1]:
            wait_for(lambda: not self.metric(_UNDER_WAY), IDLE_TIME)

    def memory(self) -> tuple[int, int]:
        """Resident bytes now, and the most ever."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        kib = {
            key: int(value.split()[0])
            for key, _, value in (line.partition(":") for line in status.splitlines())
            if key in {"VmRSS", "VmHWM"}
        }
        return kib["VmRSS"] * 1024, kib["VmHWM"] * 1024

    def wait_until_answering(self, address: tuple[str, int], qname: str) -> None:
        """Ask until something answers at ``address``; StartError when nothing does."""
        self.address = address
        deadline = time.monotonic() + START_TIME
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise StartError(self._complaint(f"ended with {self._process.returncode}"))
            if ask(address, qname, timeout=0.2) is not None:
                return
        raise StartError(self._complaint(f"no answer within {START_TIME:g} s"))

    def _complaint(self, what: str) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
        return "\n    ".join([f"{self.name} did not start: {what}", *lines])

    def stop(self) -> None:
        """End the process; its whole session when it does not go by itself."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIME)
        # Children of a killed parent (nsd has some) would live on.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Laboratory:
    """A temporary directory and the daemons in it. Leaving the context ends all of them,
    also after Ctrl-C.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.directory = Path()

    def __enter__(self) -> Self:
        name = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="staggerdns-bench-"))
        self.directory = Path(name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def enter(self, context: contextlib.AbstractContextManager[_T]) -> _T:
        """Enter a context that is left after the daemons which are started from now on."""
        return self._stack.enter_context(context)

    def path(self, name: str) -> Path:
        """Return a path in the directory."""
        return self.directory / name

    def write(self, name: str, text: str) -> Path:
        """Write a file and return its path."""
        path = self.path(name)
        path.write_text(text, encoding="ascii")
        return path

    def start(
        self,
        name: str,
        command: Sequence[str],
        core: int | None,
        environment: Mapping[str, str] | None = None,
    ) -> Daemon:
        """Start ``command`` on ``core``, or wherever there is room, with its output in a log file.
        The caller waits for its first answer. ``environment`` is added to that of the benchmark.
        """
        log = self.path(f"{name}-{time.monotonic_ns()}.log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*programs.pinned(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env={**os.environ, **(environment or {})},
                # Ctrl-C is for the benchmark, which then ends the daemons itself.
                start_new_session=True,
            )
        daemon = Daemon(name, process, log)
        self._stack.callback(daemon.stop)
        return daemon
