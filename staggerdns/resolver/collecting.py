"""What the cache knows of whoever collects answers for it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from staggerdns.wire.question import Question

Refresh = Callable[[Question, float], None]
"""Asks the question of a cached answer anew at a time, unless that is under way."""
Prefetch = Callable[[Question, float], bool]
"""Does the same ahead of time if there is room for it; returns whether that is under way."""


def no_refresh(_: Question, now: float) -> None:
    """Refresh nothing: nobody collects for the cache yet."""


def no_prefetch(*_: object) -> bool:
    """Do as `no_refresh`."""
    return False


class Merger:
    """Whoever has more addresses for an entry than are in it, or what shall take its place."""

    # Abstract without ABCMeta, and no protocol of typing: cheap to make and to call.

    __slots__ = ()

    @abstractmethod
    def merge(self, now: float) -> None:
        """Commit the entry anew with all of that, now that somebody looks at it."""
