"""When requests begin: at once, in turn, or not at all."""

from __future__ import annotations

from functools import partial

from twisted.internet.task import Clock

from staggerdns.control.turns import BURST, INTERVAL, Turns


class Waiting:
    """Turns on a clock, and who has had his."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.turns = Turns(self.clock)
        self.had: list[int] = []
        self.calls = [partial(self.had.append, number) for number in range(200)]

    def take(self, count: int) -> int:
        """Return how many of so many begin at once."""
        return sum(self.turns.begin(self.calls[number]) for number in range(count))


def test_a_burst() -> None:
    """So many begin at once, and not one more; the others follow in order."""
    waiting = Waiting()
    assert waiting.take(BURST + 3) == BURST == 64
    assert waiting.had == []
    for place in range(3):
        waiting.clock.advance(INTERVAL * 0.99)
        assert len(waiting.had) == place
        waiting.clock.advance(INTERVAL * 0.01 + 1e-9)
    assert waiting.had == [BURST, BURST + 1, BURST + 2]
    assert waiting.clock.getDelayedCalls() == []


def test_what_is_saved_up() -> None:
    """A quiet time gives as many as it lasts for, up to a burst."""
    waiting = Waiting()
    waiting.take(BURST)
    waiting.clock.advance(10 * INTERVAL + 1e-9)
    assert waiting.take(11) == 10
    waiting.clock.advance(INTERVAL)
    waiting.clock.advance(1_000)
    assert waiting.take(BURST + 1) == BURST


def test_nobody_overtakes() -> None:
    """One who comes when it is somebody's turn waits behind him."""
    waiting = Waiting()
    waiting.take(BURST + 1)
    waiting.clock.rightNow += 2 * INTERVAL
    assert not waiting.turns.begin(waiting.calls[100])
    waiting.clock.advance(0)
    assert waiting.had == [BURST, 100]


def test_who_gives_up() -> None:
    """He has no turn, takes none away, and leaves no timer."""
    waiting = Waiting()
    waiting.take(BURST + 3)
    waiting.turns.give_up(waiting.calls[BURST])
    waiting.turns.give_up(waiting.calls[0])
    waiting.clock.advance(INTERVAL + 1e-9)
    assert waiting.had == [BURST + 1]
    waiting.turns.give_up(waiting.calls[BURST + 2])
    assert waiting.clock.getDelayedCalls() == []
    waiting.clock.advance(INTERVAL)
    assert waiting.turns.begin(waiting.calls[0])
