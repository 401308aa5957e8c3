"""What clients get for names that lists block (docs/specification.rst, Lists).

A verdict is made for each query and kept nowhere: which lists there are changes, and so does what
is in them. What may be kept of an answer is which lists have the targets of its CNAMEs, since that
takes some time to find; it is found anew when another set of lists is in force.
"""

from __future__ import annotations

from collections.abc import Mapping

from staggerdns.metrics import Metrics
from staggerdns.policy.lists.lists import Lists
from staggerdns.policy.lists.mapped import UNLISTED, Choice, Listing, ListSet
from staggerdns.policy.pauses import BlockingPauses, Pause
from staggerdns.resolver.entry import ChainListings, Entry
from staggerdns.settings.policy import GroupSettings, ListSettings
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer, ErrorAnswer, LocalNegativeAnswer
from staggerdns.wire.constants import Rcode, Type
from staggerdns.wire.key import NAME_END

BLOCKED_TTL = 60
"""Seconds that clients may keep what they get for a blocked name."""
NULL_ADDRESS = "null_address"
NXDOMAIN = "nxdomain"
NODATA = "nodata"
REFUSED = "refused"
ANSWERS = (NULL_ADDRESS, NXDOMAIN, NODATA, REFUSED)
"""Values of ``lists.NAME.answer``."""
_NULL_ADDRESSES: dict[int, Answer] = {
    Type.A: AddressPool((), (bytes(4),), BLOCKED_TTL, ad=False),
    Type.AAAA: AddressPool((), (bytes(16),), BLOCKED_TTL, ad=False),
}
_REFUSED = ErrorAnswer(Rcode.REFUSED, 0)


class Block:
    """Why clients do not get something: the ``list`` that has it. ``count`` it for each query."""

    __slots__ = ("list", "_answer", "_cell")

    def __init__(self, name: str, settings: ListSettings, group: str, metrics: Metrics) -> None:
        self.list = name
        self._answer = settings.answer
        self._cell = metrics.blocked.cell(name, group)

    def count(self) -> None:
        """Count a query that was answered so."""
        self._cell.value += 1

    def answer(self, name: bytes, qtype: int) -> Answer:
        """Return what is said about a name (wire form) in the place of any data."""
        kind = self._answer
        if kind == REFUSED:
            return _REFUSED
        if kind == NXDOMAIN:  # the zone in which it does not exist is the one above
            above = max(1, len(name) - name[0] - 1)
            return LocalNegativeAnswer(Rcode.NXDOMAIN, above, BLOCKED_TTL)
        found = _NULL_ADDRESSES.get(qtype) if kind == NULL_ADDRESS else None
        if found is not None:
            return found
        return LocalNegativeAnswer(Rcode.NOERROR, len(name), BLOCKED_TTL)


class Blocking:
    """What some clients do not get of what is in ``lists``: ``choice`` says which of these count,
    and ``blocks`` has those that block, by number. Nothing is blocked while there is a ``pause``.
    """

    def __init__(
        self, lists: Lists, choice: Choice, blocks: Mapping[int, Block], pause: Pause
    ) -> None:
        self._pause = pause
        self._lists = lists
        self._choice = choice
        self._blocks = blocks
        self._unlisted: ChainListings = (0, ())  # one for all entries: most are like that

    def of_name(self, name: bytes) -> Block | None:
        """Return why a name (wire form, lower case) is blocked, `None` if it is not."""
        if self._pause.active:
            return None
        return self._of(self._lists.current.listing(name))

    def of_chain(self, entry: Entry, key: bytes) -> Block | None:
        """Return why the answer under ``key`` is blocked although its name is not, `None` if it is
        not: it leads through a name that a list has. A name that a list allows may lead anywhere.
        """
        if self._pause.active:
            return None
        current = self._lists.current
        known = entry.chain_listings
        if known is None or known[0] != current.number:
            known = entry.chain_listings = self._look_up(entry, key, current)
        for blocked, allowed in known[1]:
            block = self._of(Listing(blocked, allowed))
            if block is not None:
                own = self._choice.verdict(current.listing(key[:NAME_END]))
                return None if own is not None and own.allowed else block
        return None

    def _of(self, listing: Listing) -> Block | None:
        hit = None if listing is UNLISTED else self._choice.verdict(listing)
        return None if hit is None or hit.allowed else self._blocks[hit.list]

    def _look_up(self, entry: Entry, key: bytes, current: ListSet) -> ChainListings:
        """Return what the lists in force say of the targets of an answer."""
        listings = [current.listing(name) for name in entry.answer.chain_targets(key)]
        listed = tuple([one for one in listings if one is not UNLISTED])
        if listed:
            return current.number, listed
        if self._unlisted[0] != current.number:
            self._unlisted = current.number, ()
        return self._unlisted


def make_blocking(
    name: str,
    group: GroupSettings,
    default: GroupSettings,
    lists: Lists | None,
    settings: Mapping[str, ListSettings],
    metrics: Metrics,
    pauses: BlockingPauses,
) -> Blocking | None:
    """Return what clients of the group with that ``name`` do not get, `None` if they get all.

    What the group does not say is as in the ``default`` one; ``settings`` are those of ``lists``.
    While the group has one of the ``pauses`` its clients get all.
    """
    block = default.block if group.block is None else group.block
    allow = default.allow if group.allow is None else group.allow
    if lists is None or not block:
        return None
    numbers = {one: number for number, one in enumerate(lists.names)}
    choice = Choice([numbers[one] for one in block], [numbers[one] for one in allow or ()])
    blocks = {numbers[one]: Block(one, settings[one], name, metrics) for one in block}
    return Blocking(lists, choice, blocks, pauses.of(name))
