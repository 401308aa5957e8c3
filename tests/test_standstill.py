"""A clock that stands still with the program."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from staggerdns.standstill import LATE, LONG, StandstillClock

START = 1000.0


class Program:
    """A program on a clock: its calls, and sockets that are read once in a turn."""

    def __init__(self) -> None:
        self.base = Clock()
        self.base.advance(START)
        self.clock = StandstillClock(self.base)
        self.told: list[tuple[str, float]] = []

    @property
    def now(self) -> float:
        """Seconds since the start as the program sees them."""
        return round(self.clock.seconds() - START, 6)

    def note(self, what: str) -> None:
        """Note that something happens."""
        self.told.append((what, self.now))

    def later(self, delay: float, what: str = "call") -> IDelayedCall:
        """Have something noted after so many seconds."""
        return self.clock.callLater(delay, self.note, what)

    def arrive(self, delay: float, what: str = "reply") -> None:
        """Have something come over the network, which knows nothing of our clock."""
        self.base.callLater(delay, self.note, what)

    def run(self, seconds: float) -> None:
        """Let so many seconds pass, each call in time."""
        end = self.base.seconds() + seconds
        while self.base.calls and self.base.calls[0].getTime() <= end:
            self.base.rightNow = max(self.base.rightNow, self.base.calls[0].getTime())
            self.turn()
        self.base.rightNow = end

    def stand_still(self, seconds: float) -> None:
        """Do nothing for so many seconds."""
        self.base.rightNow += seconds

    def turn(self) -> None:
        """Run the calls that are due."""
        self.base.advance(0)


@pytest.fixture
def program() -> Program:
    """A fresh one."""
    return Program()


def test_in_time(program: Program) -> None:
    """While nothing is late it is the time of the reactor."""
    program.later(1.0, "one")
    program.later(0.5, "half")
    program.run(3)
    assert program.told == [("half", 0.5), ("one", 1.0)]
    assert program.now == 3.0
    assert program.clock.woke < 0


@pytest.mark.parametrize("late", [0.0, 0.1, LATE])
def test_a_little_late(program: Program, late: float) -> None:
    """A busy program is late now and then: that time counts, and nothing is put off."""
    program.later(1.0)
    program.stand_still(1.0 + late)
    program.turn()
    assert program.told == [("call", round(1.0 + late, 6))]
    assert program.now == 1.0 + late


@pytest.mark.parametrize("late", [LATE + 0.01, 9.0, 86_400.0])
def test_late(program: Program, late: float) -> None:
    """Time stands still behind the first call that is late, and goes on behind that."""
    program.later(1.0)
    program.later(3.0, "other")
    program.stand_still(1.0 + late)
    assert program.now == 1.0 + LATE
    program.run(0)
    assert program.told == [("call", 1.0 + LATE)]
    assert program.clock.woke == START + 1.0 + LATE
    assert (program.clock.woke_late == program.clock.woke) == (late > LONG)
    program.run(5)
    assert program.told[1:] == [("other", 3.0)]
    assert program.now == 6.0 + LATE
    assert program.base.calls == []


def test_sockets_come_first(program: Program) -> None:
    """What has come meanwhile is read before any late call is made, in the order of the calls."""
    program.later(1.0, "first")
    program.later(1.1, "second")
    program.later(8.0, "much later")
    program.arrive(2.0)
    program.stand_still(9.0)
    program.run(0)
    assert [what for what, _ in program.told] == ["reply", "first", "second"]
    assert all(at == 1.0 + LATE for _, at in program.told)
    program.run(20)
    assert program.told[3:] == [("much later", 8.0)]


def test_what_is_set_in_between(program: Program) -> None:
    """What is set by what has come is due as long after the standstill as it should be."""
    program.later(1.0)
    program.base.callLater(2.0, lambda: program.later(0.5, "new"))
    program.stand_still(9.0)
    program.run(1)
    assert program.told == [("call", 1.0 + LATE), ("new", 1.5 + LATE)]


def test_late_in_every_turn(program: Program) -> None:
    """A program that is always late makes its calls all the same, each a turn later."""
    for number in range(5):
        program.later(number, str(number))
    for _ in range(12):
        program.stand_still(1.0)
        program.turn()
    assert [what for what, _ in program.told] == list("01234")
    times = [at for _, at in program.told]
    assert times == sorted(times)


def test_nothing_waits(program: Program) -> None:
    """Time that passes while no call waits has passed."""
    program.later(1.0).cancel()
    program.stand_still(9.0)
    assert program.now == 9.0
    assert program.clock.woke < 0


def test_the_first_was_cancelled(program: Program) -> None:
    """Then the next one is the first."""
    program.later(1.0).cancel()
    program.later(5.0)
    program.stand_still(4.0)
    assert program.now == 4.0
    program.stand_still(4.0)
    assert program.now == 5.0 + LATE


@pytest.mark.parametrize("number_of_others", [0, 1])
def test_the_first_was_put_off(program: Program, number_of_others: int) -> None:
    """Then it is not late before its new time, and whoever is first now is watched."""
    first = program.later(1.0, "first")
    for _ in range(number_of_others):
        program.later(6.0, "other")
    program.run(0.5)
    first.reset(8.0)
    program.run(4.0)
    assert program.now == 4.5
    assert program.clock.woke < 0
    program.stand_still(30.0)
    assert program.now == (6.0 if number_of_others else 8.5) + LATE


def test_another_is_brought_forward(program: Program) -> None:
    """Then it is the first, and may be late."""
    program.later(5.0, "other")
    program.later(9.0, "call").reset(1.0)
    program.stand_still(30.0)
    assert program.now == 1.0 + LATE


def test_calls(program: Program) -> None:
    """A call can be cancelled once, put off or brought forward, and not after it was made."""
    call = program.later(1.0)
    assert call.active()
    assert call.getTime() == START + 1.0
    call.delay(1.0)
    assert call.getTime() == START + 2.0
    call.reset(0.5)
    assert program.clock.getDelayedCalls() == [call]
    program.run(1)
    assert program.told == [("call", 0.5)]
    assert not call.active()
    with pytest.raises(AlreadyCalled):
        call.cancel()
    other = program.later(1.0)
    other.cancel()
    assert not other.active()
    with pytest.raises(AlreadyCancelled):
        other.reset(1.0)
    assert program.clock.getDelayedCalls() == program.base.calls == []


def test_cancelled_while_it_was_put_off(program: Program) -> None:
    """What has come may make a late call needless."""
    call = program.later(1.0)
    program.arrive(2.0)
    program.base.callLater(2.0, call.cancel)
    program.stand_still(9.0)
    program.run(1)
    assert [what for what, _ in program.told] == ["reply"]
    assert program.base.calls == []


@given(
    st.lists(
        st.tuples(st.sampled_from(["call", "run", "still"]), st.integers(0, 4000)), max_size=60
    )
)
def test_whatever_happens(course: list[tuple[str, int]]) -> None:
    """Time never runs backwards, no call is early or forgotten, or later than it may be."""
    program = Program()
    last, due = 0.0, {}
    for number, (what, milliseconds) in enumerate(course):
        if what == "call":
            due[str(number)] = program.now + milliseconds / 1000
            program.later(milliseconds / 1000, str(number))
        elif what == "run":
            program.run(milliseconds / 1000)
        else:
            program.stand_still(milliseconds / 1000)
        assert program.now >= last
        last = program.now
    program.run(10)
    assert {what for what, _ in program.told} == set(due)
    for what, at in program.told:
        assert due[what] - 1e-5 <= at <= due[what] + LATE + 1e-5
    assert program.base.calls == []
