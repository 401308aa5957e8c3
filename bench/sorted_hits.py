"""Cached hits on sorted entries: ranking must not cost a hit anything."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench import inside, load, servers
from bench.authority import UPSTREAMS, Authority, same
from bench.client import ask, records
from bench.daemons import Daemon, Laboratory
from bench.report import Section, Target
from bench.watch import watch
from tests.kit.internet.hosts import by_distance
from tests.kit.internet.world import World

NAMES = 1_000
_ADDRESSES, _HOST = 5, 1
#: New names a second while everything is sorted, and seconds that the last ones may take.
_RATE, _PATIENCE = 500, 10


def measure(laboratory: Laboratory, *, rounds: int, seconds: float) -> Section:
    """Ask StaggerDNS in turn for the same names: one has ranked them, two do not rank. What these
    two differ in is what the machine adds to every ratio.
    """
    section = Section(
        f"Cached hits on sorted entries ({NAMES:,} names, {_ADDRESSES} addresses each, "
        f"{rounds} rounds of {seconds:g} s, 100 outstanding)"
    )
    world = laboratory.enter(inside.internet())
    addresses = inside.pool(_ADDRESSES, _HOST)
    authority = Authority(laboratory, same(addresses))
    names = load.names("sorted", NAMES)
    queries = load.query_file(laboratory, "sorted", names)
    for build in servers.builds():
        _measure(
            section, _Work(laboratory, authority, world, names, queries), build, rounds, seconds
        )
    section.notes.insert(
        0, "ratio: to the first with ranking off, the median of the rounds; `again` shows the noise"
    )
    return section


class _Work(NamedTuple):
    laboratory: Laboratory
    authority: Authority
    world: World
    names: list[str]
    queries: Path


def _measure(
    section: Section, work: _Work, build: servers.Build, rounds: int, seconds: float
) -> None:
    start = partial(servers.staggerdns, work.laboratory, work.authority.addresses, build)
    daemons = ranking, plain, _ = (start(world=work.world), start(), start())
    labels = ("ranking on", "ranking off", "ranking off, again")
    for daemon, label in zip(daemons, labels, strict=True):
        daemon.name = label + build.suffix
        settle = work.authority.arrival_of(NAMES * len(UPSTREAMS))
        load.run(daemon, work.queries, outstanding=20, settle=settle)
    pools = dict.fromkeys(work.names, inside.pool(_ADDRESSES, _HOST))
    watched = watch(ranking.address, pools, rate=_RATE, patience=_PATIENCE)
    if not all(name.ranked for name in watched):
        raise load.LoadError("names are still not sorted: there is nothing to compare")
    for daemon in daemons:
        load.run(daemon, work.queries, seconds=min(1.0, seconds))
    upstream_before, probes_before = work.authority.queries(), len(work.world.log())
    speed: dict[str, list[float]] = {daemon.name: [] for daemon in daemons}
    cost: dict[str, list[float]] = {daemon.name: [] for daemon in daemons}
    for number in range(rounds):
        first = number % len(daemons)
        for daemon in (*daemons[first:], *daemons[:first]):
            done = load.run(daemon, work.queries, seconds=seconds)
            speed[daemon.name].append(done.per_second)
            cost[daemon.name].append(done.cpu_each)
            section.count(daemon.name, done.failed, done.answered + done.failed)
    leaked = work.authority.queries() - upstream_before
    probed = len(work.world.log()) - probes_before
    section.add(
        "queries/s",
        speed,
        base=plain.name,
        target=Target(0.95, at_least=True, of_ratio=True),
        paired=True,
    )
    section.add(
        "CPU us per query",
        cost,
        digits=2,
        base=plain.name,
        target=Target(1.05, at_least=False, of_ratio=True),
        paired=True,
    )
    for daemon in (ranking, plain):
        nearest = _in_order(daemon, work.names)
        section.notes.append(f"{daemon.name}: {nearest:,} of {NAMES:,} names nearest first")
    asked = sum(section.asked[daemon.name] for daemon in daemons)
    section.notes.append(
        f"{leaked:,} of {asked:,} queries went to an upstream, "
        f"{probed:,} probes were sent meanwhile"
    )
    for daemon in daemons:
        daemon.stop()


def _in_order(daemon: Daemon, names: list[str]) -> int:
    """Return how many names have all their addresses in the order of their distance."""
    count = 0
    for name in names:
        reply = ask(daemon.address, name, timeout=1.0)
        addresses = records(reply)[0] if reply else []
        count += len(addresses) == _ADDRESSES and addresses == by_distance(addresses)
    return count
