"""Whom to ask first: the order of all upstreams, and who is believed."""

from __future__ import annotations

from staggerdns.upstream.health import DOUBTFUL, NegativeTrust
from staggerdns.upstream.upstreams import ORDER_FOR, Upstreams
from tests.kit.acts import NOERROR, NXDOMAIN, negative, says_own
from tests.kit.simulated import SimulatedResolver


def test_an_order_holds_for_a_moment() -> None:
    """A new measurement changes the order when `ORDER_FOR` is over, not before."""
    resolver = SimulatedResolver(says_own(0, 5), says_own(1, 5))
    first, second = resolver.upstreams
    upstreams = Upstreams(resolver.upstreams)
    assert upstreams.arranged(1000.0) == [first, second]
    second.latency.add(0.01, 1000.0)
    assert upstreams.arranged(1000.0 + ORDER_FOR / 2) == [first, second]
    assert upstreams.arranged(1000.0 + ORDER_FOR) == [second, first]


def test_an_order_may_be_changed_by_whoever_gets_it() -> None:
    """Runs take upstreams off their list; the next run has them all the same."""
    resolver = SimulatedResolver(says_own(0, 5), says_own(1, 5))
    upstreams = Upstreams(resolver.upstreams)
    upstreams.arranged(1000.0).clear()
    assert len(upstreams.arranged(1000.0)) == len(upstreams) == 2


def test_the_share_of_contradicted_negatives() -> None:
    """More than a fifth makes doubtful; negatives that stand bring the share down again."""
    trust = NegativeTrust()
    told = []
    for _ in range(8):
        told.append(trust.doubtful)
        trust.negative(contradicted=True)
    assert told == [False] * 5 + [True] * 3, f"1 - 0.95 ** 5 > {DOUBTFUL}"
    for _ in range(11):
        trust.negative(contradicted=False)
    assert not trust.doubtful


def test_the_quick_liar_leaves_the_active_tier() -> None:
    """One that denies everything at once is asked behind the others after a few names, and their
    answers are what clients get.
    """
    resolver = SimulatedResolver(negative(1), says_own(1, 20), says_own(2, 30))
    for number in range(8):
        client = resolver.ask(resolver.question(f"n{number}.example"))
        resolver.run()
        assert client.rcode == NOERROR
    *_, (_, one), (_, two), (_, last) = resolver.launches
    assert [one, two, last] == [1, 2, 0]


def test_names_that_do_not_exist_cost_no_credit() -> None:
    """Denials that all agree on leave the quickest first."""
    resolver = SimulatedResolver(negative(1), negative(20), negative(30))
    for number in range(12):
        client = resolver.ask(resolver.question(f"n{number}.example"))
        resolver.run()
        assert client.rcode == NXDOMAIN
    assert not any(upstream.negative_trust.doubtful for upstream in resolver.upstreams)


def test_whoever_invents_names_casts_no_doubt_on_those_who_know_better() -> None:
    """One that answers for names that do not exist does not get ahead of the others by that: more
    of them deny than say so.
    """
    resolver = SimulatedResolver(says_own(0, 1), negative(20), negative(30), negative(40))
    for number in range(12):
        resolver.ask(resolver.question(f"n{number}.example"))
        resolver.run()
    assert not any(upstream.negative_trust.doubtful for upstream in resolver.upstreams)


def test_one_against_one_the_denial_is_doubted() -> None:
    """Of two that contradict each other the one that has an answer is believed."""
    resolver = SimulatedResolver(negative(1), says_own(1, 20))
    for number in range(12):
        resolver.ask(resolver.question(f"n{number}.example"))
        resolver.run()
    assert [upstream.negative_trust.doubtful for upstream in resolver.upstreams] == [True, False]
