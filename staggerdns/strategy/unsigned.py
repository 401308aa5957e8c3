"""Which upstreams get a question with DO last, since their answers have no signatures.

Upstreams without EDNS (`Upstream.signs`) are kept back as long as others may answer. When those
have all failed, or nobody has answered until silent ones are asked once more, they are asked all
the same, without an OPT record, as unbound and dnsmasq do: a client that validates sees that the
signatures are missing, and every other has an answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from staggerdns.upstream.upstream import Upstream


class Reserve:
    """The upstreams kept back for one question. ``is_open``: no longer."""

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
        """Keep one back that has just turned out to give no signatures."""
        if not self.is_open:
            self._members.append(upstream)

    def open(self) -> list[Upstream]:
        """Keep nobody back any more; return those who were."""
        self.is_open = True
        members, self._members = self._members, []
        return members


NO_RESERVE = Reserve()
"""For all questions without DO."""
NO_RESERVE.is_open = True
