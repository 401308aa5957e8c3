"""The programs that the benchmark starts, and what the machine is."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

#: Debian package of each program.
PACKAGES = {
    "dnsdist": "dnsdist",
    "dnsmasq": "dnsmasq-base",
    "dnsperf": "dnsperf",
    "nsd": "nsd",
    "nsd-control": "nsd",
    "taskset": "util-linux",
    "unbound": "unbound",
}
#: The same of those without which some rows are left out.
OPTIONAL = {"h2load": "nghttp2-client", "smartdns": "smartdns"}

#: A load average above this is not only the shell that started the benchmark.
_BUSY = 0.5


class SetupError(Exception):
    """The benchmark cannot run here; the message is one line for the operator."""


def find(program: str) -> str:
    """Return the path of ``program``; daemons live in sbin, which not every PATH names.

    Raises SetupError when it is not installed.
    """
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        package = PACKAGES.get(program) or OPTIONAL[program]
        raise SetupError(f"{program} is missing: apt-get install {package}")
    return path


def has(program: str) -> bool:
    """Tell whether there is a program; if not, say in a line that its rows are left out."""
    try:
        find(program)
    except SetupError as error:
        print(f"left out: {error}\n", flush=True)
        return False
    return True


def check_installed() -> None:
    """Raise SetupError with one line that names every missing package."""
    missing = set()
    for program, package in PACKAGES.items():
        try:
            find(program)
        except SetupError:
            missing.add(package)
    if missing:
        raise SetupError(f"programs are missing: apt-get install {' '.join(sorted(missing))}")
    twistd()


def twistd() -> str:
    """Return the twistd beside the running interpreter; SetupError when there is none."""
    path = Path(sys.executable).with_name("twistd")
    if not path.exists():
        raise SetupError(f"{path} is missing: install the package first (make test)")
    return str(path)


def cores() -> tuple[int, int]:
    """Return the core for the server and the core for everything else (one and the same
    on a machine with a single core).
    """
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[1] if len(usable) > 1 else usable[0]


def pinned(core: int | None) -> list[str]:
    """Return what stands before a command that is to stay on ``core``; `None`: on any."""
    return [] if core is None else [find("taskset"), "-c", str(core)]


@contextlib.contextmanager
def on_core_of_servers() -> Iterator[None]:
    """Measure in this process, on the core for the server."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores()[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _first_number(command: list[str], pattern: str = r"\d+\.\d+(?:\.\d+)*") -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    found = re.search(pattern, done.stdout + done.stderr)
    return found.group() if found else "unknown"


def _smartdns() -> dict[str, str]:
    try:
        return {"smartdns": _first_number([find("smartdns"), "-v"], r"\d+(?:\.\d+)*")}
    except SetupError:
        return {}


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def environment() -> dict[str, str]:
    """Describe the machine and the versions of everything that takes part."""
    server, client = cores()
    return {
        "cpu": f"{_cpu_model()}, {os.cpu_count()} cores; server on core {server}, "
        f"client and upstreams on core {client}",
        "load": f"{os.getloadavg()[0]:.2f} in the minute before the run"
        + (": others are busy here, rates will be low" if os.getloadavg()[0] > _BUSY else ""),
        "kernel": os.uname().release,
        "staggerdns": metadata.version("staggerdns"),
        "python": sys.version.split()[0],
        "twisted": metadata.version("twisted"),
        "unbound": _first_number([find("unbound"), "-V"]),
        "dnsmasq": _first_number([find("dnsmasq"), "--version"]),
        **_smartdns(),
        "dnsdist": _first_number([find("dnsdist"), "--version"]),
        "nsd": _first_number([find("nsd"), "-v"]),
        "dnsperf": _first_number([find("dnsperf"), "-h"]),
    }
