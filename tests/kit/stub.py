"""A stub resolver that asks at a steady rate, and asks again what has no answer, as those of
operating systems do.
"""

from __future__ import annotations

import itertools
import select
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.kit.clients import question

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from tests.kit.ports import Endpoint

PATIENCE = 15.0
"""Seconds until it gives up."""
_TICK = 0.002


@dataclass
class _Waiting:
    name: str
    first: float
    last: float


@dataclass
class Outcome:
    """What came of it: how many questions, how often one was repeated, and names of what went
    wrong.
    """

    asked: int = 0
    repeated: int = 0
    unanswered: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class Stub:
    """Asks for ``names`` in turns, ``rate`` questions a second, and again what has no answer
    after ``retry`` seconds.
    """

    def __init__(self, server: Endpoint, names: Sequence[str], rate: float, retry: float) -> None:
        self._names = itertools.cycle(names)
        self._rate = rate
        self._retry = retry
        self._waiting: dict[int, _Waiting] = {}
        self._outcome = Outcome()
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.connect(server)
        self._sock.setblocking(False)

    def run(self, enough: threading.Event) -> Outcome:
        """Ask until it is enough, then wait for what is missing; to be called once."""
        start = time.monotonic()
        with self._sock:
            while self._waiting or not enough.is_set():
                now = time.monotonic()
                if not enough.is_set():
                    while self._outcome.asked < (now - start) * self._rate:
                        self._ask(now)
                self._repeat(now)
                if select.select([self._sock], [], [], _TICK)[0]:
                    self._receive()
        return self._outcome

    def _ask(self, now: float) -> None:
        number = self._outcome.asked % 65536
        self._outcome.asked += 1
        self._waiting[number] = _Waiting(next(self._names), now, now)
        self._send(number)

    def _send(self, number: int) -> None:
        query = question(self._waiting[number].name)
        query.id = number
        self._sock.send(query.to_wire())

    def _repeat(self, now: float) -> None:
        for number, waiting in list(self._waiting.items()):
            if now - waiting.first > PATIENCE:
                self._outcome.unanswered.append(self._waiting.pop(number).name)
            elif now - waiting.last > self._retry:
                waiting.last = now
                self._outcome.repeated += 1
                self._send(number)

    def _receive(self) -> None:
        while True:
            try:
                wire = self._sock.recv(65535)
            except BlockingIOError:
                return
            waiting = self._waiting.pop(int.from_bytes(wire[:2], "big"), None)
            # A code other than NOERROR, or no answer in it.
            if waiting is not None and (wire[3] & 0x0F or wire[6:8] == b"\0\0"):
                self._outcome.failed.append(waiting.name)
