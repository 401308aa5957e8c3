"""Learned completeness: the staggered tier leaves out whoever would add nothing
(docs/specification.rst, Learned completeness).

A new name asks whom the pools of all names needed lately. A name that is asked for anew asks whom
its own pool needs, and whom other such names needed lately though their pools did not say so. The
first `ENOUGH` collections ask everybody, later those of one name in `MEASURED`, and one after
`MOST_IN_A_ROW` others: from these alone all is learnt, and they tell which share of the addresses
is found.

    first answer --> `Learned.choose` --> the others are left out
                                      `-> measured: nobody is; at the end `Learned.measure`
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from zlib import crc32

from staggerdns.strategy.coverage import Coverage, cover
from staggerdns.upstream.exchange import Outcome
from staggerdns.upstream.upstream import Upstream
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.contributors import CONTRIBUTORS, UNKNOWN_BITS

ENOUGH = 20
"""Collections with addresses that ask everybody before anybody is left out."""
MEASURED = 20
"""Of so many names one is asked of everybody."""
MOST_IN_A_ROW = 60
"""Collections in a row of names that are not measured; the next one asks everybody all the same.
Where few names are asked for, none of them may be measured for hours.
"""
TURN = 3_600.0
"""Seconds after which that is another one."""
WINDOW = 100
"""Measured collections that the completeness is about, the latest."""
SALT_OCTETS = 8


class Choice(NamedTuple):
    """Whom a collection asks: ``all_asked`` are the bits of those asked and of those chosen,
    ``by_name`` without what other names have taught; `None` for a new name.
    """

    chosen: int
    all_asked: int
    by_name: int | None


class Learned:
    """What the collections of a scope have taught.

    ``salt``: `SALT_OCTETS` random octets, for which names are measured is nobody's business. Times
    are seconds of the strategy's clock.
    """

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._all = Coverage()
        self._known = Coverage()  # of names asked for anew: what their own pools did not say
        self._measured: deque[tuple[int, int]] = deque(maxlen=WINDOW)
        self._in_a_row = 0  # collections since the last one that has asked everybody

    @property
    def samples(self) -> int:
        """Collections that have taught something."""
        return self._all.samples

    def is_measured(self, name: bytes, now: float) -> bool:
        """Return whether collections of a name that begin at ``now`` ask everybody."""
        if self.samples < ENOUGH:
            return True
        turn = b"%s%d" % (self._salt, now // TURN)
        return crc32(name, crc32(turn)) % MEASURED == 0

    def begin(self, name: bytes, now: float) -> bool:
        """Note that a collection of a name begins, and return whether it asks everybody: also when
        many in a row have not.
        """
        if self.is_measured(name, now) or self._in_a_row >= MOST_IN_A_ROW:
            self._in_a_row = 0
            return True
        self._in_a_row += 1
        return False

    def choose(
        self, asked: Iterable[str], waiting: Sequence[Upstream], known: AddressPool | None
    ) -> Choice:
        """Return whom of those ``waiting``, best first, to ask beside those ``asked``, which are
        names. ``known``: the pool that is asked for anew, `None` for a new name.
        """
        before = 0
        for name in asked:
            before |= CONTRIBUTORS.bit(name)
        candidates = [CONTRIBUTORS.bit(upstream.name) for upstream in waiting]
        if before == UNKNOWN_BITS or UNKNOWN_BITS in candidates:
            return Choice(UNKNOWN_BITS, UNKNOWN_BITS, None)
        masks = () if known is None else _masks(known)
        if not masks:
            chosen = self._all.choose(before, candidates)
            return Choice(chosen, before | chosen, None)
        own = cover(dict.fromkeys(masks, 1.0), before, candidates, 0.0)
        chosen = own | self._known.choose(before | own, candidates)
        return Choice(chosen, before | chosen, before | own)

    def only(self, waiting: Iterable[Upstream], choice: Choice) -> list[Upstream]:
        """Return those ``waiting`` that are chosen."""
        return [one for one in waiting if CONTRIBUTORS.bit(one.name) & choice.chosen]

    def measure(self, outcomes: Iterable[Outcome], choice: Choice) -> None:
        """Learn from the outcomes of a collection that has asked everybody, beyond ``choice``.

        One that has found no address teaches nothing.
        """
        masks = _brought(outcomes)
        if not masks:
            return
        if self.samples >= ENOUGH:  # else everybody is asked in any case
            found = sum(mask & choice.all_asked != 0 for mask in masks)
            self._measured.append((found, len(masks)))
        self._all.add(masks)
        by_name = choice.by_name
        if by_name is not None:
            self._known.add([UNKNOWN_BITS if mask & by_name else mask for mask in masks])

    def completeness(self) -> float:
        """Return which share of the addresses that everybody together brought is found without
        those that are left out, by the collections measured last; 1 as long as there are none.
        """
        there = sum(there for _, there in self._measured)
        return sum(found for found, _ in self._measured) / there if there else 1.0


def _brought(outcomes: Iterable[Outcome]) -> list[int]:
    """Return for each address that was found who brought it."""
    brought: dict[bytes, int] = {}
    for outcome in outcomes:
        if isinstance(outcome.answer, AddressPool):
            bit = CONTRIBUTORS.bit(outcome.upstream.name)
            dropped = {address for address, _ in outcome.dropped}
            for address in outcome.answer.addresses:
                if address not in dropped:
                    brought[address] = brought.get(address, 0) | bit
    return [*brought.values()]


def _masks(pool: AddressPool) -> list[int]:
    """Return who brought each address of a pool; nothing if that is not known of all."""
    masks = [CONTRIBUTORS.mask(number) for number in pool.contributor_numbers]
    return [] if UNKNOWN_BITS in masks else masks
