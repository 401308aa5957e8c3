"""The largest replies that an upstream can send over TCP, made to cost as much as they can."""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Callable

import pytest

from staggerdns.wire.constants import MAX_MESSAGE, WireError
from staggerdns.wire.question import Question
from staggerdns.wire.reply import MAX_OWNERS
from staggerdns.wire.verdict import judge
from tests.wire.messages import POINTER, ask, judged, pool_of, raw_reply, record, whole_of

MOST = 0.03
"""Seconds of processor time that any reply may cost: honest ones of this size take a fifth."""
LONG = b"\1a" * 127 + b"\0"
"""A name of as many labels as there can be: the dearest to read."""
ADDRESS = b"\xc0\0\2\1"


def pointer(target: int) -> bytes:
    """A compression pointer."""
    return struct.pack("!H", 0xC000 | target)


def label_and_pointer(number: int, target: int) -> bytes:
    """A name that differs in its first label from others that point to ``target``."""
    return b"\2" + struct.pack("!H", 0x6161 + number) + pointer(target)


def filled(asked: Question, rest: Callable[[int, int], bytes]) -> bytes:
    """A reply with a long name in its first record, and as many of ``rest`` as there is room.

    ``rest`` is called with the number of the record and the place of the long name.
    """
    place = 12 + len(asked.section)
    records = [record(ADDRESS, 1, owner=LONG)]
    size = place + len(records[0])
    while size + len(one := rest(len(records), place)) <= MAX_MESSAGE:
        records.append(one)
        size += len(one)
    return raw_reply(asked, records)


CRAFTED: dict[str, Callable[[int, int], bytes]] = {
    "aliases": lambda _, place: record(pointer(place), 5, owner=pointer(place)),
    "addresses": lambda n, place: record(struct.pack("!I", n), 1, owner=pointer(place)),
    "owners": lambda n, place: record(ADDRESS, 1, owner=label_and_pointer(n, place + 4)),
    "aliases of many": lambda n, place: record(
        pointer(place), 5, owner=label_and_pointer(n, place + 4)
    ),
    "servers": lambda _, place: record(pointer(place), 2, owner=pointer(place)),
    "services": lambda _, place: record(bytes(6) + pointer(place), 33, owner=pointer(place)),
}


@pytest.mark.parametrize("crafted", CRAFTED.values(), ids=CRAFTED)
@pytest.mark.parametrize(
    "asked", [ask(), ask(do=True), ask(rdtype="SRV"), ask(rdtype="NS")], ids=str
)
def test_no_reply_costs_much(asked: Question, crafted: Callable[[int, int], bytes]) -> None:
    """A reply of 64 KiB is judged in bounded time, whatever is in it."""
    message = filled(asked, crafted)
    took = []
    for _ in range(3):
        asked.judged = None
        start = time.process_time()
        with contextlib.suppress(WireError):
            judge(message, asked)
        took.append(time.process_time() - start)
    assert min(took) < MOST


def owners(asked: Question, count: int) -> bytes:
    """A reply with an address at the name asked for, and at ``count`` - 1 other names."""
    others = [record(ADDRESS, 1, owner=label_and_pointer(n, 12)) for n in range(count - 1)]
    return raw_reply(asked, [*others, record(ADDRESS, 1, owner=POINTER)])


@pytest.mark.parametrize("do", [False, True])
def test_owner_names_are_counted(do: bool) -> None:
    """`MAX_OWNERS` names are looked at, one more is refused."""
    asked = ask(do=do)
    found = (whole_of if do else pool_of)(owners(asked, MAX_OWNERS), asked)
    assert found.addresses == (() if do else (ADDRESS,))
    with pytest.raises(WireError, match="owner names"):
        judged(owners(asked, MAX_OWNERS + 1), asked)


def test_a_name_counts_once() -> None:
    """Any number of records may have the same owner, written in the same way."""
    asked = ask()
    many = [record(struct.pack("!I", n), 1) for n in range(1, 4001)]
    behind = record(b"\xc0\x0c", 2)  # keeps the reply from the quick way
    assert len(pool_of(raw_reply(asked, [*many, behind]), asked).addresses) == 4000
