"""What is saved, where it is while the program runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from staggerdns.ranking.rtt import RttTable
from staggerdns.resolver.cache import AnswerCache
from staggerdns.upstream.upstream import Upstream


class Contents(Protocol):
    """Where all that is saved is now; after a reload of the configuration it may be elsewhere."""

    @property
    def cache(self) -> AnswerCache:
        """The cache."""

    @property
    def round_trips(self) -> RttTable | None:
        """The table of round-trip times, if anything is measured."""

    @property
    def members(self) -> Iterable[Upstream]:
        """All upstreams, those of routes included."""

    @property
    def awake(self) -> IReactorTime:
        """The clock of the upstreams; cache and table go by that of the reactor."""

    @property
    def digests(self) -> Mapping[int, bytes]:
        """What stands for the content of each scope, by its number: answers belong to a scope that
        has the same.
        """
