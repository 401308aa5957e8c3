"""From the reactor to the thread: pieces, limits, what is lost, the end."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from staggerdns.instruments import Cell
from staggerdns.journal import Journal
from staggerdns.querylog.outlet import (
    DRAIN_TIME,
    HAND_OVER_AFTER,
    ITEM_OCTETS,
    MAX_HELD,
    PIECE,
    STEADY,
    Outlet,
    Unwritten,
)
from tests.conftest import CriticalEvents
from tests.kit.answered import Hand

ITEM = bytes(100)
EACH = len(ITEM) + ITEM_OCTETS


class MemorySink:
    """Keeps what is written; raises an error that is due."""

    def __init__(self) -> None:
        self.pieces: list[list[bytes]] = []
        self.error: Exception | None = None
        self.closed = 0
        self.given_up = False

    def write(self, items: list[bytes]) -> None:
        """Keep these, or fail."""
        if self.error is not None:
            raise self.error
        self.pieces.append(items)

    def close(self) -> None:
        """Count it."""
        self.closed += 1

    def give_up(self) -> None:
        """Note it."""
        self.given_up = True


class Made:
    """An outlet and all that is around it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.hand = Hand()
        self.sink = MemorySink()
        self.lost = Cell()
        self.outlet = Outlet(
            "the file", self.sink, cast("Any", self.hand), self.clock, self.lost, Journal()
        )

    @property
    def sizes(self) -> list[int]:
        """How many items are in each piece that was written."""
        return [len(piece) for piece in self.sink.pieces]

    def close(self) -> list[object]:
        """Begin to end; a list that has something in it when that is done."""
        ended: list[object] = []
        self.outlet.close().addBoth(ended.append)
        return ended


def said(logs: Any) -> list[str]:
    """The lines of the log."""
    return [formatEvent(event) for event in logs]


def is_full(made: Made) -> bool:
    """Whether there is no room."""
    return made.outlet.full


def test_pieces() -> None:
    """Items are handed over when there is a piece of them, or after a while."""
    made = Made()
    made.outlet.put(ITEM)
    made.clock.advance(HAND_OVER_AFTER * 0.99)
    assert made.sizes == []
    made.clock.advance(HAND_OVER_AFTER * 0.02)
    assert made.sizes == [1]
    count = -(-PIECE // EACH)
    for _ in range(count - 1):
        made.outlet.put(ITEM)
    assert made.sizes == [1]
    made.outlet.put(ITEM)
    assert made.sizes == [1, count]
    assert not made.clock.getDelayedCalls()


def test_what_waits_is_bounded() -> None:
    """There is room until `MAX_HELD` octets wait; when they are written there is room again."""
    made = Made()
    made.hand.stuck = True
    count = 0
    while not is_full(made):
        made.outlet.put(ITEM)
        count += 1
    assert count == -(-MAX_HELD // EACH)
    made.clock.advance(HAND_OVER_AFTER)
    assert is_full(made)
    made.hand.go_on()
    assert not is_full(made)
    assert sum(made.sizes) == count
    assert made.lost.value == 0


def test_what_is_lost_is_said_once() -> None:
    """A line when that begins, and one with how many when there has been none for a while and
    something is written.
    """
    made = Made()
    with capturedLogs() as logs:
        for _ in range(3):
            made.outlet.lose()
        made.outlet.put(ITEM)
        made.clock.advance(STEADY - 0.1)
        made.outlet.put(ITEM)
        made.outlet.reopen()
        assert said(logs) == ["answers are missing in the file: it is written too slowly"]
        made.clock.advance(0.1)
        made.outlet.put(ITEM)
        made.outlet.reopen()
        assert said(logs)[1:] == ["answers are written into the file again: 3 are missing"]
        made.outlet.lose(2, "the disk is gone")
        assert said(logs)[2:] == ["answers are missing in the file: the disk is gone"]
    assert made.lost.value == 5
    made.close()


def test_a_sink_that_cannot_write() -> None:
    """It says how many are missing, and why."""
    made = Made()
    made.sink.error = Unwritten(1, "No space left on device")
    with capturedLogs() as logs:
        for _ in range(2):
            made.outlet.put(ITEM)
            made.outlet.put(ITEM)
            made.clock.advance(HAND_OVER_AFTER)
    assert made.lost.value == 2
    assert said(logs) == ["answers are missing in the file: No space left on device"]
    made.sink.error = None
    made.outlet.put(ITEM)
    made.clock.advance(HAND_OVER_AFTER)
    assert made.sizes == [1]
    assert not made.outlet.full
    made.close()


def test_a_defect(critical_events: CriticalEvents) -> None:
    """What a sink should not raise is logged, and all of the piece is missing."""
    made = Made()
    made.sink.error = ZeroDivisionError()
    made.outlet.put(ITEM)
    made.outlet.put(ITEM)
    made.clock.advance(HAND_OVER_AFTER)
    assert made.lost.value == 2
    assert len(critical_events.flush()) == 1
    made.sink.error = None
    made.close()


def test_reopening() -> None:
    """What has come before goes where it would have gone."""
    made = Made()
    made.outlet.put(ITEM)
    made.outlet.reopen()
    assert (made.sizes, made.sink.closed) == ([1], 1)


def test_the_end() -> None:
    """What there is is written, and the sink is closed."""
    made = Made()
    made.outlet.put(ITEM)
    assert made.close() == [None]
    assert (made.sizes, made.sink.closed, made.sink.given_up) == ([1], 1, False)
    assert not made.clock.getDelayedCalls()


@pytest.mark.parametrize("goes_on", [False, True])
def test_the_end_while_a_disk_hangs(goes_on: bool) -> None:
    """It is waited for `DRAIN_TIME`; what is not written then is missing, and counted once."""
    made = Made()
    made.hand.stuck = True
    for _ in range(3):
        made.outlet.put(ITEM)
    ended = made.close()
    made.clock.advance(DRAIN_TIME - 0.01)
    assert ended == []
    if goes_on:
        made.hand.go_on()
        assert (ended, made.lost.value, made.sizes) == ([None], 0, [3])
        assert not made.clock.getDelayedCalls()
        return
    made.clock.advance(0.02)
    assert (ended, made.lost.value, made.sink.given_up) == ([None], 3, True)
    made.sink.error = Unwritten(3, "too late")
    made.hand.go_on()
    assert made.lost.value == 3
