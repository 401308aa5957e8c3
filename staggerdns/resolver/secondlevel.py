"""The second level: a cache that several servers share, as collections see it.

A collection asks it before it asks upstreams. What it has is hearsay: it comes from other servers
by way of a store that anybody may have written to, so it is judged as an upstream's reply is
(`screened`), and never lives longer than those who brought it allowed. A pool that is fresh and
whole is the answer; anything less is one more source of the collection
(docs/specification.rst, Second level).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Mapping
from math import ceil
from typing import NamedTuple, Protocol

from staggerdns.instruments import Cell
from staggerdns.resolver.entry import Entry
from staggerdns.strategy.run import History, Run
from staggerdns.strategy.tiers import SHARED
from staggerdns.upstream.exchange import AskedUpstream, Exchange, Outcome
from staggerdns.upstream.health import NegativeTrust
from staggerdns.upstream.reason import Reason
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.constants import AD, MAX_MESSAGE, QR, RA, RD, WireError
from staggerdns.wire.judge import Judge
from staggerdns.wire.pool import aged
from staggerdns.wire.question import Question
from staggerdns.wire.verdict import NEGATIVE, NETWORK_ERROR, POSITIVE

WHOLE = "whole"
PARTIAL = "partial"
MISS = "miss"
TIMEOUT = Reason.TIMEOUT.label
ERROR = "error"
INVALID = "invalid"
OPEN = "open"
BUSY = "busy"
READS = (WHOLE, PARTIAL, MISS, TIMEOUT, ERROR, INVALID, OPEN, BUSY)
"""What becomes of asking the second level, as the metrics call it: the answer, a source, nothing
there, no reply in time, an error or a lost connection, something that is no pool of ours, not asked
since it has failed of late, not asked since too much is being asked.
"""
NEWER = 1.0
"""Seconds by which a pool must be newer than what is held to make a refresh unnecessary."""
_header = struct.Struct("!HHH").pack
_ONE_QUESTION = 1
_ANSWERED = frozenset((POSITIVE, NEGATIVE))


class Found(NamedTuple):
    """A pool of the second level; its lives, and the seconds ``due`` until it is to be refreshed,
    count from now. ``answered``: the upstreams that had answered when it was collected, by name;
    ``whole``: that were all that were to be asked. ``age``: seconds since it was written.
    """

    pool: AddressPool
    due: int
    answered: frozenset[str]
    whole: bool
    age: float


class Collected(NamedTuple):
    """A pool whose collection has ended: lives and ``due`` as of `Found`, ``answered``: those
    upstreams that have answered, by name; ``whole``: whether they are all that were to be asked.
    """

    pool: AddressPool
    due: int
    answered: Collection[str]
    whole: bool


Screen = Callable[[AddressPool], AddressPool | None]
"""Returns what of a pool can be believed, `None` if it cannot: see `screened`."""
Heard = Callable[[Found | None, str], None]
"""Hears what the second level has, in time, and why if that is nothing; and maybe once more, when a
pool comes late.
"""


class Reading(Protocol):
    """One question to the second level."""

    def cancel(self) -> None:
        """Hear nothing any more."""

    def is_flushed(self) -> bool:
        """Return whether the name was flushed since it was asked."""

    def write(self, collected: Collected) -> None:
        """Let others have what was collected, unless they know more by now."""


class SecondLevel(Protocol):
    """The second level for the questions of one scope; ``reads`` counts by `READS`."""

    reads: Mapping[str, Cell]

    def read(self, question: Question, screen: Screen, heard: Heard) -> Reading | None:
        """Ask it, if that makes sense now."""


class SharedSource(AskedUpstream):
    """The second level in the place of an upstream, where outcomes are told of."""

    __slots__ = ()

    name = SHARED
    negative_trust = NegativeTrust()

    def received(
        self, exchange: Exchange, message: bytes, *, over_stream: bool, repeated: bool = False
    ) -> bool:
        """Return that nothing is welcome: it gets no queries of DNS."""
        return False

    def ended(self, exchange: Exchange, verdict: object, reason: Reason) -> None:
        """Do nothing, for the same reason."""

    def retry_over_tcp(self, exchange: Exchange) -> None:
        """Do nothing, for the same reason."""

    def blame(self, outcome: Outcome, question: Question) -> None:
        """Do nothing: it has no health of this kind."""

    def pardon(self, outcome: Outcome) -> None:
        """Do nothing, for the same reason."""


SOURCE = SharedSource()
_REASONS = {TIMEOUT: Reason.TIMEOUT, ERROR: Reason.CLOSED, INVALID: Reason.MALFORMED}


def outcome_of(found: Found | None, why: str, asked: float, now: float) -> Outcome:
    """Return what the second level has said as the outcome that a trace shows."""
    if found is not None:
        verdict, answer, reason = POSITIVE, found.pool, None
    else:
        verdict, answer = NETWORK_ERROR, None
        reason = _REASONS.get(why)
        if reason is None:
            verdict = NEGATIVE
    return Outcome(SOURCE, verdict, answer, reason, SHARED, asked, now - asked, now)


def screened(pool: AddressPool, judge: Judge) -> AddressPool | None:
    """Return what of ``pool`` is left when ``judge`` has seen it as the reply of an upstream;
    `None` if that is no pool any more.
    """
    question = judge.question
    flags = QR | RD | RA | (AD if pool.ad else 0)
    try:
        sections = pool.sections(question.end, pool.least, MAX_MESSAGE - question.end)
        if sections is None:
            return None
        counts, records = sections
        message = _header(0, flags, _ONE_QUESTION) + counts + question.section + records
        verdict, answer = judge.verdict(message)
    except (WireError, struct.error):
        return None
    if verdict is not POSITIVE or not isinstance(answer, AddressPool):
        return None
    if answer.cname_chain != pool.cname_chain:
        return None
    kept = set(answer.addresses)
    return pool.only([address in kept for address in pool.addresses])


def expected_of(run: Run) -> frozenset[str] | None:
    """Return which upstreams must have answered for a pool to be whole, by name: all that a run
    which has yet to be started would ask. Where one answer is all that is wanted, any will do.
    Where it depends on the first answer who is asked, that is not known: `None`.
    """
    if run.leaves_out():
        return None
    waiting = run.candidates.waiting if run.wants_all else ()
    return frozenset([upstream.name for upstream in waiting])


def collected_of(
    entry: Entry, history: History, expected: frozenset[str] | None, now: float
) -> Collected | None:
    """Return what others may have of an entry whose collection has ended; `None` if it is no pool
    that lives on. ``history``: how the queries have ended.
    """
    if not isinstance(entry.answer, AddressPool):
        return None
    age = ceil(now - entry.stored)
    pool = aged(entry.answer, age)
    if pool is None:
        return None
    answered = frozenset(
        [
            one.upstream.name
            for one in history
            if isinstance(one, Outcome) and one.tier != SHARED and one.verdict in _ANSWERED
        ]
    )
    if expected is None:
        expected = frozenset([one.upstream.name for one in history if one.tier != SHARED])
    return Collected(pool, max(entry.refresh_age - age, 0), answered, expected <= answered)


def is_answer(
    found: Found, expected: Collection[str] | None, previous: Entry | None, now: float, least: int
) -> bool:
    """Return whether a pool is the answer, so that no upstream need be asked.

    ``expected``: see `expected_of`. ``previous``: what is held under the key, which may
    have been found there as well: a pool must be newer, and last for ``least`` seconds, so that it
    is not due for a refresh itself.
    """
    is_whole = found.whole if expected is None else found.answered.issuperset(expected)
    if found.due <= 0 or not is_whole:
        return False
    if previous is None or now >= previous.expires:
        return True
    return found.due > least and found.age + NEWER < now - previous.stored
