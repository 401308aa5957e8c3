"""Several instances on one machine behind dnsdist, beside one instance by itself: how much they
answer, and which part needs how much of the processors for it.
"""

from __future__ import annotations

import os
import resource
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from bench import load, servers
from bench.authority import UPSTREAMS, Authority, same
from bench.daemons import Daemon, Laboratory
from bench.report import Section
from tests.kit.balancer import SOURCE

ALONE = "one instance"
#: How many instances there are behind each dnsdist.
_COUNTS = (1, 2, 4)
_NAMES = 1_000
_OUTSTANDING, _CLIENTS = 100, 8
#: One query in so many is for a name that nobody has asked for.
_EVERY = 10
_SEED = 1
_Figures = dict[str, list[float]]


class _Setup(NamedTuple):
    """``door``: whom clients ask; ``balancer``: dnsdist, if that is it."""

    name: str
    door: Daemon
    balancer: Daemon | None
    instances: Sequence[Daemon]

    def cpu(self) -> tuple[float, float]:
        """Seconds of CPU of all instances, and of dnsdist."""
        balancer = self.balancer.cpu_seconds() if self.balancer else 0.0
        return sum(one.cpu_seconds() for one in self.instances), balancer


class _Costs:
    """What each of the setups has answered in each round, and microseconds of CPU that it took."""

    def __init__(self, setups: Sequence[_Setup]) -> None:
        names = [setup.name for setup in setups]
        self.speed: _Figures = {name: [] for name in names}
        self.instances: _Figures = {name: [] for name in names}
        self.balancer: _Figures = {name: [] for name in names}
        self.client: _Figures = {name: [] for name in names}

    def add_to(self, section: Section, label: str) -> None:
        """Make the lines of the table."""
        section.add(f"{label}: queries/s", self.speed, base=ALONE, paired=True)
        costs = [("instances", self.instances), ("dnsdist", self.balancer), ("client", self.client)]
        for who, rounds in costs:
            section.add(f"CPU us per query, {who}", rounds, digits=1)


def measure(laboratory: Laboratory, *, rounds: int, seconds: float, count: int) -> Section:
    """Ask each setup in turn, as fast as it answers, for names that it has, then for ``count``
    names of which some are new.
    """
    build = servers.builds()[-1]
    cores = len(os.sched_getaffinity(0))
    section = Section(
        f"Several instances on {cores} cores ({build.name}, {rounds} rounds; hits: {_NAMES:,} "
        f"names for {seconds:g} s; mix: {count:,} queries, one in {_EVERY} for a new name, "
        f"{len(UPSTREAMS)} upstreams; {_OUTSTANDING} outstanding)"
    )
    authority = Authority(laboratory, same())
    instances = [
        servers.staggerdns(laboratory, authority.addresses, build, proxy=SOURCE, anywhere=True)
        for _ in range(max(_COUNTS))
    ]
    setups = [_Setup(ALONE, instances[0], None, instances[:1])]
    for number in _COUNTS:
        balancer = servers.dnsdist(laboratory, instances[:number], anywhere=True)
        setups.append(_Setup(f"{number} behind dnsdist", balancer, balancer, instances[:number]))
    known = load.names("hit", _NAMES)
    hits = load.query_file(laboratory, "hits", known)
    for setup in setups:
        load.run(setup.door, hits, outstanding=20, anywhere=True)
        load.run(setup.door, hits, seconds=min(1.0, seconds), anywhere=True)
    hit_costs, mix_costs = _Costs(setups), _Costs(setups)
    rng = Random(_SEED)
    for number in range(rounds):
        for setup in setups:
            _run(section, setup, hits, hit_costs, seconds=seconds)
        for at, setup in enumerate(setups):
            fresh = load.names(f"mix{number}-{at}", count // _EVERY)
            mixed = fresh + rng.choices(known, k=count - len(fresh))
            rng.shuffle(mixed)
            queries = load.query_file(laboratory, "mix", mixed)
            settle = authority.arrival_of(len(fresh) * len(UPSTREAMS))
            _run(section, setup, queries, mix_costs, settle=settle)
    hit_costs.add_to(section, "hits")
    mix_costs.add_to(section, "mix")
    section.notes.append(
        f"client, dnsdist, instances and upstreams share {cores} cores, so the rates are those of "
        "the machine; what counts is the CPU that each part takes"
    )
    section.notes += [_bounds(hit_costs, "hits"), _bounds(mix_costs, "mix")]
    return section


def _bounds(costs: _Costs, label: str) -> str:
    """Return what a core for each of the processes would do, as far as CPU is all that it takes."""
    most = f"{max(_COUNTS)} behind dnsdist"
    one = 1e6 / statistics.median(costs.instances[most])
    dnsdist = 1e6 / statistics.median(costs.balancer[most])
    return (
        f"{label}: a core is {one:,.0f} queries/s of an instance behind dnsdist, and "
        f"{dnsdist:,.0f} of dnsdist itself, which is as much as {dnsdist / one:.1f} instances do"
    )


def _run(
    section: Section,
    setup: _Setup,
    queries: Path,
    costs: _Costs,
    *,
    seconds: float | None = None,
    settle: Callable[[], None] = lambda: None,
) -> None:
    before, client = setup.cpu(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = load.run(
        setup.door,
        queries,
        seconds=seconds,
        outstanding=_OUTSTANDING,
        clients=_CLIENTS,
        anywhere=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    settle()
    for daemon in setup.instances:
        daemon.wait_until_idle()
    instances, balancer = (late - early for late, early in zip(setup.cpu(), before, strict=True))
    each = 1e6 / done.answered
    costs.speed[setup.name].append(done.answered / done.seconds)
    costs.instances[setup.name].append(instances * each)
    costs.balancer[setup.name].append(balancer * each)
    used = after.ru_utime + after.ru_stime - client.ru_utime - client.ru_stime
    costs.client[setup.name].append(used * each)
    section.count(setup.name, done.failed, done.answered + done.failed)
