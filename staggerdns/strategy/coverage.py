"""Who has to be asked so that hardly an address is missing, from who brought which of them.

Upstreams are bits (`staggerdns.wire.contributors`), and what counts of an address is the mask of
those that brought it: what nobody brings alone may still be missed when two who bring it are both
left out, so that each upstream's own share says too little. A `Coverage` has the addresses of the
latest collections that asked everybody; the older one is, the less it counts:

    collection that asked everybody --> masks of its addresses --> weights --> `Coverage.choose`
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

TARGET = 0.995
"""Share of the addresses that can be had which those who are asked have to cover."""
FADING = 0.95
"""What a collection counts for when the next one has come. That an upstream has one address of
sixteen for itself is noticed by the second collection which shows it.
"""
MAX_MASKS = 1_024
"""Masks that are kept; those that count least make room."""
MAX_CHOICES = 256
"""Choices that are kept until a collection teaches something else; beyond them all are forgotten.
Whoever is asked about names without addresses teaches nothing, and has no end of orders.
"""
_FADED = 0.001  # of an address: counts no more


class Coverage:
    """The weights of addresses by the mask of those that brought them."""

    __slots__ = ("_chosen", "_weights", "samples")

    def __init__(self) -> None:
        self.samples = 0
        """Collections that have been added."""
        self._weights: dict[int, float] = {}
        self._chosen: dict[tuple[int, tuple[int, ...]], int] = {}

    def add(self, masks: Iterable[int]) -> None:
        """Add the addresses of a collection that has asked everybody."""
        self.samples += 1
        self._chosen.clear()
        weights = {
            mask: weight * FADING
            for mask, weight in self._weights.items()
            if weight * FADING > _FADED
        }
        for mask in masks:
            weights[mask] = weights.get(mask, 0.0) + 1.0
        if len(weights) > MAX_MASKS:
            heaviest = sorted(weights, key=weights.__getitem__, reverse=True)
            weights = {mask: weights[mask] for mask in heaviest[:MAX_MASKS]}
        self._weights = weights

    def choose(self, asked: int, candidates: Sequence[int]) -> int:
        """Return the bits of those of the ``candidates``, best first, to ask beside those ``asked``
        already.
        """
        key = asked, tuple(candidates)
        chosen = self._chosen.get(key)
        if chosen is None:
            if len(self._chosen) >= MAX_CHOICES:
                self._chosen.clear()
            weights, reach = self._weights, asked | sum(candidates)
            there = sum([weight for mask, weight in weights.items() if mask & reach])
            spare = (1 - TARGET) * there
            chosen = self._chosen[key] = cover(weights, asked, candidates, spare)
        return chosen


def cover(weights: Mapping[int, float], asked: int, candidates: Sequence[int], spare: float) -> int:
    """Return the bits of few of the ``candidates`` such that masks of at most ``spare`` weight have
    neither one of these nor one of those ``asked``. What none of them has, as those who have it
    are out, is nobody's reason to be asked.

    Whoever adds most comes first, and who has become superfluous by later ones is left out again.
    """
    possible = sum(candidates)
    there = {
        mask: weight for mask, weight in weights.items() if not mask & asked and mask & possible
    }
    left = sum(there.values())
    chosen: list[int] = []
    waiting, missing = list(candidates), there
    while left > spare and missing:
        gains = [sum([missing[mask] for mask in missing if mask & bit]) for bit in waiting]
        gain = max(gains)
        bit = waiting.pop(gains.index(gain))
        chosen.append(bit)
        left -= gain
        missing = {mask: weight for mask, weight in missing.items() if not mask & bit}
    together = sum(chosen)
    for bit in chosen[:-1]:
        others = together - bit
        if sum([weight for mask, weight in there.items() if not mask & others]) <= spare:
            together -= bit
    return together
