"""Whether anybody answers, on a clock: when ``. NS`` is asked, and what is said meanwhile."""

from __future__ import annotations

from math import inf
from typing import cast

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, Logger, formatEvent

from staggerdns.journal import Journal
from staggerdns.liveness import ASK_EVERY, CONFIRM_EVERY, GRACE, PATIENCE, Liveness
from staggerdns.outages import LOOK_EVERY, STEADY


class Stage:
    """A `Liveness`, what it asks, and what is known of upstreams."""

    def __init__(self, now: float = 1000.0) -> None:
        self.clock = Clock()
        self.clock.advance(now)
        self.worked = -inf
        self.asked: list[float] = []
        self.pending: list[Deferred[str]] = []
        self.says: bool | None = None
        self.log: list[tuple[float, str]] = []
        log = Logger(observer=cast("ILogObserver", self.write))
        self.liveness = Liveness(self.ask, lambda: self.worked, self.clock, Journal("warn", log))

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

    def fail(self, *, heard: bool = False) -> None:
        """Let a client's question fail."""
        self.liveness.failed(heard=heard)
        self.clock.advance(0)

    def page(self) -> bool | None:
        """What the page says at once, `None` while it waits."""
        found: list[bool] = []
        self.liveness.check().addCallback(found.append)
        return found[0] if found else None

    def settled(self) -> None:
        """Check that after the end nothing is left."""
        self.liveness.close()
        assert self.clock.getDelayedCalls() == []


@pytest.fixture
def stage() -> Stage:
    """A stage that stands at 1000 s."""
    return Stage()


def test_the_first_moments(stage: Stage) -> None:
    """A program that has just started is well, and asks nothing for that."""
    assert stage.page() is True
    stage.clock.advance(GRACE - 0.001)
    assert stage.page() is True
    assert stage.asked == []
    stage.clock.advance(0.001)
    assert stage.page() is None
    assert len(stage.asked) == 1
    stage.settled()


def test_clients_are_enough(stage: Stage) -> None:
    """While clients get answers nothing is asked, however often the page is."""
    for _ in range(20):
        stage.clock.advance(ASK_EVERY / 2)
        stage.good()
        stage.clock.advance(ASK_EVERY / 2 - 0.001)
        assert stage.page() is True
    assert stage.asked == []
    stage.settled()


def test_idle_times(stage: Stage) -> None:
    """When idle the page asks, at most once in `ASK_EVERY`; without the page nobody does."""
    stage.says = True
    stage.clock.advance(3600)
    assert stage.asked == []
    for _ in range(100):
        assert stage.page() is True
        stage.clock.advance(1)
    assert len(stage.asked) == 100 / ASK_EVERY
    differences = {b - a for a, b in zip(stage.asked, stage.asked[1:], strict=False)}
    assert differences == {ASK_EVERY}
    stage.settled()


@pytest.mark.parametrize("good", [True, False])
def test_the_page_waits_for_the_answer(stage: Stage, good: bool) -> None:
    """All who ask meanwhile get what comes of the one question; who goes is forgotten."""
    stage.clock.advance(60)
    found: list[bool] = []
    for _ in range(3):
        stage.liveness.check().addCallback(found.append)
    gone = stage.liveness.check()
    gone.addErrback(lambda _: None)
    gone.cancel()
    assert (len(stage.asked), found) == (1, [])
    stage.reply(good)
    assert found == [good] * 3
    assert stage.page() is good
    stage.settled()


def test_patience(stage: Stage) -> None:
    """A question that takes too long counts as not answered."""
    stage.clock.advance(60)
    found: list[bool] = []
    stage.liveness.check().addCallback(found.append)
    stage.clock.advance(PATIENCE - 0.001)
    assert found == []
    stage.clock.advance(0.001)
    assert found == [False]
    stage.settled()


def test_an_outage(stage: Stage) -> None:
    """It is noticed by the first failure, lasts while nobody answers whoever asks, is probed every
    `ASK_EVERY` by itself, and ends with the first good answer to that.
    """
    stage.says = False
    stage.good()
    assert stage.page() is True
    stage.clock.advance(1)
    stage.fail()
    assert stage.page() is False
    for _ in range(800):
        stage.clock.advance(0.125)
        stage.fail()
        assert stage.page() is False
        assert not stage.liveness.answering
    assert len(stage.asked) == 1 + 100 / ASK_EVERY
    stage.says = True
    stage.clock.advance(ASK_EVERY)
    assert stage.liveness.answering
    assert stage.page() is True
    stage.settled()


def test_a_client_notices_the_end(stage: Stage) -> None:
    """A good answer to a client ends an outage at once, and a new one is noticed at once."""
    for _ in range(3):
        stage.says = False
        stage.clock.advance(CONFIRM_EVERY)
        stage.fail()
        assert stage.page() is False
        stage.clock.advance(1)
        stage.good()
        assert stage.page() is True
        stage.clock.advance(0.1)
    stage.clock.advance(ASK_EVERY)  # the question that was due has become needless
    assert len(stage.asked) == 3
    stage.settled()


def test_a_dead_name(stage: Stage) -> None:
    """A name that nobody answers for is no outage: each failure is checked, once a second."""
    stage.says = True
    for _ in range(100):
        stage.clock.advance(0.1)
        stage.fail()
        assert stage.page() is True
    assert len(stage.asked) == pytest.approx(10, abs=1)
    differences = {b - a for a, b in zip(stage.asked, stage.asked[1:], strict=False)}
    assert min(differences) >= CONFIRM_EVERY - 1e-6
    stage.settled()


def test_a_failure_soon_after_the_last_question(stage: Stage) -> None:
    """It is checked as soon as that may be; not if a good answer comes before."""
    stage.says = True
    stage.fail()
    stage.clock.advance(0.1)
    stage.says = False
    stage.fail()
    assert stage.page() is True
    stage.clock.advance(CONFIRM_EVERY - 0.1)
    assert stage.page() is False
    stage.says = True
    stage.clock.advance(ASK_EVERY)
    stage.clock.advance(0.1)
    stage.fail()
    stage.clock.advance(0.1)
    stage.good()
    stage.clock.advance(CONFIRM_EVERY)
    assert len(stage.asked) == 3
    stage.settled()


def test_the_page_before_the_next_turn(stage: Stage) -> None:
    """A failure that has not been checked yet, because the reactor has not turned, is checked."""
    stage.says = False
    stage.liveness.failed(heard=False)
    assert stage.page() is False
    assert len(stage.asked) == 1
    stage.settled()


def test_replies_that_fail(stage: Stage) -> None:
    """SERVFAIL is no silence: nothing is asked for `ASK_EVERY`, then ``. NS`` decides, whether
    anybody looks at the page or not.
    """
    stage.clock.advance(60)
    stage.says = False
    for _ in range(100):
        stage.fail(heard=True)
        assert stage.page() is True
        stage.clock.advance(ASK_EVERY / 101)
    assert stage.asked == []
    stage.fail(heard=True)
    assert stage.asked == []
    stage.clock.advance(ASK_EVERY / 101 + 1e-6)
    stage.fail(heard=True)
    assert len(stage.asked) == 1
    assert [line for _, line in stage.log] == ["no upstream answers (timeout)"]
    assert stage.page() is False
    stage.clock.advance(0.001)
    stage.good()
    stage.clock.advance(ASK_EVERY - 0.001)
    stage.fail(heard=True)
    stage.clock.advance(0.001)
    assert stage.page() is True
    stage.settled()


def test_a_good_answer_while_it_asks(stage: Stage) -> None:
    """A client's answer, asked after ``. NS`` was, counts for more than the failure of that."""
    stage.clock.advance(60)
    assert stage.page() is None
    stage.clock.advance(1)
    stage.good()
    stage.reply(good=False)
    assert stage.page() is True
    stage.settled()


def test_the_end(stage: Stage) -> None:
    """When it is closed while it asks, whoever waits is told no, and nothing is left."""
    stage.clock.advance(60)
    found: list[bool] = []
    stage.liveness.check().addCallback(found.append)
    stage.settled()
    assert found == [False]


def test_an_outage_is_told(stage: Stage) -> None:
    """One line when it begins, with why, and one when it is over, with how long it was; none for a
    question.
    """
    stage.says = False
    stage.fail()
    began = stage.clock.seconds()
    for _ in range(600):
        stage.clock.advance(0.1)
        stage.fail()
    assert stage.log == [(began, "no upstream answers (timeout)")]
    stage.good()
    over = stage.clock.seconds()
    stage.log.clear()
    for _ in range(600):
        stage.good()
        stage.clock.advance(0.1)
    ((at, line),) = stage.log
    assert line in [f"upstreams answer again: none did for {seconds} s" for seconds in (60, 61)]
    assert over + STEADY <= at <= over + STEADY + 2 * LOOK_EVERY + 0.1
    stage.settled()


def test_an_outage_without_clients_is_told(stage: Stage) -> None:
    """Its end, too, though only the page has asked, once."""
    stage.says = False
    stage.clock.advance(60)
    assert stage.page() is False
    stage.clock.advance(ASK_EVERY)
    stage.says = True
    stage.clock.pump([LOOK_EVERY / 2] * 100)
    assert [line for _, line in stage.log] == [
        "no upstream answers (timeout)",
        "upstreams answer again: none did for 20 s",
    ]
    stage.settled()


@pytest.mark.parametrize("well", [0.1, 3.0, STEADY - 2 * LOOK_EVERY])
def test_an_outage_with_gaps_is_one(stage: Stage, well: float) -> None:
    """An answer now and then, for less than `STEADY` in a row, is no end; the end comes once."""
    for _ in range(20):
        stage.says = False
        stage.clock.pump([0.1] * int(CONFIRM_EVERY * 10))
        stage.fail()
        assert not stage.liveness.answering
        stage.says = True
        stage.clock.advance(0.1)
        stage.good()
        assert stage.page() is True
        stage.clock.pump([0.1] * int(well * 10))
        stage.good()
    lasted = stage.clock.seconds()
    stage.clock.pump([0.1] * 200)
    lines = [line for _, line in stage.log]
    assert lines[0] == "no upstream answers (timeout)"
    assert len(lines) == 2
    assert int(lines[1].split()[-2]) == pytest.approx(lasted - stage.asked[0], abs=well + 2)
    stage.settled()


def test_each_outage_is_told(stage: Stage) -> None:
    """The next one after an end has its own lines."""
    for _ in range(3):
        stage.says = False
        stage.fail()
        stage.says = True
        stage.clock.advance(0.1)
        stage.good()
        stage.clock.pump([0.5] * 40)
    assert len(stage.log) == 6
    stage.settled()


def test_why_nothing_came_in_time(stage: Stage) -> None:
    """A question that takes too long says so."""
    stage.fail()
    stage.clock.advance(PATIENCE)
    assert [line for _, line in stage.log] == [
        f"no upstream answers (nothing within {PATIENCE:g} s)"
    ]
    stage.settled()


def test_an_end_while_it_asks_is_no_outage(stage: Stage) -> None:
    """Whoever stops the program while ``. NS`` is under way reads of no outage."""
    stage.fail()
    assert len(stage.asked) == 1
    stage.settled()
    assert stage.log == []
