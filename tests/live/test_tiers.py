"""Two tiers with real sockets: who is asked when, who answers, and what the pool holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit import behaviours as b
from tests.kit.clients import eventually, stays
from tests.kit.testbed import (
    PATIENT,
    SOON,
    all_sets,
    most_in_window,
    own_answer,
    own_set,
    unique_name,
)

if TYPE_CHECKING:
    from tests.kit.scripted import Behaviour

    from .conftest import BuildTestbed

# The pacing promise is about 50 ms; the machine may let two timers of the program run a little
# closer together than they were set.
WINDOW = 0.040


def test_five_sets_in_the_pool(build: BuildTestbed) -> None:
    """Two of five answer the client, all five are in the pool for the next question."""
    delays = (0.02, 0.03, 0.04, 0.04, 0.04)
    testbed = build([own_answer(index, after) for index, after in enumerate(delays)])
    first = testbed.ask("www.example.")
    assert set(first.addresses) <= all_sets([0, 1])
    assert set(first.addresses) >= set(own_set(0))
    assert 0.019 <= first.seconds < SOON
    second = testbed.pool("www.example.", all_sets(range(5)))
    assert len(second.addresses) == 10
    assert [rrset.name.to_text() for rrset in second.message.answer] == ["www.example."]
    assert testbed.ask("www.example.", tcp=True).addresses == testbed.ask("www.example.").addresses
    assert testbed.counts("www.example.") == [1, 1, 1, 1, 1]


def test_pacing_with_a_good_active_tier(build: BuildTestbed) -> None:
    """Two at once, two after 50 ms, one after 100 ms, however early the first answer comes.

    A busy machine may hold a datagram back between two others: one name of ten is enough.
    """
    testbed = build([own_answer(index, 0.005) for index in range(5)])
    seen = []
    for name in (unique_name("pace") for _ in range(10)):
        assert testbed.ask(name).rcode == "NOERROR"
        testbed.complete(name)
        assert testbed.counts(name) == [1] * 5
        seen.append(testbed.times(name))
    assert any(
        times[1] < 0.03 and times[2] >= WINDOW and most_in_window(times, WINDOW) <= 2
        for times in seen
    ), seen
    assert min(times[4] for times in seen) < 0.6


def test_twelve_upstreams_are_all_asked_once(build: BuildTestbed) -> None:
    """Every upstream is asked exactly once, never more than two within a window.

    A busy machine may hold a datagram back between two others: one name of ten is enough.
    """
    testbed = build([own_answer(index, 0.01) for index in range(12)])
    seen = []
    for name in (unique_name("many") for _ in range(10)):
        assert testbed.ask(name).rcode == "NOERROR"
        testbed.pool(name, all_sets(range(12)))
        assert testbed.counts(name) == [1] * 12
        seen.append(testbed.times(name))
    assert min(most_in_window(times, WINDOW) for times in seen) <= 2, seen
    assert all(times[-1] >= 0.2 for times in seen)
    assert min(times[-1] for times in seen) < 1.5


@pytest.mark.parametrize(
    "failing",
    [
        pytest.param(None, id="closed port"),
        pytest.param(b.rcode("REFUSED"), id="refusing"),
        pytest.param(b.rcode("SERVFAIL"), id="lying SERVFAIL"),
        pytest.param(b.rcode("FORMERR"), id="FORMERR"),
        pytest.param(b.cut_short(own_answer(0), 35), id="malformed"),
    ],
)
def test_failed_active_tier(build: BuildTestbed, failing: Behaviour | None) -> None:
    """A dead active tier costs no waiting: the next batch starts at once, and all is merged."""
    testbed = build([failing, failing, *(own_answer(index, 0.02) for index in (2, 3, 4))], PATIENT)
    first = testbed.ask("www.example.")
    assert first.rcode == "NOERROR"
    assert set(first.addresses) <= all_sets([2, 3, 4])
    assert first.seconds < SOON, "waited although every active upstream had failed"
    testbed.pool("www.example.", all_sets([2, 3, 4]))
    # Who complains is asked again, with less of what we add; the others are asked once.
    assert testbed.counts("www.example.")[-3:] == [1, 1, 1]
    assert testbed.times("www.example.")[-1] < SOON


def test_silent_active_tier(build: BuildTestbed) -> None:
    """When the active tier says nothing, the staggered tier starts after fallback_timeout."""
    testbed = build(
        [b.silent, b.silent, *(own_answer(index, 0.02) for index in (2, 3, 4))], known=True
    )
    first = testbed.ask("www.example.")
    assert set(first.addresses) <= all_sets([2, 3, 4])
    assert 0.3 <= first.seconds < SOON
    testbed.pool("www.example.", all_sets([2, 3, 4]))
    assert testbed.counts("www.example.") == [1] * 5
    assert testbed.times("www.example.")[2] >= 0.29


def test_one_of_two_active_fails(build: BuildTestbed) -> None:
    """One failed active upstream starts nothing early: the other one may still answer."""
    testbed = build(
        [b.rcode("SERVFAIL"), own_answer(1, 0.12), *(own_answer(index) for index in (2, 3, 4))],
        known=True,
    )
    first = testbed.ask("www.example.")
    assert set(first.addresses) >= set(own_set(1))
    times = testbed.times("www.example.")
    assert all(time >= 0.1 for time in times[2:])
    testbed.pool("www.example.", all_sets([1, 2, 3, 4]))


def test_early_fast_failures_never_win(build: BuildTestbed) -> None:
    """One upstream that refuses everything at once spoils not one of forty names."""
    testbed = build([b.rcode("REFUSED"), *(own_answer(index, 0.01) for index in (1, 2, 3, 4))])
    replies = [testbed.ask(unique_name("refused")) for _ in range(40)]
    assert [reply.rcode for reply in replies] == ["NOERROR"] * 40
    assert all(reply.addresses for reply in replies)


def test_late_answer_joins_the_pool(build: BuildTestbed) -> None:
    """An answer that comes a second after the client's reply is in the pool all the same."""
    testbed = build([own_answer(0, 0.01), own_answer(1, 0.01), own_answer(2, 1.0)])
    assert set(testbed.ask("www.example.").addresses) <= all_sets([0, 1])
    testbed.pool("www.example.", all_sets([0, 1, 2]))


def test_late_active_answer_joins_the_pool(build: BuildTestbed) -> None:
    """The second active upstream answers long after the first one: it joins too."""
    testbed = build([own_answer(0, 0.01), own_answer(1, 0.7), own_answer(2, 0.01)])
    assert set(testbed.ask("www.example.").addresses) == set(own_set(0))
    testbed.pool("www.example.", all_sets([0, 1, 2]))


def test_total_collect_timeout(build: BuildTestbed) -> None:
    """The collection ends at its total timeout: what comes later is not in the pool."""
    testbed = build(
        [own_answer(0, 0.01), own_answer(1, 0.01), own_answer(2, 1.0)],
        {"upstream": {"parallel": {"total_collect_timeout": "400ms"}}},
        known=True,
    )
    testbed.ask("www.example.")
    testbed.pool("www.example.", all_sets([0, 1]))
    stays(
        lambda: set(testbed.ask("www.example.").addresses),
        lambda found: found == all_sets([0, 1]),
        seconds=1.3,
    )
    assert testbed.counts("www.example.") == [1, 1, 1]


def test_numbers_of_the_configuration(build: BuildTestbed) -> None:
    """Tier size, batch size, stagger delay and fallback timeout are what the file says."""
    testbed = build(
        [b.silent, *(own_answer(index, 0.01) for index in range(1, 7))],
        {
            "upstream": {
                "parallel": {
                    "active_tier_size": 1,
                    "fallback_timeout": "150ms",
                    "batch_size": 3,
                    "stagger_delay": "500ms",
                }
            }
        },
        known=True,
    )
    first = testbed.ask("www.example.")
    assert 0.15 <= first.seconds < SOON
    testbed.pool("www.example.", all_sets(range(1, 7)))
    times = testbed.times("www.example.")
    assert times[1] >= 0.145
    assert times[3] - times[1] < 0.4
    assert 0.4 <= times[4] - times[1] < SOON


def test_all_upstreams_fail(build: BuildTestbed) -> None:
    """All failed: SERVFAIL with an Extended DNS Error, without waiting for any timeout."""
    testbed = build(
        [
            b.rcode("SERVFAIL"),
            b.rcode("REFUSED"),
            None,
            b.cut_short(own_answer(0), 35),
            b.rcode("NOTIMP"),
        ],
        known=True,
    )
    reply = testbed.ask("www.example.", payload=1232)
    assert reply.rcode == "SERVFAIL"
    assert reply.seconds < SOON
    assert [int(option.otype) for option in reply.message.options] == [15]
    plain = testbed.ask(unique_name("fail"))
    assert plain.rcode == "SERVFAIL"
    assert testbed.counts("www.example.") == [1, 1, 1, 3]  # NOTIMP: twice more, with less EDNS


def test_all_upstreams_silent(build: BuildTestbed) -> None:
    """All silent: SERVFAIL when the total timeout ends the collection."""
    testbed = build([b.silent] * 3, {"upstream": {"parallel": {"total_collect_timeout": "700ms"}}})
    reply = testbed.ask("www.example.", payload=1232)
    assert reply.rcode == "SERVFAIL"
    assert 0.65 <= reply.seconds < SOON + 0.7
    assert 15 in [int(option.otype) for option in reply.message.options]


def test_failures_are_not_a_curse(build: BuildTestbed) -> None:
    """A SERVFAIL is forgotten: as soon as an upstream answers, so do we."""
    testbed = build([b.in_turn(b.rcode("SERVFAIL"), own_answer(0))], known=True)
    assert testbed.ask("www.example.").rcode == "SERVFAIL"
    eventually(lambda: testbed.ask("www.example.").rcode, lambda rcode: rcode == "NOERROR", 8)


def test_single_upstream(build: BuildTestbed) -> None:
    """One upstream is a whole configuration."""
    testbed = build([own_answer(0)])
    assert set(testbed.ask("www.example.").addresses) == set(own_set(0))
    assert testbed.counts("www.example.") == [1]


def test_aaaa_pools_like_a(build: BuildTestbed) -> None:
    """AAAA is merged as A is."""
    testbed = build([b.answers(f"2001:db8::{index}", after=0.01) for index in range(1, 6)])
    testbed.ask("www.example.", "AAAA")
    testbed.program.pool("www.example.", {f"2001:db8::{i}" for i in range(1, 6)}, "AAAA")


def test_other_types_are_not_merged(build: BuildTestbed) -> None:
    """Only addresses are merged: MX comes from one upstream, whole, and nobody is asked twice."""
    testbed = build([b.records((None, 300, "MX", f"10 mx{i}.example.")) for i in range(4)])
    first = testbed.ask("www.example.", "MX")
    assert len(first.message.answer[0]) == 1
    stays(
        lambda: testbed.ask("www.example.", "MX").message.answer,
        lambda answer: answer == first.message.answer,
        seconds=0.4,
    )
    assert max(testbed.counts("www.example.")) == 1


def test_best_latency_is_active_next_time(build: BuildTestbed) -> None:
    """The two fastest upstreams become the active tier."""
    delays = (0.08, 0.08, 0.001, 0.08, 0.001)
    testbed = build([own_answer(index, after) for index, after in enumerate(delays)])
    for _ in range(12):
        name = unique_name("order")
        testbed.ask(name)
        testbed.complete(name)
    asked = sorted((queries[0].at, index) for index, queries in enumerate(testbed.asked(name)))
    assert {index for _, index in asked[:2]} == {2, 4}
