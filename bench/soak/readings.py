"""What is read of the program at rest, and when that counts as flat."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Reading:
    """The program when nothing is under way: resident memory in bytes, open descriptors, delayed
    calls of the reactor, Deferreds that exist.
    """

    memory: int
    descriptors: int
    delayed_calls: int
    deferreds: int


#: How much more each may be in the last third of a soak than in the middle one: a share of
#: it, and so much in addition.
SLACK = {
    "memory": (0.02, 2 * 2**20),
    "descriptors": (0.0, 8),
    "delayed_calls": (0.0, 2),
    "deferreds": (0.0, 8),
}


def read(reactor: Any) -> Reading:
    """Return a reading; what only waits for the collector is collected first."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return Reading(
        memory=pages * _PAGE,
        descriptors=sum(1 for _ in Path("/proc/self/fd").iterdir()),
        delayed_calls=len(reactor.getDelayedCalls()),
        deferreds=sum(isinstance(one, Deferred) for one in gc.get_objects()),
    )


def verdicts(readings: Sequence[Reading]) -> list[tuple[str, int, int, bool]]:
    """Return for each quantity its highest value in the middle third and in the last third of
    the readings, and whether that is flat. The first third is the warm-up.
    """
    third = len(readings) // 3
    middle, last = readings[third : 2 * third], readings[2 * third :]
    found = []
    for what, (share, more) in SLACK.items():
        before = max(getattr(reading, what) for reading in middle)
        after = max(getattr(reading, what) for reading in last)
        found.append((what, before, after, after <= before * (1 + share) + more))
    return found
