"""What lists of another configuration have of those before them.

A list that is looked after in the same way goes on as it is, with whatever is under way. Of others
each source that was there goes on with what is known of it, also in a list of another name or in
another directory: then its copy is copied. Until `Handover.finish` nothing of the old ones changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from staggerdns.policy.lists.compile import Report, Source, SourceReport
from staggerdns.policy.lists.refresh import ListRefresh
from staggerdns.policy.lists.sources import FileSource, UrlSource
from staggerdns.settings.policy import ListSettings


class Handover:
    """From the refreshes that were ``before``; ``moves``: to another directory."""

    def __init__(self, before: Sequence[ListRefresh], *, moves: bool) -> None:
        self._before = {} if moves else {one.name: one for one in before}
        self._sources: dict[tuple[type, str], dict[str, Any]] = {}
        for refresh in before:
            for source in refresh.sources:
                self._sources.setdefault((type(source), source.label), {})[refresh.name] = source
        self._now: list[tuple[str, FileSource | UrlSource, Any]] = []  # list, source, former one

    def keep(self, name: str, settings: ListSettings) -> ListRefresh | None:
        """Return what goes on as it is for a list, `None` if there is nothing of the kind."""
        found = self._before.get(name)
        return found if found is not None and found.suits(settings) else None

    def offers(self, refreshes: Sequence[ListRefresh]) -> list[Source]:
        """Return what the first set of other lists is made of."""
        offers: list[Source] = []
        for number, refresh in enumerate(refreshes):
            for source in refresh.sources:
                former = self._find(refresh.name, source)
                self._now.append((refresh.name, source, former))
                offers.append(
                    source.offer_first(number)
                    if former is None
                    else source.offer_as(former, number)
                )
        return offers

    def lose(self, report: Report) -> str:
        """Note which sources have no copy any more; return what is wrong, by their lists."""
        details = []
        for place in report.lost:
            name, source, former = self._now[place]
            (former or source).lose()
            details.append(f"lists.{name}: {source.label} {report.sources[place].problem}")
        return "; ".join(details)

    def undo(self) -> None:
        """Remove copies that were copied: later they would count for what has changed by then."""
        for _, source, former in self._now:
            if former is not None and former.copy != source.copy:
                with suppress(OSError):
                    source.copy.unlink()

    def finish(self, reports: Sequence[SourceReport] | None) -> None:
        """Let all sources go on; ``reports`` are about the first set, if it has been compiled."""
        for place, (_, source, former) in enumerate(self._now):
            if former is not None and former is not source:
                source.take_on(former)
            if reports is None:
                continue
            if former is None:
                source.settle(reports[place])
            else:
                source.note(reports[place])

    def _find(self, name: str, source: FileSource | UrlSource) -> Any:
        """Return what a source was: in the same list, else in any, if possible one that counts."""
        found = self._sources.get((type(source), source.label), {})
        return found.get(name) or max(found.values(), key=lambda one: one.counted, default=None)
