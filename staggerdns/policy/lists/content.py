"""The content of one source: a file of lines, perhaps packed with gzip, read in bounded pieces.

Runs in the process that compiles lists, so that nobody waits for it. What is read is not trusted:
its size, packed or not, the number of its lines and their length are bounded, and a file of which
fewer than one line in two is understood, as an error page in the place of a list, is refused whole.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Callable, Iterator
from io import FileIO
from typing import NamedTuple

from staggerdns.errors import StaggerDNSError
from staggerdns.policy.lists.lines import Rule, read_line

MAX_PACKED: int = 64 * 1024 * 1024
"""Bytes of a file, and of what a server sends."""
MAX_CONTENT: int = 256 * 1024 * 1024
"""Bytes of what is packed in it."""
MAX_LINES: int = 4_000_000
"""Lines of one source."""
MAX_LINE: int = 16_384
"""Bytes of a line; the rest of a longer one is left out."""
BLOCK: int = 65_536
"""Bytes that are read, or unpacked, at a time."""
SHOWN: int = 100
"""Bytes of a line that is not understood which are told of it."""
_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Refused(StaggerDNSError, ValueError):
    """A source that cannot be used; the text goes behind its name."""


class Lines(NamedTuple):
    """How many lines of a source were ``understood`` and how many were ``wrong``; those that were
    passed over are in neither number. ``first``: the first wrong one, and where it stands.
    ``blank``: there is nothing at all, not even a comment.
    """

    understood: int
    wrong: int
    first: str
    blank: bool = False


def read_source(
    path: str, add: Callable[[Rule], None], keep: Callable[[bytes], object] | None = None
) -> Lines:
    """Call ``add`` for each line of the file at ``path`` that says something; return the counts.

    ``keep`` is given what is read, as it stands in the file. Raises `Refused`, or what ``add`` and
    ``keep`` raise; what has been added by then does not count.
    """
    try:
        with FileIO(os.open(path, _OPEN)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Refused("is not a regular file")
            lines = _read_lines(_split(_unpack(_read(file, keep))), add)
    except OSError as error:
        raise Refused(f"cannot be read: {error.strerror}") from None
    if lines.understood < lines.wrong:
        raise Refused(
            f"is no list: of {lines.understood + lines.wrong} lines {lines.wrong} are not "
            f"understood, the first is {lines.first}"
        )
    return lines


def _read_lines(texts: Iterator[bytes], add: Callable[[Rule], None]) -> Lines:
    understood = wrong = 0
    first = ""
    blank = True
    for number, text in enumerate(texts, 1):
        if number > MAX_LINES:
            raise Refused(f"has more than {MAX_LINES} lines")
        line = read_line(text)
        if line.effect > 0:
            understood += 1
            add(line)
        elif line.effect < 0:
            wrong += 1
            if not first:
                shown = text[:SHOWN].strip().decode("ascii", "replace")
                first = f"{number}: {shown!a}"
        elif blank and text.strip():
            blank = False
    return Lines(understood, wrong, first, blank and not understood + wrong)


def _read(file: FileIO, keep: Callable[[bytes], object] | None) -> Iterator[bytes]:
    size = 0
    while block := file.read(BLOCK):
        size += len(block)
        if size > MAX_PACKED:
            raise Refused(f"has more than {MAX_PACKED} bytes")
        if keep is not None:
            keep(block)
        yield block


def _unpack(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what is in the blocks, unpacked in pieces if it begins like a file of gzip: all its
    members (RFC 1952 section 2.2), and there may be nothing else behind them.
    """
    first = next(blocks, b"")
    if not first.startswith(_GZIP):
        yield first
        yield from blocks
        return
    size = 0
    unpack = _unpacker()
    try:
        for block in _chain(first, blocks):
            rest = block
            while rest:
                if unpack.eof:
                    unpack = _unpacker()
                piece = unpack.decompress(rest, BLOCK)
                rest = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
                size += len(piece)
                if size > MAX_CONTENT:
                    raise Refused(f"has more than {MAX_CONTENT} bytes when it is unpacked")
                yield piece
        yield unpack.flush()
    except zlib.error:
        raise Refused("cannot be unpacked: it is damaged") from None
    if not unpack.eof:
        raise Refused("cannot be unpacked: its end is missing")


def _unpacker() -> zlib._Decompress:
    return zlib.decompressobj(wbits=31)


def _chain(first: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from blocks


def _split(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield lines; of one that is longer than `MAX_LINE` its beginning."""
    rest = b""
    skip = False  # what comes belongs to a line whose beginning has been given
    first = True
    for block in blocks:
        pieces = block.split(b"\n")
        for number, piece in enumerate(pieces):
            ends = number + 1 < len(pieces)
            if skip:
                skip = not ends
                continue
            line = rest + piece if rest else piece
            if len(line) > MAX_LINE:
                line = line[:MAX_LINE]
                skip = not ends
            elif not ends:
                rest = line
                continue
            rest = b""
            if first:
                line = line.removeprefix(_BYTE_ORDER_MARK)
                first = False
            yield line
    if rest:
        yield rest.removeprefix(_BYTE_ORDER_MARK) if first else rest
