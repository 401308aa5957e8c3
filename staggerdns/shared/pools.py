"""Pools as the store has them: what the keys are, and what stands under them.

A key names the format, how answers come about (the digest of the scope), and the question; a server
of another version, or of another configuration, looks elsewhere. A value has no time of any server
in it: lives count from the moment at which it was written, of which the store knows how long ago it
was. What is read may come from anybody, so nothing of it is believed that a server of ours would
not have written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import ceil
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from staggerdns.resolver.secondlevel import INVALID, MISS, Collected, Found
from staggerdns.shared.scripts import FORMAT, MAX_VALUE, PREFIX
from staggerdns.shared.store import Present
from staggerdns.state.blocks import Natural, Ttl
from staggerdns.state.poolparts import WIDTHS, SetMembers, SetTable, pool_of, split
from staggerdns.wire.constants import MAX_TTL, type_text
from staggerdns.wire.key import type_and_class, without_scope
from staggerdns.wire.names import to_text
from staggerdns.wire.pool import MAX_OTHER_TARGETS, aged
from staggerdns.wire.question import Question

MAX_NAMES = 1_024
"""Upstreams that one value names."""
_Names = Annotated[list[str], Meta(max_length=MAX_NAMES)]


class SharedPool(Struct, array_like=True, tag=FORMAT, frozen=True, gc=False):
    """A pool: ``question`` is its key but for the scope, ``life`` the milliseconds that it was
    written for, ``epoch`` the one of flushes at which its collection began, ``due`` the seconds
    until it is to be refreshed, ``whole`` as in `Collected`. ``answered``, and the members of
    ``sets``, are places in ``names``. For the rest see
    `staggerdns.state.poolparts.PoolParts`.
    """

    question: bytes
    life: Annotated[int, Meta(ge=1, le=MAX_TTL * 1000)]
    epoch: Natural
    due: Natural
    whole: bool
    names: _Names
    answered: list[Natural]
    sets: list[list[Natural]]
    ttl: Ttl
    ad: bool
    addresses: bytes
    lives: tuple[Ttl, ...]
    contributors: tuple[Natural, ...]
    cname_chain: tuple[bytes, ...]
    cname_life: Ttl
    other_targets: Annotated[tuple[bytes, ...], Meta(max_length=MAX_OTHER_TARGETS)]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SharedPool).decode


def pool_key(digest: bytes, question: Question) -> bytes:
    """Return the key of the pool for a question; ``digest``: of its scope."""
    marks = ("+do" if question.do else "") + ("+cd" if question.cd else "")
    name, qtype = to_text(question.name), type_text(question.qtype)
    return PREFIX + f"pool:{digest.hex()}:{name}:{qtype}{marks}".encode()


def write_pool(question: Question, collected: Collected, epoch: int) -> tuple[bytes, int] | None:
    """Return the value for a pool, and the milliseconds that it is to live; `None` if it is too
    large. ``epoch``: the one at which its collection began.
    """
    pool = collected.pool
    sets = SetTable()
    answered = [sets.place_of_name(name) for name in sorted(collected.answered)]
    parts = sets.parts_of(pool)
    value = _encode(
        SharedPool(
            without_scope(question.key),
            pool.ttl * 1000,
            epoch,
            collected.due,
            collected.whole,
            sets.names,
            answered,
            sets.sets,
            pool.ttl,
            pool.ad,
            *parts,
        )
    )
    return None if len(value) > MAX_VALUE else (value, pool.ttl * 1000)


def read_pool(
    question: Question,
    present: Present,
    known: Collection[str],
    is_flushed: Callable[[bytes, int], bool],
) -> Found | str:
    """Return the pool that a value stands for, as it is now; `INVALID` if it is none of ours, or
    nothing of it lives, `MISS` if its name was flushed after its epoch, as ``is_flushed`` says.
    ``known``: the upstreams of the scope, by name; it can name no others.
    """
    if len(present.value) > MAX_VALUE:
        return INVALID
    try:
        shared = _decode(present.value)
    except (msgspec.MsgspecError, RecursionError):
        return INVALID
    width = WIDTHS.get(type_and_class(question.key), 0)
    addresses = split(shared.addresses, width)
    if (
        shared.question != without_scope(question.key)
        or not 0 < present.left <= shared.life
        or not all(name in known for name in shared.names)
        or any(place >= len(shared.names) for place in shared.answered)
        or len(set(addresses)) < len(addresses)
        or len(shared.sets) > len(addresses)  # of all sets there is room for some in a process
    ):
        return INVALID
    pool = pool_of(shared, width, SetMembers(shared.names, shared.sets).number)
    age = shared.life - present.left
    left = None if pool is None else aged(pool, ceil(age / 1000))
    if left is None:
        return INVALID
    if is_flushed(question.name, shared.epoch):
        return MISS
    answered = frozenset([shared.names[place] for place in shared.answered])
    due = max(shared.due - ceil(age / 1000), 0)
    return Found(left, due, answered, shared.whole, age / 1000)
