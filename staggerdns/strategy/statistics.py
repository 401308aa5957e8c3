"""The numbers of the strategies as they stand, for embedders and the log."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A snapshot of what ``/metrics`` shows of the adaptive numbers; times in seconds.

    ``average_latency`` and ``deviation`` of first answers, ``racing_delay``, ``fallback_timeout``,
    ``sequential_timeout`` of the best upstream, ``batch_size`` of the last racing batch, and
    ``early_triggers`` so far.
    """

    average_latency: float
    deviation: float
    racing_delay: float
    fallback_timeout: float
    sequential_timeout: float
    batch_size: int
    early_triggers: int
