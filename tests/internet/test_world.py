"""The test internet itself: it must be right before it can judge anybody."""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit.internet import packets
from tests.kit.internet.hosts import Kind, near, near6, special, special6

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kit.internet.world import World

_DATA = b"sixteen letters!"


def _ping(address: str, sequence: int = 1, timeout: float = 0.4) -> float | None:
    """Send one echo; the seconds until its true answer, None without one."""
    version_6 = ":" in address
    family = socket.AF_INET6 if version_6 else socket.AF_INET
    protocol = packets.ICMP6 if version_6 else packets.ICMP
    kind = packets.ECHO_REQUESTS[protocol]
    wire = struct.pack("!BBHHH", kind, 0, 0, 7, sequence) + _DATA
    wire = wire[:2] + packets.checksum(wire) + wire[4:]
    with socket.socket(family, socket.SOCK_RAW, protocol) as sock:
        start = time.monotonic()
        sock.sendto(wire, (address, 0))
        wanted = struct.pack("!HH", 7, sequence) + _DATA
        while (left := start + timeout - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                data, source = sock.recvfrom(2048)
            except TimeoutError:
                return None
            data = data if version_6 else data[20:]
            true = data[:2] == bytes([packets.ECHO_REPLIES[protocol], 0])
            if true and source[0] == address and data[4:] == wanted:
                return time.monotonic() - start
    return None


def _connect(address: str, port: int, timeout: float = 0.4) -> tuple[str, float]:
    """Open a connection; what came of it and after how many seconds."""
    start = time.monotonic()
    try:
        socket.create_connection((address, port), timeout).close()
    except ConnectionRefusedError:
        return "refused", time.monotonic() - start
    except TimeoutError:
        return "silence", time.monotonic() - start
    return "open", time.monotonic() - start


def _about(seconds: float | None, wanted: float) -> bool:
    return seconds is not None and wanted <= seconds < wanted + 0.8


@pytest.mark.parametrize("address", [near(40, 250), near6(40, 250)])
def test_distance(address: str) -> None:
    """Echoes, open ports and closed ports answer after the time that the address says."""
    assert _about(_ping(address, timeout=1), 0.04)
    for port, wanted in ((443, "open"), (80, "open"), (53, "refused")):
        outcome, seconds = _connect(address, port, timeout=1)
        assert outcome == wanted
        assert _about(seconds, 0.04)


@pytest.mark.parametrize("make", [special, special6])
def test_kinds(make: Callable[[Kind, int], str]) -> None:
    """Each kind of place answers what it should, and nothing else."""
    assert _ping(make(Kind.SILENT, 1)) is None
    assert _connect(make(Kind.SILENT, 1), 443)[0] == "silence"
    assert [_ping(make(Kind.LOSSY, 1), number) is None for number in range(4)] == [False, True] * 2
    assert _ping(make(Kind.TCP_ONLY, 1)) is None
    assert _connect(make(Kind.TCP_ONLY, 1), 80)[0] == "open"
    assert _about(_ping(make(Kind.ICMP_ONLY, 30)), 0.03)
    assert _connect(make(Kind.ICMP_ONLY, 1), 80)[0] == "silence"
    assert _ping(make(Kind.REFUSING, 1)) is None
    assert _connect(make(Kind.REFUSING, 1), 443)[0] == "refused"
    assert _about(_ping(make(Kind.FORGED, 30)), 0.03)
    assert _ping(make(Kind.FORGED_ONLY, 1)) is None
    times = [_ping(make(Kind.JITTERY, 30), number) or 0.0 for number in range(5)]
    assert max(times) - min(times) > 0.001
    assert 0.025 < min(times) < 0.1


def test_log(world: World) -> None:
    """Every request is in the log, with its method and its time."""
    address = near(5, 251)
    start = len(world.log())
    before = time.monotonic()
    _ping(address)
    _connect(address, 443)
    _connect(address, 81)
    seen = world.log(start)
    assert [probe[1:] for probe in seen] == [
        ("icmp", address),
        ("tcp:443", address),
        ("tcp:81", address),
    ]
    assert before < seen[0].at < seen[1].at < seen[2].at < time.monotonic()
    assert world.probes([address])["icmp", address] == 1


def test_move(world: World) -> None:
    """An address that was moved is as far away as it was told to be."""
    address = near(5, 252)
    world.move(address, 60)
    assert _about(_ping(address), 0.06)


def test_unreachable() -> None:
    """There are networks to which nothing can be sent."""
    for family, address in ((socket.AF_INET, "203.0.113.9"), (socket.AF_INET6, "2001:db8::9")):
        with (
            socket.socket(family, socket.SOCK_DGRAM) as sock,
            pytest.raises(OSError, match="No route to host"),
        ):
            sock.connect((address, 443))


def test_nothing_gets_out(world: World) -> None:
    """Inside, there is a loopback and the device of the internet, and no other way out."""
    names = {name for _, name in socket.if_nameindex()}
    assert {"lo", "stagger0"} <= names
    assert not any(name.startswith(("eth", "en", "wl")) for name in names)
    routes = Path("/proc/thread-self/net/route").read_text().splitlines()[1:]
    assert {line.split()[0] for line in routes} <= {"stagger0", "*"}


def test_inside_ends(world: World) -> None:
    """A thread comes back to where it was, after a failure as well."""
    own = "/proc/thread-self/ns/net"
    there = Path(own).readlink()

    def fails() -> None:
        with world.inside():
            raise LookupError

    with pytest.raises(LookupError):
        fails()
    assert Path(own).readlink() == there
