"""Round trips of TCP handshakes, by which the families of addresses are compared.

An echo says how far an address is away, and nothing about whether it accepts connections: a path
may let echoes through and drop the rest. So the nearest addresses of a name are connected to, the
ways of probing by a connection in turn, which also repeats what may be lost before an address
counts as silent. What comes of it is in a table of its own, as fresh as that of `Sorts`.

    nearest addresses of a family --one connects--> compared
                |--all are silent--> the next ones --...--> none connects

Whoever wants to know asks again later: nothing is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from staggerdns.ranking.measure import Measurer
from staggerdns.ranking.rtt import RttTable
from staggerdns.ranking.sample import Asker
from staggerdns.ranking.waiting import FIRST, FURTHER

COMPARED: Final = 3
"""Addresses of one family that are connected to at the same time: the nearest ones, or of those
behind them the next.
"""
MAX_UNDER_WAY: Final = 256
"""Addresses that are being connected to, or wait for it; beyond them none is for a while."""
NONE_CONNECTS: Final = float("inf")


class Handshakes(Asker):
    """Has addresses connected to by ``measurer``, which fills ``table``; ``samples``: how many
    handshakes tell enough of one.
    """

    __slots__ = ("_table", "_measurer", "_samples", "_under_way")

    def __init__(self, table: RttTable, measurer: Measurer, samples: int) -> None:
        self._table = table
        self._measurer = measurer
        self._samples = samples
        self._under_way: set[bytes] = set()

    def nearest(self, addresses: Sequence[bytes], now: float) -> tuple[float, float] | None:
        """Return the seconds to the nearest of ``addresses`` that accepts connections and the
        jitter of that, or `NONE_CONNECTS`; `None` if that is not known and being measured.

        ``addresses`` are of one family, the nearest first as far as that is known.
        """
        table = self._table
        for start in range(0, len(addresses), COMPARED):
            compared = addresses[start : start + COMPARED]
            unknown = [address for address in compared if not self._is_known(address, now)]
            for address in unknown:
                self._measure(address, now)
            if unknown:
                return None
            costs = [(cost, one) for one in compared if (cost := table.cost(one)) is not None]
            cost, address = min(costs)
            if cost < NONE_CONNECTS:
                return cost, table.jitter(address)
        return NONE_CONNECTS, 0.0

    def sampled(self, address: bytes, now: float) -> None:
        """Go on until enough is known of the address."""
        self._under_way.discard(address)
        if self._table.fresh(address, now) and not self._is_known(address, now):
            self._measure(address, now)

    def _is_known(self, address: bytes, now: float) -> bool:
        table = self._table
        return table.fresh(address, now) and (
            not table.answers(address) or table.settled(address, self._samples)
        )

    def _measure(self, address: bytes, now: float) -> None:
        if address in self._under_way or len(self._under_way) >= MAX_UNDER_WAY:
            return
        self._under_way.add(address)
        further = self._table.fresh(address, now)
        self._measurer.sample(address, self, FURTHER if further else FIRST)
