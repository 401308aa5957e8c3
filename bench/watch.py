"""Watching names from their first answer until it has become the complete one, nearest first."""

from __future__ import annotations

import heapq
import math
import select
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.client import failed, question, records
from tests.kit.internet.hosts import by_distance

#: Seconds between a reply and the next question for the same name: how precise the times are.
INTERVAL = 0.005
#: Seconds: what a client gets of an answer that is not ranked yet (`cache.fast_response_ttl`).
SHORT_TTL = 5


@dataclass
class Watched:
    """When a name's answer first looked like this, on the scale of `time.perf_counter`."""

    name: str
    pool: Sequence[str]
    #: It came.
    first: float | None = None
    #: It held the whole pool.
    full: float | None = None
    #: It held the whole pool, the nearest address first, and had a long TTL.
    ranked: float | None = None
    #: Then all addresses stood in the order of their distance.
    ordered: bool = False

    @property
    def until_full(self) -> float:
        """Milliseconds from the first answer to the whole pool; infinite if it never came."""
        return self._since_first(self.full)

    @property
    def until_ranked(self) -> float:
        """Milliseconds from the first answer to the ranked one; infinite if it never came."""
        return self._since_first(self.ranked)

    def _since_first(self, then: float | None) -> float:
        if self.first is None or then is None:
            return math.inf
        return (then - self.first) * 1000

    def look(self, addresses: list[str], ttl: int, now: float) -> None:
        """Note when an answer is the first, the full pool, or in order."""
        if self.first is None:
            self.first = now
        if set(addresses) != set(self.pool):
            return
        if self.full is None:
            self.full = now
        order = by_distance(addresses)
        if addresses[0] == order[0] and ttl > SHORT_TTL:
            self.ranked = now
            self.ordered = addresses == order


def watch(
    address: tuple[str, int], pools: Mapping[str, Sequence[str]], *, rate: float, patience: float
) -> list[Watched]:
    """Ask for ``rate`` new names a second, and for each again and again until it is ranked.

    ``pools``: up to 65,536 names and their addresses. ``patience``: seconds after the last new
    name at which those still not ranked are given up. A name that gets an error is given up, too.
    """
    watched = [Watched(name, pool) for name, pool in pools.items()]
    begin = time.perf_counter()
    due = [(begin + number / rate, number) for number in range(len(watched))]
    deadline = due[-1][0] + patience
    left = len(watched)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        while left and (now := time.perf_counter()) < deadline:
            while due and due[0][0] <= now:
                number = heapq.heappop(due)[1]
                sock.send(question(watched[number].name, number))
            pause = (due[0][0] if due else deadline) - time.perf_counter()
            if not select.select([sock], [], [], max(0.0, pause))[0]:
                continue
            reply = sock.recv(4096)
            now = time.perf_counter()
            number = int.from_bytes(reply[:2], "big")
            if failed(reply):
                left -= 1
                continue
            watched[number].look(*records(reply), now)
            if watched[number].ranked is None:
                heapq.heappush(due, (now + INTERVAL, number))
            else:
                left -= 1
    return watched
