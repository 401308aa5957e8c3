"""One question on the clock: who is asked when, and what the client gets when
(docs/specification.rst, Tiers).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.strategy.tiers import ACTIVE, STAGGERED
from staggerdns.upstream.reason import Reason
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.constants import Ede
from tests.kit.acts import (
    MX,
    NOERROR,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    SILENT,
    Act,
    fails,
    garbles,
    gives,
    name,
    negative,
    own,
    says,
    says_own,
    unreachable,
)
from tests.kit.simulated import HEALTH, SimulatedResolver

if TYPE_CHECKING:
    from collections.abc import Sequence

MX_DATA = b"\0\x0a" + name("mail.example")


def others(count: int, after: float = 5, first: int = 2) -> list[Act]:
    """Healthy upstreams, each with its own address."""
    return [says_own(first + index, after) for index in range(count)]


def test_example_of_the_specification() -> None:
    """0, 48, 50, 100, 210 ms: two active, the answer, two batches, the pool complete."""
    resolver = SimulatedResolver(
        says_own(0, 48), says_own(1, 60), says_own(2, 40), says_own(3, 60), says_own(4, 110)
    )
    client = resolver.ask()
    assert resolver.launches == [(0, 0), (0, 1)]
    resolver.run_to(47.999)
    assert not client.answers
    resolver.run_to(48)
    assert client.at == 48
    assert client.addresses == [own(0)]
    assert resolver.pool() == [own(0)]
    resolver.run_to(49.8)
    assert len(resolver.launches) == 2
    resolver.run_to(50)
    assert resolver.launches[2:] == [(50, 2), (50, 3)]
    resolver.run_to(99.8)
    assert len(resolver.launches) == 4
    resolver.run_to(100)
    assert resolver.launches[4:] == [(100, 4)]
    resolver.run_to(209.999)
    assert resolver.pool() == [own(index) for index in (0, 1, 2, 3)]
    assert resolver.running == 1
    resolver.run_to(210)
    assert resolver.pool() == [own(index) for index in range(5)]
    resolver.assert_nothing_left()
    assert [launch.tier for launch in resolver.launched] == [ACTIVE] * 2 + [STAGGERED] * 3


@pytest.mark.parametrize(
    ("active", "begins", "reason"),
    [
        pytest.param((says_own(0, 120), SILENT), 120, "answered", id="first good answer"),
        pytest.param((negative(120), negative(125)), 125, "answered", id="good, if negative"),
        pytest.param((says_own(0, 10), SILENT), 50, "answered", id="not before the pace allows"),
        pytest.param((SILENT, SILENT), 300, "fallback", id="fallback timeout"),
        pytest.param((says_own(0, 299), SILENT), 299, "answered", id="just before the fallback"),
        pytest.param((says_own(0, 301), SILENT), 300, "fallback", id="just after the fallback"),
        pytest.param((fails(5), fails(5)), 5, "failed", id="both failed after 5 ms"),
        pytest.param((fails(5), fails(7, REFUSED)), 7, "failed", id="the second failure counts"),
        pytest.param((unreachable(None), unreachable(None)), 0, "failed", id="failed at once"),
        pytest.param((unreachable(None), garbles(3)), 3, "failed", id="error and garbage"),
        pytest.param((fails(5), SILENT), 300, "fallback", id="one failed, one silent"),
        pytest.param((fails(5), says_own(1, 80)), 80, "answered", id="one failed, one answers"),
        pytest.param((fails(5), negative(20)), 50, "answered", id="one failed, one negative"),
        pytest.param((fails(299), fails(299.5)), 299.5, "failed", id="failed before fallback"),
    ],
)
def test_batches_begin(active: Sequence[Act], begins: float, reason: str) -> None:
    """Batches begin at the earliest of three causes, and that cause is counted."""
    resolver = SimulatedResolver(*active, *others(4))
    resolver.ask()
    resolver.run()
    assert resolver.launches == [
        (0, 0),
        (0, 1),
        (begins, 2),
        (begins, 3),
        (begins + 50, 4),
        (begins + 50, 5),
    ]
    counted = {key: cell.value for key, cell in resolver.strategy.staggered_starts.items()}
    assert counted == {"answered": 0, "fallback": 0, "failed": 0} | {reason: 1}
    resolver.assert_nothing_left()


def test_only_the_failed_active_tier_lifts_the_pace() -> None:
    """A batch that fails at once does not bring the next one forward."""
    resolver = SimulatedResolver(fails(5), fails(5), *[unreachable(None)] * 4, says_own(6, 5))
    client = resolver.ask()
    resolver.run()
    assert resolver.times == [0, 0, 5, 5, 55, 55, 105]
    assert client.at == 110


def test_active_tier_fails_behind_the_fallback() -> None:
    """Once batches run, a late failure of the active tier does not hurry them."""
    resolver = SimulatedResolver(fails(310), fails(310), *[SILENT] * 2, *others(2, first=4))
    client = resolver.ask()
    resolver.run()
    assert resolver.times == [0, 0, 300, 300, 350, 350]
    assert client.at == 355


@pytest.mark.parametrize(("first_answer", "start"), [(1, 50), (20, 50), (400, 300)])
def test_fifty_upstreams(first_answer: float, start: float) -> None:
    """Fifty upstreams are all asked within about 1.2 s of the first batch's cause."""
    resolver = SimulatedResolver(*[says_own(index, first_answer) for index in range(50)])
    resolver.ask()
    resolver.run()
    assert sorted(upstream for _, upstream in resolver.launches) == list(range(50))
    assert resolver.times[2:] == [start + 50 * (index // 2) for index in range(48)]
    assert resolver.times[-1] - start <= 1200
    assert len(resolver.pool()) == 32
    resolver.assert_nothing_left()


@pytest.mark.parametrize(
    ("positive_at", "at", "rcode"),
    [(38, 38, NOERROR), (39, 39, NOERROR), (41, 40, NXDOMAIN), (60, 40, NXDOMAIN)],
)
def test_negative_grace(positive_at: float, at: float, rcode: int) -> None:
    """A first negative waits 30 ms for a positive, which wins, and not a millisecond longer."""
    resolver = SimulatedResolver(negative(10), says_own(1, positive_at), *others(2))
    client = resolver.ask()
    resolver.run()
    assert (client.at, client.rcode) == (at, rcode)
    resolver.assert_nothing_left()


def test_negative_grace_at_its_very_end() -> None:
    """A positive at the same instant as the end of the grace: one answer, at that instant."""
    resolver = SimulatedResolver(negative(10), says_own(1, 40))
    client = resolver.ask()
    resolver.run()
    assert client.at == 40


@pytest.mark.parametrize(
    ("active", "at"),
    [
        ((negative(10), negative(15)), 15),
        ((negative(10), fails(25)), 25),
        ((fails(10), negative(12)), 12),
        ((unreachable(None), negative(12)), 12),
        ((negative(10, NOERROR), SILENT), 40),
    ],
)
def test_negative_when_all_active_have_answered(active: Sequence[Act], at: float) -> None:
    """A negative goes out when the whole active tier has answered, however it answered."""
    resolver = SimulatedResolver(*active, *[SILENT] * 3)
    client = resolver.ask()
    resolver.run()
    assert client.at == at
    assert client.entry.answer.negative


@pytest.mark.parametrize(("good", "at", "rcode"), [(25, 30, NOERROR), (40, 40, NXDOMAIN)])
def test_negative_when_the_active_tier_has_failed(good: float, at: float, rcode: int) -> None:
    """A denial of the staggered tier has the grace: a failed active tier agreed to nothing."""
    resolver = SimulatedResolver(fails(5), fails(5), negative(5), says_own(3, good), SILENT)
    client = resolver.ask()
    resolver.run()
    assert (client.at, client.rcode) == (at, rcode)


@pytest.mark.parametrize("rcode", [NXDOMAIN, NOERROR])
def test_negative_never_waits_for_the_staggered_tier(rcode: int) -> None:
    """A negative comes in about one round trip while the rest is still to be asked."""
    resolver = SimulatedResolver(negative(12, rcode), negative(14, rcode), *[SILENT] * 6)
    client = resolver.ask()
    resolver.run()
    assert (client.at, client.rcode) == (14, rcode)
    assert client.entry.answer.ttl == 60
    assert len(resolver.launches) == 8


def test_negative_of_the_staggered_tier_has_its_grace_too() -> None:
    """Behind a silent active tier a negative waits its 30 ms, not for the slow ones."""
    resolver = SimulatedResolver(SILENT, SILENT, negative(10), SILENT)
    client = resolver.ask()
    resolver.run()
    assert (client.at, client.rcode) == (340, NXDOMAIN)


def test_negatives_are_no_marks() -> None:
    """NXDOMAIN and NODATA are healthy answers, however many."""
    resolver = SimulatedResolver(negative(5), negative(5, NOERROR))
    for index in range(2 * HEALTH.unhealthy_after):
        resolver.ask(resolver.question(f"n{index}.example"))
    resolver.run()
    assert [upstream.marks for upstream in resolver.upstreams] == [0, 0]


@pytest.mark.parametrize("bad", [fails(1), fails(1, REFUSED), garbles(1), unreachable(None)])
def test_a_failure_never_wins(bad: Act) -> None:
    """Fast failures do not reach the client while anybody may still answer well."""
    resolver = SimulatedResolver(bad, bad, bad, says_own(3, 700))
    client = resolver.ask()
    resolver.run()
    assert (client.at, client.addresses) == (700 + resolver.times[3], [own(3)])


@pytest.mark.parametrize(
    ("acts", "ede"),
    [
        ([fails(5)] * 5, Ede.OTHER),
        ([garbles(5)] * 5, Ede.OTHER),
        ([fails(5, REFUSED)] * 5, Ede.NO_REACHABLE_AUTHORITY),
        ([unreachable(5)] * 5, Ede.NETWORK_ERROR),
        ([unreachable(5, Reason.UNREACHABLE)] * 3 + [unreachable(5)] * 2, Ede.NETWORK_ERROR),
        ([unreachable(5), *[unreachable(5, Reason.NO_CONNECTION)] * 4], Ede.NETWORK_ERROR),
        ([fails(5), unreachable(5), fails(5, REFUSED), fails(5), fails(5)], Ede.OTHER),
    ],
)
def test_all_fail(acts: Sequence[Act], ede: int) -> None:
    """Only when the last upstream has failed comes SERVFAIL, which says why and lasts 1 s."""
    resolver = SimulatedResolver(*acts)
    client = resolver.ask()
    resolver.run()
    assert resolver.times == [0, 0, 5, 5, 55]
    assert (client.at, client.rcode) == (60, SERVFAIL)
    assert isinstance(client.entry.answer, FailureAnswer)
    assert client.entry.answer.ede == ede
    resolver.assert_nothing_left()
    resolver.run_to(1059)
    again = resolver.ask()
    assert (again.at, again.rcode) == (1059, SERVFAIL)
    assert len(resolver.launches) == 5
    resolver.run_to(1060)
    resolver.ask()
    assert len(resolver.launches) == 7
    resolver.run()


def test_total_timeout() -> None:
    """Silence ends after 3 s with SERVFAIL; nobody is left waiting."""
    resolver = SimulatedResolver(*[SILENT] * 5)
    client = resolver.ask()
    resolver.run_to(2999)
    assert not client.answers
    resolver.run()
    assert (client.at, client.rcode) == (3000, SERVFAIL)
    assert isinstance(client.entry.answer, FailureAnswer)
    assert client.entry.answer.ede == Ede.NO_REACHABLE_AUTHORITY
    resolver.assert_nothing_left()


def test_total_timeout_keeps_what_came() -> None:
    """The end of the collection takes nothing back; who had half its time gets a mark."""
    pace = ParallelSettings(total_collect_timeout=0.2)
    resolver = SimulatedResolver(says_own(0, 10), says_own(1, 190), *[SILENT] * 6, parallel=pace)
    client = resolver.ask()
    resolver.run()
    assert resolver.now == 200
    assert client.addresses == [own(0)]
    assert resolver.pool() == [own(0), own(1)]
    # Batches at 50, 100 and 150 ms: 150, 100 and 50 ms of the 200.
    assert [upstream.marks for upstream in resolver.upstreams] == [0, 0, 1, 1, 1, 1, 0, 0]
    resolver.assert_nothing_left()


def test_total_timeout_ends_a_grace() -> None:
    """A negative whose grace would outlast the collection is given at the end of it."""
    pace = ParallelSettings(total_collect_timeout=0.1, negative_grace=0.5)
    resolver = SimulatedResolver(negative(90), SILENT, parallel=pace)
    client = resolver.ask()
    resolver.run()
    assert (client.at, client.rcode) == (100, NXDOMAIN)


def test_exchange_timeout_is_a_failure() -> None:
    """An upstream that is silent for ``timeout`` has failed; then the others go at once."""
    resolver = SimulatedResolver(SILENT, SILENT, *others(2), timeout=0.1)
    client = resolver.ask()
    resolver.run()
    assert resolver.launches == [(0, 0), (0, 1), (100, 2), (100, 3)]
    assert client.at == 105
    assert [upstream.marks for upstream in resolver.upstreams] == [1, 1, 0, 0]


def test_timeout_just_missed() -> None:
    """An answer a millisecond before the timeout counts, and one after it goes nowhere."""
    resolver = SimulatedResolver(says_own(0, 99), says_own(1, 101), timeout=0.1)
    resolver.ask()
    resolver.run()
    assert resolver.pool() == [own(0)]
    assert [upstream.marks for upstream in resolver.upstreams] == [0, 1]
    resolver.assert_nothing_left()


@pytest.mark.parametrize("at", [0, 20, 49, 51, 120, 310])
def test_cancellation_leaves_nothing(at: float) -> None:
    """A run cancelled at any time leaves no timer, marks nobody, and asks nobody more."""
    resolver = SimulatedResolver(
        SILENT, says_own(1, 30), SILENT, says_own(3, 500), negative(500), SILENT
    )
    client = resolver.ask()
    resolver.run_to(at)
    asked = len(resolver.launches)
    resolver.forwarder.close()
    resolver.assert_nothing_left()
    assert len(resolver.launches) == asked
    assert [upstream.marks for upstream in resolver.upstreams] == [0] * 6
    assert client.rcode == (SERVFAIL if at < 30 else NOERROR)


@pytest.mark.parametrize(
    ("active", "at"),
    [
        pytest.param((negative(60), negative(61)), 61, id="negative"),
        pytest.param((negative(60), SILENT), 90, id="end of grace"),
        pytest.param((says_own(0, 60), SILENT), 60, id="positive"),
        pytest.param((negative(5), negative(6)), 6, id="negative before the first batch"),
    ],
)
def test_close_from_a_callback(active: Sequence[Act], at: float) -> None:
    """A client may close the forwarder from its own callback: nothing happens after that."""
    resolver = SimulatedResolver(*active, *[fails(5)] * 2)
    client = resolver.ask()
    client.deferred.addCallback(lambda _: resolver.forwarder.close())
    resolver.run_to(at)
    assert client.at == at
    resolver.assert_nothing_left()
    assert resolver.times == [0, 0]


@pytest.mark.parametrize("do", [False, True])
def test_unmergeable_positive_ends_the_asking(do: bool) -> None:
    """MX, and addresses with DO, take one upstream's answer; the staggered tier is not asked."""
    act = says_own(0, 20) if do else gives(20, MX, MX_DATA)
    resolver = SimulatedResolver(act, says_own(1, 60) if do else gives(60, MX, MX_DATA), *others(3))
    question = resolver.question(do=True) if do else resolver.question(qtype=MX)
    client = resolver.ask(question)
    resolver.run()
    assert client.at == 20
    assert not isinstance(client.entry.answer, AddressPool)
    assert resolver.launches == [(0, 0), (0, 1)]
    assert resolver.cache.lookup(question.key, resolver.clock.seconds()) is client.entry
    resolver.assert_nothing_left()


def test_unmergeable_negative_goes_on_asking() -> None:
    """After a negative the staggered tier is asked even for MX."""
    resolver = SimulatedResolver(negative(20), negative(20), *[negative(5)] * 3)
    client = resolver.ask(resolver.question(qtype=MX))
    resolver.run()
    assert (client.at, client.rcode) == (20, NXDOMAIN)
    assert resolver.times == [0, 0, 50, 50, 100]


@pytest.mark.parametrize(
    ("second", "rcode"), [(negative(20), NXDOMAIN), (fails(20), NOERROR), (SILENT, NOERROR)]
)
def test_unmergeable_positive_behind_a_negative(second: Act, rcode: int) -> None:
    """Later data takes the place of a negative, unless the whole active tier agreed in that."""
    resolver = SimulatedResolver(negative(20), second, gives(5, MX, MX_DATA), SILENT, SILENT)
    question = resolver.question(qtype=MX)
    client = resolver.ask(question)
    resolver.run()
    assert client.rcode == NXDOMAIN
    assert resolver.ask(question).rcode == rcode
    resolver.assert_nothing_left()


def test_unmergeable_falls_back_and_fails_like_any_other() -> None:
    """The tiers work for every type: a failed active tier starts the others at once."""
    resolver = SimulatedResolver(fails(5), fails(5), gives(10, MX, MX_DATA), SILENT, SILENT)
    client = resolver.ask(resolver.question(qtype=MX))
    resolver.run()
    assert resolver.times == [0, 0, 5, 5]
    assert client.at == 15


def test_unhealthy_upstreams_are_not_asked() -> None:
    """Only usable upstreams are asked; when none is, all are."""
    resolver = SimulatedResolver(*[says_own(index, 5) for index in range(4)])
    resolver.upstreams[0].open_circuit()
    resolver.ask()
    resolver.run()
    assert sorted(upstream for _, upstream in resolver.launches) == [1, 2, 3]
    for upstream in resolver.upstreams:
        upstream.open_circuit()
    resolver.ask(resolver.question("other.example"))
    resolver.run()
    assert sorted(upstream for _, upstream in resolver.launches[3:]) == [0, 1, 2, 3]


def test_the_fastest_are_active() -> None:
    """Upstreams are asked in the order of their average time; unknown ones count 200 ms."""
    resolver = SimulatedResolver(
        says_own(0, 250), says_own(1, 30), says_own(2, 20), says_own(3, 201)
    )
    for index, seconds in enumerate((0.25, 0.03, 0.02)):
        resolver.upstreams[index].latency.add(seconds, resolver.clock.seconds())
    resolver.ask()
    resolver.run()
    assert resolver.launches == [(0, 2), (0, 1), (50, 3), (50, 0)]


def test_one_upstream() -> None:
    """A single upstream is an active tier without a staggered one."""
    resolver = SimulatedResolver(says(7, own(0), own(1)))
    client = resolver.ask()
    resolver.run()
    assert (client.at, client.addresses) == (7, [own(0), own(1)])
    assert [cell.value for cell in resolver.strategy.staggered_starts.values()] == [0, 0, 0]
    assert resolver.now == 7
    resolver.assert_nothing_left()


@pytest.mark.parametrize(
    ("acts", "outcome"),
    [
        ([says_own(0, 5), SILENT], "answered"),
        ([negative(5), fails(5)], "negative"),
        ([fails(5), fails(5)], "failed"),
        ([SILENT, SILENT, says_own(2, 5)], "fallback"),
        pytest.param([SILENT, SILENT], "failed", id="silent to the end"),
    ],
)
def test_active_tier_is_counted_once(acts: Sequence[Act], outcome: str) -> None:
    """Each collection adds one to the outcomes of the active tier: the sum is the collections."""
    resolver = SimulatedResolver(*acts)
    resolver.ask()
    resolver.run()
    counted = {key: cell.value for key, cell in resolver.strategy.active_outcomes.items()}
    zero = {"answered": 0, "negative": 0, "fallback": 0, "failed": 0}
    assert counted == zero | {outcome: 1}


def test_window_maximum() -> None:
    """The gauge of launches per window shows the tiers' sizes, and the failed tier's burst."""
    resolver = SimulatedResolver(*[says_own(index, 5) for index in range(6)])
    resolver.ask()
    resolver.run()
    assert window_maximum(resolver) == 2
    resolver = SimulatedResolver(fails(5), fails(5), *others(4))
    resolver.ask()
    resolver.run()
    assert window_maximum(resolver) == 4


def test_window_maximum_comes_down() -> None:
    """Ten minutes after the burst of a failed active tier the gauge shows usual numbers again."""
    resolver = SimulatedResolver(fails(5), fails(5), *others(4))
    resolver.ask()
    resolver.run()
    resolver.script(*[says_own(index, 5) for index in range(6)])
    for minute in range(1, 11):
        resolver.run_to(minute * 60_000)
        resolver.ask(resolver.question(f"n{minute}.example"))
        resolver.run()
        if minute <= 4:
            assert window_maximum(resolver) == 4
    assert window_maximum(resolver) == 2


def window_maximum(resolver: SimulatedResolver) -> float:
    """The gauge of launches per window, as a scrape shows it now."""
    (sample,) = resolver.metrics.launches_window_max.collect().samples
    return sample.value
