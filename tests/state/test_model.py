"""A restart is as if time had passed, whatever was collected and whatever the clock did."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from staggerdns.resolver.entry import Entry
from staggerdns.wire.addresspool import AddressPool, MixedPool
from staggerdns.wire.contributors import CONTRIBUTORS
from staggerdns.wire.key import scope_of
from staggerdns.wire.question import Question, make_question
from staggerdns.wire.sections import SectionsAnswer
from tests.kit.acts import A, name
from tests.kit.cache import no_such_name
from tests.kit.pools import merge
from tests.kit.ranked import pool, sections_answer
from tests.kit.saved import RUNS, SavedRun, World

DAY = 86_400
SCOPES = {0: b"default", 1: b"inside", 2: b"other"}
EIGHTHS = 8
"""Times are whole eighths of a second, so that milliseconds are exact."""
TTLS = st.sampled_from([1, 5, 30, 100, 300, 4000])
TIME = st.integers(0, 900 * EIGHTHS)


@st.composite
def pools(draw: st.DrawFn) -> AddressPool:
    """A pool of up to four upstreams."""
    targets = ["a.example", "b.example"]
    made: AddressPool | None = None
    for number in range(draw(st.integers(1, 4))):
        addresses = draw(st.lists(st.integers(1, 40), min_size=1, max_size=5, unique=True))
        chain = targets[: draw(st.integers(0, 2))]
        one = pool(*addresses, ttl=draw(TTLS), cname_chain=chain)
        bit = CONTRIBUTORS.bit(f"model-{number}")
        if made is None:
            made = one
            one.brought_by = CONTRIBUTORS.number(bit)
        else:
            made = merge(made, one, 32, private=True, age=draw(st.integers(0, 3)), contributor=bit)
    assert made is not None
    return made


QUESTIONS = st.builds(
    lambda number, do, scope: make_question(name(f"n{number}.example"), A, do=do, scope=scope),
    st.integers(0, 5),
    st.booleans(),
    st.sampled_from(sorted(SCOPES)),
)
PUTS = st.tuples(QUESTIONS, st.one_of(pools(), TTLS, st.none()), st.booleans())
"""A question, what is found (a pool, the TTL of an answer with a signature, no such name), and
whether the collection ends.
"""
RUN = st.tuples(
    st.lists(st.tuples(PUTS, TIME), max_size=6),
    st.sampled_from([0, DAY, -DAY, 3600]),
    TIME,
)
"""What is put, and the time behind each; a step of the clock; how long the program is down."""


def put(run: SavedRun, question: Question, found: AddressPool | int | None, ends: bool) -> None:
    """Have a collection find something."""
    answer: AddressPool | SectionsAnswer
    if found is None:
        answer = no_such_name(60)
    elif isinstance(found, AddressPool):
        answer = found
    else:
        answer = sections_answer(question, 9, 7, 8, ttl=found)
    generation = next(run.cache.generations)
    run.cache.commit(question.key, generation, answer, run.clock.seconds())
    if ends:
        run.cache.complete(question.key, generation, answer.ttl, answer.ttl)


def described(run: SavedRun, key: bytes, entry: Entry, later: float) -> dict[str, Any]:
    """All that a client, or a collection, could see of an entry after so many seconds."""
    now = run.clock.seconds() + later
    answer = entry.answer
    living = run.cache.living(entry, now, scope_of(key))
    shown: dict[str, Any] = {
        "kind": type(answer).__name__,
        "addresses": answer.addresses,
        "living": living.addresses,
        "ttl": run.cache.reply_ttl(entry, now, scope_of(key)),
        "ad": answer.ad,
        "age": now - entry.stored,
        "order age": None if entry.sorted_at is None else now - entry.sorted_at,
        "complete": entry.complete,
        "targets": answer.chain_targets(key),
        "records": answer.sections(40, 5, 4000),
        "whole": run.cache.freshness.is_whole(entry, now),
        "rank": entry.rank if entry.sorted_at is None else (),  # of no use in a sorted one
    }
    if entry.complete:
        shown["due"] = entry.due - now
    if isinstance(answer, AddressPool):
        shown["lives"] = list(answer.lives)
        shown["life of CNAMEs"] = answer.cname_life
        shown["brought by"] = answer.contributors
        shown["others"] = answer.other_targets if isinstance(answer, MixedPool) else ()
    return shown


@given(st.lists(RUN, min_size=1, max_size=4), st.integers(0, 100_000))
@settings(max_examples=30)
def test_restarts_are_as_if_time_had_passed(
    runs: list[tuple[list[Any], int, int]], born: int
) -> None:
    """Every entry that could still be given is there, in the very same state; all others have
    gone, and failures and hits make no difference.
    """
    with TemporaryDirectory() as directory:
        world = World()
        run = SavedRun(Path(directory), world, digests=SCOPES)
        run.start(0)
        for puts, step, down in runs:
            for (question, found, ends), passes in puts:
                put(run, question, found, ends)
                run.pass_time(passes / EIGHTHS)
            world.off += step
            assert run.stop(0)
            world.now += down / EIGHTHS
            before, run = run, SavedRun(Path(directory), world, born=born / 8, digests=SCOPES)
            run.start(0)
            later = down / EIGHTHS
            expected = {
                key: described(before, key, entry, later)
                for key, entry in before.cache.entries.items()
                if before.cache.freshness.is_servable(entry, before.clock.seconds() + later)
            }
            found_now = {
                key: described(run, key, entry, 0) for key, entry in run.cache.entries.items()
            }
            assert found_now == expected
        run.stop(0)
        RUNS.clear()
