"""What a store sends, from octets; whoever sends them may be no store."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.shared.replies import (
    MAX_DEPTH,
    MAX_ELEMENTS,
    MAX_LINE,
    MAX_OCTETS,
    Garbage,
    Refusal,
    ReplyReader,
)


def written(reply: Any) -> bytes:
    """A reply as a store writes it."""
    match reply:
        case None:
            return b"$-1\r\n"
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(reply), reply)
        case int():
            return b":%d\r\n" % reply
        case str():
            return b"-%s\r\n" % reply.encode()
        case _:
            return b"*%d\r\n" % len(reply) + b"".join(map(written, reply))


def read(data: bytes, step: int = 1 << 30) -> list[Any]:
    """The replies in so many octets at a time; errors as text."""
    reader = ReplyReader()
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    found = [reply for piece in pieces for reply in reader.feed(piece)]
    return [plain(reply) for reply in found]


def plain(reply: Any) -> Any:
    """A reply with its errors as text."""
    if isinstance(reply, list):
        return [plain(one) for one in reply]
    return str(reply) if isinstance(reply, Refusal) else reply


REPLIES = st.recursive(
    st.none()
    | st.integers(-(10**18), 10**18)
    | st.binary(max_size=40)
    | st.sampled_from(["ERR no"]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
).filter(lambda reply: depth(reply) <= MAX_DEPTH)


def depth(reply: Any) -> int:
    """How many lists are within each other."""
    return 1 + max(map(depth, reply), default=0) if isinstance(reply, list) else 0


@given(st.lists(REPLIES, max_size=5), st.integers(1, 50))
def test_in_whatever_pieces(replies: list[Any], step: int) -> None:
    """Replies come out as they went in."""
    assert read(b"".join(map(written, replies)), step) == replies


def test_a_status_and_no_list() -> None:
    """Other forms than those of values."""
    assert read(b"+OK\r\n*-1\r\n*0\r\n$0\r\n\r\n") == [b"OK", None, [], b""]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n",
        b"\r\n",
        b"%1\r\n",
        b":\r\n",
        b":1x\r\n",
        b":" + b"1" * 21 + b"\r\n",
        b"$-2\r\n",
        b"*-2\r\n",
        b"*1000000\r\n",
        b"*%d\r\n" % (MAX_ELEMENTS + 1),
        b"$%d\r\n" % (MAX_OCTETS + 1),
        b"$1\r\nabc",
        b"*1\r\n" * (MAX_DEPTH + 1) + b":1\r\n",
        b"+" + b"a" * MAX_LINE + b"\r\n",
        b"a" * (MAX_LINE + 1),
        b"*%d\r\n" % MAX_ELEMENTS + b":1\r\n" * MAX_ELEMENTS,
        b"*3\r\n" + b"$400000\r\n" + bytes(400_000) + b"\r\n$400000\r\n" + bytes(400_000) + b"\r\n",
    ],
    ids=lambda data: repr(data[:12]),
)
def test_garbage(data: bytes) -> None:
    """What is no reply, or larger than any of ours, ends the connection."""
    reader = ReplyReader()
    with pytest.raises(Garbage):
        list(reader.feed(data + bytes(300_000) * data.startswith(b"*3")))


def test_the_text_of_an_error() -> None:
    """It may be shown: nothing in it moves a cursor, or begins a line."""
    (refusal,) = read(b"-ERR \x1b[2J\nfalse \xff\x7f~\r\n")
    assert str(refusal) == "ERR ?[2J?false ??~"


def test_at_the_limits() -> None:
    """What is just not too large is read."""
    assert read(b"*%d\r\n" % (MAX_ELEMENTS - 1) + b":1\r\n" * (MAX_ELEMENTS - 1)) == [
        [1] * (MAX_ELEMENTS - 1)
    ]
    assert read(b"*1\r\n" * MAX_DEPTH + b":1\r\n") == [[[[[1]]]]]
    assert read(b"+" + b"a" * (MAX_LINE - 1) + b"\r\n") == [b"a" * (MAX_LINE - 1)]
    value = bytes(MAX_OCTETS - 20)
    assert read(written(value), 100_000) == [value]


@given(st.binary(max_size=60))
def test_any_octets(data: bytes) -> None:
    """Nothing but `Garbage` comes of them."""
    reader = ReplyReader()
    with contextlib.suppress(Garbage):
        list(reader.feed(data))
