"""What upstreams are like, and the reply times that are drawn from that. Times are seconds.

Every name draws one reply of every upstream, before anybody is asked: so all strategies, and
asking all at once, meet exactly the same luck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import log
from random import Random

#: Replies later than this do not come: the tail of a log-normal distribution has no end.
LONGEST = 1.5
#: Seconds between two new names, on average.
GAP = 0.2


class Kind(IntEnum):
    """What comes back."""

    GOOD = 0
    SERVFAIL = 1
    NXDOMAIN = 2
    SILENT = 3


Sample = tuple[Kind, float]
"""One reply: its kind and how long it takes."""


@dataclass(frozen=True)
class Character:
    """How one upstream behaves: a log-normal reply time of that ``median`` and ``sigma``, a share
    of queries lost, what it says, and the share of the names after which it says nothing.
    """

    median: float
    sigma: float = 0.3
    loss: float = 0.0
    says: Kind = Kind.GOOD
    dies_after: float = 1.0

    def draw(self, rng: Random, progress: float) -> Sample:
        """Return a reply at ``progress``, from 0 to 1, through the names."""
        seconds = rng.lognormvariate(log(self.median), self.sigma)
        lost = rng.random() < self.loss
        if lost or progress >= self.dies_after or seconds > LONGEST:
            return Kind.SILENT, LONGEST
        return self.says, seconds


@dataclass(frozen=True)
class Landscape:
    """A named set of upstreams."""

    name: str
    what: str
    characters: tuple[Character, ...]


@dataclass(frozen=True)
class Draws:
    """``samples`` per name and upstream, and the ``gaps`` before each name; the first ``warm``
    names only make the upstreams known. ``seed`` is for chance that the strategies need.
    """

    samples: Sequence[Sequence[Sample]]
    gaps: Sequence[float]
    warm: int
    seed: int


def draw(landscape: Landscape, seed: int, names: int, warm: int) -> Draws:
    """Draw the replies of all upstreams to ``warm`` names and then ``names`` more.

    The upstreams come in any order, for who comes first in a configuration may be the worst.
    """
    rng = Random(f"{seed} {landscape.name}")
    characters = rng.sample(landscape.characters, len(landscape.characters))
    samples = [
        [one.draw(rng, number / names) for one in characters] for number in range(-warm, names)
    ]
    return Draws(samples, [rng.expovariate(1 / GAP) for _ in samples], warm, seed)


def _each(medians: Sequence[int], sigma: float = 0.3, loss: float = 0.0) -> tuple[Character, ...]:
    return tuple(Character(median / 1000, sigma, loss) for median in medians)


def _mixed(count: int) -> tuple[Character, ...]:
    """Near and far ones, a fifth of them lossy; one dead, one that fails, one that lies."""
    return (
        Character(0.009, dies_after=0),
        Character(0.004, says=Kind.SERVFAIL),
        Character(0.006, says=Kind.NXDOMAIN),
        *(
            Character(
                (0.010 + 0.150 * number / (count - 3)),
                0.25 + 0.1 * (number % 4),
                0.1 if number % 5 == 1 else 0.0,
            )
            for number in range(count - 3)
        ),
    )


_NEAR = (8, 12, 16, 24, 32)

LANDSCAPES = (
    Landscape("near 2", "two near ones", _each((12, 18))),
    Landscape("near 5", "five near ones", _each(_NEAR)),
    Landscape("far 5", "five far ones", _each((90, 120, 160, 200, 250))),
    Landscape("spread 5", "one near, others further and further", _each((10, 25, 60, 120, 180))),
    Landscape("remote 5", "five from 50 to 200 ms", _each((50, 87, 125, 162, 200))),
    Landscape("equal 5", "five alike, all noisy", _each((20,) * 5, sigma=0.5)),
    Landscape("lossy 5", "near 5, each loses every tenth query", _each(_NEAR, loss=0.1)),
    Landscape(
        "flaky 5",
        "near 5, the two nearest lose 30 %",
        (*_each(_NEAR[:2], loss=0.3), *_each(_NEAR[2:])),
    ),
    Landscape(
        "dead 5", "near 5, the best dies", (Character(0.008, dies_after=0.25), *_each(_NEAR[1:]))
    ),
    Landscape(
        "servfail 5",
        "near 5, the fastest always fails",
        (Character(0.004, says=Kind.SERVFAIL), *_each(_NEAR[1:])),
    ),
    Landscape(
        "nxdomain 5",
        "near 5, the fastest denies everything",
        (Character(0.004, says=Kind.NXDOMAIN), *_each(_NEAR[1:])),
    ),
    Landscape("mixed 8", "near, far, lossy, dead, failing, denying", _mixed(8)),
    Landscape("mixed 20", "the same, of twenty", _mixed(20)),
    Landscape("near 50", "fifty from 8 to 106 ms", _each(range(8, 108, 2))),
    Landscape("equal 50", "fifty alike, all noisy", _each((20,) * 50, sigma=0.5)),
)
