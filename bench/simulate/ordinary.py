"""Ordinary traffic through the real cache and strategy: how often upstreams are asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from random import Random

from twisted.internet.task import Clock

from bench.simulate.figures import aligned
from bench.simulate.landscapes import Character, Kind
from bench.simulate.replay import Plan
from bench.simulate.wire import Wire, connect, record
from bench.traffic import RATE, TTL, Ages, one_address, own_address, popular, rotating
from staggerdns.chain import Chain
from staggerdns.upstream.exchange import Exchange
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.names import from_text
from staggerdns.wire.question import make_question

#: Five near ones, that lose nothing.
UPSTREAMS = tuple(Character(median / 1000) for median in (8, 12, 16, 24, 32))
#: A reply as the program gets it: seconds, the TTL, and the addresses.
_Reply = tuple[float, int, list[str]]


@dataclass(frozen=True)
class Traffic:
    """What upstreams say about names.

    ``addresses``: what the upstream of a number knows of the name of a number. ``ageing``: TTLs
    have run down in the upstreams; without it they are always whole.
    """

    name: str
    what: str
    addresses: Callable[[int, int], list[str]]
    ageing: bool = True


TRAFFIC = (
    Traffic("ordinary own", "each upstream has an address of its own", own_address),
    Traffic("ordinary rotating", "each upstream has four of eight addresses", rotating),
    Traffic("ordinary one", "all upstreams have the same address", one_address),
    Traffic(
        "ordinary whole", "own addresses, TTLs that do not run down", own_address, ageing=False
    ),
)


@dataclass(frozen=True)
class Cost:
    """What a plan's answers cost: upstream queries per client query, and the share of the client
    queries whose answer came from the cache, and of those that got none.
    """

    plan: str
    upstream: float
    hits: float
    failed: float
    judged: bool

    def over(self, reference: Cost) -> float | None:
        """Return by which share of the reference's upstream queries this took more; `None`: it
        has no target, for it does not ask everybody.
        """
        return self.upstream / reference.upstream - 1 if self.judged else None


class _Authority:
    """What every upstream would say, and how many times they were asked."""

    def __init__(self, traffic: Traffic, seed: int) -> None:
        self._traffic = traffic
        self._ages = Ages(Random(f"{seed} ages"), len(UPSTREAMS))
        self._times = Random(f"{seed} times")
        self.asked = 0

    def reply(self, upstream: int, number: int, now: float) -> _Reply:
        """Return the reply of an upstream to a question that is sent ``now``."""
        self.asked += 1
        kind, seconds = UPSTREAMS[upstream].draw(self._times, 0)
        assert kind == Kind.GOOD
        ttl = self._ages.left(upstream, number, now + seconds) if self._traffic.ageing else TTL
        return seconds, ttl, self._traffic.addresses(number, upstream)


class _Ageing(Wire):
    """One upstream that answers from its cache."""

    def __init__(self, clock: Clock, number: int, authority: _Authority) -> None:
        super().__init__(clock)
        self._number = number
        self._authority = authority

    def answer(self, exchange: Exchange) -> tuple[float, int, list[bytes]]:
        """Return a good reply."""
        label = exchange.question.name
        number = int(label[1 : 1 + label[0]])
        seconds, ttl, addresses = self._authority.reply(self._number, number, self._clock.seconds())
        return seconds, 0, [record(IPv4Address(one).packed, ttl) for one in addresses]


def _queries(seed: int, seconds: float) -> list[tuple[float, int]]:
    """Return when which name is asked for."""
    rng = Random(f"{seed} queries")
    numbers = popular(rng, int(RATE * seconds))
    now = 0.0
    out = []
    for number in numbers:
        now += rng.expovariate(RATE)
        out.append((now, number))
    return out


def replay_traffic(plan: Plan, traffic: Traffic, *, seed: int, seconds: float) -> Cost:
    """Send the queries to the real cache, and through it to the real strategy."""
    clock = Clock()
    authority = _Authority(traffic, seed)
    chain = Chain(plan.config(len(UPSTREAMS)), clock, rng=Random(seed).randbytes)
    for number, upstream in enumerate(chain.upstreams):
        connect(upstream, _Ageing(clock, number, authority))
    queries = _queries(seed, seconds)
    hits = failed = 0

    def jump(until: float) -> None:
        while (calls := clock.getDelayedCalls()) and calls[0].getTime() <= until:
            clock.advance(max(0.0, calls[0].getTime() - clock.seconds()))
        clock.advance(max(0.0, until - clock.seconds()))

    def note(entry: object) -> None:
        nonlocal failed
        failed += isinstance(getattr(entry, "answer", None), FailureAnswer)

    for when, number in queries:
        jump(when)
        question = make_question(from_text(b"%d.example" % number), 1)
        if chain.cache.lookup(question.key, clock.seconds()) is not None:
            hits += 1
        else:
            chain.forwarder.find(question, clock.seconds()).addCallback(note)
    jump(clock.seconds() + 4)
    chain.close()
    count = len(queries)
    judged = plan.config(len(UPSTREAMS)).upstream.strategy == "parallel"
    return Cost(plan.name, authority.asked / count, hits / count, failed / count, judged)


def first_reply_alone(traffic: Traffic, *, seed: int, seconds: float) -> Cost:
    """Ask all at once and keep what the first reply says for as long as it says, as
    ``dnsmasq --all-servers`` does.
    """
    authority = _Authority(traffic, seed)
    queries = _queries(seed, seconds)
    expires: dict[int, float] = {}
    hits = 0
    for now, number in queries:
        if now < expires.get(number, 0.0):
            hits += 1
            continue
        replies = [authority.reply(one, number, now) for one in range(len(UPSTREAMS))]
        after, ttl, _ = min(replies)
        expires[number] = now + after + ttl
    return Cost(
        "first reply alone", authority.asked / len(queries), hits / len(queries), 0.0, judged=False
    )


def table(costs: Sequence[Cost], reference: Cost) -> str:
    """Return the lines aligned, the reference on top; the target is its upstream queries."""
    rows = [("", "upstream", "cached", "failed", "")]
    for cost in (reference, *costs):
        over = cost.over(reference)
        verdict = "" if over is None else "met" if over <= 0 else f"MISSED upstream {over:+.0%}"
        rows.append(
            (cost.plan, f"{cost.upstream:.2f}", f"{cost.hits:.1%}", f"{cost.failed:.1%}", verdict)
        )
    return aligned(rows)
