"""What the sockets of one listener share: by which rules its clients are answered, and what replies
are ready for them.
"""

from __future__ import annotations

from collections.abc import Mapping

from staggerdns.policy.groups import Groups
from staggerdns.policy.rules import Rules
from staggerdns.server.ready import ReadyReplies, ReadyTables
from staggerdns.settings.addresses import Listener

MAX_REMEMBERED = 4096
"""Clients whose rules are remembered; when there are so many, all are forgotten."""


class CurrentGroups:
    """The ``groups`` of clients that count now, `None` if nobody has rules of his own; ``number``:
    of how many there have been.
    """

    __slots__ = ("groups", "number")

    def __init__(self, groups: Groups | None) -> None:
        self.groups = groups
        self.number = 1

    def replace(self, groups: Groups | None) -> None:
        """Let these count from now on."""
        self.groups = groups
        self.number += 1


class ListenerContext:
    """The context of ``listener``, `None` for what comes in by none of the configuration.

    ``current``: whose rules count for whom. ``tables``: those of ready replies by transport, which
    all listeners have in common. ``ready``: what of them is for clients of this one.
    """

    def __init__(
        self, listener: Listener | None, current: CurrentGroups, tables: Mapping[str, ReadyTables]
    ) -> None:
        self.listener = listener
        self._current = current
        self._number = 0  # of the groups whose rules are remembered
        self._rules: dict[str, Rules] = {}
        self.ready = {transport: ReadyReplies(its) for transport, its in tables.items()}

    def rules(self, host: str) -> Rules | None:
        """Return the rules for the client at ``host``, which may ask."""
        groups = self._current.groups
        if self._number != self._current.number:
            self._number = self._current.number
            self._rules.clear()
        if groups is None:
            return None
        rules = self._rules.get(host)
        if rules is None:
            if len(self._rules) >= MAX_REMEMBERED:
                self._rules.clear()
            rules = self._rules[host] = groups.find(host, self.listener)
        return rules
