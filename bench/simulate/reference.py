"""What the strategies are held against, computed from the same draws. Times are seconds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import ceil

from bench.simulate.landscapes import Draws, Kind, Sample

_NEVER = 10.0
_CANDIDATES = 7


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of ``ordered``, smallest first, do not exceed."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def ask_all(samples: Sequence[Sample], grace: float, timeout: float) -> tuple[float, bool]:
    """Return when a client has its answer if all are asked at once, and whether it is good.

    The rules are the program's own: a positive answer counts at once, a negative one ``grace``
    later or when nobody is left.
    """
    good = min((seconds for kind, seconds in samples if kind == Kind.GOOD), default=_NEVER)
    denied = min((seconds for kind, seconds in samples if kind == Kind.NXDOMAIN), default=_NEVER)
    if any(kind == Kind.SILENT for kind, _ in samples):
        last = timeout
    else:
        last = max(seconds for _, seconds in samples)
    if denied < _NEVER:
        denied = min(denied + grace, max(denied, last))
    return min(good, denied, last), good < _NEVER and good <= denied


def best_pace(draws: Draws, *, active: int, batch: int, stagger: float) -> float:
    """Return the best 95th percentile of first answers that the pace allows.

    That is for whoever knows the best fixed order beforehand, and who never waits for the active
    tier but goes on with the next batch as soon as ``stagger`` has passed.
    """
    times = [
        [seconds if kind == Kind.GOOD else _NEVER for kind, seconds in samples]
        for samples in draws.samples[draws.warm :]
    ]
    count = len(times[0])
    middle = [sorted(name[one] for name in times)[len(times) // 2] for one in range(count)]
    by_median = sorted(range(count), key=middle.__getitem__)
    best = _NEVER
    for first in combinations(by_median[:_CANDIDATES], min(active, count)):
        others = [one for one in by_median if one not in first]
        # Later ones cannot matter to a percentile that the first few have settled.
        later = [(one, stagger * (1 + at // batch)) for at, one in enumerate(others[:12])]
        launches = [*((one, 0.0) for one in first), *later]
        firsts = sorted(min(name[one] + wait for one, wait in launches) for name in times)
        best = min(best, percentile(firsts, 0.95))
    return best
