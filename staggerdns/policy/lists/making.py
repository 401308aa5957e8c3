"""Makes sets of lists: has them compiled of what sources offer, opens and checks them in slices."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator

from staggerdns.policy.lists.compile import Order, Report, Source, SourceReport
from staggerdns.policy.lists.compiler import CompileProblem, Compiler
from staggerdns.policy.lists.mapped import Damaged, ListSet, open_set
from staggerdns.settings.policy import ListSettings


class Lost(CompileProblem):
    """Sources that counted would be missing; ``report`` tells which."""

    def __init__(self, report: Report) -> None:
        super().__init__("sources have no copy any more")
        self.report = report


class SetMaker:
    """Makes sets of the lists that ``settings`` has; each has another ``number``.

    ``what``: how a set tells later which lists it was made of.
    """

    def __init__(
        self,
        settings: Mapping[str, ListSettings],
        compiler: Compiler,
        number: Callable[[], int],
        clock: IReactorTime,
    ) -> None:
        self.what = json.dumps(
            [[name, one.files, one.urls, one.domains] for name, one in settings.items()],
            default=bytes.hex,
        )
        self._domains = [_domains(one) for one in settings.values()]
        self._compiler = compiler
        self._number = number
        self._cooperator = Cooperator(
            terminationPredicateFactory=lambda: lambda: True,  # one slice a turn
            scheduler=partial(clock.callLater, 0),
        )

    def stop(self) -> None:
        """Give up what is being checked."""
        self._cooperator.stop()

    async def make(self, path: Path, offers: list[Source]) -> tuple[ListSet, list[SourceReport]]:
        """Return the set of what is offered, which is put at ``path``, and what became of each.

        Raises `Lost`, and then there is none at ``path``, or `CompileProblem`.
        """
        report = await self._compiler.compile(Order(str(path), offers, self._domains, self.what))
        if len(report.sources) != len(offers) or not all(
            0 <= place < len(offers) for place in report.lost
        ):
            raise CompileProblem("the report is about other sources")
        if report.lost:
            raise Lost(report)
        try:
            found = open_set(str(path), self._number())
            await self._check(found)
        except (OSError, Damaged) as problem:
            raise CompileProblem(str(problem)) from None
        return found, report.sources

    async def find(self, path: Path, sources: int) -> tuple[ListSet, list[bool]] | None:
        """Return the set at ``path``, and which of so many sources count in it; `None` if it is of
        other lists, or there is none. Raises `OSError`, `Damaged`.
        """
        found = self._open(path)
        if found is None:
            return None
        try:
            what, counted = found.summary
            if what != self.what or len(counted) != sources:
                return None
        except (TypeError, ValueError):
            return None
        await self._check(found)
        return found, list(map(bool, counted))

    def _open(self, path: Path) -> ListSet | None:
        """Return the set at ``path``, `None` if there is none. Raises `OSError`, `Damaged`."""
        return open_set(str(path), self._number()) if path.exists() else None

    async def _check(self, found: ListSet) -> None:
        """Check all of a set. Raises `Damaged`."""
        await self._cooperator.cooperate(found.check()).whenDone()
        if len(found.names) != len(self._domains):
            raise Damaged("it has other lists")


def _domains(settings: ListSettings) -> list[bytes]:
    return [bytes(domain) for domain in settings.domains]
