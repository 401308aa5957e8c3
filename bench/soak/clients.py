"""Clients of the soak: a paced mix over UDP, and TCP clients good and bad."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from bench.soak import wire

RATE = 300
"""Queries per second over UDP."""
STREAMS = 8
"""TCP clients at once."""
PATIENCE = 4.0
"""Seconds that a client waits for its reply."""
_TYPES = (wire.A,) * 6 + (wire.AAAA, wire.AAAA, wire.TXT, 15)
_RECENT = 500


@dataclass
class Counts:
    """What clients saw: queries that deserved a reply, good replies, errors, and none at all."""

    asked: int = 0
    good: int = 0
    errors: int = 0
    lost: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return them by name."""
        return asdict(self)


class SoakClients:
    """All clients of the server at ``address``; they ask while `resume` has been called."""

    def __init__(self, address: tuple[str, int], seed: int = 1) -> None:
        self._address = address
        self._rng = random.Random(seed)
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self._number = 0
        self._running = asyncio.Event()
        self._waiting: dict[int, float] = {}
        self._udp: Any = None
        self.counts = Counts()

    def resume(self) -> None:
        """Begin to ask, or go on."""
        self._running.set()

    def pause(self) -> None:
        """Ask nothing more; replies under way still come."""
        self._running.clear()

    async def run(self) -> None:
        """Be all clients until cancelled."""
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(
            lambda: _Receiver(self), remote_addr=self._address
        )
        await asyncio.gather(self._ask_over_udp(), *(self._stream() for _ in range(STREAMS)))

    def _name(self) -> str:
        """Return a new name, or one that was asked for lately."""
        if self._recent and self._rng.random() < 0.5:
            return self._rng.choice(self._recent)
        self._number += 1
        label = self._rng.choice(("www", "www", "www", "nx", "ali"))
        name = f"{label}{self._number}.soak.test"
        self._recent.append(name)
        return name

    def _query(self, message_id: int) -> bytes:
        rng = self._rng
        return wire.query(self._name(), rng.choice(_TYPES), message_id, edns=rng.random() < 0.7)

    async def _ask_over_udp(self) -> None:
        loop = asyncio.get_running_loop()
        message_id = 0
        while True:
            await self._running.wait()
            for _ in range(RATE // 50):
                message_id = (message_id + 1) % 65536
                message = self._query(message_id)
                if self._rng.random() < 0.02:  # nonsense, which may be dropped or refused
                    self._udp.sendto(message[: self._rng.randrange(1, len(message))])
                    continue
                self.counts.asked += 1
                self._waiting[message_id] = loop.time() + PATIENCE
                self._udp.sendto(message)
            self._give_up(loop.time())
            await asyncio.sleep(0.02)

    def _give_up(self, now: float) -> None:
        while self._waiting:
            message_id, until = next(iter(self._waiting.items()))
            if until > now:
                break
            del self._waiting[message_id]
            self.counts.lost += 1

    def settle(self) -> None:
        """Count as lost what nobody waits for any more: the load has been over for a while."""
        self.counts.lost += len(self._waiting)
        self._waiting.clear()

    def received(self, reply: bytes) -> None:
        """Count a reply over UDP, unless nothing waits for it."""
        if self._waiting.pop(int.from_bytes(reply[:2], "big"), None) is not None:
            self._count(reply)

    def _count(self, reply: bytes) -> None:
        if wire.rcode(reply) in (wire.NOERROR, wire.NXDOMAIN):
            self.counts.good += 1
        else:
            self.counts.errors += 1

    async def _stream(self) -> None:
        """Connect again and again, each time as another kind of client."""
        while True:
            await self._running.wait()
            kind = self._rng.choice(("good", "good", "good", "gone", "half", "idle"))
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(*self._address)
                try:
                    await self._talk(kind, reader, writer)
                finally:
                    writer.close()
            await asyncio.sleep(self._rng.random() / 4)

    async def _talk(
        self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        count = self._rng.randrange(1, 6)
        messages = [self._query(number) for number in range(count)]
        data = b"".join(len(message).to_bytes(2, "big") + message for message in messages)
        if kind == "half":
            data = data[: len(data) - 5]
        writer.write(data)
        await writer.drain()
        if kind != "good":  # it goes away with its queries under way, or just sits there
            await asyncio.sleep(0 if kind == "gone" else 0.5)
            return
        self.counts.asked += count
        answered = 0
        try:
            async with asyncio.timeout(PATIENCE):
                for _ in range(count):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    self._count(await reader.readexactly(size))
                    answered += 1
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            self.counts.lost += count - answered


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, clients: SoakClients) -> None:
        self._clients = clients

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._clients.received(data)
