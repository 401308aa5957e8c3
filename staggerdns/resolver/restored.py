"""Entries of an earlier run that nobody has asked for yet.

Hundreds of thousands come within seconds of a start. In the table of the cache they would hold up
everybody whenever it has to grow, so they wait in many small ones, and are moved when they are used
for the first time. Until then they are the least recently used of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

from staggerdns.resolver.entry import Entry

TABLES = 256
"""How many there are: with half a million entries, one grows within a fraction of a millisecond."""


class RestoredEntries(Mapping[bytes, Entry]):
    """Entries by key, in no order."""

    def __init__(self) -> None:
        self._tables: list[dict[bytes, Entry]] = [{} for _ in range(TABLES)]
        self._count = 0
        self._first = 0  # the tables in front of it are empty

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self._tables)

    def __getitem__(self, key: bytes) -> Entry:
        return self._tables[hash(key) % TABLES][key]

    def add(self, key: bytes, entry: Entry) -> None:
        """Add an entry under a key that has none."""
        place = hash(key) % TABLES
        self._tables[place][key] = entry
        self._count += 1
        self._first = min(self._first, place)

    def held(self, key: bytes) -> Entry | None:
        """Return the entry under ``key``, if there is one."""
        return self._tables[hash(key) % TABLES].get(key)

    def pop(self, key: bytes) -> Entry | None:
        """Remove the entry under ``key``, and return it, if there is one."""
        entry = self._tables[hash(key) % TABLES].pop(key, None)
        if entry is not None:
            self._count -= 1
        return entry

    def any_key(self) -> bytes:
        """Return the key of one of them; there must be one."""
        while not self._tables[self._first]:
            self._first += 1
        return next(reversed(self._tables[self._first]))


class AllEntries(Mapping[bytes, Entry]):
    """What is in either of two tables, to be read: first what comes first in ``restored``."""

    def __init__(self, restored: RestoredEntries, entries: Mapping[bytes, Entry]) -> None:
        self._restored = restored
        self._entries = entries

    def __len__(self) -> int:
        return len(self._restored) + len(self._entries)

    def __iter__(self) -> Iterator[bytes]:
        return chain(self._restored, self._entries)

    def __getitem__(self, key: bytes) -> Entry:
        entry = self._entries.get(key)
        return self._restored[key] if entry is None else entry
