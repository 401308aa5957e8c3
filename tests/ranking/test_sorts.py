"""The sort queue: GetOrStartSort, CancelSort, its bound (docs/specification.rst, Ranking)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.probing import SimulatedRanking, address, silent, written

KEY, OTHER = b"a", b"b"
ADDRESSES = (address(30), address(10), address(20))
RANKED = (address(10), address(20), address(30))


class Reports:
    """What sorts report, in the order of time."""

    def __init__(self, ranking: SimulatedRanking) -> None:
        self.ranking = ranking
        self.all: list[tuple[float, tuple[bytes, ...] | None]] = []

    @property
    def orders(self) -> list[tuple[bytes, ...] | None]:
        """The orders alone."""
        return [found for _, found in self.all]

    def __call__(self, found: tuple[bytes, ...] | None, now: float) -> None:
        """Note a report, and when it came."""
        assert now == self.ranking.clock.seconds()
        self.all.append((round(self.ranking.now, 6), found))

    def start(
        self,
        key: bytes = KEY,
        addresses: Sequence[bytes] = ADDRESSES,
        *,
        trigger: str = "first_answer",
        ranked: Sequence[bytes] = (),
        probed: Sequence[bytes] | None = None,
    ) -> bool:
        """Start a sort that reports here."""
        probed = addresses if probed is None else probed
        now = self.ranking.clock.seconds()
        return self.ranking.sorts.start(key, probed, addresses, ranked, trigger, now, self)


@pytest.fixture
def ranking() -> SimulatedRanking:
    """A ranking whose addresses answer as they are written."""
    return SimulatedRanking()


@pytest.fixture
def reports(ranking: SimulatedRanking) -> Reports:
    """Whoever hears the sorts of ``ranking``."""
    return Reports(ranking)


def running(ranking: SimulatedRanking) -> float:
    """What the gauge of sorts shows."""
    return ranking.metrics.sorts_running.collect().samples[0].value


def test_a_sort(ranking: SimulatedRanking, reports: Reports) -> None:
    """A sort waits for the slowest of its addresses and reports the order once."""
    assert reports.start()
    assert KEY in ranking.sorts
    assert running(ranking) == 1
    ranking.at(30)
    assert reports.all == [(0.090, RANKED)]
    assert KEY not in ranking.sorts
    assert running(ranking) == 0
    assert ranking.counts() == {"first_answer": 1}
    ranking.assert_nothing_left()


def test_join(ranking: SimulatedRanking, reports: Reports) -> None:
    """A second start under the same key joins: one sort, one report, one count."""
    reports.start()
    ranking.at(0.005)
    late = Reports(ranking)
    assert late.start(trigger="sorted_missing")
    ranking.at(30)
    assert (reports.orders, late.orders) == ([RANKED], [])
    assert ranking.counts() == {"first_answer": 1}
    assert len(ranking.sent) == 9


def test_the_next_one(ranking: SimulatedRanking, reports: Reports) -> None:
    """A sort that has ended does not keep the next one from starting."""
    reports.start()
    ranking.at(1)
    reports.start(trigger="refresh")
    assert reports.orders == [RANKED, RANKED]
    assert ranking.counts() == {"first_answer": 1, "refresh": 1}


def test_fresh_addresses_are_not_measured(ranking: SimulatedRanking, reports: Reports) -> None:
    """When all is known the sort reports before `start` returns, and sends nothing."""
    reports.start()
    ranking.at(299)
    assert reports.start(OTHER)
    assert reports.orders == [RANKED, RANKED]
    assert OTHER not in ranking.sorts
    assert len(ranking.sent) == 9


def test_old_addresses_are_measured_anew(ranking: SimulatedRanking, reports: Reports) -> None:
    """What is older than its lifetime is measured again, each address by its own age."""
    reports.start()
    ranking.at(300.050)  # the first two are older than 300 s, the third is not
    reports.start(OTHER)
    ranking.at(330)
    assert [sample.address[-1] for sample in ranking.sent[9:]] == [10, 10, 10]
    ranking.at(700)
    reports.start(OTHER)
    ranking.at(730)
    assert len(ranking.sent) == 9 + 3 + 9


def test_cancel(ranking: SimulatedRanking, reports: Reports) -> None:
    """A sort that is cancelled reports nothing, though its measurements end later."""
    reports.start()
    ranking.at(0.020)
    ranking.sorts.cancel(KEY)
    assert KEY not in ranking.sorts
    assert running(ranking) == 0
    assert ranking.cancelled() == 1
    ranking.at(30)
    assert reports.all == []
    assert all(ranking.table.fresh(one, ranking.clock.seconds()) for one in ADDRESSES)
    ranking.assert_nothing_left()


@pytest.mark.parametrize("at", [0, 0.0299, 0.0301, 0.0899])
def test_cancel_at_any_moment(ranking: SimulatedRanking, reports: Reports, at: float) -> None:
    """Before, between and just before the last measurement: nothing is reported."""
    reports.start()
    ranking.at(at)
    ranking.sorts.cancel(KEY)
    ranking.at(30)
    assert reports.all == []
    ranking.assert_nothing_left()


def test_cancel_what_is_not_there(ranking: SimulatedRanking, reports: Reports) -> None:
    """Cancelling a sort that has ended, or never was, is nothing, and counts as nothing."""
    reports.start()
    ranking.at(30)
    ranking.sorts.cancel(KEY)
    ranking.sorts.cancel(OTHER)
    assert ranking.cancelled() == 0
    assert reports.orders == [RANKED]


def test_cancel_and_start_again(ranking: SimulatedRanking, reports: Reports) -> None:
    """The new sort joins the measurements of the old one and is the only one that reports."""
    reports.start()
    ranking.at(0.020)
    ranking.sorts.cancel(KEY)
    new = Reports(ranking)
    more = (*ADDRESSES, address(5))
    new.start(addresses=more, trigger="more_addresses")
    ranking.at(30)
    assert reports.all == []
    assert new.all == [(0.090, (address(5), *RANKED))]
    assert len(ranking.sent) == 12
    assert ranking.counts() == {"first_answer": 1, "more_addresses": 1}


def test_cancel_leaves_others_alone(ranking: SimulatedRanking, reports: Reports) -> None:
    """A sort of other names that waits for the same addresses goes on."""
    other = Reports(ranking)
    reports.start()
    other.start(OTHER)
    ranking.sorts.cancel(KEY)
    ranking.at(30)
    assert (reports.orders, other.orders) == ([], [RANKED])


def test_cancel_takes_back_what_has_not_begun() -> None:
    """Addresses that nobody else waits for are not measured after CancelSort."""
    ranking = SimulatedRanking(concurrency=1)
    reports, other = Reports(ranking), Reports(ranking)
    reports.start()
    other.start(OTHER, [ADDRESSES[2], address(40)])
    ranking.sorts.cancel(KEY)
    ranking.at(30)
    assert {sample.address for sample in ranking.sent} == {ADDRESSES[0], ADDRESSES[2], address(40)}
    assert other.orders == [(ADDRESSES[2], address(40))]
    ranking.assert_nothing_left()


def test_the_same_addresses_under_fifty_names() -> None:
    """Fifteen addresses under fifty names are probed once, whether at once or one by one."""
    ranking = SimulatedRanking(queue=50)
    fifteen = [address(number) for number in range(1, 16)]
    reports = Reports(ranking)
    for number in range(25):
        reports.start(b"n%d" % number, fifteen)
    ranking.at(0.020)
    for number in range(25, 40):
        reports.start(b"n%d" % number, fifteen)
    ranking.at(60)
    for number in range(40, 50):
        reports.start(b"n%d" % number, fifteen)
    ranking.at(100)
    assert reports.orders == [tuple(fifteen)] * 50
    assert len(ranking.sent) == 15 * 3
    ranking.assert_nothing_left()


@pytest.mark.parametrize("queue", [1, 8])
def test_queue_full(queue: int) -> None:
    """The queue takes its number, one past it is refused and counted, and starts nothing."""
    ranking = SimulatedRanking(queue=queue)
    reports, refused = Reports(ranking), Reports(ranking)
    for number in range(queue):
        assert reports.start(b"%d" % number)
    assert not refused.start()
    assert KEY not in ranking.sorts
    assert ranking.counts() == {"first_answer": queue, "queue_full": 1}
    ranking.at(30)
    assert (len(reports.all), refused.all) == (queue, [])
    assert refused.start(trigger="sorted_missing")
    assert refused.orders == [RANKED]
    assert ranking.counts() == {"first_answer": queue, "queue_full": 1, "sorted_missing": 1}


def test_a_full_queue_joins_and_ranks_what_is_known() -> None:
    """Joining, and sorting what needs no probe, is possible with a full queue."""
    ranking = SimulatedRanking(queue=1)
    reports = Reports(ranking)
    ranking.table.add(address(1), [0.001], ranking.clock.seconds())
    ranking.table.add(address(2), [0.002], ranking.clock.seconds())
    reports.start()
    assert reports.start()
    assert reports.start(OTHER, [address(2), address(1)])
    assert reports.orders == [(address(1), address(2))]
    assert ranking.counts() == {"first_answer": 2}


def test_a_cancelled_sort_makes_room() -> None:
    """A place in the queue is free as soon as its sort is cancelled."""
    ranking = SimulatedRanking(queue=1)
    reports = Reports(ranking)
    reports.start()
    ranking.sorts.cancel(KEY)
    assert reports.start(OTHER)


def test_some_are_silent() -> None:
    """Silent addresses are last, in the order in which they came, and there."""
    ranking = SimulatedRanking(
        lambda one, _: None if one[-1] < 20 else one[-1] / 1000, names=["icmp"]
    )
    reports = Reports(ranking)
    reports.start(addresses=[address(11), *ADDRESSES])
    ranking.at(30)
    assert reports.orders == [(address(20), address(30), address(11), address(10))]


def test_all_are_silent() -> None:
    """Without any answer there is no order, and silence is remembered for a minute, no longer."""
    ranking = SimulatedRanking(silent, names=["icmp"])
    reports = Reports(ranking)
    reports.start()
    ranking.at(30)
    assert reports.orders == [None]
    sent = len(ranking.sent)
    reports.start()
    ranking.at(40)
    assert reports.orders == [None, None]
    assert len(ranking.sent) == sent, "probed again although the silence is fresh"
    ranking.probes[0].script = written
    ranking.at(100)
    reports.start()
    ranking.at(110)
    assert reports.orders == [None, None, RANKED]


def test_an_outage_leaves_no_trace() -> None:
    """What was known before the network went down orders nothing wrongly after it."""
    ranking = SimulatedRanking(names=["icmp"])
    reports = Reports(ranking)
    reports.start()
    ranking.at(400)
    ranking.probes[0].script = silent
    reports.start(ranked=RANKED)
    ranking.at(410)
    ranking.probes[0].script = written
    ranking.at(480)
    reports.start(ranked=RANKED)
    ranking.at(490)
    assert reports.orders == [RANKED, None, RANKED]


def test_what_is_not_probed_stays_in() -> None:
    """Addresses that may not be probed are ordered behind the known ones, before silent ones."""
    ranking = SimulatedRanking(lambda one, _: None if one[-1] == 20 else 0.010, names=["icmp"])
    reports = Reports(ranking)
    private = bytes([10, 0, 0, 1])
    reports.start(addresses=[address(20), private, address(10)], probed=[address(20), address(10)])
    ranking.at(30)
    assert reports.orders == [(address(10), private, address(20))]
    assert private not in {sample.address for sample in ranking.sent}


def test_hysteresis_through_a_sort(ranking: SimulatedRanking, reports: Reports) -> None:
    """The order of an earlier sort stands against what is within jitter."""
    one, other = address(10), address(11)
    ranking.probes[0].script = lambda address, _: 0.0100 if address == one else 0.0104
    reports.start(addresses=[one, other], ranked=[other, one])
    reports.start(OTHER, [one, other])
    ranking.at(30)
    assert sorted(reports.orders, key=str) == sorted([(other, one), (one, other)], key=str)


def test_close() -> None:
    """The end reports nothing and, with the measurer's, leaves nothing."""
    ranking = SimulatedRanking(silent, silent, silent)
    reports = Reports(ranking)
    for number in range(5):
        reports.start(b"%d" % number, [address(number * 2), address(number * 2 + 1)])
    ranking.at(0.3)
    ranking.sorts.close()
    ranking.measurer.close()
    assert ranking.clock.getDelayedCalls() == []
    ranking.at(30)
    assert reports.all == []
    assert running(ranking) == 0
    ranking.assert_nothing_left()


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.booleans(),
            st.floats(0, 0.05),
            st.lists(st.integers(1, 12).map(address), min_size=2, max_size=5, unique=True),
        ),
        max_size=25,
    ),
    st.integers(1, 3),
)
def test_tokens(steps: list[tuple[int, bool, float, list[bytes]]], queue: int) -> None:
    """Whatever is started and cancelled when, each report is that of the sort that stands."""
    ranking = SimulatedRanking(queue=queue, concurrency=3)
    standing: dict[bytes, object] = {}
    wrong: list[object] = []

    for number, cancels, pause, addresses in steps:
        key = b"%d" % number
        ranking.at(ranking.now + pause)
        if cancels:
            ranking.sorts.cancel(key)
            standing.pop(key, None)
        token = object()

        def report(
            found: tuple[bytes, ...] | None,
            now: float,
            key: bytes = key,
            token: object = token,
            addresses: list[bytes] = addresses,
        ) -> None:
            mine = standing.pop(key, None) is token
            if not mine or sorted(found or ()) != sorted(addresses):
                wrong.append((key, found))

        if key not in ranking.sorts:
            standing[key] = token
            now = ranking.clock.seconds()
            if not ranking.sorts.start(key, addresses, addresses, (), "refresh", now, report):
                del standing[key]
        assert running(ranking) <= queue
    ranking.at(ranking.now + 30)
    assert wrong == []
    assert standing == {}
    ranking.assert_nothing_left()
