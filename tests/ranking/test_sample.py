"""One sample: repetitions, ways of probing in turn, what decides it (docs/specification.rst,
Measuring).
"""

from __future__ import annotations

import pytest

from staggerdns.ranking.sample import REPETITIONS
from staggerdns.ranking.waiting import FURTHER
from tests.kit.probing import (
    FakeProbe,
    NotedAsker,
    Script,
    SimulatedRanking,
    address,
    elapse,
    make_clock,
    silent,
    unreachable,
    written,
)

ONE = address(10)


def scripted(*answers: float | OSError | None) -> Script:
    """A script: the echoes to any address do this one after the other, the last one for ever."""
    return lambda _, echo: answers[min(echo, len(answers) - 1)]


def ends(ranking: SimulatedRanking, one: bytes = ONE) -> float | None:
    """Sample one address and let time pass; seconds until it is decided."""
    asker = NotedAsker(ranking)
    asker.ask(one)
    ranking.at(30)
    ranking.assert_nothing_left()
    return asker.at.get(one)


def counted(ranking: SimulatedRanking, method: str) -> tuple[int, int]:
    """Echoes sent and lost."""
    metrics = ranking.metrics
    return metrics.probes.cell(method).value, metrics.probe_losses.cell(method).value


def test_one_echo() -> None:
    """One echo that is answered is the sample, and nothing else is sent."""
    ranking = SimulatedRanking(scripted(0.030), silent, silent)
    assert ends(ranking) == pytest.approx(0.030)
    assert [probe.times for probe in ranking.probes] == [[0], [], []]
    assert ranking.table.cost(ONE) == pytest.approx(0.030)
    assert counted(ranking, "icmp") == (1, 0)


@pytest.mark.parametrize(("trip", "company"), [(0.249, 0), (0.251, 1)])
def test_company_after_a_quarter(trip: float, company: int) -> None:
    """An echo unanswered for a quarter of the timeout is repeated, and the next way begins."""
    ranking = SimulatedRanking(scripted(trip), written, names=["icmp", "tcp:443"])
    assert ends(ranking) == pytest.approx(trip)
    assert ranking.probes[0].times == pytest.approx([0, 0.250][: 1 + company])
    assert ranking.probes[1].times == pytest.approx([0.250][:company])


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
    ranking = SimulatedRanking(scripted(trip), names=["tcp:443"])
    assert ends(ranking) == pytest.approx(min(trip, 1))
    assert ranking.table.answers(ONE) is answered
    assert counted(ranking, "tcp:443") == (1, not answered)


@pytest.mark.parametrize("lost", range(REPETITIONS + 2))
def test_repeated_before_it_is_lost(lost: int) -> None:
    """So many echoes may be lost without harm; with one more the address is silent."""
    ranking = SimulatedRanking(scripted(*[None] * lost, 0.010), names=["icmp"])
    end = ends(ranking)
    assert len(ranking.sent) == min(lost, REPETITIONS) + 1
    if lost <= REPETITIONS:
        assert end == pytest.approx(lost * 0.25 + 0.010)
        assert ranking.table.cost(ONE) == pytest.approx(0.010)
        assert counted(ranking, "icmp") == (lost + 1, lost)
    else:
        assert end == pytest.approx(1.5)
        assert ranking.table.cost(ONE) == float("inf")
        assert counted(ranking, "icmp") == (lost, lost)


def test_a_late_answer_counts() -> None:
    """The answer to an echo that has been repeated already is taken; the repetition is no loss."""
    ranking = SimulatedRanking(scripted(0.3), names=["icmp"])
    assert ends(ranking) == pytest.approx(0.3)
    assert counted(ranking, "icmp") == (2, 0)
    assert ranking.probes[0].given_up == 1
    assert ranking.table.cost(ONE) == pytest.approx(0.3)


def test_another_way_answers() -> None:
    """TCP answers where ICMP is silent: ICMP is given up, its echoes are no losses."""
    ranking = SimulatedRanking(silent, written, silent)
    assert ends(ranking) == pytest.approx(0.26)
    icmp, first, second = ranking.probes
    assert icmp.given_up == len(icmp.samples) == 2
    assert first.times == pytest.approx([0.25])
    assert second.times == []
    assert ranking.table.cost(ONE) == pytest.approx(0.010)
    assert ranking.table.way(ONE) == "tcp:443"
    assert counted(ranking, "icmp") == (2, 0)


def test_the_first_way_wins_late() -> None:
    """A slow echo that comes back while TCP waits ends TCP."""
    ranking = SimulatedRanking(scripted(0.4), silent, silent)
    ends(ranking)
    assert [probe.given_up for probe in ranking.probes] == [1, 1, 0]
    assert ranking.table.cost(ONE) == pytest.approx(0.4)


def test_a_connection_that_is_lost_is_not_tried_again() -> None:
    """One connection attempt per port says it all; another would only cost."""
    ranking = SimulatedRanking(silent, names=["tcp:443"])
    assert ends(ranking) == pytest.approx(1.0)
    assert len(ranking.sent) == 1


@pytest.mark.parametrize("name", ["icmp", "tcp:443"])
def test_further_samples_go_the_way_of_the_first(name: str) -> None:
    """What has answered is asked again, alone, and repeated whatever it costs."""
    ranking = SimulatedRanking(silent, silent, silent)
    (way,) = (probe for probe in ranking.probes if probe.name == name)
    way.script = scripted(0.010, None, None, 0.020)
    ends(ranking)
    before = len(ranking.sent)
    asker = NotedAsker(ranking)
    asker.ask(ONE, FURTHER)
    ranking.at(60)
    ranking.assert_nothing_left()
    assert asker.at[ONE] == pytest.approx(30.520)
    assert [time for time in way.times if time >= 30] == pytest.approx([30, 30.25, 30.5])
    assert len(ranking.sent) == before + 3
    assert ranking.table.cost(ONE) == pytest.approx(0.010)


def test_a_further_sample_that_is_lost() -> None:
    """With its repetitions it is a loss: the address costs more than any round trip."""
    ranking = SimulatedRanking(scripted(0.010, None), names=["icmp"])
    ends(ranking)
    NotedAsker(ranking).ask(ONE, FURTHER)
    ranking.at(60)
    cost = ranking.table.cost(ONE)
    assert cost is not None
    assert 1.0 < cost < float("inf")
    assert len(ranking.sent) == 4


def test_errors_at_once() -> None:
    """Where the system refuses to send, the next way has its turn, and none is left out."""
    ranking = SimulatedRanking(unreachable, unreachable, written)
    assert ends(ranking) == pytest.approx(0.010)
    assert ranking.table.cost(ONE) == pytest.approx(0.010)
    assert [len(probe.samples) for probe in ranking.probes] == [1, 1, 1]
    assert [counted(ranking, probe.name) for probe in ranking.probes] == [(0, 0), (0, 0), (1, 0)]


def test_every_way_fails_at_once() -> None:
    """Nothing can be sent at all: the address is silent, nothing hangs."""
    ranking = SimulatedRanking(unreachable, unreachable, unreachable)
    assert ends(ranking) == 0
    assert ranking.table.cost(ONE) == float("inf")


def test_an_error_of_a_repetition() -> None:
    """What is refused then ends the way; what is under way may still be answered."""
    ranking = SimulatedRanking(scripted(0.6, OSError("no route")), names=["icmp"])
    assert ends(ranking) == pytest.approx(0.6)
    assert len(ranking.sent) == 2
    assert ranking.table.cost(ONE) == pytest.approx(0.6)


def test_ways_that_cannot_reach_the_family() -> None:
    """A way that has no socket for a family is not tried for it."""
    ranking = SimulatedRanking(written, written, names=["icmp", "tcp:443"])
    ranking.probes[0].width = 4
    ends(ranking, b"\x20\x01" + b"\0" * 13 + b"\x0a")
    assert [len(probe.samples) for probe in ranking.probes] == [0, 1]


def test_the_end_of_a_fake() -> None:
    """A cancelled echo of the fake is counted once and answers nobody."""
    clock = make_clock()
    probe = FakeProbe(clock)
    echo = probe.ping(ONE)
    echo.addErrback(lambda _: None)
    echo.cancel()
    elapse(clock, 1)
    assert (probe.given_up, probe.under_way) == (1, 0)
