"""``profile: gentle``: who is asked, as the upstreams count it."""

from __future__ import annotations

import signal
import time
from random import Random
from typing import TYPE_CHECKING

import pytest
import yaml

from staggerdns.strategy.learned import ENOUGH
from tests.kit import behaviours as b
from tests.kit.clients import eventually
from tests.kit.effort import amount
from tests.kit.program import merged
from tests.kit.testbed import own_answer, own_set

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.kit.scripted import Action, Query
    from tests.kit.testbed import Testbed

    from .conftest import BuildTestbed

NAMES = 150
MANY = 100
MOST_TO_NOTICE = 200
IN_A_ROW = 10


def test_only_those_who_add_something_are_asked(build: BuildTestbed) -> None:
    """One of five has more than the others: all names have their whole pools, and hardly any of
    them is asked of everybody.
    """
    common = own_answer(0)
    behaviours = [common, common, common, own_answer(3, 0.01), common]
    testbed = build(behaviours, {"upstream": {"profile": "gentle"}})
    names = [f"n{number}.gentle.example." for number in range(NAMES)]
    for number, name in enumerate(names):
        assert testbed.ask(name).addresses
        if number <= ENOUGH:
            testbed.pool(name, {*own_set(0), *own_set(3)})
    for name in names:
        testbed.pool(name, {*own_set(0), *own_set(3)})
    counts = [sum(testbed.counts(name)) for name in names]
    assert counts[:ENOUGH] == [5] * ENOUGH
    # Two at once, and the one with more if it is not one of them; a few names ask everybody.
    assert sum(counts[ENOUGH:]) < 3.5 * (NAMES - ENOUGH)
    metrics = testbed.program.metrics()
    assert metrics.value("staggerdns_pool_completeness") == 1
    spared = metrics.value("staggerdns_staggered_spared_total")
    assert spared == 5 * NAMES - sum(counts)


def ask_for_all(testbed: Testbed, names: Sequence[str]) -> None:
    """Ask for names, a few at a time, and wait until all collections are over."""
    for name in names:
        assert testbed.ask(name).addresses
    eventually(
        testbed.program.metrics, lambda seen: not seen.value("staggerdns_collections_running")
    )


def test_where_all_agree_and_then_one_does_not(build: BuildTestbed) -> None:
    """A name costs little more than two queries; that one upstream has more is found out, and it is
    asked from then on. A reload of what has nothing to do with that forgets nothing.
    """
    differs: list[bool] = []
    common = own_answer(0)
    late, more = own_answer(0, 0.02), b.answers(*own_set(0), *own_set(4, 1), after=0.02)

    def last(query: Query) -> Sequence[Action]:
        return (more if differs else late)(query)

    testbed = build([common] * 4 + [last], {"upstream": {"profile": "gentle"}})
    names = [f"n{number}.agree.example." for number in range(amount(NAMES, 1_000))]
    for name in names[:ENOUGH]:
        ask_for_all(testbed, [name])
    ask_for_all(testbed, names[ENOUGH:])
    usual = sum(sum(testbed.counts(name)) for name in names[ENOUGH:])
    assert usual <= 2.6 * (len(names) - ENOUGH)
    differs.append(True)
    asked: list[bool] = []
    while asked[-IN_A_ROW:] != [True] * IN_A_ROW:
        assert len(asked) < MOST_TO_NOTICE + IN_A_ROW
        some = [f"n{len(asked) + number}.differs.example." for number in range(5)]
        ask_for_all(testbed, some)
        asked += [testbed.counts(name)[-1] == 1 for name in some]
    program = testbed.program
    settings = merged(program.settings, {"cache": {"fast_response_ttl": 4}})
    program.configuration.write_text(yaml.safe_dump(settings))
    program.process.send_signal(signal.SIGHUP)
    eventually(lambda: "] reloaded " in program.log, timeout=20)
    names = [f"n{number}.reloaded.example." for number in range(IN_A_ROW)]
    ask_for_all(testbed, names)
    counts = [testbed.counts(name) for name in names]
    assert [one[-1] for one in counts] == [1] * IN_A_ROW
    assert sum(sum(one) for one in counts) < 4 * IN_A_ROW, "who has nothing to add is left out"


@pytest.mark.long
def test_ordinary_traffic(build: BuildTestbed) -> None:
    """Of a day in small, names by Zipf's law that live for a second and are asked for again, it
    takes at most 60 % of the queries of who asks everybody.
    """
    common = b.answers(*own_set(0), ttl=1)
    short = {"cache": {"fast_response_ttl": 1}}
    testbeds = [
        build([common] * 5, {"upstream": {"profile": profile}, **short})
        for profile in ("balanced", "gentle")
    ]
    ranks = range(1, MANY + 1)
    weights = [1 / rank for rank in ranks]
    for number in Random(1).choices(ranks, weights, k=amount(800, 20_000)):
        for testbed in testbeds:
            assert {*testbed.ask(f"n{number}.day.example.").addresses} == {*own_set(0)}
        time.sleep(0.004)  # names shall expire
    everybody, gentle = [
        sum(sum(testbed.counts(f"n{number}.day.example.")) for number in ranks)
        for testbed in testbeds
    ]
    assert everybody > 1.5 * 5 * MANY, "known names are asked for again"
    assert gentle <= 0.6 * everybody
