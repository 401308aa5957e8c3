"""The table of round-trip times: one for all names, because times belong to addresses.

Each address has a moving average, its deviation, and its share of lost samples. A measurement
begins with one sample (`RttTable.begin`), and further ones extend it (`RttTable.extend`). What was
measured counts as fresh for ``rtt_cache_ttl`` seconds, after which it still orders answers but is
measured anew by the next sort. An address that answered nothing is remembered for
`SILENT_LIFETIME` only. The table is bounded: the address not touched for the longest goes first.
What is known is linked in that order, since an `OrderedDict` that grows holds up everybody.

That an echo is lost now and then says nothing. A loss counts when a further sample was lost with
its repetitions, or `MANY_LOST` echoes of one measurement were; until it is clear whether
that is so, a measurement in which echoes were lost is not `settled`.
"""

from __future__ import annotations

from collections.abc import Iterable

from staggerdns.settings.sections import RankingSettings

MAX_ADDRESSES = 65_536
SILENT_LIFETIME = 60.0
_ALPHA = 0.3
NO_LOSS = 0.09
"""The average loss up to which an address counts as clean again."""
MANY_LOST = 5
"""Lost echoes of one measurement that count as losses."""
ANSWERS_FOR_A_LOSS = 3
"""Answers for each lost echo after which a measurement counts as clean."""


class _Linked:
    """One of a ring, between two others; at first the only one."""

    __slots__ = ("address", "before", "after")

    def __init__(self) -> None:
        self.address = b""
        self.before: _Linked = self
        self.after: _Linked = self

    def link(self, before: _Linked) -> None:
        """Put this in the order, right behind ``before``."""
        after = before.after
        self.before, self.after = before, after
        before.after = after.before = self

    def unlink(self) -> None:
        """Remove this from the order."""
        self.before.after, self.after.before = self.after, self.before


class Rtt(_Linked):
    """What is known of one address: seconds, and ``loss`` from 0 to 1.

    ``seconds`` is `None` as long as nothing has ever come back. Of the last measurement: ``best``
    is the least round trip, ``total`` the sum of all, ``answered`` and ``lost`` are numbers of
    echoes, ``way`` is what brought answers, ``is_own``: it was measured here; and the averages
    before it are ``older_seconds`` and ``older_deviation``.
    """

    __slots__ = (
        "seconds",
        "deviation",
        "loss",
        "measured",
        "best",
        "total",
        "answered",
        "lost",
        "way",
        "is_own",
        "older_seconds",
        "older_deviation",
    )

    def __init__(self) -> None:
        super().__init__()
        self.seconds: float | None = None
        self.deviation = 0.0
        self.loss = 0.0
        self.measured = 0.0
        self.best = 0.0
        self.total = 0.0
        self.answered = 0
        self.lost = 0
        self.way = ""
        self.is_own = True
        self.older_seconds: float | None = None
        self.older_deviation = 0.0

    def add(self, seconds: float) -> None:
        """Add an answer of the measurement to the averages."""
        self.answered += 1
        self.total += seconds
        self.best = min(self.best, seconds)
        # The least of a few samples is that of the path; the rest of the others is queueing. And
        # jitter is what varies within one measurement: a lasting change is none.
        spread = self.total / self.answered - self.best
        if self.older_seconds is None:
            self.seconds, self.deviation = self.best, spread
        else:
            self.seconds = self.older_seconds + _ALPHA * (self.best - self.older_seconds)
            self.deviation = self.older_deviation + _ALPHA * (spread - self.older_deviation)


class RttTable:
    """Round-trip times by address (4 or 16 bytes).

    A measurement counts as fresh for ``rtt_cache_ttl`` of the settings. Times are seconds of the
    caller's clock.
    """

    def __init__(self, settings: RankingSettings) -> None:
        self._known: dict[bytes, Rtt] = {}
        self._ends = _Linked()  # behind it is the one touched first, before it the one touched last
        self.use(settings)

    def use(self, settings: RankingSettings) -> None:
        """Judge what is known by these settings from now on."""
        self._lifetime = settings.rtt_cache_ttl
        self._timeout = settings.timeout

    def __len__(self) -> int:
        return len(self._known)

    def look_up(self, address: bytes) -> Rtt | None:
        """Return what is known of the address, to be read, `None` if it was never measured."""
        return self._known.get(address)

    def fresh(self, address: bytes, now: float) -> bool:
        """Return whether the address needs no new measurement at ``now``."""
        rtt = self._known.get(address)
        if rtt is None:
            return False
        lifetime = self._lifetime if rtt.seconds is not None else SILENT_LIFETIME
        return now < rtt.measured + min(lifetime, self._lifetime)

    def answers(self, address: bytes) -> bool:
        """Return whether anything has come back from the address when it was last measured."""
        rtt = self._known.get(address)
        return rtt is not None and rtt.seconds is not None

    def cost(self, address: bytes) -> float | None:
        """Return what orders the address, in seconds; `None` when it was never measured.

        A silent address costs more than any that answers, and lost samples more than any
        round trip (docs/specification.rst, Order).
        """
        rtt = self._known.get(address)
        if rtt is None:
            return None
        if rtt.seconds is None:
            return float("inf")
        if rtt.loss <= NO_LOSS:
            return rtt.seconds
        return rtt.seconds + self._timeout * (1 + rtt.loss)

    def jitter(self, address: bytes) -> float:
        """Return the mean deviation of the round-trip time, in seconds."""
        rtt = self._known.get(address)
        return rtt.deviation if rtt is not None else 0.0

    def way(self, address: bytes) -> str:
        """Return what brought answers from the address when it was last measured."""
        rtt = self._known.get(address)
        return "" if rtt is None else rtt.way

    def settled(self, address: bytes, samples: int) -> bool:
        """Return whether the last measurement says enough for the address to be the first.

        That are so many ``samples``, more if echoes were lost, until the losses count.
        """
        rtt = self._known.get(address)
        if rtt is None:
            return False
        enough = max(samples, ANSWERS_FOR_A_LOSS * rtt.lost)
        return rtt.answered >= enough or rtt.lost >= MANY_LOST

    def begin(self, address: bytes, seconds: float | None, lost: int, way: str, now: float) -> None:
        """Begin a measurement with a sample: its seconds, `None` for silence.

        ``lost``: the echoes that went unanswered before. ``way``: what brought the answer.
        ``now``: when it ended.
        """
        rtt = self._touch(address, now)
        rtt.older_seconds, rtt.older_deviation = rtt.seconds, rtt.deviation
        rtt.answered, rtt.total, rtt.best = 0, 0.0, float("inf")
        rtt.lost = lost
        rtt.way = way
        if seconds is None:
            rtt.seconds = None
            rtt.loss = 1.0
            return
        rtt.loss = 0.0 if rtt.seconds is None else rtt.loss * (1 - _ALPHA)
        rtt.add(seconds)

    def extend(
        self, address: bytes, seconds: float | None, lost: int, way: str, now: float
    ) -> None:
        """Add a further sample to the last measurement, as `begin` does the first."""
        rtt = self._touch(address, now)
        if rtt.seconds is None:  # it has been forgotten, or fallen silent, since
            self.begin(address, seconds, lost, way, now)
            return
        rtt.lost += lost
        if seconds is None:
            rtt.lost = max(rtt.lost, MANY_LOST)
        else:
            rtt.add(seconds)
        if rtt.lost >= MANY_LOST:
            rtt.loss = max(rtt.loss, rtt.lost / (rtt.lost + rtt.answered))

    def get(self, address: bytes) -> Rtt | None:
        """Return what is known of an address; to be read, not changed."""
        return self._known.get(address)

    def round_trips(self, addresses: Iterable[bytes]) -> tuple[float | None, ...]:
        """Return the seconds to each address, `None` for those that have not answered."""
        known = self._known.get
        return tuple([None if (rtt := known(one)) is None else rtt.seconds for one in addresses])

    def addresses(self) -> list[bytes]:
        """Return all addresses, in no order that means anything: that takes the least time."""
        return list(self._known)

    def restore(self, address: bytes, rtt: Rtt) -> bool:
        """Have ``rtt`` be what is known of an address, if nothing is; it is the first to go.

        Return whether it is: there may be no room for it.
        """
        if address in self._known or len(self._known) >= MAX_ADDRESSES:
            return False
        self._known[address] = rtt
        rtt.address = address
        rtt.link(self._ends)
        return True

    def adopt(self, address: bytes, rtt: Rtt) -> None:
        """Have ``rtt``, which others have measured, be what is known of an address, if there is
        room for it. It is the first to go.
        """
        known = self._known.pop(address, None)
        if known is not None:
            known.unlink()
        rtt.is_own = False
        self.restore(address, rtt)

    def measured_since(self, since: float, limit: int) -> list[tuple[bytes, Rtt]]:
        """Return what was measured here after that time, the latest ``limit`` at most."""
        found: list[tuple[bytes, Rtt]] = []
        rtt = self._ends.before
        while isinstance(rtt, Rtt) and rtt.measured > since and len(found) < limit:
            if rtt.is_own:
                found.append((rtt.address, rtt))
            rtt = rtt.before
        return found

    def _touch(self, address: bytes, now: float) -> Rtt:
        rtt = self._known.get(address)
        if rtt is None:
            if len(self._known) >= MAX_ADDRESSES:
                oldest = self._ends.after
                oldest.unlink()
                del self._known[oldest.address]
            rtt = self._known[address] = Rtt()
            rtt.address = address
        else:
            rtt.unlink()
        rtt.link(self._ends.before)
        rtt.measured = now
        rtt.is_own = True
        return rtt
