"""Measuring: samples, ways of probing in turn, company, concurrency, budget
(docs/specification.rst, Ranking).
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from staggerdns.ranking.budget import BURST
from staggerdns.ranking.measure import MAX_WAITING
from tests.kit.probing import (
    FakeProbe,
    Script,
    SimulatedRanking,
    address,
    elapse,
    make_clock,
    silent,
    unreachable,
    written,
)

ONE, OTHER = address(10), address(20)


def scripted(*answers: float | OSError | None) -> Script:
    """A script: the samples of any address do this one after the other, the last one for ever."""
    return lambda _, sample: answers[min(sample, len(answers) - 1)]


class Asker:
    """Somebody who waits for a measurement; ``at``: when it ended, seconds after the start."""

    def __init__(self, ranking: SimulatedRanking, address: bytes) -> None:
        self.ranking = ranking
        self.at: float | None = None
        self.failure: Failure | None = None
        self.deferred: Deferred[float] = ranking.measurer.measure(address)
        self.deferred.addCallbacks(self._measured, self._failed)

    def _measured(self, now: float) -> None:
        assert now == self.ranking.clock.seconds()
        self.at = self.ranking.now

    def _failed(self, failure: Failure) -> None:
        self.failure = failure


def ends(ranking: SimulatedRanking, address: bytes = ONE) -> float | None:
    """Measure one address and let time pass; seconds until its end."""
    asker = Asker(ranking, address)
    ranking.at(30)
    ranking.assert_nothing_left()
    return asker.at


def counted(ranking: SimulatedRanking, method: str) -> tuple[int, int]:
    """Probes sent and lost."""
    metrics = ranking.metrics
    return metrics.probes.cell(method).value, metrics.probe_losses.cell(method).value


def test_samples_one_after_the_other() -> None:
    """Each sample is sent when the last one is answered, and the least goes into the table."""
    ranking = SimulatedRanking(scripted(0.030, 0.010, 0.020), silent, silent)
    assert ends(ranking) == pytest.approx(0.060)
    assert ranking.probes[0].times == pytest.approx([0, 0.030, 0.040])
    assert ranking.table.cost(ONE) == pytest.approx(0.010)
    assert [probe.times for probe in ranking.probes[1:]] == [[], []]
    assert counted(ranking, "icmp") == (3, 0)


@pytest.mark.parametrize("samples", [1, 2, 3, 10])
@pytest.mark.parametrize("name", ["icmp", "tcp:443"])
def test_number_of_samples(samples: int, name: str) -> None:
    """As many samples go as were asked for, of either kind."""
    ranking = SimulatedRanking(written, names=[name], samples=samples)
    assert ends(ranking) == pytest.approx(samples * 0.010)
    assert len(ranking.sent) == samples


@pytest.mark.parametrize(("trip", "company"), [(0.249, 0), (0.251, 1)])
def test_company_after_a_quarter(trip: float, company: int) -> None:
    """A sample unanswered for a quarter of the timeout gets company, and not a moment before."""
    ranking = SimulatedRanking(scripted(trip, 0.010), written, names=["icmp", "tcp:443"])
    Asker(ranking, ONE)
    ranking.at(0.250)
    assert ranking.probes[0].times == pytest.approx([0, min(trip, 0.250)])
    assert len(ranking.probes[1].samples) == company
    ranking.at(30)
    ranking.assert_nothing_left()


def test_ways_in_order() -> None:
    """Where nothing answers, each way begins a quarter of the timeout after the one before."""
    ranking = SimulatedRanking(silent, silent, silent)
    assert ends(ranking) == pytest.approx(1.5)
    icmp, first, second = ranking.probes
    assert icmp.times == pytest.approx([0, 0.25, 0.5])
    assert first.times == pytest.approx([0.25])
    assert second.times == pytest.approx([0.5])
    assert ranking.table.cost(ONE) == float("inf")
    assert [counted(ranking, probe.name) for probe in ranking.probes] == [(3, 3), (1, 1), (1, 1)]


@pytest.mark.parametrize("timeout", [0.2, 1.0, 4.0])
def test_everything_scales_with_the_timeout(timeout: float) -> None:
    """All waits are parts of the timeout."""
    ranking = SimulatedRanking(silent, silent, silent, timeout=timeout)
    assert ends(ranking) == pytest.approx(1.5 * timeout)


@pytest.mark.parametrize(("trip", "answered"), [(0.999, True), (1.001, False)])
def test_both_sides_of_the_timeout(trip: float, answered: bool) -> None:
    """An answer just before the timeout counts, one just behind it is a loss."""
    ranking = SimulatedRanking(scripted(trip, 0.010), names=["icmp"], samples=1)
    ends(ranking)
    assert ranking.table.answers(ONE) is answered
    assert counted(ranking, "icmp") == (1, not answered)


def test_a_lost_sample() -> None:
    """One lost of three is a loss: the address costs more than any round trip."""
    ranking = SimulatedRanking(scripted(0.010, None, 0.010), names=["icmp"])
    assert ends(ranking) == pytest.approx(1.010)
    assert ranking.probes[0].times == pytest.approx([0, 0.010, 0.260])
    cost = ranking.table.cost(ONE)
    assert cost is not None
    assert 1.0 < cost < float("inf")


def test_the_first_lost() -> None:
    """The second sample's answer does for the address what the first's did not."""
    ranking = SimulatedRanking(scripted(None, 0.010, 0.010), names=["icmp"])
    assert ends(ranking) == pytest.approx(1.0)
    assert ranking.probes[0].times == pytest.approx([0, 0.25, 0.26])
    assert ranking.table.answers(ONE)
    assert counted(ranking, "icmp") == (3, 1)


def test_a_late_answer_counts() -> None:
    """The answer to a sample that has company already is taken, and nobody is counted twice."""
    ranking = SimulatedRanking(scripted(0.3, 0.3, 0.3), names=["icmp"])
    assert ends(ranking) == pytest.approx(0.6)
    assert counted(ranking, "icmp") == (3, 0)
    assert ranking.table.cost(ONE) == pytest.approx(0.3)


def test_the_way_that_answers_takes_the_rest() -> None:
    """TCP answers where ICMP is silent: ICMP is given up, its samples are no losses."""
    ranking = SimulatedRanking(silent, written, silent)
    assert ends(ranking) == pytest.approx(0.28)
    icmp, first, second = ranking.probes
    assert icmp.given_up == len(icmp.samples)
    assert first.times == pytest.approx([0.25, 0.26, 0.27])
    assert second.times == []
    assert ranking.table.cost(ONE) == pytest.approx(0.010)
    assert counted(ranking, "icmp")[1] == 0


def test_the_others_end_with_the_first_answer() -> None:
    """From the first answer on nothing is sent any other way, long before the measurement ends."""
    ranking = SimulatedRanking(silent, scripted(0.2), silent)
    assert ends(ranking) == pytest.approx(0.85)
    assert [probe.times for probe in ranking.probes] == [
        pytest.approx([0, 0.25]),
        pytest.approx([0.25, 0.45, 0.65]),
        [],
    ]
    assert ranking.probes[0].given_up == 2


def test_the_first_way_wins_late() -> None:
    """A slow echo that comes back while TCP waits ends TCP."""
    ranking = SimulatedRanking(scripted(0.4), silent, silent)
    ends(ranking)
    assert [probe.given_up for probe in ranking.probes] == [0, 1, 0]
    assert ranking.table.cost(ONE) == pytest.approx(0.4)


def test_a_connection_that_is_lost_is_not_tried_again() -> None:
    """One connection attempt per port says it all; another would only cost."""
    ranking = SimulatedRanking(silent, names=["tcp:443"])
    assert ends(ranking) == pytest.approx(1.0)
    assert len(ranking.sent) == 1


def test_a_connection_lost_later() -> None:
    """A port that answers once and then no more is lossy, and gets no third connection."""
    ranking = SimulatedRanking(scripted(0.010, None), names=["tcp:443"])
    assert ends(ranking) == pytest.approx(1.010)
    assert len(ranking.sent) == 2
    cost = ranking.table.cost(ONE)
    assert cost is not None
    assert 1.0 < cost < float("inf")


def test_errors_at_once() -> None:
    """Where the system refuses to send, the next way has its turn, and none is left out."""
    ranking = SimulatedRanking(unreachable, unreachable, written)
    asker = Asker(ranking, ONE)
    ranking.at(30)
    ranking.assert_nothing_left()
    assert asker.at is not None
    assert asker.at < 1
    assert ranking.table.cost(ONE) == pytest.approx(0.010)
    assert len(ranking.probes[1].samples) == 1


def test_every_way_fails_at_once() -> None:
    """Nothing can be sent at all: the address is silent, nothing hangs."""
    ranking = SimulatedRanking(unreachable, unreachable, unreachable)
    end = ends(ranking)
    assert end is not None
    assert end <= 1
    assert ranking.table.cost(ONE) == float("inf")


def test_no_way_of_probing() -> None:
    """Without any way the measurement ends and says nothing of the address."""
    ranking = SimulatedRanking(names=[])
    assert ends(ranking) == 0
    assert ranking.table.cost(ONE) is None
    assert not ranking.measurer.usable(ONE)


def test_ways_that_cannot_reach_the_family() -> None:
    """A way that has no socket for a family is not tried for it."""
    ranking = SimulatedRanking(written, written, names=["icmp", "tcp:443"])
    ranking.probes[0]._width = 4
    ends(ranking, b"\x20\x01" + b"\0" * 13 + b"\x0a")
    assert [len(probe.samples) for probe in ranking.probes] == [0, 3]


def test_one_measurement_per_address() -> None:
    """Whoever asks meanwhile joins, and all are told at the same time."""
    ranking = SimulatedRanking()
    askers = [Asker(ranking, ONE)]
    for at in (0.005, 0.015, 0.025):
        ranking.at(at)
        askers.append(Asker(ranking, ONE))
    ranking.at(30)
    assert [asker.at for asker in askers] == pytest.approx([0.030] * 4)
    assert len(ranking.sent) == 3


def test_one_asker_leaves() -> None:
    """Who goes away disturbs nobody."""
    ranking = SimulatedRanking()
    first, second = Asker(ranking, ONE), Asker(ranking, ONE)
    ranking.at(0.005)
    first.deferred.cancel()
    ranking.at(30)
    assert first.failure is not None
    assert first.failure.check(CancelledError)
    assert second.at == pytest.approx(0.030)
    ranking.assert_nothing_left()


def test_all_leave_while_it_runs() -> None:
    """What has begun goes on: the next sort finds the round-trip time in the table."""
    ranking = SimulatedRanking()
    asker = Asker(ranking, ONE)
    ranking.at(0.005)
    asker.deferred.cancel()
    ranking.at(30)
    assert ranking.table.fresh(ONE, ranking.clock.seconds())
    ranking.assert_nothing_left()


def test_all_leave_before_it_begins() -> None:
    """What waits for its turn and is wanted no more is not measured."""
    ranking = SimulatedRanking(concurrency=1)
    Asker(ranking, ONE)
    other = Asker(ranking, OTHER)
    other.deferred.cancel()
    ranking.at(30)
    assert [sample.address for sample in ranking.sent] == [ONE] * 3
    ranking.assert_nothing_left()


def test_leave_and_come_back() -> None:
    """An address that was deserted in the waiting line can be asked for again."""
    ranking = SimulatedRanking(concurrency=1)
    Asker(ranking, ONE)
    Asker(ranking, OTHER).deferred.cancel()
    again = Asker(ranking, OTHER)
    ranking.at(30)
    assert again.at == pytest.approx(0.090)
    ranking.assert_nothing_left()


@pytest.mark.parametrize("concurrency", [1, 2, 5])
def test_concurrency(concurrency: int) -> None:
    """So many addresses at once, one more waits for the first that ends; in order of asking."""
    ranking = SimulatedRanking(concurrency=concurrency)
    addresses = [address(10 + number) for number in range(concurrency + 1)]
    for one in addresses:
        Asker(ranking, one)
    ranking.at(0.001)
    assert [sample.address for sample in ranking.sent] == addresses[:-1]
    ranking.at(0.0299)
    assert addresses[-1] not in {sample.address for sample in ranking.sent}
    ranking.at(0.0301)
    assert addresses[-1] in {sample.address for sample in ranking.sent}
    ranking.at(30)
    ranking.assert_nothing_left()


def test_gauge_of_addresses() -> None:
    """The gauge shows the addresses that are measured and those that wait."""
    ranking = SimulatedRanking(concurrency=1)
    gauge = ranking.metrics.addresses_measured
    Asker(ranking, ONE)
    Asker(ranking, OTHER)
    assert gauge.collect().samples[0].value == 2
    ranking.at(0.031)
    assert gauge.collect().samples[0].value == 1
    ranking.at(30)
    assert gauge.collect().samples[0].value == 0


def assert_within_budget(ranking: SimulatedRanking, rate: float) -> None:
    """Assert that what was really sent keeps the rate and the burst in every window."""
    sent = [sample.at for sample in ranking.sent]
    burst = max(1, rate * BURST)
    for first, start in enumerate(sent):
        for last in range(first, len(sent)):
            assert last - first + 1 <= rate * (sent[last] - start) + burst + 0.01


@pytest.mark.parametrize("rate", [1, 7, 40])
@pytest.mark.parametrize("answers", [True, False])
def test_budget_with_many_addresses(rate: int, answers: bool) -> None:
    """A crowd of addresses gets through a small budget: later, but every one, within the rate."""
    scripts: list[Script] = [written] if answers else [silent, silent, silent]
    ranking = SimulatedRanking(*scripts, max_probes_per_second=rate)
    askers = [Asker(ranking, address(number)) for number in range(1, 60)]
    ranking.at(600)
    assert None not in [asker.at for asker in askers]
    assert len({sample.address for sample in ranking.sent}) == 59
    assert_within_budget(ranking, rate)
    ranking.assert_nothing_left()


@pytest.mark.parametrize("rate", [10, 40])
def test_no_slot_is_wasted(rate: int) -> None:
    """Who waits for the budget gets no company for that: a hundred addresses take their samples."""
    ranking = SimulatedRanking(written, written, written, max_probes_per_second=rate)
    askers = [Asker(ranking, address(number)) for number in range(1, 101)]
    ranking.at(600)
    ends = [asker.at for asker in askers if asker.at is not None]
    assert len(ends) == 100
    assert max(ends) < 300 / rate + 0.5
    assert [len(probe.samples) for probe in ranking.probes] == [300, 0, 0]


def test_many_that_wait() -> None:
    """Hundreds in the waiting line that end at once are no recursion."""
    ranking = SimulatedRanking(written, concurrency=1)
    ranking.probes[0]._width = 4
    askers = [Asker(ranking, ONE)]
    askers += [
        Asker(ranking, bytes([0x20, 1, *[0] * 12]) + n.to_bytes(2, "big")) for n in range(3000)
    ]
    ranking.at(1)
    assert None not in [asker.at for asker in askers]
    assert len(ranking.sent) == 3
    ranking.assert_nothing_left()


@pytest.mark.parametrize("at", [0, 0.1, 0.3, 0.6, 1.2])
def test_close(at: float) -> None:
    """The end gives up every sample and timer, at whatever moment it comes."""
    ranking = SimulatedRanking(silent, silent, silent, concurrency=2, max_probes_per_second=3)
    askers = [Asker(ranking, address(number)) for number in range(5)]
    ranking.at(at)
    ranking.measurer.close()
    assert ranking.clock.getDelayedCalls() == []
    ranking.assert_nothing_left()
    for asker in askers:
        assert asker.failure is not None
        assert asker.failure.check(CancelledError)
    ranking.at(30)
    assert len(ranking.table) == 0


def test_the_end_of_a_fake() -> None:
    """A cancelled sample of the fake is counted once and answers nobody."""
    clock = make_clock()
    probe = FakeProbe(clock)
    sample = probe.ping(ONE)
    sample.addErrback(lambda failure: failure.trap(CancelledError) and None)
    sample.cancel()
    elapse(clock, 1)
    assert (probe.given_up, probe.under_way) == (1, 0)


TRIPS = st.sampled_from([0.001, 0.05, 0.24, 0.26, 0.9, 1.1, None, OSError("unreachable")])


@given(
    scripts=st.lists(st.lists(TRIPS, min_size=1, max_size=3), min_size=3, max_size=3),
    rate=st.sampled_from([5, 50, 1000]),
    concurrency=st.integers(1, 4),
    samples=st.integers(1, 4),
    askers=st.lists(
        st.tuples(st.integers(1, 6), st.floats(0, 1), st.booleans()), min_size=1, max_size=12
    ),
)
def test_whatever_happens(
    scripts: list[list[float | OSError | None]],
    rate: int,
    concurrency: int,
    samples: int,
    askers: list[tuple[int, float, bool]],
) -> None:
    """Everybody is told, budget and numbers hold, and nothing is left, in any order of events."""
    ranking = SimulatedRanking(
        *[scripted(*script) for script in scripts],
        max_probes_per_second=rate,
        concurrency=concurrency,
        samples=samples,
    )
    asked = []
    for number, pause, leaves in askers:
        ranking.at(ranking.now + pause)
        asker = Asker(ranking, address(number))
        if leaves:
            asker.deferred.cancel()
        asked.append(asker)
        assert ranking.measurer.running <= concurrency
    ranking.at(ranking.now + 120)
    for asker, (_, _, leaves) in zip(asked, askers, strict=True):
        assert (asker.at is None) is (leaves and asker.failure is not None)
    assert_within_budget(ranking, rate)
    ranking.assert_nothing_left()
    for probe in ranking.probes:
        sent, lost = counted(ranking, probe.name)
        assert sent <= len(probe.samples), "what the system refuses to send is not sent"
        assert lost <= sent


def test_what_the_system_refuses_is_not_sent() -> None:
    """No route, no right: the next way at once, nothing counted as sent or lost, no repetition."""
    ranking = SimulatedRanking(
        lambda _, __: OSError("no route"), lambda _, __: 0.010, names=["icmp", "tcp:443"]
    )
    asker = Asker(ranking, address(10))
    ranking.at(5)
    assert asker.failure is None
    assert ranking.table.cost(address(10)) == pytest.approx(0.010)
    assert counted(ranking, "icmp") == (0, 0)
    assert counted(ranking, "tcp:443") == (3, 0)


@pytest.mark.parametrize(("waiting", "full"), [(MAX_WAITING - 1, False), (MAX_WAITING, True)])
def test_waiting_addresses_are_bounded(waiting: int, full: bool) -> None:
    """With too many addresses in line no sort brings more."""
    ranking = SimulatedRanking(lambda _, __: None, concurrency=1)
    for number in range(waiting + 1):
        ranking.measurer.measure(number.to_bytes(4, "big")).addErrback(lambda _: None)
    assert ranking.measurer.full is full
    ranking.measurer.close()
