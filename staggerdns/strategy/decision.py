"""What the outcomes of one question come to: the client's answer, and who was wrong.

Pure: no clock, no timer, no socket. Times are arguments, in seconds. The rules
(docs/specification.rst, Client's answer):

    the first positive             is the answer at once
    the first negative             waits for a positive, and is the answer when the whole active
                                   tier has ended and one of it was negative, when ``grace`` is
                                   over, or when nobody is left who could say more
    a failure, a network error     is never the answer
    a positive after the answer    joins it, or takes the place of a negative; but a negative on
                                   which the whole active tier agreed stands: one liar must not
                                   turn it into addresses
    a failing reply                blames its upstream if there is an answer; if there is none the
                                   failure is the name's, and all are pardoned
    a negative                     is contradicted if the answer is positive in the end and at
                                   least as many upstreams gave a positive: who invents names must
                                   not discredit those who know better
"""

from __future__ import annotations

from staggerdns.strategy.tiers import ACTIVE
from staggerdns.upstream.exchange import Outcome
from staggerdns.upstream.reason import Reason
from staggerdns.wire.verdict import FAILURE, NEGATIVE, POSITIVE


class Decision:
    """The decision on one question.

    ``grace``: seconds that a first negative waits for a positive. ``single``: one upstream's
    answer is all that is wanted; nothing that comes after it counts for or against anybody.
    """

    __slots__ = (
        "made",
        "negative",
        "held",
        "grace_end",
        "answered",
        "active_left",
        "negatives",
        "failures",
        "given_up",
        "_grace",
        "_single",
        "_final",
        "_active",
        "_active_negatives",
    )

    def __init__(self, grace: float, *, single: bool) -> None:
        self.made = False
        """Whether there is an answer."""
        self.negative = False
        """Whether the answer is a negative."""
        self.held: Outcome | None = None
        """A negative that waits for a positive, until `grace_end` at the latest."""
        self.grace_end = 0.0
        self.answered = 0
        """How many have answered well, be it positively or negatively."""
        self.active_left = 0
        """How many of the active tier have not ended."""
        self.negatives: list[Outcome] = []
        """All negatives, in order."""
        self.failures: list[Outcome] = []
        """All failing replies and network errors, in order."""
        self.given_up = 0
        """How many were given up with the run before it could be said that they fail."""
        self._grace = grace
        self._single = single
        self._final = False  # no positive changes the answer any more
        self._active = 0
        self._active_negatives = 0

    def ask_active(self, count: int) -> None:
        """Expect the outcomes of ``count`` more upstreams of the active tier."""
        self._active += count
        self.active_left += count

    def take(self, outcome: Outcome) -> bool:
        """Note an outcome; return whether it is a positive that is the answer, or adds to it."""
        verdict = outcome.verdict
        active = outcome.tier == ACTIVE
        if active:
            self.active_left -= 1
        if verdict is POSITIVE:
            self.answered += 1
            if self._final:
                return False
            self.made = True
            self.negative = False
            self.held = None
            self._final = self._single
            return True
        if verdict is NEGATIVE:
            self.answered += 1
            self.negatives.append(outcome)
            self._active_negatives += active
            if self.negative:
                self._final = self._single or self._active_agrees()
            elif self.held is None and not self.made:
                self.held = outcome
                self.grace_end = outcome.at + self._grace
        else:
            self.failures.append(outcome)
        return False

    def settle(self, now: float, *, nobody_left: bool) -> Outcome | None:
        """Return the negative that waits if it is the answer at ``now``.

        ``nobody_left``: no more outcomes will come.
        """
        held = self.held
        if held is None:
            return None
        active_denies = self._active_negatives and not self.active_left
        if not (active_denies or nobody_left or now >= self.grace_end):
            return None
        self.held = None
        self.made = self.negative = True
        self._final = self._single or self._active_agrees()
        return held

    def _active_agrees(self) -> bool:
        return self._active_negatives == self._active

    @property
    def can_turn(self) -> bool:
        """Whether the answer is a negative in whose place addresses would still come."""
        return self.negative and not self._final

    def failing(self) -> list[Outcome]:
        """Return the replies that answered nothing."""
        return [one for one in self.failures if one.verdict is FAILURE]

    def blamed(self) -> list[Outcome]:
        """Return the failing replies that are a mark against their upstreams, in the end."""
        return self.failing() if self.made else []

    def pardoned(self) -> list[Outcome]:
        """Return the failing replies that are none, in the end."""
        return [] if self.made else self.failing()

    def contradicted(self) -> bool:
        """Return whether the negatives were wrong, in the end."""
        if self._single or self.negative:
            return False
        return self.answered >= 2 * len(self.negatives)

    def reasons(self) -> list[Reason]:
        """Return what was wrong with those who have not answered well, in order."""
        found = [one.reason for one in self.failures if one.reason is not None]
        return found + [Reason.TIMEOUT] * self.given_up
