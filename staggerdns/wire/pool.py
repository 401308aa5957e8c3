"""How the addresses of several upstreams become one pool (docs/specification.rst, Merging)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat

from staggerdns.wire.addresskinds import is_private
from staggerdns.wire.addresspool import AddressPool, MixedPool, mixed
from staggerdns.wire.answer import Answer
from staggerdns.wire.contributors import CONTRIBUTORS
from staggerdns.wire.dropped import LIMIT, MANY_ALIASES, NOT_KEPT, PRIVATE, Dropped

MAX_OTHER_TARGETS = 100
"""Targets of CNAMEs other than those of the first answer. An answer with which there would be more
does not join: nobody could say where its addresses come from.
"""


class GrowingPool:
    """A pool that answers of other upstreams join, one after the other.

    It begins as ``pool`` and has at most ``limit`` addresses; ``private`` lets private addresses
    join.
    """

    __slots__ = (
        "changed",
        "refused",
        "_ad",
        "_cname_life",
        "_limit",
        "_lives",
        "_masks",
        "_other_targets",
        "_pool",
        "_private",
    )

    def __init__(self, pool: AddressPool, limit: int, *, private: bool) -> None:
        self.changed = False
        """Whether anything has been added since `pool` was asked for last."""
        self.refused: list[Dropped] = []
        """What has not joined of the last that was added, and why."""
        self._pool = pool
        self._limit = limit
        self._private = private
        addresses = pool.addresses
        self._lives = dict(zip(addresses, pool.lives, strict=True))
        self._masks = dict(
            zip(addresses, map(CONTRIBUTORS.mask, pool.contributor_numbers), strict=True)
        )
        self._ad = pool.ad
        self._cname_life = pool.cname_life
        others = pool.other_targets if isinstance(pool, MixedPool) else ()
        self._other_targets = dict.fromkeys(others)

    def add(self, other: AddressPool, age: int, contributor: int | None = 0) -> int:
        """Add what ``other`` brings, and return how many addresses are new.

        They join behind those that are there; known ones live as long as the longest of their
        contributors allowed. ``age``: how many seconds ago the first of the pool came. AD stays
        only if all had it of whom there are addresses. What may not be kept at all (TTL 0) does not
        join what may, and what joins it may not be kept either. ``contributor`` is the bit of the
        upstream that allows one TTL to all of it; `None`: ``other`` is a pool of several upstreams,
        in which each address has a life and contributors of its own.
        """
        self.refused = []
        kept = self._pool.ttl
        if kept and not other.ttl:
            return self._refuse(other, NOT_KEPT)
        chain = self._pool.cname_chain
        targets: list[bytes] = []
        if other.cname_chain and other.cname_chain != chain:
            targets = self._new_targets(other)
            if len(self._other_targets) + len(targets) > MAX_OTHER_TARGETS:
                return self._refuse(other, MANY_ALIASES)
        # Else it would live on by the word of who did not validate it.
        lengthens = other.ad or not self._ad
        lives = self._lives
        before = len(lives)
        self._join(other, age if kept else -other.ttl, contributor, lengthens)
        cname_life = other.cname_life + age
        if chain and lengthens and cname_life > self._cname_life and chain == other.cname_chain:
            self._cname_life = cname_life
            self.changed = True
        if targets and any(address in lives for address in other.addresses):
            self._other_targets |= dict.fromkeys(targets)
            self.changed = True
        new = len(lives) - before
        if new:
            self._ad = self._ad and other.ad
            self.changed = True
        return new

    def _join(self, other: AddressPool, age: int, contributor: int | None, lengthens: bool) -> None:
        """Have addresses join that are new, and the lives and contributors of others grow."""
        lives, masks, refused = self._lives, self._masks, self.refused
        given: Iterable[tuple[bytes, int, int]]
        if contributor is None:
            bits = [CONTRIBUTORS.mask(number) for number in other.contributor_numbers]
            given = zip(other.addresses, other.lives, bits, strict=True)
        else:
            given = zip(other.addresses, repeat(other.ttl), repeat(contributor))
        for address, ttl, bit in given:
            life = ttl + age
            known = lives.get(address)
            if known is None:
                if len(lives) < self._limit and (self._private or not is_private(address)):
                    lives[address] = life
                    masks[address] = bit
                else:
                    refused.append((address, LIMIT if len(lives) >= self._limit else PRIVATE))
                continue
            if known < life and lengthens:
                lives[address] = life
                self.changed = True
            mask = masks[address]
            if mask | bit != mask:
                masks[address] = mask | bit
                self.changed = True

    def _refuse(self, other: AddressPool, why: str) -> int:
        """Let nothing of ``other`` join; return how many addresses are new: none."""
        self.refused = [(address, why) for address in other.addresses]
        return 0

    def _new_targets(self, other: AddressPool) -> list[bytes]:
        """Return the names that ``other`` leads through and nobody before."""
        known = {*self._pool.chain_targets(b""), *self._other_targets}
        return [target for target in other.chain_targets(b"") if target not in known]

    def pool(self) -> AddressPool:
        """Return the pool as it is now, the same one as long as nothing has been added."""
        if self.changed:
            self.changed = False
            numbers = {mask: CONTRIBUTORS.number(mask) for mask in set(self._masks.values())}
            pool = self._pool.having(
                self._lives,
                self._ad,
                self._cname_life,
                [numbers[mask] for mask in self._masks.values()],
            )
            targets = self._other_targets
            self._pool = mixed(pool, tuple(targets)) if targets else pool
        return self._pool


def aged(pool: AddressPool, seconds: int) -> AddressPool | None:
    """Return what of ``pool`` lives on after so many seconds, with what is left of its lives;
    `None` if nothing does.
    """
    lives = {
        address: life - seconds
        for address, life in zip(pool.addresses, pool.lives, strict=True)
        if life > seconds
    }
    if not lives:
        return None
    numbers = zip(pool.addresses, pool.contributor_numbers, strict=True)
    contributors = [number for address, number in numbers if address in lives]
    return pool.having(lives, pool.ad, max(pool.cname_life - seconds, 0), contributors)


def bounded(pool: AddressPool, least: int, most: int) -> AddressPool:
    """Return ``pool`` with all its lives within these bounds, in seconds."""
    if (
        least <= pool.least
        and pool.ttl <= most
        and (not pool.cname_chain or pool.cname_life <= most)
    ):
        return pool
    lives = [min(max(life, least), most) for life in pool.lives]
    return pool.having(
        dict(zip(pool.addresses, lives, strict=True)),
        pool.ad,
        min(max(pool.cname_life, least), most),
        pool.contributor_numbers,
    )


def without_private(answer: Answer) -> Answer | None:
    """Return ``answer`` without its private addresses, `None` when nothing is left.

    What cannot be cut, because it may be signed, is left out whole.
    """
    public = [not is_private(address) for address in answer.addresses]
    if all(public):
        return answer
    return answer.only(public) if isinstance(answer, AddressPool) and any(public) else None


def cap(pool: AddressPool, limit: int) -> AddressPool:
    """Return ``pool`` with at most ``limit`` addresses."""
    if len(pool.addresses) <= limit:
        return pool
    return pool.only(index < limit for index in range(len(pool.addresses)))
