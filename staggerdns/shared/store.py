"""What the second level wants of a store: values that expire, replaced by who knows the last one.

Ages come from the store alone: a value says how long its key was to live when it was written, and
the store says how long it still will. So it does not matter what time it is for each server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred

from staggerdns.errors import StaggerDNSError
from staggerdns.shared.flushes import Flush, Polled


class StoreError(StaggerDNSError):
    """A store that cannot be asked, or does not do what it was asked for; the text says why."""


class Present(NamedTuple):
    """A value as it is now; ``left``: milliseconds that its key still has, negative if it has no
    end.
    """

    value: bytes
    left: int


class Store(Protocol):
    """A store. Every Deferred fails with a `StoreError` if it fails, and may fail at once; none
    need be waited for.
    """

    @property
    def problem(self) -> str:
        """Why it cannot be asked now, empty if it can."""

    def read(self, keys: Sequence[bytes]) -> Deferred[list[Present | None]]:
        """Return what is under each of these keys."""

    def replace(
        self, key: bytes, expected: bytes, value: bytes, life: int
    ) -> Deferred[Present | None]:
        """Put ``value`` under ``key`` for ``life`` milliseconds, if what is there is ``expected``,
        or nothing. Return what is there if it is something else, and nothing was changed.
        """

    def write(self, values: Sequence[tuple[bytes, bytes]], life: int) -> Deferred[None]:
        """Put each value under its key, for ``life`` milliseconds, whatever is there."""

    def poll(self, epoch: int) -> Deferred[Polled]:
        """Return what there is about flushes, if the ``epoch`` that is known is another one."""

    def flush(self, epoch: int, flushes: Sequence[Flush]) -> Deferred[Polled]:
        """Have others know of these flushes, and do what `poll` does."""

    def drop(self, why: str) -> None:
        """Give up the connection, which is of no use, and make another one."""
