"""dnsperf as the client: one run, its figures, and what the server spent on it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import programs
from bench.authority import ZONE, part
from bench.daemons import Daemon, Laboratory

#: Seconds that dnsperf waits for a reply before it calls the query lost. On a machine that leaves
#: the server a twentieth of a core a reply comes after 2 to 4 s; late is slow, and not lost.
PATIENCE = 20
#: Seconds that a run of a client program may take, on a busy machine.
LONGEST = 600


class LoadError(Exception):
    """dnsperf failed or said something that was not expected."""


@dataclass(frozen=True)
class Load:
    """One dnsperf run: answered and failed queries (lost, or an error code), seconds of wall
    clock, and seconds of the server's CPU.
    """

    answered: int
    failed: int
    seconds: float
    cpu: float

    @property
    def per_second(self) -> float:
        """Answers per second. Work that the server put off until after the run is not free:
        no run counts as shorter than the CPU time that it cost.
        """
        return self.answered / max(self.seconds, self.cpu)

    @property
    def cpu_each(self) -> float:
        """Microseconds of CPU per answer."""
        return self.cpu / self.answered * 1e6


def names(label: str, count: int, start: int = 0, pools: int = 0) -> list[str]:
    """Return ``count`` different names of the zone, evenly in its parts if it has ``pools``."""
    numbers = range(start, start + count)
    if not pools:
        return [f"{label}-{number:06d}.{ZONE}" for number in numbers]
    return [f"{label}-{number:06d}.{part(number % pools)}.{ZONE}" for number in numbers]


def query_file(laboratory: Laboratory, name: str, qnames: Iterable[str]) -> Path:
    """Write an input file for dnsperf."""
    return laboratory.write(name, "".join(f"{qname} A\n" for qname in qnames))


def run(
    daemon: Daemon,
    queries: Path,
    *,
    seconds: float | None = None,
    outstanding: int = 100,
    rate: int | None = None,
    settle: Callable[[], None] = lambda: None,
    mode: str = "udp",
    port: int | None = None,
    clients: int = 1,
    anywhere: bool = False,
) -> Load:
    """Send the file for ``seconds``, or once through when None; ``rate`` limits queries per
    second. ``settle`` returns when the server has nothing left to do for this load; only
    then its CPU is read. ``mode``: the transport as dnsperf calls it; ``port``: where the server
    has it, if elsewhere; ``clients``: each has a socket; ``anywhere``: on all cores.
    """
    options = ["-m", mode, "-c", str(clients), "-d", str(queries)]
    options += ["-s", daemon.address[0], "-p", str(port or daemon.address[1])]
    options += ["-q", str(outstanding), "-t", str(PATIENCE)]
    options += ["-n", "1"] if seconds is None else ["-l", f"{seconds:g}"]
    if rate is not None:
        options += ["-Q", str(rate)]
    core = None if anywhere else programs.cores()[1]
    return run_client("dnsperf", options, daemon, read, settle, core=core)


def run_client(
    name: str,
    options: Sequence[str],
    daemon: Daemon,
    read: Callable[[str, float], Load],
    settle: Callable[[], None] = lambda: None,
    *,
    core: int | None,
) -> Load:
    """Run a client on a core, or on all; ``read`` gets what it printed, and the seconds of CPU that
    ``daemon`` has spent when ``settle`` has returned.

    Raises `LoadError` when it fails, or nothing was answered.
    """
    command = [*programs.pinned(core), programs.find(name), *options]
    before = daemon.cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST)
    if done.returncode != 0:
        raise LoadError(f"{name} ended with {done.returncode}: {done.stderr.strip()}")
    settle()
    load = read(done.stdout, daemon.cpu_seconds() - before)
    if load.answered == 0:
        raise LoadError(f"{daemon.name} answered none of {load.failed} queries")
    return load


def read(text: str, cpu: float) -> Load:
    """Read what dnsperf printed; LoadError when that is not what it prints.

    ``cpu``: seconds that the server spent.
    """
    sent = int(_figure(r"Queries sent:\s+(\d+)", text))
    good = re.search(r"NOERROR (\d+)", text)
    answered = int(good.group(1)) if good else 0
    return Load(answered, sent - answered, _figure(r"Run time \(s\):\s+([\d.]+)", text), cpu)


def _figure(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise LoadError(f"dnsperf printed nothing like {pattern!r}:\n{text}")
    return float(found.group(1))
