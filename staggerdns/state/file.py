"""How blocks stand in a file, so that whatever has happened to it is seen.

    magic, version                      20 octets
    length, checksum, block             as often as there are blocks; the last is the end

A block is compressed. Its checksum is over all that stands in front of it as well: what was cut,
changed, put in or taken out shows in the next one, and a file without its end was never complete.
All this works on files and takes its time, so it belongs into a thread.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from hashlib import blake2b
from io import FileIO

import msgspec

from staggerdns.errors import StaggerDNSError
from staggerdns.state.blocks import Block, End, Head, decode, encode

MAGIC = b"\x8bStaggerDNS state\n"
VERSION = 1
"""Another one when files are read in another way; one that is not ours is not read at all."""
MAX_BLOCK = 4_194_304
"""Octets that a block has at most, compressed or not."""
_DIGEST_OCTETS = 16
_LEVEL = 1  # of compression: the quickest
_HEADER = struct.Struct(f"!{len(MAGIC)}sH")
_FRAME = struct.Struct(f"!I{_DIGEST_OCTETS}s")
HEADER_OCTETS = _HEADER.size
"""What stands in front of the blocks."""
FRAME_OCTETS = _FRAME.size
"""What stands in front of each block; its length, in four octets, comes first."""


class Unusable(StaggerDNSError, ValueError):
    """A file that is not used; the text goes behind its path."""


class BlockWriter:
    """Writes blocks into a new ``file``; ``octets``: how many that has."""

    def __init__(self, file: FileIO) -> None:
        self.file = file
        self._blocks = 0
        self._digest = _HEADER.pack(MAGIC, VERSION)
        self.octets = 0
        self._write(self._digest)

    def write(self, block: bytes) -> None:
        """Write one encoded block. Raises `OSError`."""
        packed = zlib.compress(block, _LEVEL)
        self._digest = _digest(self._digest, packed)
        self._write(_FRAME.pack(len(packed), self._digest) + packed)
        self._blocks += 1

    def end(self) -> None:
        """Write the end, and see that all of it is on the disk. Raises `OSError`."""
        self.write(encode(End(self._blocks)))
        os.fsync(self.file.fileno())

    def _write(self, octets: bytes) -> None:
        left = memoryview(octets)
        while left:
            written = self.file.write(left) or 0
            left = left[written:]
        self.octets += len(octets)


def read_blocks(file: FileIO) -> Iterator[Block]:
    """Yield the blocks of a file from its begin on, but for the end, which has to be there.

    Raises `Unusable` as soon as something is wrong, and `OSError`.
    """
    file.seek(0)
    header = _read(file, HEADER_OCTETS)
    if len(header) < HEADER_OCTETS or not header.startswith(MAGIC):
        raise Unusable("is no saved state of this program")
    _, version = _HEADER.unpack(header)
    if version != VERSION:
        raise Unusable(f"is of version {version}, and this program reads version {VERSION}")
    digest = header
    count = 0
    while True:
        frame = _read(file, FRAME_OCTETS)
        if len(frame) < FRAME_OCTETS:
            raise Unusable("is cut off")
        length, expected = _FRAME.unpack(frame)
        if length > MAX_BLOCK:
            raise Unusable("is damaged")
        packed = _read(file, length)
        if len(packed) < length:
            raise Unusable("is cut off")
        digest = _digest(digest, packed)
        if digest != expected:
            raise Unusable("is damaged")
        block = _decode(packed)
        if isinstance(block, Head) != (count == 0):
            raise Unusable("is damaged")
        if isinstance(block, End):
            if block.blocks != count or file.read(1):
                raise Unusable("is damaged")
            return
        yield block
        count += 1


def check(file: FileIO) -> float:
    """Return the time of a file that is whole, in seconds since 1970. Raises as `read_blocks`."""
    time = 0.0
    for block in read_blocks(file):
        if isinstance(block, Head):
            time = block.time
    return time


def _decode(packed: bytes) -> Block:
    expander = zlib.decompressobj()
    try:
        octets = expander.decompress(packed, MAX_BLOCK)
        if not expander.eof or expander.unused_data:
            raise Unusable("is damaged")
        return decode(octets)
    except (zlib.error, msgspec.MsgspecError):
        raise Unusable("is damaged") from None


def _digest(before: bytes, packed: bytes) -> bytes:
    return blake2b(before + packed, digest_size=_DIGEST_OCTETS).digest()


def _read(file: FileIO, size: int) -> bytes:
    """Return so many octets, or all that there are."""
    pieces = []
    while size > 0 and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
