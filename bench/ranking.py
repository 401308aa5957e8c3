"""Ranking: how long a new name takes to its whole pool, and to the nearest address first."""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench import inside, load, servers
from bench.daemons import Laboratory
from bench.report import Section, Target, percentile
from bench.watch import INTERVAL, Watched, watch
from bench.witness import ADDRESSES, Witnesses
from tests.kit.internet.hosts import milliseconds

#: Addresses of a name; each of the five upstreams knows three of them.
POOL = 15
#: New names a second. Those with addresses of their own take most of what the program sends by
#: default, 200 probes a second.
_SHARED_RATE, _OWN_RATE = 50, 3
#: Seconds that the last names may take.
_PATIENCE = 10.0


@dataclass(frozen=True)
class _Load:
    label: str
    pools: Mapping[str, Sequence[str]]
    rate: float


def measure(laboratory: Laboratory, *, rounds: int, shared: int, own: int) -> Section:
    """Ask for never-seen names at a modest pace and watch what becomes of their answers.

    ``shared``: names a round that all have the same addresses. ``own``: names a round each of
    which has addresses of its own; with one pool more a round there may be 254 pools.
    """
    section = Section(
        f"Ranking (names with {POOL} addresses, each of {len(ADDRESSES)} upstreams knows "
        f"{POOL // len(ADDRESSES)}; {shared} names/round share them, {own} have their own; "
        f"{rounds} rounds)"
    )
    world = laboratory.enter(inside.internet())
    loads = list(_loads(rounds, shared, own))
    every_pool = {name: pool for each in loads for name, pool in each.pools.items()}
    witnesses = laboratory.enter(Witnesses(every_pool))
    figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    done: list[Watched] = []
    for build, each in itertools.product(servers.builds(), loads):
        if each is loads[0]:
            daemon = servers.staggerdns(laboratory, witnesses.addresses, build, world=world)
            # The name that showed that it answers has addresses, too.
            daemon.wait_until_idle()
        label = each.label + build.suffix
        sent, arrived = daemon.metric("staggerdns_probes_total"), len(world.log())
        watched = watch(daemon.address, each.pools, rate=each.rate, patience=_PATIENCE)
        daemon.wait_until_idle()
        sent = daemon.metric("staggerdns_probes_total") - sent
        arrived = len(world.log()) - arrived
        ranked = [name for name in watched if name.ranked is not None]
        section.count(label, len(watched) - len(ranked), len(watched))
        if not ranked:
            raise load.LoadError(f"{label}: no name was ever ranked")
        done += ranked
        for what, times in (
            ("full pool", [name.until_full for name in ranked]),
            ("sorted", [name.until_ranked for name in ranked]),
        ):
            figures[f"first answer to {what}, ms, median"][label].append(statistics.median(times))
            figures[f"first answer to {what}, ms, p95"][label].append(percentile(sorted(times), 95))
        figures["probes per name, /metrics"][label].append(sent / len(watched))
        figures["probes per name, seen outside"][label].append(arrived / len(watched))
    for title, rows in figures.items():
        probes = title.startswith("probes")
        bound = Target(2_000, at_least=False, unit="ms") if "sorted, ms, p95" in title else None
        section.add(title, rows, digits=3 if probes else 1, target=dict.fromkeys(rows, bound))
    _annotate(section, done)
    return section


def _loads(rounds: int, shared: int, own: int) -> Iterator[_Load]:
    hosts = itertools.count(1)
    for number in range(rounds):
        addresses = inside.pool(POOL, next(hosts))
        names = load.names(f"shared{number}", shared)
        yield _Load("shared addresses", dict.fromkeys(names, addresses), _SHARED_RATE)
        names = load.names(f"own{number}", own)
        yield _Load(
            "own addresses", {name: inside.pool(POOL, next(hosts)) for name in names}, _OWN_RATE
        )


def _annotate(section: Section, done: Sequence[Watched]) -> None:
    distances = sorted(map(milliseconds, done[0].pool))
    ordered = sum(name.ordered for name in done)
    section.notes.append(
        f"new names: {_SHARED_RATE}/s with shared addresses, {_OWN_RATE}/s with their own; "
        f"asked again {INTERVAL * 1000:g} ms after each reply until sorted"
    )
    section.notes.append(
        f"addresses {distances[0]} to {distances[-1]} ms away; upstreams answer at once"
    )
    section.notes.append(
        "sorted: the whole pool, nearest address first, long TTL; "
        f"all {POOL} in order of distance: {ordered} of {len(done)} names"
    )
