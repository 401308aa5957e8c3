"""The network namespace with the test internet in it, and how to get inside.

The namespace has no name: it is that of its `answerer` process, and the kernel takes it away
with the last process or thread in it, whatever way that ends. `World.inside` takes the calling
thread there: sockets and processes that it makes meanwhile belong there, too.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.kit.checkout import ROOT
from tests.kit.namespaces import OWN, PATH, Namespace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_TUN = Path("/dev/net/tun")


class NoInternet(RuntimeError):
    """This machine does not let us build one; the text says why."""


class Probe(NamedTuple):
    """A request that arrived: ``at`` on the scale of `time.monotonic`, ``method`` as in metrics.

    A repeated SYN of one connection attempt, which is the system's doing, has `` again`` at the
    end of its method.
    """

    at: float
    method: str
    address: str


class World:
    """The test internet: a context manager. Raises `NoInternet` where there cannot be one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._namespace: Namespace | None = None

    def __enter__(self) -> Self:
        _check_machine()
        self._process = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-m", "tests.kit.internet.answerer"],
            cwd=ROOT,
            env={**os.environ, "PATH": PATH},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        ready = self._process.stdout.readline()
        if not ready:
            error = self._process.communicate()[1].strip()
            if "refused" in error or "Operation not permitted" in error:
                raise NoInternet(error)
            raise AssertionError(f"the test internet does not come up: {error}")
        self._namespace = Namespace(self._process.pid)
        assert ready.strip() != str(Path(OWN).readlink()), "not a namespace of its own"
        return self

    def __exit__(self, *_: object) -> None:
        self._entered.__exit__()
        process = self._running
        try:
            complaints = process.communicate(timeout=5)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise AssertionError("the test internet did not end") from None
        assert not process.returncode, f"the test internet broke down: {complaints}"

    @property
    def _running(self) -> subprocess.Popen[str]:
        assert self._process is not None, "not started"
        return self._process

    @property
    def _entered(self) -> Namespace:
        assert self._namespace is not None, "not started"
        return self._namespace

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """Put the calling thread into the namespace for a while."""
        return self._entered.inside()

    # What it knows and can do.

    def _command(self, line: str) -> list[list[object]]:
        process = self._running
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, "the test internet has gone"
        result: list[list[object]] = json.loads(answer)
        return result

    def log(self, start: int = 0) -> list[Probe]:
        """Return every request so far but the first ``start``."""
        return [Probe(*fields) for fields in self._command(f"log {start}")]  # type: ignore[arg-type]

    def probes(self, addresses: Collection[str]) -> Counter[tuple[str, str]]:
        """Return how often each of these was probed so far, by (method, address)."""
        wanted = {str(ipaddress.ip_address(address)) for address in addresses}
        return Counter(
            (probe.method, probe.address) for probe in self.log() if probe.address in wanted
        )

    @contextlib.contextmanager
    def losing(self, share: float) -> Iterator[None]:
        """Lose so many of all requests for a while, by chance."""
        self._command(f"lose {share}")
        try:
            yield
        finally:
            self._command("lose 0")

    def move(self, address: str, distance: float) -> None:
        """Put an address elsewhere: ``distance`` is in milliseconds."""
        self._command(f"move {address} {distance}")


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise NoInternet("only root can build a network namespace with a TUN device")
    for program in ("ip", "unshare"):
        if shutil.which(program, path=PATH) is None:
            raise NoInternet(f"the program {program} is missing")
    if _TUN.exists():
        return
    # A container may lack the device node alone, or the kernel its module.
    subprocess.run(["modprobe", "tun"], check=False, capture_output=True) if shutil.which(
        "modprobe", path=PATH
    ) else None
    with contextlib.suppress(OSError):
        _TUN.parent.mkdir(exist_ok=True)
        os.mknod(_TUN, 0o600 | stat.S_IFCHR, os.makedev(10, 200))
    if not _TUN.exists():
        raise NoInternet(f"{_TUN} is missing")
