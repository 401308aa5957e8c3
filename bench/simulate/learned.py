"""What is saved, and what is missed, when the staggered tier asks only those who have something to
add: ``ask: learned`` beside ``ask: all``.

New names in landscapes where upstreams agree or differ in one way or another, and a day of ordinary
traffic. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from random import Random

from twisted.internet.task import Clock

from bench import traffic
from bench.simulate.figures import aligned
from bench.simulate.landscapes import Character
from bench.simulate.replay import Plan
from bench.simulate.wire import Wire, connect, record
from staggerdns.chain import Chain
from staggerdns.metrics import Metrics
from staggerdns.upstream.exchange import Exchange
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.names import from_text
from staggerdns.wire.question import Question, make_question

_ROOM = {"max_pool_size": 32}
PLANS = tuple(
    Plan(name, {"strategy": "parallel", "profile": profile, "parallel": _ROOM})
    for name, profile in (("all", "balanced"), ("learned", "gentle"))
)

UPSTREAMS = tuple(Character(median / 1000) for median in (8, 12, 16, 24, 32))
#: New names of a landscape: at one a second an hour and a half for the one that changes.
NAMES, GAP = 2_000, 1.0
MOST_QUERIES = 2.6
LEAST_COMPLETE = 0.99
MOST_OF_ALL = 0.6
MOST_TO_NOTICE = 200
_LONG = 86_400
_IN_A_ROW = 10
_SHARED = 3
#: Client queries a second of the day, and how long it is.
DAY_RATE, DAY = 0.5, 86_400.0

Says = Callable[[int, int, float], "list[int]"]
"""The addresses, as numbers below 256, that an upstream has of a name, at a share of the time."""


def _common(*more: int) -> list[int]:
    return [*range(_SHARED), *more]


def _by_region(_name: int, upstream: int, _at: float) -> list[int]:
    region = 10 * (upstream % 2)
    return [region, region + 1]


def _by_name(name: int, upstream: int, _at: float) -> list[int]:
    return _common(9) if name % len(UPSTREAMS) == upstream else _common()


def _of_fifty(name: int, upstream: int, _at: float) -> list[int]:
    return _common(9) if upstream == 4 and name % 50 == 7 else _common()


def _two(_name: int, upstream: int, _at: float) -> list[int]:
    return _common(9) if upstream >= 3 else _common()


def _later(_name: int, upstream: int, at: float) -> list[int]:
    return _common(9) if upstream == 4 and at >= 0.5 else _common()


@dataclass(frozen=True)
class Differing:
    """A landscape: how upstreams differ in what they say."""

    name: str
    what: str
    says: Says
    most: float | None = None
    changes: bool = False


DIFFERING = (
    Differing("agree", "all have the same three addresses", lambda *_: _common(), MOST_QUERIES),
    Differing("by region", "three have two addresses, two have two others", _by_region),
    Differing("by name", "of each name one has an address more, each of a fifth of them", _by_name),
    Differing("one in fifty", "the last has one address more of every fiftieth name", _of_fifty),
    Differing("two of five", "the two last have the same address more of every name", _two),
    Differing("later", "all agree, and after half of the names the last has one more", _later,
              changes=True),
)  # fmt: skip


@dataclass(frozen=True)
class Learnt:
    """One plan in one landscape: upstream queries a name; the share of all addresses that the pools
    of the second half of the names have, from the time on at which a change has to be noticed, and
    that share as the program itself measures it; after how many names the upstream that has changed
    was asked for good, `None` where none has.
    """

    plan: str
    queries: float
    complete: float
    measured: float
    noticed: int | None
    missed: tuple[str, ...] | None

    def cells(self) -> tuple[str, ...]:
        """Return the columns of the table."""
        verdict = "met" if self.missed == () else "MISSED " + ", ".join(self.missed or ())
        return (
            self.plan,
            f"{self.queries:.2f}",
            f"{self.complete:.2%}",
            f"{self.measured:.2%}",
            "" if self.noticed is None else f"{self.noticed}",
            "" if self.missed is None else verdict,
        )


HEAD = ("", "queries", "complete", "measured", "noticed", "")


class _Saying(Wire):
    """One upstream, which answers each name by the landscape."""

    def __init__(self, world: _World, number: int) -> None:
        super().__init__(world.clock)
        self._world = world
        self._number = number

    def answer(self, exchange: Exchange) -> tuple[float, int, list[bytes]]:
        """Return the reply, after a time that is drawn."""
        world = self._world
        label = exchange.question.name
        name = int(label[1 : 1 + label[0]])
        world.asked.append((name, self._number))
        _, seconds = UPSTREAMS[self._number].draw(world.times, 0)
        records = [
            record(IPv4Address(f"198.18.{name % 250}.{one + 1}").packed, world.ttl)
            for one in world.says(name, self._number)
        ]
        return seconds, 0, records


class _World:
    """The program with a plan, in a landscape that lasts from 0 to ``end``."""

    def __init__(self, plan: Plan, kind: Differing, seed: int, ttl: int, end: float) -> None:
        self.clock = Clock()
        self.ttl = ttl
        self.times = Random(f"{seed} times")
        self.asked: list[tuple[int, int]] = []
        self._kind = kind
        self._end = end
        self._metrics = Metrics()
        self.chain = Chain(
            plan.config(len(UPSTREAMS)),
            self.clock,
            rng=Random(seed).randbytes,
            metrics=self._metrics,
        )
        for number, upstream in enumerate(self.chain.upstreams):
            connect(upstream, _Saying(self, number))

    def says(self, name: int, upstream: int) -> list[int]:
        """Return what an upstream has of a name now."""
        return self._kind.says(name, upstream, self.clock.seconds() / self._end)

    def jump(self, until: float) -> None:
        """Go from event to event until then."""
        clock = self.clock
        while (calls := clock.getDelayedCalls()) and calls[0].getTime() <= until:
            clock.advance(max(0.0, calls[0].getTime() - clock.seconds()))
        clock.advance(max(0.0, until - clock.seconds()))

    def ask(self, name: int) -> bool:
        """Ask for a name; return whether it was not in the cache."""
        question = _question(name)
        now = self.clock.seconds()
        if self.chain.cache.lookup(question.key, now) is not None:
            return False
        self.chain.forwarder.find(question, now)
        return True

    def found(self, name: int) -> int:
        """Return how many addresses of a name are in the cache."""
        entry = self.chain.cache.held(_question(name).key)
        pool = None if entry is None else entry.answer
        return len(pool.addresses) if isinstance(pool, AddressPool) else 0

    def measured(self) -> float:
        """Return the completeness as the program tells it; 1 where it asks everybody."""
        return self._metrics.pool_completeness.values().get((), 1.0)


def _question(name: int) -> Question:
    return make_question(from_text(b"%d.example" % name), 1)


def learn(plan: Plan, kind: Differing, *, seed: int, names: int = NAMES) -> Learnt:
    """Ask for new names, one after the other."""
    world = _World(plan, kind, seed, _LONG, names * GAP)
    found = there = 0
    judged = names // 2 + MOST_TO_NOTICE * kind.changes
    for name in range(names):
        world.jump(name * GAP)
        world.ask(name)
        everything = {one for number in range(len(UPSTREAMS)) for one in world.says(name, number)}
        world.jump(name * GAP + GAP / 2)
        if name >= judged:
            found += world.found(name)
            there += len(everything)
    measured = world.measured()
    world.chain.close()
    queries = len(world.asked) / names
    noticed = _noticed(world.asked, names) if kind.changes else None
    missed = None
    if plan is PLANS[1]:
        missed = tuple(
            said
            for said, bad in (
                (f"queries over {kind.most}", kind.most is not None and queries > kind.most),
                (f"complete under {LEAST_COMPLETE:.0%}", found / there < LEAST_COMPLETE),
                (f"noticed after {MOST_TO_NOTICE}", (noticed or 0) > MOST_TO_NOTICE),
            )
            if bad
        )
    return Learnt(plan.name, queries, found / there, measured, noticed, missed)


def _noticed(asked: Sequence[tuple[int, int]], names: int) -> int:
    """Return after how many names from the change on the upstream that has changed was asked for a
    few in a row; all of them if it was not.
    """
    last = len(UPSTREAMS) - 1
    of_it = {name for name, upstream in asked if upstream == last}
    for name in range(names // 2, names - _IN_A_ROW):
        if all(name + one in of_it for one in range(_IN_A_ROW)):
            return name - names // 2
    return names - names // 2


@dataclass(frozen=True)
class Day:
    """A plan's upstream queries for each client query of a day, and the completeness as the program
    measures it.
    """

    plan: str
    queries: float
    measured: float


def spend_a_day(plan: Plan, kind: Differing, *, seed: int, day: float = DAY) -> Day:
    """Send a day's client queries, by Zipf's law."""
    world = _World(plan, kind, seed, traffic.TTL, day)
    rng = Random(f"{seed} queries")
    count = int(DAY_RATE * day)
    for name in traffic.popular(rng, count):
        world.jump(world.clock.seconds() + rng.expovariate(DAY_RATE))
        world.ask(name)
    world.jump(world.clock.seconds() + 4)
    measured = world.measured()
    world.chain.close()
    return Day(plan.name, len(world.asked) / count, measured)


def table(lines: Sequence[Learnt]) -> str:
    """Return the lines of a landscape aligned."""
    return aligned([HEAD, *(line.cells() for line in lines)])


def is_gentle(days: Sequence[Day]) -> bool:
    """Return whether the last plan takes as few queries of the first one's as it should."""
    return days[-1].queries <= MOST_OF_ALL * days[0].queries


def day_table(days: Sequence[Day]) -> str:
    """Return the lines of a day aligned."""
    rows = [("", "queries", "of all", "measured", "")]
    for day in days:
        share = day.queries / days[0].queries
        verdict = "" if day is days[0] else "met" if is_gentle(days) else "MISSED"
        rows.append(
            (day.plan, f"{day.queries:.2f}", f"{share:.0%}", f"{day.measured:.2%}", verdict)
        )
    return aligned(rows)
