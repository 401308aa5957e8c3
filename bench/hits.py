"""Cached hits: how fast, and at what cost, a cached answer leaves."""

from __future__ import annotations

import statistics
from pathlib import Path

from bench import load, servers
from bench.authority import Authority, same
from bench.daemons import Daemon, Laboratory, wait_for
from bench.report import Curve, Section, Target
from bench.servers import targets

NAMES = 1_000
#: Queries a second of a load that is far from what a server can do, and that which has a target.
RATES = (1_000, 5_000, 20_000, 40_000)
STEADY = 20_000
RATES_PICTURE = "rates"


def measure(laboratory: Laboratory, *, rounds: int, seconds: float) -> Section:
    """Ask each server in turn, as fast as it answers, for names that all of them have cached."""
    section = Section(
        f"Cached hits ({NAMES:,} names, {rounds} rounds of {seconds:g} s, 100 outstanding)"
    )
    authority, queries, daemons = _filled(laboratory)
    for daemon in daemons:
        load.run(daemon, queries, seconds=min(1.0, seconds))
    upstream_before = authority.queries()
    speed: dict[str, list[float]] = {daemon.name: [] for daemon in daemons}
    cost: dict[str, list[float]] = {daemon.name: [] for daemon in daemons}
    for _ in range(rounds):
        for daemon in daemons:
            done = load.run(daemon, queries, seconds=seconds)
            speed[daemon.name].append(done.per_second)
            cost[daemon.name].append(done.cpu_each)
            section.count(daemon.name, done.failed, done.answered + done.failed)
    leaked = authority.queries() - upstream_before
    section.add(
        "queries/s",
        speed,
        base="unbound",
        target=targets(Target(1.0, at_least=True, of_ratio=True)),
        paired=True,
    )
    section.add(
        "CPU us per query",
        cost,
        digits=2,
        base="unbound",
        target=targets(Target(1.1, at_least=False, of_ratio=True)),
        paired=True,
    )
    section.notes.append(f"{leaked:,} of {section.asked.total():,} queries went to an upstream")
    return section


def steady(laboratory: Laboratory, *, rounds: int, seconds: float) -> Section:
    """Ask each server in turn at steady rates: few queries are there when it wakes up."""
    section = Section(
        f"Cached hits at a steady rate ({NAMES:,} names, {rounds} rounds of {seconds:g} s)"
    )
    _, queries, daemons = _filled(laboratory)
    cost: dict[int, dict[str, list[float]]] = {
        rate: {daemon.name: [] for daemon in daemons} for rate in RATES
    }
    for _ in range(rounds):
        for rate, figures in cost.items():
            for daemon in daemons:
                done = load.run(daemon, queries, seconds=seconds, rate=rate)
                figures[daemon.name].append(done.cpu_each)
                section.count(daemon.name, done.failed, done.answered + done.failed)
    bounds = targets(
        Target(1.5, at_least=False, of_ratio=True), Target(1.3, at_least=False, of_ratio=True)
    )
    for rate, figures in cost.items():
        section.add(
            f"{rate:,}/s: CPU us per query",
            figures,
            digits=1,
            base="unbound",
            target=bounds if rate == STEADY else None,
            paired=True,
        )
    for daemon in daemons:
        each = [statistics.median(figures[daemon.name]) for figures in cost.values()]
        section.curves.append(Curve(RATES_PICTURE, daemon.name, list(RATES), each))
    return section


def _filled(laboratory: Laboratory) -> tuple[Authority, Path, list[Daemon]]:
    """Start the servers and let each of them cache the names."""
    authority = Authority(laboratory, same())
    queries = load.query_file(laboratory, "hits", load.names("hit", NAMES))
    starts = (*servers.every_staggerdns(), servers.unbound, servers.dnsmasq)
    daemons = [start(laboratory, authority.addresses) for start in starts]
    for daemon in daemons:
        load.run(daemon, queries, outstanding=20)
        # Whatever goes on behind the answers ends before the first round.
        settled = _Quiet(authority)
        wait_for(settled.reached, patience=5)
    return authority, queries, daemons


class _Quiet:
    """True once the upstreams have seen nothing new for some looks."""

    LOOKS = 5

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._last = -1
        self._same = 0

    def reached(self) -> bool:
        now = self._authority.queries()
        self._same = self._same + 1 if now == self._last else 0
        self._last = now
        return self._same >= self.LOOKS
