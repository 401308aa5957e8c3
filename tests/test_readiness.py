"""Whether anybody answers, on a clock: when ``. NS`` is asked, and what is said meanwhile."""

from __future__ import annotations

from math import inf
from typing import cast

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, Logger, formatEvent

from staggerdns.journal import Journal
from staggerdns.outages import LOOK_EVERY, STEADY
from staggerdns.readiness import ASK_EVERY, CONFIRM_EVERY, GRACE, PATIENCE, Readiness


class SimulatedLiveness:
    """A `Readiness`, what it asks, and what is known of upstreams."""

    def __init__(self, now: float = 1000.0) -> None:
        self.clock = Clock()
        self.clock.advance(now)
        self.worked = -inf
        self.asked: list[float] = []
        self.pending: list[Deferred[str]] = []
        self.says: bool | None = None
        self.log: list[tuple[float, str]] = []
        log = Logger(observer=cast("ILogObserver", self.write))
        self.readiness = Readiness(self.ask, lambda: self.worked, self.clock, Journal("warn", log))

    def write(self, event: LogEvent) -> None:
        """Note a line of the log, and when it came."""
        self.log.append((self.clock.seconds(), formatEvent(event)))

    def ask(self) -> Deferred[str]:
        """Ask ``. NS``: answered at once by ``says``, else by `reply`."""
        now = self.clock.seconds()
        self.asked.append(now)
        if self.says is not None:
            if self.says:
                self.worked = now
            return succeed("" if self.says else "timeout")
        self.pending.append(Deferred())
        return self.pending[-1]

    def reply(self, good: bool) -> None:
        """Answer the pending question."""
        if good:
            self.worked = self.asked[-1]
        self.pending.pop().callback("" if good else "timeout")

    def good(self) -> None:
        """Let a client's question be answered well."""
        self.worked = self.clock.seconds()

    def fail(self, *, served: bool = False) -> None:
        """Let a client's question fail."""
        self.readiness.failed(served=served)
        self.clock.advance(0)

    def page(self) -> bool | None:
        """What the page says at once, `None` while it waits."""
        found: list[bool] = []
        self.readiness.check().addCallback(found.append)
        return found[0] if found else None

    def settled(self) -> None:
        """Check that after the end nothing is left."""
        self.readiness.close()
        assert self.clock.getDelayedCalls() == []


@pytest.fixture
def simulated() -> SimulatedLiveness:
    """One whose clock stands at 1000 s."""
    return SimulatedLiveness()


def test_the_first_moments(simulated: SimulatedLiveness) -> None:
    """A program that has just started is well, and asks nothing for that."""
    assert simulated.page() is True
    simulated.clock.advance(GRACE - 0.001)
    assert simulated.page() is True
    assert simulated.asked == []
    simulated.clock.advance(0.001)
    assert simulated.page() is None
    assert len(simulated.asked) == 1
    simulated.settled()


def test_clients_are_enough(simulated: SimulatedLiveness) -> None:
    """While clients get answers nothing is asked, however often the page is."""
    for _ in range(20):
        simulated.clock.advance(ASK_EVERY / 2)
        simulated.good()
        simulated.clock.advance(ASK_EVERY / 2 - 0.001)
        assert simulated.page() is True
    assert simulated.asked == []
    simulated.settled()


def test_idle_times(simulated: SimulatedLiveness) -> None:
    """When idle the page asks, at most once in `ASK_EVERY`; without the page nobody does."""
    simulated.says = True
    simulated.clock.advance(3600)
    assert simulated.asked == []
    for _ in range(100):
        assert simulated.page() is True
        simulated.clock.advance(1)
    assert len(simulated.asked) == 100 / ASK_EVERY
    differences = {b - a for a, b in zip(simulated.asked, simulated.asked[1:], strict=False)}
    assert differences == {ASK_EVERY}
    simulated.settled()


@pytest.mark.parametrize("good", [True, False])
def test_the_page_waits_for_the_answer(simulated: SimulatedLiveness, good: bool) -> None:
    """All who ask meanwhile get what comes of the one question; who goes is forgotten."""
    simulated.clock.advance(60)
    found: list[bool] = []
    for _ in range(3):
        simulated.readiness.check().addCallback(found.append)
    gone = simulated.readiness.check()
    gone.addErrback(lambda _: None)
    gone.cancel()
    assert (len(simulated.asked), found) == (1, [])
    simulated.reply(good)
    assert found == [good] * 3
    assert simulated.page() is good
    simulated.settled()


def test_patience(simulated: SimulatedLiveness) -> None:
    """A question that takes too long counts as not answered."""
    simulated.clock.advance(60)
    found: list[bool] = []
    simulated.readiness.check().addCallback(found.append)
    simulated.clock.advance(PATIENCE - 0.001)
    assert found == []
    simulated.clock.advance(0.001)
    assert found == [False]
    simulated.settled()


def test_an_outage(simulated: SimulatedLiveness) -> None:
    """It is noticed by the first failure, lasts while nobody answers whoever asks, is probed every
    `ASK_EVERY` by itself, and ends with the first good answer to that.
    """
    simulated.says = False
    simulated.good()
    assert simulated.page() is True
    simulated.clock.advance(1)
    simulated.fail()
    assert simulated.page() is False
    for _ in range(800):
        simulated.clock.advance(0.125)
        simulated.fail()
        assert simulated.page() is False
        assert not simulated.readiness.answering
    assert len(simulated.asked) == 1 + 100 / ASK_EVERY
    simulated.says = True
    simulated.clock.advance(ASK_EVERY)
    assert simulated.readiness.answering
    assert simulated.page() is True
    simulated.settled()


def test_a_client_notices_the_end(simulated: SimulatedLiveness) -> None:
    """A good answer to a client ends an outage at once, and a new one is noticed at once."""
    for _ in range(3):
        simulated.says = False
        simulated.clock.advance(CONFIRM_EVERY)
        simulated.fail()
        assert simulated.page() is False
        simulated.clock.advance(1)
        simulated.good()
        assert simulated.page() is True
        simulated.clock.advance(0.1)
    simulated.clock.advance(ASK_EVERY)  # the question that was due has become needless
    assert len(simulated.asked) == 3
    simulated.settled()


def test_a_dead_name(simulated: SimulatedLiveness) -> None:
    """A name that nobody answers for is no outage: each failure is checked, once a second."""
    simulated.says = True
    for _ in range(100):
        simulated.clock.advance(0.1)
        simulated.fail()
        assert simulated.page() is True
    assert len(simulated.asked) == pytest.approx(10, abs=1)
    differences = {b - a for a, b in zip(simulated.asked, simulated.asked[1:], strict=False)}
    assert min(differences) >= CONFIRM_EVERY - 1e-6
    simulated.settled()


def test_a_failure_soon_after_the_last_question(simulated: SimulatedLiveness) -> None:
    """It is checked as soon as that may be; not if a good answer comes before."""
    simulated.says = True
    simulated.fail()
    simulated.clock.advance(0.1)
    simulated.says = False
    simulated.fail()
    assert simulated.page() is True
    simulated.clock.advance(CONFIRM_EVERY - 0.1)
    assert simulated.page() is False
    simulated.says = True
    simulated.clock.advance(ASK_EVERY)
    simulated.clock.advance(0.1)
    simulated.fail()
    simulated.clock.advance(0.1)
    simulated.good()
    simulated.clock.advance(CONFIRM_EVERY)
    assert len(simulated.asked) == 3
    simulated.settled()


def test_the_page_before_the_next_turn(simulated: SimulatedLiveness) -> None:
    """A failure that has not been checked yet, because the reactor has not turned, is checked."""
    simulated.says = False
    simulated.readiness.failed(served=False)
    assert simulated.page() is False
    assert len(simulated.asked) == 1
    simulated.settled()


def test_replies_that_fail(simulated: SimulatedLiveness) -> None:
    """SERVFAIL is no silence: nothing is asked for `ASK_EVERY`, then ``. NS`` decides, whether
    anybody looks at the page or not.
    """
    simulated.clock.advance(60)
    simulated.says = False
    for _ in range(100):
        simulated.fail(served=True)
        assert simulated.page() is True
        simulated.clock.advance(ASK_EVERY / 101)
    assert simulated.asked == []
    simulated.fail(served=True)
    assert simulated.asked == []
    simulated.clock.advance(ASK_EVERY / 101 + 1e-6)
    simulated.fail(served=True)
    assert len(simulated.asked) == 1
    assert [line for _, line in simulated.log] == ["no upstream answers (timeout)"]
    assert simulated.page() is False
    simulated.clock.advance(0.001)
    simulated.good()
    simulated.clock.advance(ASK_EVERY - 0.001)
    simulated.fail(served=True)
    simulated.clock.advance(0.001)
    assert simulated.page() is True
    simulated.settled()


def test_a_good_answer_while_it_asks(simulated: SimulatedLiveness) -> None:
    """A client's answer, asked after ``. NS`` was, counts for more than the failure of that."""
    simulated.clock.advance(60)
    assert simulated.page() is None
    simulated.clock.advance(1)
    simulated.good()
    simulated.reply(good=False)
    assert simulated.page() is True
    simulated.settled()


def test_the_end(simulated: SimulatedLiveness) -> None:
    """When it is closed while it asks, whoever waits is told no, and nothing is left."""
    simulated.clock.advance(60)
    found: list[bool] = []
    simulated.readiness.check().addCallback(found.append)
    simulated.settled()
    assert found == [False]


def test_an_outage_is_told(simulated: SimulatedLiveness) -> None:
    """One line when it begins, with why, and one when it is over, with how long it was; none for a
    question.
    """
    simulated.says = False
    simulated.fail()
    began = simulated.clock.seconds()
    for _ in range(600):
        simulated.clock.advance(0.1)
        simulated.fail()
    assert simulated.log == [(began, "no upstream answers (timeout)")]
    simulated.good()
    over = simulated.clock.seconds()
    simulated.log.clear()
    for _ in range(600):
        simulated.good()
        simulated.clock.advance(0.1)
    ((at, line),) = simulated.log
    assert line in [f"upstreams answer again: none did for {seconds} s" for seconds in (60, 61)]
    assert over + STEADY <= at <= over + STEADY + 2 * LOOK_EVERY + 0.1
    simulated.settled()


def test_an_outage_without_clients_is_told(simulated: SimulatedLiveness) -> None:
    """Its end, too, though only the page has asked, once."""
    simulated.says = False
    simulated.clock.advance(60)
    assert simulated.page() is False
    simulated.clock.advance(ASK_EVERY)
    simulated.says = True
    simulated.clock.pump([LOOK_EVERY / 2] * 100)
    assert [line for _, line in simulated.log] == [
        "no upstream answers (timeout)",
        "upstreams answer again: none did for 20 s",
    ]
    simulated.settled()


@pytest.mark.parametrize("well", [0.1, 3.0, STEADY - 2 * LOOK_EVERY])
def test_an_outage_with_gaps_is_one(simulated: SimulatedLiveness, well: float) -> None:
    """An answer now and then, for less than `STEADY` in a row, is no end; the end comes once."""
    for _ in range(20):
        simulated.says = False
        simulated.clock.pump([0.1] * int(CONFIRM_EVERY * 10))
        simulated.fail()
        assert not simulated.readiness.answering
        simulated.says = True
        simulated.clock.advance(0.1)
        simulated.good()
        assert simulated.page() is True
        simulated.clock.pump([0.1] * int(well * 10))
        simulated.good()
    lasted = simulated.clock.seconds()
    simulated.clock.pump([0.1] * 200)
    lines = [line for _, line in simulated.log]
    assert lines[0] == "no upstream answers (timeout)"
    assert len(lines) == 2
    assert int(lines[1].split()[-2]) == pytest.approx(lasted - simulated.asked[0], abs=well + 2)
    simulated.settled()


def test_each_outage_is_told(simulated: SimulatedLiveness) -> None:
    """The next one after an end has its own lines."""
    for _ in range(3):
        simulated.says = False
        simulated.fail()
        simulated.says = True
        simulated.clock.advance(0.1)
        simulated.good()
        simulated.clock.pump([0.5] * 40)
    assert len(simulated.log) == 6
    simulated.settled()


def test_why_nothing_came_in_time(simulated: SimulatedLiveness) -> None:
    """A question that takes too long says so."""
    simulated.fail()
    simulated.clock.advance(PATIENCE)
    assert [line for _, line in simulated.log] == [
        f"no upstream answers (nothing within {PATIENCE:g} s)"
    ]
    simulated.settled()


def test_an_end_while_it_asks_is_no_outage(simulated: SimulatedLiveness) -> None:
    """Whoever stops the program while ``. NS`` is under way reads of no outage."""
    simulated.fail()
    assert len(simulated.asked) == 1
    simulated.settled()
    assert simulated.log == []
