"""What a supervisor hears, which is played here: sd_notify(3), sd_watchdog_enabled(3)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from twisted.internet.task import Clock

from staggerdns.supervision import STATUS_EVERY, Supervision

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PID = 4711


class Supervisor:
    """Has a socket, and the program that it supervises."""

    def __init__(self, path: str, **environ: str) -> None:
        self.clock = Clock()
        self.counts: dict[tuple[str, ...], int] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(f"\0{path[1:]}" if path.startswith("@") else path)
        self.supervised = Supervision(
            {"NOTIFY_SOCKET": path, **environ}, PID, self.clock, lambda: self.counts
        )

    def start(self) -> None:
        """Start, and let the reactor run."""
        self.supervised.startService()
        assert self.heard() == []
        self.clock.advance(0)

    def heard(self) -> list[str]:
        """What has been said since the last look."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def pass_time(self, seconds: float) -> list[str]:
        """Let seconds pass in quarters; what is said meanwhile."""
        self.clock.pump([0.25] * int(4 * seconds))
        return self.heard()

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Return where the supervisor's socket is."""
    return str(tmp_path / "notify")


@pytest.fixture
def supervisor(path: str) -> Iterator[Supervisor]:
    """Return one that wants a sign of life every eight seconds."""
    made = Supervisor(path, WATCHDOG_USEC="8000000", WATCHDOG_PID=str(PID))
    yield made
    made.close()


def test_from_start_to_end(supervisor: Supervisor) -> None:
    """Up, alive twice as often as is asked for, about to end; then no timer is left."""
    assert supervisor.heard() == []
    supervisor.start()
    assert supervisor.heard() == ["READY=1", "WATCHDOG=1"]
    assert supervisor.pass_time(9) == ["WATCHDOG=1"] * 2
    supervisor.supervised.stopService()
    assert supervisor.heard() == ["STOPPING=1"]
    assert supervisor.clock.getDelayedCalls() == []


def test_status(supervisor: Supervisor) -> None:
    """How many queries have been answered a second since the last time, and from where."""
    supervisor.counts = {("cache",): 1000, ("upstream",): 1}
    supervisor.start()
    said = []
    for cache, stale, upstream in ((1000, 0, 1), (1030, 10, 11), (101_030, 10, 11)):
        supervisor.counts = {("cache",): cache, ("stale",): stale, ("upstream",): upstream}
        heard = supervisor.pass_time(STATUS_EVERY)
        said += [text for text in heard if not text.startswith(("WATCHDOG", "READY"))]
    assert said == [
        "STATUS=0.0 queries/s, 0 % of them from the cache",
        "STATUS=5.0 queries/s, 80 % of them from the cache",
        "STATUS=10,000.0 queries/s, 100 % of them from the cache",
    ]
    supervisor.supervised.stopService()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "8000000", "WATCHDOG_PID": str(PID + 1)},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "-1"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "\u0668"},
    ],
)
def test_nobody_asks_for_signs(path: str, environ: dict[str, str]) -> None:
    """Or of another process, or in words that mean nothing: then none is given."""
    supervisor = Supervisor(path, **environ)
    supervisor.start()
    assert supervisor.pass_time(9) == ["READY=1"]
    supervisor.supervised.stopService()
    supervisor.close()


def test_signs_without_a_process(path: str) -> None:
    """Whose process is meant need not be said."""
    supervisor = Supervisor(path, WATCHDOG_USEC="1000000")
    supervisor.start()
    assert supervisor.pass_time(1) == ["READY=1", *["WATCHDOG=1"] * 3]
    supervisor.supervised.stopService()
    supervisor.close()


def test_an_abstract_socket() -> None:
    """Its name begins with @ in the environment."""
    supervisor = Supervisor(f"@staggerdns-test-{id(PID)}")
    supervisor.start()
    assert supervisor.heard() == ["READY=1"]
    supervisor.supervised.stopService()
    supervisor.close()


def test_a_supervisor_that_is_gone(supervisor: Supervisor) -> None:
    """Nothing fails, and nothing waits."""
    supervisor.start()
    supervisor.close()
    supervisor.clock.pump([1.0] * 20)
    supervisor.supervised.stopService()


def test_a_supervisor_that_does_not_read(path: str) -> None:
    """What its socket does not take is lost."""
    supervisor = Supervisor(path, WATCHDOG_USEC="2000")
    supervisor.start()
    supervisor.clock.pump([0.001] * 5000)
    assert supervisor.heard()[0] == "READY=1"
    supervisor.supervised.stopService()
    supervisor.close()
