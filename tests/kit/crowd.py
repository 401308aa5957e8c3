"""Many queries at a steady rate, whatever the answers: new names in a crowd, and a known name
asked all the while by somebody else, with the time that each answer took.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.kit.clients import question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kit.ports import Endpoint

_TICK = 0.001
_BUFFER = 4 << 20
_SO_RCVBUFFORCE = 33


def _client(server: Endpoint, source: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (_SO_RCVBUFFORCE, socket.SO_RCVBUF):
        with contextlib.suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
            break
    sock.bind((source, 0))
    sock.connect(server)
    sock.setblocking(False)
    return sock


@dataclass
class Crowd:
    """What came of a load: seconds per answer, and how often there was which code."""

    sent: int = 0
    codes: dict[int, int] = field(default_factory=dict)
    known_sent: int = 0
    known: list[float] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """New names that were answered well."""
        return self.codes.get(0, 0)

    @property
    def all_answered(self) -> bool:
        """Whether every query has some answer."""
        return sum(self.codes.values()) >= self.sent and len(self.known) >= self.known_sent

    @property
    def median(self) -> float:
        """Seconds until half of the answers to the known name had come, lost ones included."""
        times = sorted(self.known) + [float("inf")] * (self.known_sent - len(self.known))
        return times[len(times) // 2]


def _due(rate: float, until: float) -> Iterator[int]:
    """Yield again and again how many are due by now since the last look, until the end."""
    start = time.monotonic()
    done = 0
    while (now := time.monotonic()) < until:
        goal = int((now - start) * rate)
        yield goal - done
        done = goal


def load(
    server: Endpoint,
    rate: float,
    seconds: float,
    *,
    name: Callable[[int], str],
    known: str,
    known_rate: float = 200.0,
    patience: float = 3.0,
    source: str = "127.0.0.1",
) -> Crowd:
    """Ask for ``name(0)``, ``name(1)``... at ``rate`` per second for so many ``seconds``.

    Wait ``patience`` at most for the last answers. ``known`` is asked from a socket of its own
    meanwhile.
    """
    crowd = Crowd()
    template = question("x" * 8 + "." + name(0).partition(".")[2]).to_wire()[12 + 9 :]
    header = bytes.fromhex("01000001000000000000")
    asked = question(known).to_wire()
    sent_at: dict[bytes, float] = {}
    end = time.monotonic() + seconds
    with _client(server, source) as many, _client(server, "127.0.0.9") as one:

        def receive() -> None:
            now = time.monotonic()
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                while True:
                    reply = one.recv(4096)
                    if reply[:2] in sent_at and not reply[3] & 15:
                        crowd.known.append(now - sent_at.pop(reply[:2]))
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                while True:
                    code = many.recv(4096)[3] & 15
                    crowd.codes[code] = crowd.codes.get(code, 0) + 1

        for count, extra in zip(_due(rate, end), _due(known_rate, end), strict=False):
            for _ in range(extra):
                message_id = crowd.known_sent.to_bytes(2, "big")
                sent_at[message_id] = time.monotonic()
                one.send(message_id + asked[2:])
                crowd.known_sent += 1
            for _ in range(count):
                label = name(crowd.sent).partition(".")[0].encode()
                wire = (crowd.sent & 0xFFFF).to_bytes(2, "big") + header
                with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                    many.send(wire + bytes([len(label)]) + label + template)
                crowd.sent += 1
            select.select([one], [], [], _TICK)
            receive()
        end = time.monotonic() + patience
        while time.monotonic() < end and not crowd.all_answered:
            select.select([one, many], [], [], 0.01)
            receive()
    return crowd
