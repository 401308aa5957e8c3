"""The compiled form of a set of lists: what stands where in its file, and how it is written.

    header  key, numbers, checksum
    hashes  64 bits each, sorted: SipHash-2-4 of the names in wire form, under the key
    masks   for each combination of lists that a name is in, four numbers of 64 bits: bit n tells of
            list n that the name itself is blocked, or what is below it, or either of them allowed
    kinds   32 bits for each hash: which combination
    index   32 bits for each value of a hash's highest bits: where these hashes begin
    summary JSON: what the lists are, and how many names each has, by number

Two names have the same hash with a probability of 2**-64; the key is drawn anew for each file, so
that nobody can prepare a name that has the hash of another. Byte order is the machine's.

While the file is made, a name takes ten bytes: hashes are kept in 256 parts by their highest octet,
and each part is sorted by itself.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from array import array
from collections import Counter
from itertools import accumulate
from typing import IO, Final

from siphashc import siphash

from staggerdns.errors import StaggerDNSError
from staggerdns.policy.lists.lines import Rule

MAGIC: Final = b"lists 1 " + sys.byteorder.encode().ljust(8)
"""Begins the file: format, version, byte order."""
HEADER: Final = struct.Struct("=16s16sQIIIII")
"""`MAGIC`, key, names, masks, bits of the index, fewest labels of a name, length of the summary,
and the CRC-32 of the file with zero in this place, the header counted last.
"""
HEADER_SIZE: Final = 64
"""Bytes until the hashes."""
MASKS: Final = 4
"""Numbers for each kind: as many as `Rule.effect` has bits."""
MAX_LISTS: Final = 64
"""Lists of one set, since each has a bit."""
MAX_NAMES: int = 8_000_000
"""Names of all lists together, those in several counted in each."""
_PARTS = 256
_FOR_EACH = 8  # hashes for each place of the index, about


class TooManyNames(StaggerDNSError):
    """There is no room for another name."""


class TableWriter:
    """Collects the names of lists, and writes them sorted; ``key``: 16 random octets."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._hashes = [array("Q") for _ in range(_PARTS)]
        self._owners = [array("H") for _ in range(_PARTS)]
        self._fewest_labels = 127
        self.count = 0

    def add(self, number: int, line: Rule) -> None:
        """Add what a line of list ``number`` says. Raises `TooManyNames`."""
        owner = number << MASKS | line.effect
        for name in line.names:
            if self.count >= MAX_NAMES:
                raise TooManyNames
            self.count += 1
            found = siphash(self._key, name)
            part = found >> 56
            self._hashes[part].append(found)
            self._owners[part].append(owner)
            if self._fewest_labels > 1:
                self._fewest_labels = _labels(name, self._fewest_labels)

    def mark(self) -> list[int]:
        """Return what `back_to` goes back to."""
        return [len(part) for part in self._hashes]

    def back_to(self, mark: list[int]) -> None:
        """Forget all names that were added after ``mark``."""
        for hashes, owners, length in zip(self._hashes, self._owners, mark, strict=True):
            del hashes[length:], owners[length:]
        self.count = sum(mark)

    def write(self, file: IO[bytes], lists: int, what: object) -> list[int]:
        """Write all of it into an empty ``file``; return how many names each of the ``lists`` has.

        ``what``: plain values that tell what the lists are, for whoever finds the file.
        """
        bits = (self.count // _FOR_EACH).bit_length()
        shift = 64 - bits
        places = array("I", bytes(4 * ((1 << bits) + 1)))
        kinds = array("I")
        combinations = _Combinations()
        file.write(bytes(HEADER_SIZE))
        checksum = 0
        for part in range(_PARTS):
            pairs = sorted(zip(self._hashes[part], self._owners[part], strict=True))
            self._hashes[part], self._owners[part] = hashes, _ = array("Q"), array("H")
            before = -1
            for found, owner in pairs:
                if found != before:
                    before = found
                    hashes.append(found)
                    kinds.append(combinations[-1, owner])
                    places[(found >> shift) + 1] += 1
                else:
                    kinds[-1] = combinations[kinds[-1], owner]
            octets = hashes.tobytes()
            del hashes[:]
            checksum = zlib.crc32(octets, checksum)
            file.write(octets)
        names = combinations.names(kinds, lists)
        summary = json.dumps({"what": what, "names": names}).encode()
        ends = (combinations.masks, kinds, array("I", accumulate(places)))
        for octets in (*map(array.tobytes, ends), summary):
            checksum = zlib.crc32(octets, checksum)
            file.write(octets)
        sizes = (len(kinds), len(combinations.masks) // MASKS)
        header = (MAGIC, self._key, *sizes, bits, self._fewest_labels, len(summary))
        checksum = zlib.crc32(HEADER.pack(*header, 0), checksum)
        file.seek(0)
        file.write(HEADER.pack(*header, checksum))
        return names


class _Combinations(dict[tuple[int, int], int]):
    """Finds the kind of a name by the kind that it had, -1 for none, and one owner more.

    ``masks``: those of all kinds, one behind the other.
    """

    def __init__(self) -> None:
        self.masks = array("Q")
        self._kinds: dict[tuple[int, ...], int] = {}

    def __missing__(self, key: tuple[int, int]) -> int:
        """Find out what is asked for the first time."""
        kind, owner = key
        row = [0] * MASKS if kind < 0 else list(self.masks[kind * MASKS : (kind + 1) * MASKS])
        for effect in range(MASKS):
            if owner >> effect & 1:
                row[effect] |= 1 << (owner >> MASKS)
        found = self._kinds.get(tuple(row))
        if found is None:
            found = self._kinds[tuple(row)] = len(self._kinds)
            self.masks.extend(row)
        self[key] = found
        return found

    def names(self, kinds: array[int], lists: int) -> list[int]:
        """Return how many of the names, given by their kinds, each of the ``lists`` has."""
        names = [0] * lists
        for kind, count in Counter(kinds).items():
            row = self.masks[kind * MASKS : (kind + 1) * MASKS]
            for number in range(lists):
                if any(mask >> number & 1 for mask in row):
                    names[number] += count
        return names


def _labels(name: bytes, most: int) -> int:
    """Return the number of labels of a name, ``most`` for a name with more."""
    count = position = 0
    while name[position] and count < most:
        position += name[position] + 1
        count += 1
    return count
