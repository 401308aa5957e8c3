"""The keys of a cache by their names: all types and scopes of a name, and all keys piece by piece.

Whoever looks through a large cache must let other things be done in between, while answers come and
go. So keys are kept in many small lists, by the hash of their name: a key stays in its list for as
long as it is in the cache, so that none is passed over, whatever changes between two looks.
"""

from __future__ import annotations

from collections.abc import Iterator

from staggerdns.wire.key import NAME_END

EACH = 64
"""Keys of one list, about, when the cache is full: looking through it takes a few microseconds, and
a key takes ten octets of memory.
"""


class NameIndex:
    """The keys that were added and not removed, about ``most`` at most."""

    def __init__(self, most: int) -> None:
        self._lists: list[list[bytes] | None] = [None] * (most // EACH + 1)

    def add(self, key: bytes) -> None:
        """Add a key that is not here."""
        place = hash(key[:NAME_END]) % len(self._lists)
        keys = self._lists[place]
        if keys is None:
            self._lists[place] = [key]
        else:
            keys.append(key)

    def remove(self, key: bytes) -> None:
        """Remove a key that is here."""
        place = hash(key[:NAME_END]) % len(self._lists)
        keys = self._lists[place]
        assert keys is not None
        keys.remove(key)
        if not keys:
            self._lists[place] = None

    def of(self, name: bytes) -> list[bytes]:
        """Return the keys of a name (wire form, lower case)."""
        keys = self._lists[hash(name) % len(self._lists)]
        return [key for key in keys or () if key[:NAME_END] == name]

    def walk(self) -> Iterator[list[bytes]]:
        """Yield all keys, a few or none at a time; those that come or go meanwhile may be among
        them. Anything may be added and removed in between.
        """
        for keys in self._lists:
            yield list(keys or ())
