"""Pauses of blocking: for whom, how long, and what is said of it."""

from __future__ import annotations

import math

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from staggerdns.journal import Journal
from staggerdns.policy.pauses import BlockingPauses


class Paused:
    """Pauses of three groups on a clock; ``changes`` counts what was told of."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000)
        self.changes = 0
        self.pauses = BlockingPauses(self.clock, Journal("error"))
        self.pauses.on_change(self.count)
        self.all = {group: self.pauses.of(group) for group in ("default", "kids", "guests")}

    def count(self) -> None:
        """Count a change."""
        self.changes += 1

    @property
    def active(self) -> set[str]:
        """The groups that have a pause."""
        return {group for group, pause in self.all.items() if pause.active}


def test_until_further_notice() -> None:
    """A pause without an end needs no timer, and ends when somebody says so."""
    paused = Paused()
    assert paused.active == set()
    paused.pauses.begin(None, None)
    assert paused.active == {"default", "kids", "guests"}
    assert paused.pauses.left("kids") == math.inf
    assert paused.clock.getDelayedCalls() == []
    assert paused.changes == 1
    paused.pauses.end(None)
    assert paused.active == set()
    assert paused.pauses.left("kids") == 0
    assert paused.changes == 2


@pytest.mark.parametrize("group", [None, "kids"])
def test_for_some_time(group: str | None) -> None:
    """It ends by itself, to the moment, and everybody is told at both ends."""
    paused = Paused()
    paused.pauses.begin(group, 300)
    assert "kids" in paused.active
    paused.clock.advance(299.9)
    assert "kids" in paused.active
    assert paused.pauses.left("kids") == pytest.approx(0.1)
    assert paused.changes == 1
    paused.clock.advance(0.1)
    assert paused.active == set()
    assert paused.pauses.left("kids") == 0
    assert paused.changes == 2
    assert paused.clock.getDelayedCalls() == []


def test_the_last_word_counts() -> None:
    """A later pause takes the place of an earlier one, be it shorter or longer."""
    paused = Paused()
    paused.pauses.begin("kids", 300)
    paused.pauses.begin("kids", 10)
    assert len(paused.clock.getDelayedCalls()) == 1
    paused.clock.advance(10)
    assert paused.active == set()
    paused.pauses.begin("kids", 10)
    paused.pauses.begin("kids", None)
    paused.clock.advance(1_000)
    assert paused.active == {"kids"}
    paused.pauses.begin(None, 5)
    paused.clock.advance(5)
    assert paused.active == set()


def test_one_group_before_all() -> None:
    """What is said of a group comes before what is said of all, until that is said anew."""
    paused = Paused()
    paused.pauses.begin(None, None)
    paused.pauses.end("kids")
    assert paused.active == {"default", "guests"}
    paused.pauses.begin("guests", 10)
    paused.clock.advance(10)
    assert paused.active == {"default"}
    paused.pauses.begin(None, 20)
    assert paused.active == {"default", "kids", "guests"}


def test_two_ends() -> None:
    """Each group has its own."""
    paused = Paused()
    paused.pauses.begin("kids", 10)
    paused.pauses.begin("guests", 20)
    paused.clock.advance(10)
    assert paused.active == {"guests"}
    paused.clock.advance(10)
    assert paused.active == set()


def test_groups_of_a_later_configuration() -> None:
    """They are in a pause for all, and a group of the same name stays in its own."""
    paused = Paused()
    paused.pauses.begin("kids", 60)
    assert paused.pauses.of("kids") is paused.all["kids"]
    paused.pauses.begin(None, 60)
    assert paused.pauses.of("new").active
    paused.clock.advance(60)
    assert not paused.pauses.of("new").active
    assert not paused.pauses.of("newer").active


def test_the_end_of_the_program() -> None:
    """Nothing is left on the clock."""
    paused = Paused()
    paused.pauses.begin("kids", 60)
    paused.pauses.cancel()
    assert paused.clock.getDelayedCalls() == []
    paused.pauses.cancel()


def test_the_log() -> None:
    """Both ends are told, whatever the level: an operator wanted it."""
    paused = Paused()
    with capturedLogs() as events:
        paused.pauses.begin(None, 300)
        paused.clock.advance(300)
        paused.pauses.begin("kids", None)
        paused.pauses.end("kids")
        paused.pauses.begin("guests", 1)
        paused.clock.advance(1)
    assert [formatEvent(event) for event in events] == [
        "blocking is paused for 300 s: all groups",
        "blocking goes on: all groups",
        "blocking is paused until further notice: group kids",
        "blocking goes on: group kids",
        "blocking is paused for 1 s: group guests",
        "blocking goes on: group guests",
    ]
