"""Lists and those who fetch and compile for them, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.policy.lists.compiler import Compiler
from staggerdns.policy.lists.fetched import Fetches, FetchProblem, Validators
from staggerdns.policy.lists.lists import Lists
from staggerdns.settings.policy import ListSettings
from staggerdns.settings.sections import StateSettings

_numbers = count(1)
"""The process's, since answers in the cache outlive lists and know sets by their numbers."""


def make_lists(
    settings: Mapping[str, ListSettings],
    state: StateSettings,
    resolve: Callable[[str], Deferred[Sequence[str]]],
    *,
    reactor: Any,
    clock: IReactorTime,
    metrics: Metrics,
    journal: Journal,
    before: Lists | None = None,
) -> Lists | None:
    """Return lists that have yet to be started, `None` if there are none.

    ``resolve`` finds the addresses of a server that has a list, none when it cannot. Where the
    program runs already they are to be prepared to take the place of those ``before``, if any.
    """
    if not settings:
        return None
    fetcher: Fetches = _NoFetcher()
    if any(one.urls for one in settings.values()):
        # treq takes time to load, and memory, which files alone do not need.
        from staggerdns.policy.lists.fetch import Fetcher  # noqa: PLC0415

        fetcher = Fetcher(reactor, clock, resolve)
    return Lists(
        settings,
        state.directory,
        fetcher,
        Compiler(reactor, clock),
        clock=clock,
        metrics=metrics,
        journal=journal,
        number=_numbers.__next__,
        before=before,
    )


class _NoFetcher:
    """Stands where no list has a URL."""

    def fetch(self, url: str, path: Path, known: Validators) -> Deferred[Validators | None]:
        """Fail: nothing is fetched."""
        return fail(FetchProblem("is not fetched"))
