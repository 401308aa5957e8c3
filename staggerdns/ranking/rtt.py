"""The table of round-trip times: one for all names, because times belong to addresses.

Each address has a moving average, its deviation, and its share of lost samples. What was measured
counts as fresh for ``rtt_cache_ttl`` seconds, after which it still orders answers but is measured
anew by the next sort. An address that answered nothing is remembered for `SILENT_LIFETIME`
only. The table is bounded: the address not touched for the longest goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from staggerdns.settings.sections import RankingSettings

MAX_ADDRESSES = 65_536
SILENT_LIFETIME = 60.0
_ALPHA = 0.3
NO_LOSS = 0.09
"""The average loss up to which an address counts as clean again."""


class Rtt:
    """What is known of one address: seconds, and ``loss`` from 0 to 1.

    ``seconds`` is `None` as long as nothing has ever come back.
    """

    __slots__ = ("seconds", "deviation", "loss", "measured")

    def __init__(self) -> None:
        self.seconds: float | None = None
        self.deviation = 0.0
        self.loss = 0.0
        self.measured = 0.0


class RttTable:
    """Round-trip times by address (4 or 16 bytes).

    A measurement counts as fresh for ``rtt_cache_ttl`` of the settings. Times are seconds of the
    caller's clock.
    """

    def __init__(self, settings: RankingSettings) -> None:
        self._lifetime = settings.rtt_cache_ttl
        self._timeout = settings.timeout
        self._known: OrderedDict[bytes, Rtt] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

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

    def add(self, address: bytes, samples: Sequence[float | None], now: float) -> None:
        """Add the samples of one measurement: seconds each, `None` for a lost one.

        ``now``: when it ended.
        """
        rtt = self._known.get(address)
        if rtt is None:
            rtt = self._known[address] = Rtt()
            if len(self._known) > MAX_ADDRESSES:
                self._known.popitem(last=False)
        self._known.move_to_end(address)
        rtt.measured = now
        answered = [sample for sample in samples if sample is not None]
        loss = 1 - len(answered) / len(samples)
        if not answered:
            rtt.seconds = None
            rtt.loss = 1.0
            return
        # The least of a few samples is that of the path; the rest of the others is queueing.
        best = min(answered)
        spread = sum(answered) / len(answered) - best
        if rtt.seconds is None:
            rtt.seconds, rtt.deviation, rtt.loss = best, spread, loss
        else:
            # Jitter is what varies within one measurement: a lasting change is none.
            rtt.seconds += _ALPHA * (best - rtt.seconds)
            rtt.deviation += _ALPHA * (spread - rtt.deviation)
            rtt.loss += _ALPHA * (loss - rtt.loss)
