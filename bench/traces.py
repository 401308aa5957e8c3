"""What it costs to remember how a new name was collected: in this process, on a simulated clock,
with the program's own way from a question to a pool that is sorted, and nothing beside it.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Sequence

from bench import programs
from bench.report import Section, Target
from staggerdns.config import parse_config
from tests.kit import tracing
from tests.kit.ranked import RankedResolver

#: Microseconds of a new name that traces may take at most.
MOST = 3.0
#: Names that stay cached.
_ENTRIES = 2_000
_ON, _OFF, _AGAIN, _COST = "traces", "none", "none, again", "difference"


def measure(*, rounds: int) -> Section:
    """Ask new names of three resolvers in turn, of which one keeps traces: as many as it does by
    default, and it has them already.
    """
    kept = parse_config("upstream: {servers: [192.0.2.1]}").traces
    section = Section(
        f"New names with {kept:,} traces and without ({tracing.UPSTREAMS} upstreams, "
        f"{tracing.EACH} addresses of its own from each, round trips known; "
        f"{tracing.TOGETHER} names a round, {rounds} rounds)"
    )
    limits = {_ON: kept, _OFF: 0, _AGAIN: 0}
    resolvers = {label: tracing.resolver(limit, _ENTRIES) for label, limit in limits.items()}
    with programs.on_core_of_servers():
        for number in range(-(-_ENTRIES // tracing.TOGETHER)):
            for resolver in resolvers.values():
                _ask(resolver, f"warm{number}")
        cost: dict[str, list[float]] = {label: [] for label in limits}
        gc.collect()
        gc.freeze()
        gc.disable()  # or one of the two pays for what both have left
        try:
            for number in range(rounds):
                first = number % len(limits)
                for label in [*limits, *limits][first : first + len(limits)]:
                    cost[label].append(_ask(resolvers[label], f"new{number}"))
        finally:
            gc.enable()
            gc.unfreeze()
    section.add("CPU us per name", cost, digits=1, base=_OFF, paired=True)
    section.add(
        "",
        {_COST: [_difference(cost[_ON], cost[_OFF])]},
        digits=1,
        target=Target(MOST, at_least=False, unit="us"),
    )
    noise = _difference(cost[_AGAIN], cost[_OFF])
    section.notes.append(
        f"{_COST}: the median of those round by round; {noise:.1f} us between the two without"
    )
    return section


def _difference(ours: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(one - other for one, other in zip(ours, others, strict=True))


def _ask(resolver: RankedResolver, label: str) -> float:
    """Have names collected and sorted; return the microseconds of each."""
    questions = tracing.questions(resolver, label)
    begin = time.process_time_ns()
    tracing.collect(resolver, questions)
    return (time.process_time_ns() - begin) / 1000 / tracing.TOGETHER
