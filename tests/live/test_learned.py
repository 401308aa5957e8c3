"""``profile: gentle``: who is asked, as the upstreams count it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from staggerdns.strategy.learned import ENOUGH
from tests.kit.testbed import own_answer, own_set

if TYPE_CHECKING:
    from .conftest import BuildTestbed

NAMES = 150


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
