"""Cached hits: how fast, and at what cost, a cached answer leaves."""

from __future__ import annotations

from bench import load, servers
from bench.authority import Authority, same
from bench.daemons import Laboratory, wait_for
from bench.report import Section, Target

NAMES = 1_000


def measure(laboratory: Laboratory, *, rounds: int, seconds: float) -> Section:
    """Ask each server in turn for names that all of them have cached."""
    section = Section(
        f"Cached hits ({NAMES:,} names, {rounds} rounds of {seconds:g} s, 100 outstanding)"
    )
    authority = Authority(laboratory, same())
    queries = load.query_file(laboratory, "hits", load.names("hit", NAMES))
    daemons = [
        start(laboratory, authority.addresses)
        for start in (servers.staggerdns, servers.unbound, servers.dnsmasq)
    ]
    for daemon in daemons:
        load.run(daemon, queries, outstanding=20)
        # Whatever goes on behind the answers ends before the first round.
        settled = _Quiet(authority)
        wait_for(settled.reached, patience=5)
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
        "queries/s", speed, base="unbound", target=Target(0.6, at_least=True, of_ratio=True)
    )
    section.add(
        "CPU us per query",
        cost,
        digits=2,
        base="unbound",
        target=Target(1.8, at_least=False, of_ratio=True),
    )
    section.notes.append(f"{leaked:,} of {section.asked.total():,} queries went to an upstream")
    return section


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
