"""A set of lists in use: a compiled file, mapped into memory, and the look-up in it.

Nothing of the file is copied: its pages are the system's, and are shared with the process that
wrote it. A set never changes. Another one takes its place as a whole, under the next number, and
the file of the old one is unmapped when the last one who looks at it is done.
"""

from __future__ import annotations

import json
import mmap
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any, NamedTuple

from siphashc import siphash

from staggerdns.errors import StaggerDNSError
from staggerdns.policy.lists.table import HEADER, HEADER_SIZE, MAGIC, MASKS, TableWriter

SLICE: int = 262_144
"""Bytes that are checked in one turn of the reactor, about a tenth of a millisecond."""


class Damaged(StaggerDNSError, ValueError):
    """A compiled file that cannot be used; the text says why."""


class Hit(NamedTuple):
    """A list that decides on a name: the number of the ``list``, and whether it is ``allowed``."""

    list: int
    allowed: bool


class Listing(NamedTuple):
    """In which lists a name is: bit n of ``blocked`` tells of list n that it has the name or what
    the name is below, bit n of ``allowed`` that the list has an exception for it.
    """

    blocked: int
    allowed: int


UNLISTED = Listing(0, 0)
"""The name is in no list."""


class Choice:
    """The lists that count for somebody, by number: what is in ``allow`` is never blocked."""

    __slots__ = ("_block", "_allow", "_both")

    def __init__(self, block: Iterable[int], allow: Iterable[int] = ()) -> None:
        self._block = _mask(block)
        self._allow = _mask(allow)
        self._both = self._block | self._allow

    def verdict(self, listing: Listing) -> Hit | None:
        """Return which list decides on a name, `None` if no list that counts has it.

        Of several lists the first of the configuration is named; one that allows the name comes
        before all that block it.
        """
        allows = listing.allowed & self._both | listing.blocked & self._allow
        if allows:
            return Hit(_lowest(allows), allowed=True)
        blocks = listing.blocked & self._block
        return Hit(_lowest(blocks), allowed=False) if blocks else None


class ListSet:
    """The lists in ``octets``, a compiled file; ``number`` grows with each set of a process.

    ``names``: how many names each list has, by number. Raises `Damaged` for what has another form;
    damage inside is found by `check`.
    """

    __slots__ = (
        "number",
        "summary",
        "names",
        "_octets",
        "_size",
        "_key",
        "_skipped",
        "_shift",
        "_hashes",
        "_masks",
        "_kinds",
        "_index",
    )

    def __init__(self, octets: bytes | mmap.mmap, number: int) -> None:
        view = self._octets = memoryview(octets)
        self._size = len(view)
        self.number = number
        if self._size < HEADER_SIZE or view[: len(MAGIC)] != MAGIC:
            raise Damaged("it is no compiled list of this version and machine")
        _, self._key, names, masks, bits, fewest, length, _ = HEADER.unpack_from(view)
        sizes = (8 * names, 8 * MASKS * masks, 4 * names, 4 * ((1 << min(bits, 32)) + 1), length)
        if HEADER_SIZE + sum(sizes) != self._size:
            raise Damaged("its length is wrong")
        parts = []
        start = HEADER_SIZE
        for size in sizes:
            parts.append(view[start : start + size])
            start += size
        self._hashes = parts[0].cast("Q")
        self._masks = parts[1].cast("Q")
        self._kinds = parts[2].cast("I")
        self._index = parts[3].cast("I")
        self._shift = 64 - bits
        self._skipped = fewest - 1
        try:
            summary: dict[str, Any] = json.loads(bytes(parts[4]))
            self.summary = summary["what"]
            self.names: tuple[int, ...] = tuple(map(int, summary["names"]))
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
            raise Damaged("its summary cannot be read") from None

    def check(self) -> Iterator[None]:
        """Read the whole file, yielding after each `SLICE`. Raises `Damaged`."""
        checksum = 0
        for start in range(HEADER_SIZE, self._size, SLICE):
            checksum = zlib.crc32(self._octets[start : start + SLICE], checksum)
            yield
        *numbers, expected = HEADER.unpack_from(self._octets)
        if zlib.crc32(HEADER.pack(*numbers, 0), checksum) != expected:
            raise Damaged("its checksum is wrong")

    def listing(self, name: bytes) -> Listing:
        """Return in which lists a name is, in wire form and lower case."""
        starts = []
        position = 0
        while name[position]:
            starts.append(position)
            position += name[position] + 1
        blocked = allowed = 0
        for place in range(len(starts) - self._skipped):
            found = siphash(self._key, name[starts[place] :])
            slot = found >> self._shift
            end = self._index[slot + 1]
            at = bisect_left(self._hashes, found, self._index[slot], end)
            if at == end or self._hashes[at] != found:
                continue
            row = MASKS * self._kinds[at] + (place > 0)
            blocked |= self._masks[row]
            allowed |= self._masks[row + 2]
        return Listing(blocked, allowed) if blocked or allowed else UNLISTED


def open_set(path: str, number: int) -> ListSet:
    """Map the compiled file at ``path``. Raises `Damaged`, or `OSError`."""
    with open(path, "rb") as file:  # noqa: PTH123 (no Path is made in a turn of the reactor)
        try:
            octets = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise Damaged("it is empty") from None
    return ListSet(octets, number)


def empty_set(lists: int) -> ListSet:
    """Return the set of so many lists without a name, which has number 0."""
    file = BytesIO()
    TableWriter(bytes(16)).write(file, lists, None)
    return ListSet(file.getvalue(), 0)


def _mask(numbers: Iterable[int]) -> int:
    mask = 0
    for number in numbers:
        mask |= 1 << number
    return mask


def _lowest(mask: int) -> int:
    return (mask & -mask).bit_length() - 1
