"""dnsperf as the client: one run, its figures, and what the server spent on it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bench import programs
from bench.authority import ZONE, part
from bench.daemons import Daemon, Laboratory

#: Seconds that dnsperf waits for a reply before it calls the query lost.
PATIENCE = 5


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


def _figure(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise LoadError(f"dnsperf printed nothing like {pattern!r}:\n{text}")
    return float(found.group(1))


def run(
    daemon: Daemon,
    queries: Path,
    *,
    seconds: float | None = None,
    outstanding: int = 100,
    rate: int | None = None,
    settle: Callable[[], None] = lambda: None,
) -> Load:
    """Send the file for ``seconds``, or once through when None; ``rate`` limits queries per
    second. ``settle`` returns when the server has nothing left to do for this load; only
    then its CPU is read.
    """
    command = [programs.find("taskset"), "-c", str(programs.cores()[1]), programs.find("dnsperf")]
    command += ["-s", daemon.address[0], "-p", str(daemon.address[1]), "-d", str(queries)]
    command += ["-q", str(outstanding), "-t", str(PATIENCE)]
    command += ["-n", "1"] if seconds is None else ["-l", f"{seconds:g}"]
    if rate is not None:
        command += ["-Q", str(rate)]
    before = daemon.cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise LoadError(f"dnsperf ended with {done.returncode}: {done.stderr.strip()}")
    settle()
    cpu = daemon.cpu_seconds() - before
    sent = int(_figure(r"Queries sent:\s+(\d+)", done.stdout))
    good = re.search(r"NOERROR (\d+)", done.stdout)
    answered = int(good.group(1)) if good else 0
    if answered == 0:
        raise LoadError(f"{daemon.name} answered none of {sent} queries")
    return Load(answered, sent - answered, _figure(r"Run time \(s\):\s+([\d.]+)", done.stdout), cpu)
