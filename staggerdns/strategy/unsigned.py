"""Who is asked a question with DO without an OPT record, and when: an answer without signatures.

Upstreams that do without EDNS (`Upstream.signs`) are kept back as long as others may answer. When
those have all failed, or nobody has answered for as long as it takes to ask again, they are
asked all the same, as unbound and dnsmasq would do: whoever validates sees that the signatures
lack, and everybody else has an answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from staggerdns.upstream.upstream import Upstream


class Reserve:
    """The upstreams kept back for one question. ``is_open``: they are no longer."""

    __slots__ = ("is_open", "_members")

    def __init__(self) -> None:
        self.is_open = False
        self._members: list[Upstream] = []

    def __contains__(self, upstream: Upstream) -> bool:
        return upstream in self._members

    def hold_back(self, upstreams: Sequence[Upstream]) -> list[Upstream]:
        """Keep back those without signatures, unless there are no others; return the rest."""
        self._members = [upstream for upstream in upstreams if not upstream.signs]
        signing = [upstream for upstream in upstreams if upstream.signs]
        return signing or self.open()

    def add(self, upstream: Upstream) -> None:
        """Keep one back that has just turned out to be such."""
        if not self.is_open:
            self._members.append(upstream)

    def open(self) -> list[Upstream]:
        """Return all that were kept back: from now on no signatures are better than no answer."""
        self.is_open = True
        members, self._members = self._members, []
        return members


NO_RESERVE = Reserve()
"""For all questions without DO."""
NO_RESERVE.is_open = True
