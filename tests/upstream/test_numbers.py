"""Chance, and which outcomes count for and against an upstream."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from staggerdns.upstream.entropy import Entropy
from staggerdns.upstream.reason import Reason
from staggerdns.wire.verdict import Verdict
from tests.kit.acts import (
    NOERROR,
    REFUSED,
    SILENT,
    Act,
    fails,
    garbles,
    negative,
    says_own,
    unreachable,
)
from tests.kit.simulated import HEALTH, SimulatedResolver


class Numbers:
    """A source of bytes that gives these numbers, two bytes each."""

    def __init__(self, numbers: list[int]) -> None:
        self._bytes = itertools.chain.from_iterable(
            number.to_bytes(2, "big") for number in itertools.cycle(numbers)
        )
        self.calls = 0

    def __call__(self, size: int) -> bytes:
        """Give the next ``size`` bytes."""
        self.calls += 1
        return bytes(itertools.islice(self._bytes, size))


def test_each_random_byte_is_used_once() -> None:
    """Numbers come in the order of the source, none twice, across its portions."""
    source = Numbers(list(range(65536)))
    entropy = Entropy(source)
    taken = [int.from_bytes(entropy.take(), "big") for _ in range(65536)]
    assert taken == list(range(65536))
    assert source.calls < 100


@pytest.mark.parametrize("bound", [1, 2, 3, 7, 8, 10_000, 32_769, 64_512, 65_535, 65_536])
def test_below_is_even(bound: int) -> None:
    """Of all 65536 inputs every result comes equally often: the uneven rest is not used."""
    entropy = Entropy(Numbers(list(range(65536))))
    rounds = 65536 // bound
    counted = Counter(entropy.below(bound) for _ in range(rounds * bound))
    assert len(counted) == bound
    assert set(counted.values()) == {rounds}
    assert (min(counted), max(counted)) == (0, bound - 1)


def test_below_at_its_limits() -> None:
    """The last even value is used, the first uneven one thrown away."""
    entropy = Entropy(Numbers([65_534, 65_535, 1]))
    assert [entropy.below(3), entropy.below(3)] == [65_534 % 3, 1]


@pytest.mark.parametrize(
    ("act", "marks", "verdict"),
    [
        (says_own(0, 5), 0, Verdict.POSITIVE),
        (negative(5), 0, Verdict.NEGATIVE),
        (fails(5), 0, Verdict.FAILURE),
        (fails(5, REFUSED), 0, Verdict.FAILURE),
        (garbles(5), 0, Verdict.FAILURE),
        (unreachable(5), 1, Verdict.NETWORK_ERROR),
        (unreachable(5, Reason.TIMEOUT), 1, Verdict.NETWORK_ERROR),
        (unreachable(None), 1, Verdict.NETWORK_ERROR),
        (unreachable(None, Reason.LOCAL), 0, Verdict.NETWORK_ERROR),
    ],
)
def test_what_is_a_mark(act: Act, marks: int, verdict: Verdict) -> None:
    """Of an upstream that is alone, good answers measure it and network errors count against it.

    Its failing replies do not (they may be the name's fault), nor do errors of our own machine.
    """
    resolver = SimulatedResolver(act)
    resolver.ask()
    resolver.run()
    (upstream,) = resolver.upstreams
    assert upstream.marks == marks
    assert upstream.latency.measured == (act.error is Reason.TIMEOUT or verdict <= Verdict.NEGATIVE)
    labels = (upstream.name, "active", verdict.name.lower())
    assert resolver.metrics.upstream_seconds.counts() == {labels: 1}


FAILING = [fails(5), fails(5, REFUSED)]


@pytest.mark.parametrize("bad", [*FAILING, garbles(5)])
def test_failing_replies_of_all_are_no_marks(bad: Act) -> None:
    """What no upstream can answer is the name's fault, however often it is asked."""
    resolver = SimulatedResolver(bad, bad, bad, bad)
    for index in range(2 * HEALTH.unhealthy_after):
        resolver.ask(resolver.question(f"n{index}.example"))
        resolver.run()
    assert [upstream.marks for upstream in resolver.upstreams] == [0] * 4
    assert all(upstream.usable(resolver.clock.seconds()) for upstream in resolver.upstreams)


@pytest.mark.parametrize("bad", FAILING)
@pytest.mark.parametrize("good", [says_own(1, 60), negative(60), negative(60, NOERROR)])
def test_a_failing_reply_where_others_answer_is_a_mark(bad: Act, good: Act) -> None:
    """One bad reply where another upstream answered well, before or after it: one mark."""
    resolver = SimulatedResolver(bad, good, good, bad)
    resolver.ask()
    resolver.run_to(40)
    assert resolver.upstreams[0].marks == 0, "nobody has answered well so far"
    resolver.run()
    assert [upstream.marks for upstream in resolver.upstreams] == [1, 0, 0, 1]


@pytest.mark.parametrize("bad", FAILING)
def test_a_failing_upstream_rests(bad: Act) -> None:
    """An upstream that fails five questions in a row which others answer is not asked any more."""
    resolver = SimulatedResolver(bad, says_own(1, 20))
    for index in range(HEALTH.unhealthy_after):
        assert resolver.upstreams[0].usable(resolver.clock.seconds())
        resolver.ask(resolver.question(f"n{index}.example"))
        resolver.run()
    assert not resolver.upstreams[0].usable(resolver.clock.seconds())


def test_network_errors_of_all_are_marks() -> None:
    """A dead network counts against every upstream, whoever else answers or does not."""
    resolver = SimulatedResolver(*[unreachable(5)] * 3)
    resolver.ask()
    resolver.run_to(60)
    assert [upstream.marks for upstream in resolver.upstreams] == [1, 1, 1]
    resolver.run()
    assert [upstream.marks for upstream in resolver.upstreams] == [1, 1, 1], "and once only"


def test_errors_of_our_own_machine_are_no_marks() -> None:
    """What our own machine would not send says nothing, even where others answered."""
    resolver = SimulatedResolver(unreachable(None, Reason.LOCAL), says_own(1, 5))
    for index in range(2 * HEALTH.unhealthy_after):
        resolver.ask(resolver.question(f"n{index}.example"))
        resolver.run()
    assert [upstream.marks for upstream in resolver.upstreams] == [0, 0]


def test_a_cancelled_run_blames_nobody() -> None:
    """A collection that was given up says nothing about who failed in it."""
    resolver = SimulatedResolver(fails(5), says_own(1, 10), SILENT)
    resolver.ask()
    resolver.run_to(100)
    resolver.forwarder.close()
    resolver.run()
    assert [upstream.marks for upstream in resolver.upstreams] == [0, 0, 0]
