"""How much memory the cache takes: the estimate, the limit, and what goes when it is reached."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from staggerdns.resolver.cache import LARGEST_SHARE
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.constants import Ede
from tests.kit.cache import START, SimulatedCache
from tests.kit.checkout import ROOT
from tests.kit.filling import KINDS, giant, single, tiny
from tests.kit.ranked import SimulatedRankedCache, asks, pool
from tests.kit.readings import by_last_label

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


def fill(simulated: SimulatedCache, count: int, first: int = 0) -> None:
    """Commit so many small answers."""
    rng = random.Random(1)
    for number in range(first, first + count):
        question, answer = single(rng, number)
        simulated.cache.commit(question.key, number + 1, answer, simulated.clock.seconds())


def total(simulated: SimulatedCache | SimulatedRankedCache) -> int:
    """The octets of all entries, one by one."""
    return sum(entry.octets for entry in simulated.cache.entries.values())


def evicted(simulated: SimulatedCache) -> dict[str, int]:
    """What was dropped, by limit."""
    return by_last_label(simulated.metrics.cache_evictions)


def test_the_limit_to_the_octet() -> None:
    """Answers stay as long as they take no more than ``max_size``; one octet less and one goes."""
    measure = SimulatedCache()
    fill(measure, 100)
    size = measure.cache.octets
    assert size == total(measure)
    exact, less = SimulatedCache(max_size=size), SimulatedCache(max_size=size - 1)
    fill(exact, 100)
    fill(less, 100)
    assert (len(exact.cache), len(less.cache)) == (100, 99)
    assert evicted(exact) == {"max_entries": 0, "max_size": 0}
    assert evicted(less) == {"max_entries": 0, "max_size": 1}
    assert single(random.Random(1), 0)[0].key not in less.cache.entries


def test_the_other_limit() -> None:
    """Both limits hold, and each counts what went because of it."""
    simulated = SimulatedCache(max_size=MIB, max_entries=50)
    fill(simulated, 60)
    assert evicted(simulated) == {"max_entries": 10, "max_size": 0}
    assert simulated.cache.octets == total(simulated)


def test_a_giant_answer_pushes_out_what_it_weighs() -> None:
    """It costs as many small ones as take its memory, the least recently used, and no more."""
    simulated = SimulatedCache(max_size=4 * MIB)
    fill(simulated, 8_000)
    before = len(simulated.cache)
    small = min(entry.octets for entry in simulated.cache.entries.values())
    question, answer = giant(random.Random(1), 1)
    entry = simulated.cache.commit(question.key, 9_000, answer, simulated.clock.seconds())
    assert 60_000 < entry.octets < 70_000
    lost = before + 1 - len(simulated.cache)
    assert lost <= entry.octets // small + 2
    assert simulated.cache.octets == total(simulated) <= 4 * MIB


@pytest.mark.parametrize(("spare", "kept"), [(0, True), (-1, False)])
def test_the_largest_share(spare: int, kept: bool) -> None:
    """An answer beyond its share of the memory is given, but pushes nothing out; what was there
    under its own name goes, since it is older.
    """
    question, answer = giant(random.Random(1), 1)
    octets = SimulatedCache().cache.commit(question.key, 1, answer, START).octets
    simulated = SimulatedCache(max_size=octets * LARGEST_SHARE + spare)
    fill(simulated, 10)
    simulated.cache.commit(
        question.key, 100, tiny(random.Random(1), 1)[1], simulated.clock.seconds()
    )
    entry = simulated.cache.commit(question.key, 101, answer, simulated.clock.seconds())
    assert entry.answer is answer
    assert simulated.cache.reply_ttl(entry, simulated.clock.seconds()) == 300
    assert (question.key in simulated.cache.entries) is kept
    assert len(simulated.cache) == 10 + kept
    assert evicted(simulated)["max_size"] == 0


def test_whatever_happens_the_sum_is_right() -> None:
    """Growth, sorts, replacements, failures, expiry and evictions keep the account."""
    simulated = SimulatedRankedCache(max_size=40_000)
    rng = random.Random(3)
    for generation in range(1, 2_000):
        question = asks(f"n{rng.randrange(40)}.example")
        what = rng.random()
        if what < 0.6:
            size = rng.randint(1, 9)
            answer = pool(*rng.sample(range(1, 250), size), ttl=rng.choice([0, 1, 30]))
            simulated.cache.commit(question.key, generation, answer, simulated.clock.seconds())
            simulated.cache.commit(
                question.key,
                generation,
                pool(*range(1, size + 3), ttl=30),
                simulated.clock.seconds(),
            )
            simulated.cache.prolong(question.key, generation, pool(*range(1, size + 3), ttl=40))
            simulated.cache.complete(question.key, generation)
        elif what < 0.7:
            simulated.cache.commit(
                question.key,
                generation,
                FailureAnswer(Ede.OTHER, 1, "no"),
                simulated.clock.seconds(),
            )
        else:
            simulated.cache.lookup(question.key, simulated.clock.seconds())
        simulated.at(generation * 0.7)
        assert simulated.cache.octets == total(simulated) <= 40_000
    simulated.at(10_000)
    for number in range(40):
        key = asks(f"n{number}.example").key
        assert simulated.cache.lookup(key, simulated.clock.seconds()) is None
        simulated.cache.forget(key)
    assert (len(simulated.cache), simulated.cache.octets) == (0, 0)
