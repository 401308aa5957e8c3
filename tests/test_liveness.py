"""Whether anybody answers, on a clock: when ``. NS`` is asked, and what is said meanwhile."""

from __future__ import annotations

from math import inf

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from staggerdns.liveness import ASK_EVERY, CONFIRM_EVERY, GRACE, PATIENCE, Liveness


class Stage:
    """A `Liveness`, what it asks, and what is known of upstreams."""

    def __init__(self, now: float = 1000.0) -> None:
        self.clock = Clock()
        self.clock.advance(now)
        self.worked = -inf
        self.asked: list[float] = []
        self.pending: list[Deferred[bool]] = []
        self.says: bool | None = None
        self.liveness = Liveness(self.ask, lambda: self.worked, self.clock)

    def ask(self) -> Deferred[bool]:
        """Ask ``. NS``: answered at once by ``says``, else by `reply`."""
        now = self.clock.seconds()
        self.asked.append(now)
        if self.says is not None:
            if self.says:
                self.worked = now
            return succeed(self.says)
        self.pending.append(Deferred())
        return self.pending[-1]

    def reply(self, good: bool) -> None:
        """Answer the pending question."""
        if good:
            self.worked = self.asked[-1]
        self.pending.pop().callback(good)

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
    """SERVFAIL is no silence: nothing is asked for `ASK_EVERY`, then ``. NS`` decides."""
    stage.clock.advance(60)
    stage.says = False
    for _ in range(100):
        stage.fail(heard=True)
        assert stage.page() is True
        stage.clock.advance(ASK_EVERY / 101)
    assert stage.asked == []
    stage.clock.advance(ASK_EVERY / 101 + 1e-6)
    stage.fail(heard=True)
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
