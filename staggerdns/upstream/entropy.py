"""Unpredictable numbers for message IDs and source ports (RFC 5452 section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import iter_unpack

_POOL_BYTES = 4096  # one system call for about two thousand numbers


class Entropy:
    """Hands out random numbers drawn from ``rng``, a source of random bytes like `os.urandom`."""

    __slots__ = ("_rng", "_pairs", "_numbers", "_pool", "_position")

    def __init__(self, rng: Callable[[int], bytes]) -> None:
        self._rng = rng
        self._pairs: Iterator[tuple[bytes]] = iter(())
        self._numbers: Iterator[tuple[int]] = iter(())
        self._pool = b""
        self._position = 0

    def take(self) -> bytes:
        """Return two random bytes, each used once."""
        for (pair,) in self._pairs:
            return pair
        self._pairs = iter_unpack("2s", self._rng(_POOL_BYTES))
        return self.take()

    def take_bytes(self, count: int) -> bytes:
        """Return that many random bytes, at most 4096, each used once."""
        position = self._position
        if position + count > len(self._pool):
            self._pool = self._rng(_POOL_BYTES)
            position = 0
        self._position = position + count
        return self._pool[position : position + count]

    def below(self, bound: int) -> int:
        """Return a number from 0 to ``bound`` - 1, all equally likely; ``bound`` <= 65536."""
        fair = 65536 - 65536 % bound
        for (number,) in self._numbers:
            if number < fair:
                return number % bound
        self._numbers = iter_unpack("!H", self._rng(_POOL_BYTES))
        return self.below(bound)
