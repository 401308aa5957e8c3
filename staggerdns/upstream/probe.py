"""Trying anew what an upstream did not cope with, beside the clients' queries.

There is at most one probe at a time, and one of each kind in `MEMORY` seconds. It takes only what
the upstream's budget spares, is a copy of a question that was just answered, and its reply, or
that there is none, tells the `Dialect` and nobody else. Its failure is no mark.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from staggerdns.upstream.sidequeries import SideQuery
from staggerdns.wire.judge import Judge

if TYPE_CHECKING:
    from staggerdns.upstream.upstream import Upstream


class Probe:
    """Probes ``upstream``; each has ``timeout`` seconds."""

    def __init__(self, upstream: Upstream, clock: IReactorTime, timeout: float) -> None:
        self._upstream = upstream
        self._clock = clock
        self._timeout = timeout
        self._query: SideQuery | None = None
        self._timer: IDelayedCall | None = None

    def consider(self, judge: Judge, now: float) -> None:
        """Send a probe with a question that was just answered, if one is due."""
        upstream = self._upstream
        if self._query is not None or not upstream.has_room(now, first=False):
            return
        found = upstream.dialect.probe(judge.question, now)
        if found is None:
            return
        kind, level, query = found
        side_query = SideQuery(upstream, judge, query, now, partial(self._take, kind))
        side_query.level = level
        self._query = side_query
        self._timer = self._clock.callLater(self._timeout, self._give_up, kind)
        upstream.send_side_query(side_query, "probe", over_stream=False)

    def end(self) -> None:
        """Drop a probe that is under way."""
        side_query, timer = self._query, self._timer
        self._query = self._timer = None
        if timer is not None:
            timer.cancel()
        if side_query is not None:
            side_query.drop()

    def _take(self, kind: str, side_query: SideQuery, message: bytes, over_stream: bool) -> None:
        self.end()
        self._upstream.dialect.probed(kind, side_query, message, self._clock.seconds())

    def _give_up(self, kind: str) -> None:
        self._timer = None
        side_query = self._query
        assert side_query is not None, "a probe that nobody knows"
        self.end()
        self._upstream.dialect.probed(kind, side_query, b"", self._clock.seconds())
