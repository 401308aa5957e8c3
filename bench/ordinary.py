"""Ordinary traffic: how often upstreams that answer from caches of their own are asked, and what a
query costs with everything that goes on behind it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random

from bench import inside, programs, servers
from bench.authority import ZONE
from bench.client import Pacer
from bench.daemons import Laboratory, wait_for
from bench.report import Section, Target
from bench.servers import Start, targets
from bench.traffic import NAMES, RATE, TTL, Ages, own_address, popular
from bench.witness import ADDRESSES, Witnesses

_SEED = 1
_EVERY = len(ADDRESSES)
#: Names of the traffic with ranking, and the seconds that their zones say.
_MANY, _SHORT = 20_000, 30
_Figures = dict[str, list[float]]


class _Upstreams(Witnesses):
    """Five upstreams for one server, as old as those of the others.

    ``pools``: the addresses of each name; ``ttl``: what their zones say, in seconds.
    """

    def __init__(self, pools: Sequence[Sequence[str]], ttl: int, began: float) -> None:
        ages = Ages(Random(_SEED), _EVERY, len(pools), ttl)
        numbers = {_name(number): number for number in range(len(pools))}

        def left(upstream: int, name: str) -> int:
            number = numbers.get(name)
            return ttl if number is None else ages.left(upstream, number, time.monotonic() - began)

        super().__init__({name: pools[number] for name, number in numbers.items()}, left)


class _Traffic:
    """Servers that are asked for the same at the same time, each with upstreams of its own."""

    def __init__(
        self,
        laboratory: Laboratory,
        starts: Sequence[Start],
        pools: Sequence[Sequence[str]],
        ttl: int,
    ) -> None:
        began = time.monotonic()
        self._count = len(pools)
        self._upstreams = [laboratory.enter(_Upstreams(pools, ttl, began)) for _ in starts]
        self._daemons = [
            start(laboratory, asked.addresses)
            for start, asked in zip(starts, self._upstreams, strict=True)
        ]
        self._rng = Random(_SEED)

    def run(self, section: Section, seconds: float) -> tuple[_Figures, _Figures]:
        """Ask for ``seconds``; return the upstream queries and the microseconds of CPU of a query
        to each server.
        """
        numbers = popular(self._rng, int(RATE * seconds), self._count)
        names = [_name(number) for number in numbers]
        asked_before = [asked.seen.total() for asked in self._upstreams]
        cpu_before = [daemon.cpu_seconds() for daemon in self._daemons]
        pacer = Pacer([daemon.address for daemon in self._daemons], rate=RATE)
        times = pacer.run(names, patience=2.0)
        # The last collections end behind their answers.
        wait_for(lambda: False, patience=1.0)
        spent, cost = {}, {}
        for daemon, asked, before, cpu, answered in zip(
            self._daemons, self._upstreams, asked_before, cpu_before, times, strict=True
        ):
            spent[daemon.name] = [(asked.seen.total() - before) / len(names)]
            cost[daemon.name] = [(daemon.cpu_seconds() - cpu) / len(names) * 1e6]
            section.count(daemon.name, len(names) - len(answered), len(names))
        return spent, cost


def measure(laboratory: Laboratory, *, seconds: float) -> Section:
    """Count how often upstreams are asked for names each of which has an address in each of them,
    from empty caches.
    """
    section = Section(
        f"Ordinary traffic ({RATE} queries/s for {seconds:g} s, {NAMES:,} names by Zipf, TTLs of "
        f"{TTL} s as old as they happen to be in each of {_EVERY} upstreams, all asked)"
    )
    pools = [
        [address for one in range(_EVERY) for address in own_address(number, one)]
        for number in range(NAMES)
    ]
    starts = [*servers.every_staggerdns(), servers.dnsmasq]
    spent, cost = _Traffic(laboratory, starts, pools, TTL).run(section, seconds)
    section.add(
        "upstream queries per query",
        spent,
        digits=2,
        base="dnsmasq",
        target=targets(Target(1.0, at_least=False, of_ratio=True)),
    )
    section.add("CPU us per query", cost, base="dnsmasq")
    section.notes.append("from empty caches; each upstream has an address of its own of each name")
    return section


def with_ranking(laboratory: Laboratory, *, warm: float, seconds: float) -> Section:
    """Measure what a query costs in all, with ranking on, after ``warm`` seconds."""
    section = Section(
        f"Ordinary traffic with ranking ({RATE} queries/s for {seconds:g} s, {_MANY:,} names by "
        f"Zipf, TTLs of {_SHORT} s, three addresses of its own from each of {_EVERY} upstreams)"
    )
    world = laboratory.enter(inside.internet())
    starts: list[Start] = [*servers.every_staggerdns(world), servers.dnsmasq]
    if programs.has("smartdns"):
        starts.append(servers.smartdns)
    different = inside.pools()
    pools = [different[number % len(different)] for number in range(_MANY)]
    traffic = _Traffic(laboratory, starts, pools, _SHORT)
    traffic.run(section, warm)
    spent, cost = traffic.run(section, seconds)
    section.add(
        "CPU us per query",
        cost,
        base="dnsmasq",
        target=targets(
            Target(5, at_least=False, of_ratio=True), Target(3, at_least=False, of_ratio=True)
        ),
    )
    section.add("upstream queries per query", spent, digits=2, base="dnsmasq")
    section.notes.append(
        f"{len(different):,} pools; all that is done counts: collections, probes, sorts; "
        f"after {warm:g} s"
    )
    return section


def _name(number: int) -> str:
    return f"ordinary-{number:05d}.{ZONE}"
