"""The largest replies that an upstream can send over TCP, made to cost as much as they can.

What they cost is counted in lines of our code that run, which is the same on every machine: twice
the records may take little more than twice the lines.
"""

from __future__ import annotations

import contextlib
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import staggerdns
from staggerdns.wire.constants import MAX_MESSAGE, WireError
from staggerdns.wire.judge import Judge
from staggerdns.wire.question import Question
from tests.kit.messages import POINTER, ask, raw_reply, record

LONG = b"\1a" * 127 + b"\0"
"""A name of as many labels as there can be: the dearest to read."""
ADDRESS = b"\xc0\0\2\1"
PRIVATE = b"\x0a\0\0\1"
_OURS = str(Path(staggerdns.__file__).parent)


def pointer(target: int) -> bytes:
    """A compression pointer."""
    return struct.pack("!H", 0xC000 | target)


def label_and_pointer(number: int, target: int) -> bytes:
    """A name that differs in its first label from others that point to ``target``."""
    return b"\2" + struct.pack("!H", 0x6161 + number) + pointer(target)


def filled(
    asked: Question, size: int, rest: Callable[[int, int], bytes], section: int = 0
) -> bytes:
    """A reply with a long name in its first record, and as many of ``rest`` as there is room.

    ``rest`` is called with the number of the record and the place of the long name.
    """
    place = 12 + len(asked.section)
    records = [record(ADDRESS, 1, owner=LONG)]
    length = place + len(records[0])
    while length + len(one := rest(len(records), place)) <= size:
        records.append(one)
        length += len(one)
    sections: list[list[bytes]] = [[], [], []]
    sections[0] = records[:1]
    sections[section] += records[1:]
    return raw_reply(asked, *sections)


CRAFTED: dict[str, Callable[[int, int], bytes]] = {
    "aliases": lambda _, place: record(pointer(place), 5, owner=pointer(place)),
    "addresses": lambda n, place: record(struct.pack("!I", n), 1, owner=pointer(place)),
    "own addresses": lambda n, _: record(struct.pack("!I", n), 1, owner=POINTER),
    "private addresses": lambda n, _: record(PRIVATE[:2] + struct.pack("!H", n), 1, owner=POINTER),
    "owners": lambda n, place: record(ADDRESS, 1, owner=label_and_pointer(n, place + 4)),
    "aliases of many": lambda n, place: record(
        pointer(place), 5, owner=label_and_pointer(n, place + 4)
    ),
    "redirections": lambda n, place: record(
        pointer(place), 39, owner=label_and_pointer(n, place + 4)
    ),
    "servers": lambda _, place: record(pointer(place), 2, owner=pointer(place)),
    "own servers": lambda n, place: record(label_and_pointer(n, place + 4), 2, owner=POINTER),
    "services": lambda _, place: record(bytes(6) + pointer(place), 33, owner=pointer(place)),
    "own services": lambda n, _: record(struct.pack("!HI", n, 0) + POINTER, 33, owner=POINTER),
    "denials": lambda n, place: record(pointer(place), 47, owner=label_and_pointer(n, place + 4)),
    "denials that are none": lambda _, place: record(b"\1a", 47, owner=b"\0"),
    "signatures": lambda n, place: record(
        b"\0\x2f" + bytes(16) + POINTER, 46, owner=label_and_pointer(n, place + 4)
    ),
    "zones": lambda _, place: record(pointer(place) * 2 + bytes(20), 6, owner=pointer(place)),
    "roots": lambda _, place: record(b"", 65280, owner=b"\0"),
    "labels": lambda n, place: record(b"", 65280, owner=LONG),
}


def lines(message: bytes, judge: Judge) -> int:
    """Count the lines of our code that judging a reply takes."""
    count = 0

    def enter(frame: FrameType, _event: str, _: object) -> Any:
        return step if frame.f_code.co_filename.startswith(_OURS) else None

    def step(_frame: FrameType, _event: str, _: object) -> Any:
        nonlocal count
        count += 1  # the return from a function is one of them
        return step

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        with contextlib.suppress(WireError):
            judge.verdict(message)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("crafted", CRAFTED.values(), ids=CRAFTED)
@pytest.mark.parametrize("section", range(3))
@pytest.mark.parametrize(
    ("rdtype", "do"), [("A", False), ("A", True), ("SRV", False), ("NS", True)], ids=str
)
def test_work_grows_with_the_size(
    rdtype: str, do: bool, section: int, crafted: Callable[[int, int], bytes]
) -> None:
    """A reply of four times the size takes about four times the lines, whatever is in it."""
    counts = []
    for size in (512, 2048):
        asked = ask(rdtype=rdtype, do=do)
        judge = Judge(asked, screened=True)
        counts.append(lines(filled(asked, size, crafted, section), judge))
    assert counts[1] < 6 * counts[0] + 500


@pytest.mark.parametrize("crafted", ["own services", "denials", "labels"])
def test_the_largest(crafted: str) -> None:
    """A reply of 64 KiB takes a bounded number of lines for each of its octets."""
    asked = ask(rdtype="SRV")
    message = filled(asked, MAX_MESSAGE, CRAFTED[crafted], 0)
    assert len(message) > MAX_MESSAGE - 300
    assert lines(message, Judge(asked)) < 10 * MAX_MESSAGE
