"""Which sample is sent next when not all may be.

A sample waits with an urgency; within one the first to come is the first to go. Repetitions of a
sample that is under way come first, since it holds a place among those that are measured at
once; then addresses of names that clients have asked for again; then those of all other names;
and last the further samples of addresses that have been measured once. So that nobody waits for
ever behind a stream of the more urgent, every `FAIR_TURN`-th goes to whoever has waited for the
longest.
"""

from __future__ import annotations

from collections import OrderedDict

UNDER_WAY, IN_DEMAND, FIRST, FURTHER = range(4)
"""The urgencies, the most urgent first."""
FAIR_TURN = 4
"""One in so many samples goes by the time for which it has waited, whatever its urgency."""


class Waiting:
    """What can wait in a `WaitingList`, which alone sets these."""

    __slots__ = ("urgency", "place", "waits")

    def __init__(self, urgency: int) -> None:
        self.urgency = urgency
        self.place = 0
        self.waits = False


class WaitingList:
    """Samples in the order in which they are to be sent."""

    def __init__(self) -> None:
        self._queues: list[OrderedDict[Waiting, None]] = [OrderedDict() for _ in range(4)]
        self._places = 0
        self._turns = 0

    def __len__(self) -> int:
        """How many wait that are not under way yet."""
        return sum(map(len, self._queues[IN_DEMAND:]))

    def add(self, one: Waiting, urgency: int) -> None:
        """Have ``one`` wait, behind those that are as urgent."""
        self._places += 1
        one.place = self._places
        one.urgency = urgency
        one.waits = True
        self._queues[urgency][one] = None

    def remove(self, one: Waiting) -> None:
        """Have ``one`` wait no more, if it does."""
        if one.waits:
            one.waits = False
            del self._queues[one.urgency][one]

    def raise_urgency(self, one: Waiting, urgency: int) -> None:
        """Let ``one`` wait among the more urgent, if it waits among less urgent ones."""
        if one.waits and urgency < one.urgency:
            place = one.place
            self.remove(one)
            self.add(one, urgency)
            one.place = place  # it has waited for as long as it has

    def first(self, *, only_under_way: bool) -> Waiting | None:
        """Return who is to be sent next, `None` when nobody waits.

        ``only_under_way``: no other may begin now.
        """
        queues = self._queues[: UNDER_WAY + 1] if only_under_way else self._queues
        if self._turns % FAIR_TURN == FAIR_TURN - 1:
            heads = [next(iter(queue)) for queue in queues if queue]
            return min(heads, key=_place, default=None)
        for queue in queues:
            for one in queue:
                return one
        return None

    def sent(self, one: Waiting) -> None:
        """Remove ``one`` since it is being sent."""
        self._turns += 1
        self.remove(one)

    def clear(self) -> None:
        """Forget everybody."""
        for queue in self._queues:
            for one in queue:
                one.waits = False
            queue.clear()


def _place(one: Waiting) -> int:
    return one.place
