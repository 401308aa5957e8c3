"""How much memory the cache takes: the estimate, the limit, and what goes when it is reached."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from staggerdns.resolver.cache import LARGEST_SHARE
from staggerdns.wire.answer import Failed
from staggerdns.wire.constants import Ede
from tests.kit.filling import KINDS, giant, single, tiny
from tests.kit.ranked import Shelf, asks, pool
from tests.resolver.test_cache import START, Larder

ROOT = Path(__file__).parents[2]
TOLERANCE = 0.2
MIB = 1024 * 1024


@pytest.mark.live
@pytest.mark.parametrize("kind", KINDS)
def test_the_estimate_is_true(kind: str) -> None:
    """By what the resident memory of a process of its own really grows it is right within 20 %."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.kit.filling", kind],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    grown, estimated = map(int, done.stdout.split())
    assert grown > 4 * MIB, "too little to tell"
    assert estimated == pytest.approx(grown, rel=TOLERANCE)


def fill(larder: Larder, count: int, first: int = 0) -> None:
    """Commit so many small answers."""
    rng = random.Random(1)
    for number in range(first, first + count):
        question, answer = single(rng, number)
        larder.cache.commit(question.key, number + 1, answer, larder.clock.seconds())


def total(larder: Larder | Shelf) -> int:
    """The octets of all entries, one by one."""
    return sum(entry.octets for entry in larder.cache._entries.values())


def evicted(larder: Larder) -> dict[str, int]:
    """What was dropped, by limit."""
    cells = larder.metrics.cache_evictions._cells
    return {limit: cell.value for (limit,), cell in cells.items()}


def test_the_limit_to_the_octet() -> None:
    """Answers stay as long as they take no more than ``max_size``; one octet less and one goes."""
    measure = Larder()
    fill(measure, 100)
    size = measure.cache.octets
    assert size == total(measure)
    exact, less = Larder(max_size=size), Larder(max_size=size - 1)
    fill(exact, 100)
    fill(less, 100)
    assert (len(exact.cache), len(less.cache)) == (100, 99)
    assert evicted(exact) == {"max_entries": 0, "max_size": 0}
    assert evicted(less) == {"max_entries": 0, "max_size": 1}
    assert single(random.Random(1), 0)[0].key not in less.cache._entries


def test_the_other_limit() -> None:
    """Both limits hold, and each counts what went because of it."""
    larder = Larder(max_size=MIB, max_entries=50)
    fill(larder, 60)
    assert evicted(larder) == {"max_entries": 10, "max_size": 0}
    assert larder.cache.octets == total(larder)


def test_a_giant_answer_pushes_out_what_it_weighs() -> None:
    """It costs as many small ones as take its memory, the least recently used, and no more."""
    larder = Larder(max_size=4 * MIB)
    fill(larder, 8_000)
    before = len(larder.cache)
    question, answer = giant(random.Random(1), 1)
    entry = larder.cache.commit(question.key, 9_000, answer, larder.clock.seconds())
    assert 60_000 < entry.octets < 70_000
    lost = before + 1 - len(larder.cache)
    small = total(larder) // len(larder.cache)
    assert lost <= entry.octets // small + 2
    assert larder.cache.octets == total(larder) <= 4 * MIB


@pytest.mark.parametrize(("spare", "kept"), [(0, True), (-1, False)])
def test_the_largest_share(spare: int, kept: bool) -> None:
    """An answer beyond its share of the memory is given, but pushes nothing out; what was there
    under its own name goes, since it is older.
    """
    question, answer = giant(random.Random(1), 1)
    octets = Larder().cache.commit(question.key, 1, answer, START).octets
    larder = Larder(max_size=octets * LARGEST_SHARE + spare)
    fill(larder, 10)
    larder.cache.commit(question.key, 100, tiny(random.Random(1), 1)[1], larder.clock.seconds())
    entry = larder.cache.commit(question.key, 101, answer, larder.clock.seconds())
    assert entry.answer is answer
    assert larder.cache.reply_ttl(entry, larder.clock.seconds()) == 300
    assert (question.key in larder.cache._entries) is kept
    assert len(larder.cache) == 10 + kept
    assert evicted(larder)["max_size"] == 0


def test_whatever_happens_the_sum_is_right() -> None:
    """Growth, sorts, replacements, failures, expiry and evictions keep the account."""
    shelf = Shelf(max_size=40_000)
    rng = random.Random(3)
    for generation in range(1, 2_000):
        question = asks(f"n{rng.randrange(40)}.example")
        what = rng.random()
        if what < 0.6:
            size = rng.randint(1, 9)
            answer = pool(*rng.sample(range(1, 250), size), ttl=rng.choice([0, 1, 30]))
            shelf.cache.commit(question.key, generation, answer, shelf.clock.seconds())
            shelf.cache.commit(
                question.key, generation, pool(*range(1, size + 3), ttl=30), shelf.clock.seconds()
            )
            shelf.cache.prolong(question.key, generation, pool(*range(1, size + 3), ttl=40))
            shelf.cache.complete(question.key, generation)
        elif what < 0.7:
            shelf.cache.commit(
                question.key, generation, Failed(Ede.OTHER, 1, "no"), shelf.clock.seconds()
            )
        else:
            shelf.cache.lookup(question.key, shelf.clock.seconds())
        shelf.at(generation * 0.7)
        assert shelf.cache.octets == total(shelf) <= 40_000
    shelf.at(10_000)
    for number in range(40):
        shelf.cache.lookup(asks(f"n{number}.example").key, shelf.clock.seconds())
    assert (len(shelf.cache), shelf.cache.octets) == (0, 0)
