"""Ordinary traffic: how often upstreams that answer from caches of their own are asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from random import Random

from bench import servers
from bench.authority import ZONE, Upstreams
from bench.client import Pacer
from bench.daemons import Daemon, Laboratory, wait_for
from bench.report import Section, Target
from bench.traffic import NAMES, RATE, TTL, Ages, own_address, popular
from bench.witness import ADDRESSES, Witnesses

_SEED = 1
_NAMES = [f"ordinary-{number:04d}.{ZONE}" for number in range(NAMES)]


class _Upstreams(Witnesses):
    """Five upstreams for one server, as old as those of the others."""

    def __init__(self, began: float) -> None:
        ages = Ages(Random(_SEED), len(ADDRESSES))
        numbers = {name: number for number, name in enumerate(_NAMES)}
        pools = {
            name: [address for one in range(len(ADDRESSES)) for address in own_address(number, one)]
            for name, number in numbers.items()
        }

        def left(upstream: int, name: str) -> int:
            number = numbers.get(name)
            return TTL if number is None else ages.left(upstream, number, time.monotonic() - began)

        super().__init__(pools, left)


def measure(laboratory: Laboratory, *, seconds: float) -> Section:
    """Ask all servers for the same names at the same time, each with upstreams of its own."""
    section = Section(
        f"Ordinary traffic ({RATE} queries/s for {seconds:g} s, {NAMES:,} names by Zipf, TTLs of "
        f"{TTL} s as old as they happen to be in each of {len(ADDRESSES)} upstreams, all asked)"
    )
    began = time.monotonic()
    starts: Sequence[Callable[[Laboratory, Upstreams], Daemon]] = (
        servers.staggerdns,
        servers.dnsmasq,
    )
    upstreams = [laboratory.enter(_Upstreams(began)) for _ in starts]
    daemons = [
        start(laboratory, asked.addresses) for start, asked in zip(starts, upstreams, strict=True)
    ]
    names = [_NAMES[number] for number in popular(Random(_SEED), int(RATE * seconds))]
    asked_before = [asked.seen.total() for asked in upstreams]
    cpu_before = [daemon.cpu_seconds() for daemon in daemons]
    pacer = Pacer([daemon.address for daemon in daemons], rate=RATE)
    times = pacer.run(names, patience=2.0)
    # The last collections end behind their answers.
    wait_for(lambda: False, patience=1.0)
    spent, cost = {}, {}
    for daemon, asked, before, cpu, answered in zip(
        daemons, upstreams, asked_before, cpu_before, times, strict=True
    ):
        spent[daemon.name] = [(asked.seen.total() - before) / len(names)]
        cost[daemon.name] = [(daemon.cpu_seconds() - cpu) / len(names) * 1e6]
        section.count(daemon.name, len(names) - len(answered), len(names))
    section.add(
        "upstream queries per query",
        spent,
        digits=2,
        base="dnsmasq",
        target=Target(1.0, at_least=False, of_ratio=True),
    )
    section.add("CPU us per query", cost, digits=0, base="dnsmasq")
    section.notes.append("from empty caches; each upstream has an address of its own of each name")
    return section
