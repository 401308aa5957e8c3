"""The program that is the test internet: it answers what comes out of a TUN device.

Started inside a network namespace of its own, it brings the device and the routes up and then
does, packet by packet, what the `hosts` say, each answer at its time. It ends when its standard
input does; until then each line there is a command, answered with a line of JSON:

``log N``: every request so far but the first N: seconds (`time.monotonic`), method and address.
``move ADDRESS MILLISECONDS``: from now on the address is that far away.
``lose SHARE``: from now on so many of all requests get lost, by chance.
"""

from __future__ import annotations

import fcntl
import heapq
import ipaddress
import itertools
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kit.internet import packets
from tests.kit.internet.hosts import JITTER, UNREACHABLE, UNREACHABLE_6, Host, Kind, host_at

if TYPE_CHECKING:
    from collections.abc import Iterator

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_DEVICE = "stagger0"
_OPEN_PORTS = (443, 80)
_SETUP = (
    "link set lo up",
    f"link set {_DEVICE} up",
    f"addr add 198.19.255.1/32 dev {_DEVICE}",
    f"-6 addr add 2001:2:0:0:ff::1/128 dev {_DEVICE} nodad",
    # Everything leads here, so that what must not be probed would be seen.
    f"route add default dev {_DEVICE}",
    f"-6 route add default dev {_DEVICE}",
    f"route add unreachable {UNREACHABLE}",
    f"-6 route add unreachable {UNREACHABLE_6}",
)


def open_tun() -> int:
    """Create the device in the namespace of this process and return its descriptor."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", _DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    return tun


class Answerer:
    """Everything that is out there; ``tun``: the descriptor of the device."""

    def __init__(self, tun: int) -> None:
        self.log: list[tuple[float, str, str]] = []
        self._tun = tun
        self._due: list[tuple[float, int, bytes]] = []
        self._order = itertools.count()
        self._seen: Counter[bytes] = Counter()
        self._moved: dict[bytes, float] = {}
        self._connections: set[tuple[bytes, int, int, int]] = set()
        self._rng = random.Random(0)
        self._loss = 0.0

    def run(self) -> None:
        """Answer until standard input ends."""
        commands = b""
        while True:
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            ready = select.select([self._tun, 0], [], [], wait)[0]
            self._send_due()
            if self._tun in ready:
                self._read()
            if 0 in ready:
                data = os.read(0, 65_536)
                if not data:
                    return
                *lines, commands = (commands + data).split(b"\n")
                for line in lines:
                    sys.stdout.write(json.dumps(self._obey(line.decode().split())) + "\n")
                    sys.stdout.flush()

    def _obey(self, words: list[str]) -> object:
        if words[0] == "log":
            return self.log[int(words[1]) :]
        if words[0] == "lose":
            self._loss = float(words[1])
            return None
        assert words[0] == "move", words
        self._moved[ipaddress.ip_address(words[1]).packed] = float(words[2]) / 1000
        return None

    def _send_due(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            with suppress(OSError):  # a full queue is a lost packet
                os.write(self._tun, heapq.heappop(self._due)[2])

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while True:
                data = os.read(self._tun, 4096)
                now = time.monotonic()
                packet = packets.parse(data)
                if packet is not None:
                    for delay, reply in self._answers(packet, now):
                        heapq.heappush(self._due, (now + delay, next(self._order), reply))

    def _answers(self, packet: packets.Packet, now: float) -> Iterator[tuple[float, bytes]]:
        """Yield the answers to a packet, and how many seconds later each is due."""
        echo = packets.parse_echo(packet)
        if echo is not None:
            self._note(now, "icmp", packet.target)
            where = self._reach(packet.target)
            if where is not None:
                yield from _echoes(packet, echo, where)
            return
        segment = packets.parse_segment(packet)
        if segment is None or segment.flags & packets.RST:
            return
        if not segment.flags & packets.SYN:
            return  # the acknowledgement of ours; nobody sends us data
        attempt = (packet.target, segment.target_port, segment.source_port, segment.sequence)
        again = " again" if attempt in self._connections else ""
        self._connections.add(attempt)
        self._note(now, f"tcp:{segment.target_port}{again}", packet.target)
        where = self._reach(packet.target)
        if where is not None and where.kind not in (Kind.ICMP_ONLY, Kind.FORGED_ONLY):
            yield where.seconds, self._greet(packet, segment, where)

    def _note(self, now: float, method: str, target: bytes) -> None:
        self.log.append((now, method, str(ipaddress.ip_address(target))))

    def _reach(self, target: bytes) -> Host | None:
        """Return where a packet arrives, None when it does not."""
        kind, seconds = host_at(target)
        seconds = self._moved.get(target, seconds)
        self._seen[target] += 1
        if self._rng.random() < self._loss:
            return None
        if kind == Kind.SILENT or (kind == Kind.LOSSY and self._seen[target] % 2 == 0):
            return None
        if kind == Kind.JITTERY:
            seconds += self._rng.uniform(-JITTER, JITTER)
        return Host(kind, seconds)

    def _greet(self, packet: packets.Packet, asked: packets.Segment, where: Host) -> bytes:
        welcome = asked.target_port in _OPEN_PORTS and where.kind != Kind.REFUSING
        answer = packets.Segment(
            asked.target_port,
            asked.source_port,
            self._rng.getrandbits(32) if welcome else 0,
            (asked.sequence + asked.length) & 0xFFFFFFFF,
            packets.ACK | (packets.SYN if welcome else packets.RST),
        )
        return packets.segment(packet.target, packet.source, answer)


def _echoes(
    packet: packets.Packet, asked: packets.Echo, where: Host
) -> Iterator[tuple[float, bytes]]:
    if where.kind in (Kind.TCP_ONLY, Kind.REFUSING):
        return
    reply = asked._replace(kind=packets.ECHO_REPLIES[packet.protocol])
    if where.kind in (Kind.FORGED, Kind.FORGED_ONLY):
        for source, forgery in _forgeries(packet.target, reply):
            yield 0.0, packets.echo(source, packet.source, forgery)
    if where.kind != Kind.FORGED_ONLY:
        yield where.seconds, packets.echo(packet.target, packet.source, reply)


def _forgeries(source: bytes, true: packets.Echo) -> Iterator[tuple[bytes, packets.Echo]]:
    """Yield replies each of which is wrong in one thing only, and the address it comes from."""
    yield source, true._replace(identifier=true.identifier ^ 1)
    for change in (1, 2, 0x8000):
        yield source, true._replace(sequence=true.sequence ^ change)
    yield source, true._replace(data=true.data[:-1] + bytes([true.data[-1] ^ 1]))
    yield source, true._replace(data=true.data + b"\0\0")
    yield source, true._replace(data=true.data[:-2])
    yield source, true._replace(data=b"")
    yield source, true._replace(code=1)
    yield source[:-1] + bytes([source[-1] ^ 1]), true


def main() -> None:
    """Bring the internet up, say so, and answer."""
    try:
        tun = open_tun()
    except PermissionError as error:
        sys.exit(f"refused: {error}")
    for line in _SETUP:
        subprocess.run(["ip", *line.split()], check=True)
    # What it says must be in time, however busy the machine is.
    with suppress(OSError):
        os.nice(-10)
    sys.stdout.write(f"{Path('/proc/self/ns/net').readlink()}\n")
    sys.stdout.flush()
    Answerer(tun).run()


if __name__ == "__main__":
    main()
