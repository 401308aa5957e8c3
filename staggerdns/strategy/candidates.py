"""Whom one run may ask next: by rank, health, budget, and what it has asked already.

Upstreams wait here, best first, until the strategy wants some of them (`Candidates.take`). Those
whose budgets have no room keep their place, and the run looks again (`Candidates.room_at`). Those
whose circuits have opened meanwhile lose their place. Once nobody waits, silent ones are asked
once more in turn (`Candidates.take_silent`). Times are seconds of the clock.
"""

from __future__ import annotations

from collections.abc import Container

from staggerdns.strategy.adaptive import Adaptive
from staggerdns.strategy.unsigned import NO_RESERVE, Reserve
from staggerdns.upstream.exchange import AskedUpstream
from staggerdns.upstream.upstream import Upstream
from staggerdns.upstream.upstreams import all_circuits_open


class Candidates:
    """The upstreams of one question.

    ``waiting``: those not asked yet, best first; ``asked``: how many were; ``reserve``: those kept
    back since they give no signatures, when ``signed`` answers are wanted. ``adaptive`` counts the
    runs that look for room.
    """

    __slots__ = (
        "waiting",
        "asked",
        "reserve",
        "_everybody",
        "_again",
        "_all_open",
        "_wants_room",
        "_adaptive",
    )

    def __init__(self, upstreams: list[Upstream], adaptive: Adaptive, *, signed: bool) -> None:
        self.waiting = self._everybody = upstreams
        self.asked = 0
        self.reserve = NO_RESERVE
        if signed:
            self.reserve = Reserve()
            self.waiting = self.reserve.hold_back(upstreams)
        self._again = 0  # the next of all to be asked once more
        self._all_open = False  # no upstream was usable when the first was asked: all are tried
        self._wants_room = False  # counted among those that wait for it
        self._adaptive = adaptive

    def take(self, count: int, now: float, *, first: bool) -> list[Upstream]:
        """Remove up to ``count`` of those that wait and whose budgets have room; return them.

        ``first``: a client waits. One of them may answer it; the others are taken only as far as
        their budgets can spare it.
        """
        chosen = self.waiting[:count]
        for upstream in chosen:
            if not upstream.unhindered:
                chosen = self._choose(count, now, first)
                break
        else:
            self.waiting = self.waiting[count:]
        if chosen:
            if self._wants_room:
                self.want_no_room()
            self.asked += len(chosen)
        return chosen

    def _choose(self, count: int, now: float, first: bool) -> list[Upstream]:
        """Do what `take` does, but look at each upstream."""
        if not self.asked:
            self._all_open = all_circuits_open(self.waiting)
        chosen: list[Upstream] = []
        passed_over: list[Upstream] = []
        looked_at = 0
        for upstream in self.waiting:
            if len(chosen) == count:
                break
            looked_at += 1
            if not self._all_open and not upstream.usable(now):
                continue  # its circuit has opened since, or its trial gone to another run
            if upstream.has_room(now, first=first and not chosen):
                chosen.append(upstream)
            else:
                passed_over.append(upstream)
        self.waiting = passed_over + self.waiting[looked_at:]
        return chosen

    def take_for_health(self, now: float) -> list[Upstream]:
        """Remove one whose health wants a query and whose budget has room for it; return it."""
        for upstream in self.waiting:
            if upstream.health.wants_visit(now) and upstream.has_room(now, first=False):
                self.waiting = [other for other in self.waiting if other is not upstream]
                self.asked += 1
                return [upstream]
        return []

    def take_silent(
        self, count: int, now: float, replied: Container[AskedUpstream]
    ) -> list[Upstream]:
        """Return up to ``count`` of those that were asked in vain, whoever is next in turn.

        Those that have ``replied`` are not asked again.
        """
        silent = [
            upstream
            for upstream in self._everybody[self._again :] + self._everybody[: self._again]
            if upstream not in replied
            and upstream not in self.reserve
            and (self._all_open or upstream.usable(now))
            and upstream.has_room(now, first=True)
        ][:count]
        if silent:
            self._again = self._everybody.index(silent[-1]) + 1
        return silent

    def open_reserve(self) -> None:
        """Have those that give no signatures wait for their turn as well."""
        self.waiting = self.waiting + self.reserve.open()

    def room_at(self, now: float) -> float | None:
        """Return when to look again for room; `None` when nobody is left to be asked."""
        if not self.waiting:
            self.want_no_room()
            return None
        if not self._wants_room:
            self._wants_room = True
            self._adaptive.waiting += 1
        soonest = min(upstream.room_at(now) for upstream in self.waiting)
        return max(soonest, now + self._adaptive.look_again)

    def want_no_room(self) -> None:
        """Note that the run does not look for room, or no longer."""
        if self._wants_room:
            self._wants_room = False
            self._adaptive.waiting -= 1
