"""A whole program with lists on a clock; what is in the lists is put there by tests."""

from __future__ import annotations

import sys
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from staggerdns.policy.lists.lines import read_line
from staggerdns.policy.lists.mapped import ListSet
from staggerdns.policy.lists.table import TableWriter
from staggerdns.service import StaggerService
from tests.kit.routed import NO_RANKING, PUBLIC, RoutedProgram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from staggerdns.policy.lists.mapped import Listing

BLOCKS_ADS = "{default: {block: [ads]}}"


class CountedSet(ListSet):
    """A set that notes which names are looked up."""

    __slots__ = ("asked",)

    def __init__(self, octets: bytes, number: int) -> None:
        super().__init__(octets, number)
        self.asked: list[bytes] = []

    def listing(self, name: bytes) -> Listing:
        """Look up as the set does."""
        self.asked.append(name)
        return super().listing(name)


def list_set(number: int, lists: Sequence[Iterable[str]]) -> CountedSet:
    """Return a set of the lines of lists."""
    writer = TableWriter(b"sixteen octets..")
    for index, lines in enumerate(lists):
        for line in lines:
            rule = read_line(line.encode())
            assert rule.effect > 0, line
            writer.add(index, rule)
    file = BytesIO()
    writer.write(file, len(lists), "test")
    return CountedSet(file.getvalue(), number)


class StaticLists:
    """Stands for `Lists`: has what is put there."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.current = list_set(0, [() for _ in self.names])
        self._listeners: list[Callable[[ListSet], None]] = []

    def put(self, **lines: Iterable[str]) -> CountedSet:
        """Let a set of these lines, by list, take the place of the current one."""
        assert set(lines) <= set(self.names)
        found = list_set(self.current.number + 1, [lines.get(name, ()) for name in self.names])
        self.current = found
        for call in self._listeners:
            call(found)
        return found

    def on_change(self, call: Callable[[ListSet], None]) -> None:
        """Note who wants to know."""
        self._listeners.append(call)

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""

    def reread(self) -> None:
        """Do nothing."""


class ListedProgram(RoutedProgram):
    """A program with these lists, by name, and a YAML map of what each says beside its names."""

    def __init__(
        self,
        *,
        groups: str = BLOCKS_ADS,
        routes: str = "",
        more: str = NO_RANKING,
        servers: str = PUBLIC,
        **lists: str,
    ) -> None:
        self._given = ", ".join(f"{name}: {said or '{}'}" for name, said in lists.items())
        self.lists = StaticLists(tuple(lists))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                sys.modules[StaggerService.__module__], "make_lists", lambda *_, **__: self.lists
            )
            super().__init__(routes, servers=servers, more=self._with_groups(more, groups))

    def change_all(self, *, groups: str, routes: str, more: str, servers: str) -> None:
        """Let another configuration count, with the same lists."""
        self.change(routes, servers=servers, more=self._with_groups(more, groups))

    def _with_groups(self, more: str, groups: str) -> str:
        return f"{more}lists: {{{self._given}}}\ngroups: {groups}\n"
