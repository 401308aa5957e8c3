"""Upstreams that remember who asked them for what."""

from __future__ import annotations

import contextlib
import heapq
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from bench.daemons import free_port

#: Not the addresses of nsd: both may run at the same time.
ADDRESSES = tuple(f"127.0.0.{number}" for number in range(21, 26))
_DAY = 86_400
#: Seconds after which the thread looks whether it is to end.
_LOOK = 0.1


def _qname(query: bytes) -> str:
    labels = []
    at = 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("ascii", "replace"))
        at += 1 + length
    # Some servers vary the case of the letters.
    return ".".join(labels).lower()


def _reply(query: bytes, addresses: Sequence[str], ttl: int) -> bytes:
    end = 12
    while query[end]:
        end += 1 + query[end]
    question = query[12 : end + 5]
    record = b"\xc0\x0c\0\1\0\1" + ttl.to_bytes(4, "big") + b"\0\4"
    header = query[:2] + b"\x81\x80\0\1" + len(addresses).to_bytes(2, "big") + bytes(4)
    records = [record + socket.inet_aton(address) for address in addresses]
    return header + question + b"".join(records)


class Witnesses:
    """Five upstreams in a thread, each with addresses of its own to answer with.

    ``pools``: the addresses of a name, of which each upstream knows every fifth, from its own
    number on. Of other names each upstream knows one address. ``ttl``: what the upstream of a
    number says about a name, in seconds. ``delays``: how many milliseconds the upstream of a
    number takes to answer.
    """

    def __init__(
        self,
        pools: Mapping[str, Sequence[str]] | None = None,
        ttl: Callable[[int, str], int] = lambda _number, _name: _DAY,
        delays: Sequence[float] = (0.0,) * len(ADDRESSES),
    ) -> None:
        port = free_port(*ADDRESSES)
        self.addresses = [(address, port) for address in ADDRESSES]
        #: How often each upstream was asked for each name.
        self.seen: Counter[tuple[int, str]] = Counter()
        #: When it was asked for it for the first time, on the scale of `time.perf_counter`.
        self.first: dict[tuple[int, str], float] = {}
        self._pools = pools or {}
        self._ttl = ttl
        self._delays = delays
        self._due: list[tuple[float, int, bytes, tuple[str, int]]] = []
        self._sockets: list[socket.socket] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="witnesses")

    def __enter__(self) -> Self:
        for address in self.addresses:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._sockets.append(sock)
            sock.bind(address)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        for sock in self._sockets:
            sock.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            wait = max(0.0, self._due[0][0] - time.perf_counter()) if self._due else _LOOK
            ready, _, _ = select.select(self._sockets, [], [], min(wait, _LOOK))
            now = time.perf_counter()
            for sock in ready:
                query, client = sock.recvfrom(4096)
                number = self._sockets.index(sock)
                name = _qname(query)
                self.seen[number, name] += 1
                self.first.setdefault((number, name), now)
                pool = self._pools.get(name)
                share = pool[number :: len(ADDRESSES)] if pool else [f"198.51.100.{number + 1}"]
                reply = _reply(query, share, self._ttl(number, name))
                due = now + self._delays[number] / 1000
                heapq.heappush(self._due, (due, number, reply, client))
            while self._due and self._due[0][0] <= now:
                _, number, reply, client = heapq.heappop(self._due)
                with contextlib.suppress(OSError):
                    self._sockets[number].sendto(reply, client)

    def complete(self, names: list[str]) -> int:
        """Return how many of the names every upstream was asked for."""
        return sum(
            all(self.seen[number, name] for number in range(len(ADDRESSES))) for name in names
        )
