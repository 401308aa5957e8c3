"""The sort queue: GetOrStartSort, CancelSort, its bound (docs/specification.rst, Ranking)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.ranking.sorts import Listener
from tests.kit.compiled import PURE_ONLY
from tests.kit.probing import SimulatedRanking, address, measure, silent, written

KEY, OTHER = b"a", b"b"
ADDRESSES = (address(30), address(10), address(20))
RANKED = (address(10), address(20), address(30))


class Reports(Listener):
    """What sorts report, in the order of time: in the end in ``all``, before that in ``early``."""

    def __init__(self, ranking: SimulatedRanking) -> None:
        self.ranking = ranking
        self.early: list[tuple[float, tuple[bytes, ...]]] = []
        self.all: list[tuple[float, tuple[bytes, ...] | None]] = []

    @property
    def orders(self) -> list[tuple[bytes, ...] | None]:
        """The orders alone."""
        return [found for _, found in self.all]

    def nearer(self, addresses: tuple[bytes, ...]) -> None:
        """Note an order so far, and when it came."""
        self.early.append((round(self.ranking.now, 6), addresses))

    def ended(self, addresses: tuple[bytes, ...] | None, now: float) -> None:
        """Note the report of the end, and when it came."""
        assert now == self.ranking.clock.seconds()
        self.all.append((round(self.ranking.now, 6), addresses))

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
    """A sort waits for the slowest of its addresses, and for two more samples of the nearest."""
    assert reports.start()
    assert KEY in ranking.sorts
    assert running(ranking) == 1
    ranking.at(30)
    assert reports.all == [(0.050, RANKED)]
    assert [sample.address for sample in ranking.sent[3:]] == [address(10)] * 2
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
    assert len(ranking.sent) == 5


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
    assert len(ranking.sent) == 5


def test_over_at_once(ranking: SimulatedRanking, reports: Reports) -> None:
    """A sort for which nothing has to be sampled is counted, and that is all; others are not."""

    def over(*numbers: int) -> bool:
        now = ranking.clock.seconds()
        return ranking.sorts.over_at_once(pool_of(*numbers), "refresh", now)

    assert not over(10, 20, 30), "never measured"
    reports.start()
    ranking.at(10)
    assert over(10, 20, 30)
    assert not over(10, 20, 40), "one of them never measured"
    assert not over(20, 30), "sampled once, and now they may be first"
    ranking.at(299)
    assert over(10, 20, 30)
    assert ranking.counts() == {"first_answer": 1, "refresh": 2}
    ranking.at(301)
    assert not over(10, 20, 30), "old"
    assert len(ranking.sent) == 5


def test_silence_is_not_over_at_once() -> None:
    """Whoever asks hears from the sort itself that there is no order."""
    ranking = SimulatedRanking(silent, names=["icmp"])
    Reports(ranking).start()
    ranking.at(30)
    assert not ranking.sorts.over_at_once(ADDRESSES, "refresh", ranking.clock.seconds())


def test_nothing_is_over_when_closed(ranking: SimulatedRanking, reports: Reports) -> None:
    """Then no sort starts any more."""
    reports.start()
    ranking.at(10)
    ranking.sorts.close()
    assert not ranking.sorts.over_at_once(ADDRESSES, "refresh", ranking.clock.seconds())
    assert ranking.counts() == {"first_answer": 1}


def test_old_addresses_are_measured_anew(ranking: SimulatedRanking, reports: Reports) -> None:
    """What is older than its lifetime is measured again, each address by its own age."""
    reports.start()
    ranking.at(300.025)  # 20 is older than 300 s; 30 is not, nor is 10, which was sampled last
    reports.start(OTHER)
    ranking.at(330)
    assert [sample.address[-1] for sample in ranking.sent[5:]] == [20]
    ranking.at(700)
    reports.start(OTHER)
    ranking.at(730)
    assert len(ranking.sent) == 5 + 1 + 5


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


@pytest.mark.parametrize("at", [0, 0.005, 0.0101, 0.0299, 0.0301, 0.0401, 0.0499])
def test_cancel_at_any_moment(ranking: SimulatedRanking, reports: Reports, at: float) -> None:
    """In any round, before, between and just before the last sample: nothing is reported then."""
    reports.start()
    ranking.at(at)
    ranking.sorts.cancel(KEY)
    early = [*reports.early]
    ranking.at(30)
    assert (reports.early, reports.all) == (early, [])
    assert not [sample for sample in ranking.sent if sample.at > at]
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
    """The new sort takes over what the old one has begun and is the only one that reports."""
    reports.start()
    ranking.at(0.020)
    ranking.sorts.cancel(KEY)
    new = Reports(ranking)
    more = (*ADDRESSES, address(5))
    new.start(addresses=more, trigger="more_addresses")
    ranking.at(30)
    assert reports.all == []
    assert new.early == [(0.025, (address(5), *RANKED))]
    assert new.all == [(0.040, (address(5), *RANKED))]
    assert len(ranking.sent) == 3 + 3
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
    assert len(ranking.sent) == 15 + 4  # the nearest two are near each other
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
    measure(ranking.table, address(1), [0.001] * 3)
    measure(ranking.table, address(2), [0.002] * 3)
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


# Rounds.


def pool_of(*numbers: int) -> list[bytes]:
    """Addresses that answer after so many milliseconds."""
    return [address(number) for number in numbers]


def sampled(ranking: SimulatedRanking) -> dict[int, int]:
    """How many echoes went to which address."""
    return Counter(sample.address[-1] for sample in ranking.sent)


@pytest.mark.parametrize("samples", [1, 2, 3, 10])
def test_number_of_samples(samples: int) -> None:
    """One of everybody; the nearest and those near it get as many as the settings say."""
    ranking = SimulatedRanking(samples=samples)
    reports = Reports(ranking)
    reports.start(addresses=pool_of(100, 40, 60, 61, 200))
    ranking.at(30)
    assert sampled(ranking) == {40: samples, 60: samples, 61: 1, 100: 1, 200: 1}
    assert reports.orders == [tuple(pool_of(40, 60, 61, 100, 200))]


def test_fifteen_addresses_cost_at_most_twenty_one_probes() -> None:
    """However near they are to each other, three get two more samples each."""
    ranking = SimulatedRanking()
    reports = Reports(ranking)
    reports.start(addresses=pool_of(*range(60, 75)))
    ranking.at(30)
    assert len(ranking.sent) == 21
    assert {number for number, count in sampled(ranking).items() if count == 3} == {60, 61, 62}


def test_samples_of_a_round_go_at_the_same_moment(
    ranking: SimulatedRanking, reports: Reports
) -> None:
    """The first samples at once; further ones when the last of the round before is there."""
    reports.start(addresses=pool_of(40, 50, 200))
    ranking.at(30)
    assert [(sample.at, sample.address[-1]) for sample in ranking.sent] == [
        *((0, number) for number in (40, 50, 200)),
        *((0.2, number) for number in (40, 50)),
        *((0.25, number) for number in (40, 50)),
    ]
    assert reports.all == [(0.3, tuple(pool_of(40, 50, 200)))]


def test_the_first_echo_is_reported(ranking: SimulatedRanking, reports: Reports) -> None:
    """It comes from the nearest: that is first from then on, long before all are measured."""
    reports.start(addresses=pool_of(200, 90, 20, 30))
    ranking.at(0.0199)
    assert reports.early == []
    ranking.at(0.0201)
    assert reports.early == [(0.020, tuple(pool_of(20, 200, 90, 30)))]
    ranking.at(30)
    assert len(reports.early) == 1
    assert reports.orders == [tuple(pool_of(20, 30, 90, 200))]


def test_nearer_than_what_is_known(ranking: SimulatedRanking, reports: Reports) -> None:
    """An echo from an address that is farther than a known one is no news; a nearer one is."""
    measure(ranking.table, address(50), [0.050] * 3)
    reports.start(addresses=pool_of(60, 50))
    ranking.at(1)
    assert reports.early == []
    reports.start(OTHER, pool_of(70, 50, 40))
    ranking.at(2)
    assert reports.early == [(1.040, tuple(pool_of(40, 50, 70)))]


def test_an_echo_that_comes_late_from_the_nearest() -> None:
    """When the nearest address has its turn after others, it is first when its echo comes."""
    ranking = SimulatedRanking(max_probes_per_second=2)
    reports = Reports(ranking)
    reports.start(addresses=pool_of(90, 80, 10))
    ranking.at(0.7)
    assert reports.early == [(0.09, tuple(pool_of(90, 80, 10))), (0.58, tuple(pool_of(80, 90, 10)))]
    ranking.at(30)
    assert reports.early[2:] == [(1.01, tuple(pool_of(10, 80, 90)))]


def test_a_nearest_address_that_loses_echoes() -> None:
    """Every second echo lost: it is sampled until that is clear, and comes after the clean ones."""
    ranking = SimulatedRanking(
        lambda one, echo: None if one[-1] == 10 and echo % 2 else one[-1] / 1000, names=["icmp"]
    )
    reports = Reports(ranking)
    reports.start(addresses=pool_of(10, 60, 200))
    ranking.at(30)
    assert reports.early[0] == (0.010, tuple(pool_of(10, 60, 200)))
    assert reports.orders == [tuple(pool_of(60, 200, 10))]
    assert sampled(ranking)[10] == 11  # five lost, and one answer behind each
    assert sampled(ranking)[60] == 3, "the next one is the nearest now"


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_echo_now_and_then(lost: int) -> None:
    """One lost echo, whichever it is, costs an address nothing but a few samples more."""
    ranking = SimulatedRanking(
        lambda one, echo: None if one[-1] == 10 and echo == lost else one[-1] / 1000, names=["icmp"]
    )
    reports = Reports(ranking)
    reports.start(addresses=pool_of(10, 60, 200))
    ranking.at(30)
    assert reports.orders == [tuple(pool_of(10, 60, 200))]
    assert sampled(ranking)[10] <= 5


def test_what_was_sampled_for_a_cancelled_sort_counts(ranking: SimulatedRanking) -> None:
    """A pool that grows while it is sorted: nobody gets more samples than once for all."""
    reports = Reports(ranking)
    for count in range(1, 6):
        reports.start(addresses=pool_of(*range(60, 60 + 3 * count)))
        ranking.at(0.05 * count)
        if count < 5:
            ranking.sorts.cancel(KEY)
    ranking.at(30)
    assert len(ranking.sent) == 21
    assert reports.orders == [tuple(pool_of(*range(60, 75)))]


def test_known_addresses_that_may_be_first(ranking: SimulatedRanking, reports: Reports) -> None:
    """Fresh but sampled once: they get their further samples when they may be first elsewhere."""
    reports.start(addresses=pool_of(10, 50, 55))
    ranking.at(10)
    reports.start(OTHER, pool_of(50, 55))
    ranking.at(20)
    assert sampled(ranking) == {10: 3, 50: 3, 55: 3}
    assert [at for at, _ in reports.all] == [pytest.approx(0.075), pytest.approx(10.11)]


# Names in demand.


def test_a_name_that_is_asked_for_again() -> None:
    """Its addresses are sampled before those of names that nobody has asked for since."""
    ranking = SimulatedRanking(max_probes_per_second=4)
    reports, wanted = Reports(ranking), Reports(ranking)
    for number in range(6):
        reports.start(b"%d" % number, pool_of(2 * number + 1, 2 * number + 2))
    wanted.start(addresses=pool_of(201, 202))
    ranking.at(0.1)
    assert ranking.sorts.demand(KEY)
    ranking.at(1.1)
    assert len(wanted.all) == 0
    assert wanted.early, "its first samples came before those of six others"
    assert len(reports.all) <= 1
    ranking.at(30)
    assert len(reports.all) == 6


@pytest.mark.parametrize("times", [1, 1000])
def test_a_flood_for_one_name(times: int) -> None:
    """Asking once more than once changes nothing for anybody, and sends nothing."""
    ranking = SimulatedRanking(max_probes_per_second=4)
    reports = Reports(ranking)
    for number in range(6):
        reports.start(b"%d" % number, pool_of(2 * number + 1, 2 * number + 2))
    for _ in range(times):
        assert ranking.sorts.demand(b"5")
        ranking.sorts.demand(b"4")
    ranking.at(2)
    assert [sample.address[-1] for sample in ranking.sent] == [1, 2, 11, 3, 12, 9, 10, 4, 5, 6]
    assert not ranking.sorts.demand(b"nobody")
    ranking.at(30)
    assert not ranking.sorts.demand(b"5")
    ranking.assert_nothing_left()


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


class Token(Listener):
    """Hears of one sort, and notes in ``wrong`` what it should not hear."""

    def __init__(
        self, key: bytes, addresses: list[bytes], standing: dict[bytes, Token], wrong: list[object]
    ) -> None:
        self.key = key
        self.addresses = sorted(addresses)
        self.standing = standing
        self.wrong = wrong

    def nearer(self, addresses: tuple[bytes, ...]) -> None:
        """The sort must stand."""
        if self.standing.get(self.key) is not self or sorted(addresses) != self.addresses:
            self.wrong.append((self.key, addresses))

    def ended(self, addresses: tuple[bytes, ...] | None, now: float) -> None:
        """The sort must have stood until now."""
        if self.standing.pop(self.key, None) is not self:
            self.wrong.append(self.key)
        if sorted(addresses or ()) != self.addresses:
            self.wrong.append((self.key, addresses))


@PURE_ONLY
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
    standing: dict[bytes, Token] = {}
    wrong: list[object] = []

    for number, cancels, pause, addresses in steps:
        key = b"%d" % number
        ranking.at(ranking.now + pause)
        if cancels:
            ranking.sorts.cancel(key)
            standing.pop(key, None)
        if key not in ranking.sorts:
            token = standing[key] = Token(key, addresses, standing, wrong)
            now = ranking.clock.seconds()
            if not ranking.sorts.start(key, addresses, addresses, (), "refresh", now, token):
                del standing[key]
        assert running(ranking) <= queue
    ranking.at(ranking.now + 30)
    assert wrong == []
    assert standing == {}
    ranking.assert_nothing_left()
