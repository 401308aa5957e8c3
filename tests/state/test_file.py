"""A file that is not whole, not ours, or of another version is not used, not even a part of it."""

from __future__ import annotations

from functools import cache
from io import FileIO
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent

from staggerdns.state.blocks import End, Head, encode
from staggerdns.state.directory import KEPT, NAME
from staggerdns.state.file import (
    FRAME_OCTETS,
    HEADER_OCTETS,
    MAGIC,
    MAX_BLOCK,
    BlockWriter,
    Unusable,
    check,
    read_blocks,
)
from staggerdns.state.save import BLOCK_ADDRESSES
from tests.kit.probing import address, measure
from tests.kit.ranked import asks, pool, sections_answer
from tests.kit.saved import SavedRun, World

EVERY = 100
"""A file is cut at each multiple of so many octets, and just before and behind it."""


@cache
def whole() -> bytes:
    """A file with blocks of all kinds, several of some."""
    with TemporaryDirectory() as directory:
        run = SavedRun(Path(directory), World())
        run.start()
        for number in range(600):
            question = asks(f"n{number}.example")
            made = pool(number % 200, 201 + number % 50, cname_chain=["x.example"] * (number % 2))
            run.cache.commit(question.key, 1, made, run.clock.seconds())
        signed = asks(do=True)
        run.cache.commit(signed.key, 1, sections_answer(signed, 1, 2), run.clock.seconds())
        for number in range(BLOCK_ADDRESSES + 1):
            measure(run.round_trips, address(number), [number / 1000], run.clock.seconds())
        assert run.stop()
        return Path(directory, NAME).read_bytes()


def read(octets: bytes) -> float:
    """Look at a file as a start does first."""
    with TemporaryDirectory() as directory:
        path = Path(directory, NAME)
        path.write_bytes(octets)
        with FileIO(path) as opened:
            return check(opened)


def test_a_whole_one() -> None:
    """It is read, and has several blocks."""
    assert read(whole()) > 1e9
    assert len(whole()) > 20 * EVERY


def test_cut_anywhere() -> None:
    """At every hundredth octet, at the begin of each block, and just before the end."""
    octets = whole()
    ends = {place + near for place in range(0, len(octets), EVERY) for near in (-1, 0, 1)}
    ends |= set(range(len(octets) - 40, len(octets)))
    for end in ends:
        if 0 <= end < len(octets):
            with pytest.raises(Unusable):
                read(octets[:end])


FLIP = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
"""A place, as a part of the whole, and a bit."""


@given(st.lists(FLIP, min_size=1, max_size=3, unique=True))
def test_flipped_bits(flips: list[tuple[float, int]]) -> None:
    """One bit is enough to be seen, wherever it is."""
    octets = bytearray(whole())
    for place, bit in flips:
        octets[int(place * len(octets))] ^= 1 << bit
    if bytes(octets) == whole():
        return
    with pytest.raises(Unusable):
        read(bytes(octets))


@given(st.binary(max_size=300), st.sampled_from([b"", MAGIC, whole()[:20], whole()[:60], whole()]))
def test_of_another_program(noise: bytes, front: bytes) -> None:
    """Whatever it begins with, and whatever stands behind."""
    octets = front + noise
    if octets == whole():
        return
    with pytest.raises(Unusable):
        read(octets)


@given(st.integers(0, 30), st.integers(0, 30))
def test_blocks_that_change_places(first: int, second: int) -> None:
    """Each block is whole, and the file is not: one is missing, twice there, or elsewhere."""
    octets = whole()
    blocks = []
    place = HEADER_OCTETS
    while place < len(octets):
        length = int.from_bytes(octets[place : place + 4], "big") + FRAME_OCTETS
        blocks.append(octets[place : place + length])
        place += length
    first, second = first % len(blocks), second % len(blocks)
    header = octets[:HEADER_OCTETS]
    moved = blocks.copy()
    moved.insert(second, moved.pop(first))
    for other in (moved, blocks[:first] + blocks[first + 1 :], blocks[:first] + blocks[second:]):
        if other != blocks:
            with pytest.raises(Unusable):
                read(header + b"".join(other))


def written(*blocks: bytes) -> bytes:
    """A file of our own with whatever stands in its blocks, and checksums that are right."""
    with TemporaryDirectory() as directory:
        path = Path(directory, NAME)
        with FileIO(path, "w") as opened:
            writer = BlockWriter(opened)
            for block in blocks:
                writer.write(block)
            writer.end()
        return path.read_bytes()


def test_checksums_alone_make_no_file() -> None:
    """What stands in the blocks has to be what this program writes."""
    head = encode(Head(5.0))
    assert read(written(head)) == 5.0
    wrong = [
        (),
        (head, head),
        (encode(End(0)), head),
        (head, b"\x93\x01\x02"),
        (head, msgspec.msgpack.encode([1, [["x", None, [0, 0, 0, 0.0, 0.0, "true"], 0.0]]])),
        (head, msgspec.msgpack.encode([9, []])),
        (head, msgspec.msgpack.encode({"a": 1})),
        (head, b""),
    ]
    for blocks in wrong:
        with pytest.raises(Unusable):
            read(written(*blocks))


@pytest.mark.parametrize("more", [0, 1])
def test_a_block_that_is_too_large(more: int) -> None:
    """A few octets that are expanded to more than a block may have are given up."""
    size = MAX_BLOCK + more
    around = len(msgspec.msgpack.encode([3, [], ["x" * 70_000], [], []])) - 70_000
    block = msgspec.msgpack.encode([3, [], ["x" * (size - around)], [], []])
    assert len(block) == size
    octets = written(encode(Head(3.0)), block)
    assert len(octets) < MAX_BLOCK / 100
    if more:
        with pytest.raises(Unusable, match="damaged"):
            read(octets)
    else:
        assert read(octets) == 3.0


@pytest.mark.parametrize("version", [0, 2, 65_535])
def test_of_another_version(version: int) -> None:
    """It says so: who goes back to an earlier version shall know."""
    octets = bytearray(whole())
    octets[len(MAGIC) : len(MAGIC) + 2] = version.to_bytes(2, "big")
    with pytest.raises(Unusable, match=f"is of version {version}, and"):
        read(bytes(octets))


def test_a_length_that_is_not_there() -> None:
    """Nobody makes room for as many octets as a damaged file claims."""
    octets = bytearray(whole())
    octets[HEADER_OCTETS : HEADER_OCTETS + 4] = b"\xff" * 4
    with pytest.raises(Unusable, match="damaged"):
        read(bytes(octets))


def test_set_aside(tmp_path: Path) -> None:
    """It gets another name, with one line in the log; nothing of it is used, and the program goes
    on as if there had been nothing. No more than `KEPT` are kept, the latest ones.
    """
    path = tmp_path / NAME
    for number in range(KEPT + 2):
        path.write_bytes(whole()[:-1] + bytes([number]))
        run = SavedRun(tmp_path, World())
        with capturedLogs() as events:
            run.start()
        lines = [formatEvent(event) or "" for event in events]
        assert [line for line in lines if "nothing of it is used" in line] == lines
        assert len(lines) == 1
        assert (len(run.cache), len(run.round_trips)) == (0, 0)
        assert not path.exists()
        assert run.stop()
        assert read(path.read_bytes()) > 0
    aside = [one for one in tmp_path.iterdir() if one.name != NAME]
    assert len(aside) == KEPT
    assert {one.read_bytes()[-1] for one in aside} == set(range(2, KEPT + 2))


def test_changed_while_it_is_read(tmp_path: Path) -> None:
    """What is another one since the look at the whole is not used; the file is set aside."""
    path = tmp_path / NAME
    path.write_bytes(whole())
    run = SavedRun(tmp_path, World(), slices=True)
    run.world.now += 100
    run.state.start()
    for _ in range(3):
        run.clock.advance(0.001)
    octets = bytearray(whole())
    octets[-100] ^= 1
    with path.open("r+b") as opened:
        opened.write(octets)
    run.finish()
    assert path.with_name(f"{NAME}.unusable.1").exists()


def test_what_the_whole_one_has() -> None:
    """The tests above have cut and turned blocks of all kinds."""
    with TemporaryDirectory() as directory:
        path = Path(directory, NAME)
        path.write_bytes(whole())
        with FileIO(path) as opened:
            kinds = [type(block).__name__ for block in read_blocks(opened)]
    assert kinds == ["Head", "UpstreamsBlock", *["RoundTripsBlock"] * 2, *["AnswersBlock"] * 2]
