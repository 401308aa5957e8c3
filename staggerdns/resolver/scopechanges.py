"""What becomes of the answers of a scope when another configuration has changed it.

Nothing is looked through when that happens: each answer that was collected before is looked at when
somebody asks for it. It stays as it is, is given as a stale one is, with a refresh behind it, or is
gone. An answer may be older than several changes: then all of them count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from staggerdns.resolver.entry import Entry
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer
from staggerdns.wire.key import scope_of

MAX_CHANGES: Final = 16
"""Changes of one scope that are remembered; what is older than all of these is gone."""


ScopeChange = frozenset[str]
"""Of one scope: the upstreams whose answers are still good there, by their names."""
NOTHING_STAYS: Final[ScopeChange] = frozenset()
"""The change of a scope whose answers are none of those before."""
SAME: Final = 0
STALE: Final = 1
GONE: Final = 2
"""What becomes of an answer."""


class ScopeChanges:
    """The changes so far, by the numbers of scopes; ``latest``: the generation of the last one."""

    def __init__(self) -> None:
        self.latest = 0
        self._changes: dict[int, list[tuple[int, ScopeChange]]] = {}

    def note(self, changes: Mapping[int, ScopeChange], generation: int) -> None:
        """Note changes that concern all collections before that generation."""
        self.latest = generation
        for number, change in changes.items():
            known = self._changes.setdefault(number, [])
            if change == NOTHING_STAYS:
                known.clear()
            elif len(known) >= MAX_CHANGES:
                del known[0]
                known[0] = known[0][0], NOTHING_STAYS
            known.append((generation, change))

    def since(self, number: int) -> int:
        """Return the first generation of the scope as it is now."""
        changes = self._changes.get(number)
        return changes[-1][0] if changes else 0

    def spare(self, key: bytes, entry: Entry) -> bool:
        """Return whether no change has to do with the entry under ``key``."""
        return self.of_entry(key, entry) == SAME

    def of_entry(self, key: bytes, entry: Entry) -> int:
        """Return what becomes of the entry under ``key``."""
        if entry.generation >= self.latest:
            return SAME
        return self.verdict(scope_of(key), entry.generation, entry.answer)

    def verdict(self, number: int, generation: int, answer: Answer) -> int:
        """Return what becomes of an answer that a collection of that generation has found."""
        found = SAME
        for since, change in self._changes.get(number, ()):
            if since > generation:
                if not _brought_by(answer, change):
                    return GONE
                found = STALE
        return found


def _brought_by(answer: Answer, upstreams: frozenset[str]) -> bool:
    """Return whether all that brought the answer are known, and among ``upstreams``."""
    if not isinstance(answer, AddressPool):
        return False
    contributors = answer.contributors
    return all(bringers and bringers <= upstreams for bringers in contributors)
