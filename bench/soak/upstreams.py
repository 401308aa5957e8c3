"""Upstreams of the soak: two good ones, and four that come and go in different ways."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bench.soak import wire

PERIOD = 3.0
"""Seconds that a flapping upstream is good, and then bad."""
LATE = 2.0
"""Seconds after which a late answer comes: behind the end of its collection."""


class Upstream:
    """One server on UDP and TCP; ``delay`` in seconds."""

    def __init__(self, number: int, delay: float, clock: Callable[[], float]) -> None:
        self.number = number
        self._delay = delay
        self._clock = clock

    def good(self) -> bool:
        """Return whether it is in its good time; each has its own rhythm."""
        return int(self._clock() / (PERIOD * (1 + 0.3 * self.number))) % 2 == 0

    def over_udp(self, message: bytes) -> Sequence[tuple[float, bytes]]:
        """Return what to send when: (seconds, message)."""
        return [(self._delay, wire.reply(message, self.number))]

    def over_tcp(self, message: bytes) -> tuple[bytes, bool]:
        """Return what to write, and whether to close behind it."""
        answer = wire.reply(message, self.number)
        return len(answer).to_bytes(2, "big") + answer, False


class Silent(Upstream):
    """Falls silent by turns, or answers late."""

    def over_udp(self, message: bytes) -> Sequence[tuple[float, bytes]]:
        """Answer well, not at all, or too late."""
        if self.good():
            return super().over_udp(message)
        return [(LATE, wire.reply(message, self.number))] if message[1] & 1 else []


class Failing(Upstream):
    """Answers SERVFAIL by turns, and everything twice."""

    def over_udp(self, message: bytes) -> Sequence[tuple[float, bytes]]:
        """Answer twice."""
        code = wire.NOERROR if self.good() else wire.SERVFAIL
        answer = wire.reply(message, self.number, code)
        return [(self._delay, answer), (self._delay, answer)]


class Truncating(Upstream):
    """Answers over TCP only, and by turns breaks off in the middle."""

    def over_udp(self, message: bytes) -> Sequence[tuple[float, bytes]]:
        """Answer that it does not fit."""
        return [(self._delay, wire.reply(message, self.number, truncated=True))]

    def over_tcp(self, message: bytes) -> tuple[bytes, bool]:
        """Answer whole, or in part."""
        whole, _ = super().over_tcp(message)
        return (whole, False) if self.good() else (whole[: len(whole) // 2], True)


class Dying(Upstream):
    """Closes its socket by turns, so that the port is unreachable."""


KINDS: tuple[tuple[type[Upstream], float], ...] = (
    (Upstream, 0.002),
    (Upstream, 0.010),
    (Silent, 0.001),
    (Failing, 0.001),
    (Truncating, 0.001),
    (Dying, 0.001),
)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        for after, message in self._upstream.over_udp(data):
            self._loop.call_later(after, self._send, message, addr)

    def _send(self, message: bytes, addr: Any) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(message, addr)


async def _serve_stream(
    upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            size = int.from_bytes(await reader.readexactly(2), "big")
            data, close = upstream.over_tcp(await reader.readexactly(size))
            writer.write(data)
            await writer.drain()
            if close:
                break
    writer.close()


async def serve(addresses: Sequence[tuple[str, int]]) -> None:
    """Serve one kind at each of the addresses until cancelled."""
    loop = asyncio.get_running_loop()
    dying = []
    for number, (address, (kind, delay)) in enumerate(zip(addresses, KINDS, strict=True)):
        upstream = kind(number, delay, loop.time)
        await asyncio.start_server(partial(_serve_stream, upstream), *address)
        if isinstance(upstream, Dying):
            dying.append((upstream, address))
        else:
            await _open(upstream, address)
    await asyncio.gather(*(_flap(upstream, address) for upstream, address in dying))


async def _open(upstream: Upstream, address: tuple[str, int]) -> asyncio.BaseTransport:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Datagrams(upstream), local_addr=address
    )
    return transport


async def _flap(upstream: Upstream, address: tuple[str, int]) -> None:
    """Open and close the socket as the times change."""
    transport: asyncio.BaseTransport | None = None
    while True:
        if upstream.good() and transport is None:
            transport = await _open(upstream, address)
        elif not upstream.good() and transport is not None:
            transport.close()
            transport = None
        await asyncio.sleep(0.1)
