"""What a file of saved state holds: blocks of MessagePack, each a list with its kind in front.

    head        the time by which all ages count
    upstreams   latency and health of each
    round trips of addresses
    answers     some entries, with the scopes and upstreams that they name
    end         nothing is behind it

Times are ages: whole milliseconds, rounded up, before the time of the head; what came later has a
negative one. Scopes are the digests of their content, upstreams the texts of their addresses:
numbers of scopes and of sets of upstreams mean something in one process alone. A block has tables
of its own for both, so that each can be read by itself.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

Natural = Annotated[int, Meta(ge=0)]
Age = int
"""Milliseconds."""
Offsets = tuple[Annotated[int, Meta(ge=0, le=65_535)], ...]
Ttl = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]


class Head(Struct, array_like=True, tag=0, frozen=True):
    """``time``: seconds since 1970, by the wall clock, when the save began."""

    time: float


class SavedUpstream(Struct, array_like=True, frozen=True):
    """What `Latency.saved`, `Health.saved` and `NegativeTrust.contradicted` say of an upstream."""

    name: str
    latency: tuple[float, float, float] | None
    health: tuple[int, int, int, float, float, bool]
    contradicted: float


class UpstreamsBlock(Struct, array_like=True, tag=1, frozen=True):
    """All upstreams."""

    upstreams: list[SavedUpstream]


class SavedRtt(Struct, array_like=True, frozen=True, gc=False):
    """What is known of one address: see `staggerdns.ranking.rtt.Rtt`."""

    address: bytes
    measured: Age
    seconds: float | None
    deviation: float
    loss: float
    best: float
    total: float
    answered: Natural
    lost: Natural
    way: str
    older_seconds: float | None
    older_deviation: float


class RoundTripsBlock(Struct, array_like=True, tag=2, frozen=True):
    """Some addresses."""

    addresses: list[SavedRtt]


class SavedEntry(Struct, array_like=True, frozen=True, gc=False):
    """What entries of all kinds have: see `staggerdns.resolver.entry.Entry`.

    ``question`` is its key but for the scope, ``scope`` a place in the table of the block, ``rank``
    addresses one behind the other; ``due`` and ``refresh`` are seconds of age.
    """

    question: bytes
    scope: Natural
    stored: Age
    due: Natural
    refresh: Natural
    complete: bool
    sorted: Age | None
    rank: bytes
    ttl: Ttl
    ad: bool


class SavedPool(SavedEntry, array_like=True, tag=0, frozen=True, gc=False):
    """A pool: ``contributors`` are places in the table of sets, one of each address or one of all;
    ``lives`` are empty when all live for ``ttl``.
    """

    addresses: bytes
    lives: tuple[Ttl, ...]
    contributors: tuple[Natural, ...]
    cname_chain: tuple[bytes, ...]
    cname_life: Ttl
    other_targets: tuple[bytes, ...]


class SavedSections(SavedEntry, array_like=True, tag=1, frozen=True, gc=False):
    """One upstream's answer."""

    rcode: Annotated[int, Meta(ge=0, le=15)]
    negative: bool
    counts: bytes
    body: bytes
    ttl_offsets: Offsets
    address_offsets: Offsets


class AnswersBlock(Struct, array_like=True, tag=3, frozen=True):
    """Some entries; ``sets`` are lists of places in ``names``, the texts of upstreams."""

    scopes: list[bytes]
    names: list[str]
    sets: list[list[Natural]]
    entries: list[SavedPool | SavedSections]


class End(Struct, array_like=True, tag=4, frozen=True):
    """``blocks``: how many there are in front of it."""

    blocks: Natural


Block = Head | UpstreamsBlock | RoundTripsBlock | AnswersBlock | End

encode = msgspec.msgpack.Encoder().encode
"""Return a block as octets."""
decode = msgspec.msgpack.Decoder(Block).decode
"""Return the block that octets are. Raises `msgspec.MsgspecError`."""
