"""New names that are collected and sorted on a clock, and what their traces take.

As a program of its own, ``python -m tests.kit.tracing NAMES TRACES ...``, it has so many names
collected with each of these limits of traces, every time by another resolver, and writes for each
limit by how many octets resident memory grew, and how many traces there are.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

from staggerdns.settings.sections import CacheSettings
from tests.kit.acts import Act, says
from tests.kit.filling import resident
from tests.kit.ranked import RankedResolver

if TYPE_CHECKING:
    from collections.abc import Iterable

    from staggerdns.wire.question import Question

UPSTREAMS, EACH = 5, 3
"""Upstreams, and addresses of a name that only one of them knows."""
TOGETHER = 25
"""Names that are asked for at a time."""
_POOLS = 16
_AFTER = 2  # milliseconds that an upstream takes


def own_addresses(upstream: int) -> Act:
    """Answer each name with one of a few pools, of which this upstream has some addresses: soon
    their round trips are known.
    """
    first = 1 + upstream * EACH
    pools = [
        says(_AFTER, *(f"203.{pool}.113.{host}" for host in range(first, first + EACH)))
        for pool in range(_POOLS)
    ]

    def answer(question: Question) -> bytes:
        reply = pools[sum(question.name) % _POOLS].reply
        assert reply is not None
        return reply(question)

    return Act(_AFTER, answer)


def resolver(traces: int, entries: int) -> RankedResolver:
    """A resolver that keeps so many traces, and so many entries."""
    acts = [own_addresses(upstream) for upstream in range(UPSTREAMS)]
    settings = CacheSettings(max_entries=entries, max_size=1 << 40)
    made = RankedResolver(*acts, cache=settings, level="info")
    made.traces.use(traces)
    return made


def questions(asked: RankedResolver, label: str) -> list[Question]:
    """The questions for new names."""
    return [asked.question(f"{label}x{number}.example") for number in range(TOGETHER)]


def collect(asked: RankedResolver, questions: Iterable[Question]) -> None:
    """Have questions asked, until all is collected and sorted."""
    for question in questions:
        asked.ask(question)
    asked.run()
    asked.launched.clear()  # what no program has
    for upstream in asked.upstreams:
        upstream.script.questions.clear()


def main(names: int, limits: list[int]) -> None:
    """Collect, and write the figures."""
    warm = resolver(0, names)
    for number in range(20):  # what is there once, and free places of the allocator
        collect(warm, questions(warm, f"warm{number}"))
    kept = [warm]
    for limit in limits:
        gc.collect()
        before = resident()
        asked = resolver(limit, names)
        kept.append(asked)
        for number in range(names // TOGETHER):
            collect(asked, questions(asked, f"n{number}"))
        gc.collect()
        sys.stdout.write(f"{resident() - before} {len(asked.traces)}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), [*map(int, sys.argv[2:])])
