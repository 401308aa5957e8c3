"""Who hears how a run goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from staggerdns.upstream.exchange import Outcome
from staggerdns.upstream.reason import Reason
from staggerdns.wire.addresspool import AddressPool


class Observer(Protocol):
    """Whoever wants to know what comes of a run."""

    def known(self) -> AddressPool | None:
        """Return the pool that is asked for anew, if there is one."""

    def first(self, outcome: Outcome) -> None:
        """Learn the answer that the client gets; called at most once."""

    def more(self, outcome: Outcome) -> None:
        """Learn a positive answer that came after the first."""

    def ended(self, reasons: Sequence[Reason]) -> None:
        """Learn that the run has ended, and what was wrong with those who did not answer well, in
        order.
        """
