"""What asking through a server adds to asking the fastest upstream directly."""

from __future__ import annotations

import statistics

from bench import load, servers
from bench.authority import Authority, same
from bench.client import Pacer
from bench.daemons import Laboratory
from bench.report import Section, Target, p95

RATE = 200


def measure(laboratory: Laboratory, *, rounds: int, seconds: float) -> Section:
    """Ask for never-seen names at RATE a second, directly and through each server, in turns
    within the same intervals.
    """
    section = Section(
        f"Added latency over the fastest upstream "
        f"({RATE} never-seen names/s, {rounds} rounds of {seconds:g} s)"
    )
    authority = Authority(laboratory, same())
    daemons = [
        start(laboratory, authority.addresses) for start in (servers.staggerdns, servers.dnsmasq)
    ]
    labels = [daemon.name for daemon in daemons]
    added: dict[str, list[float]] = {label: [] for label in labels}
    tail: dict[str, list[float]] = {label: [] for label in labels}
    count = int(RATE * seconds)
    direct = []
    for number in range(rounds):
        for daemon in daemons:
            pacer = Pacer([authority.addresses[0], daemon.address], rate=RATE)
            names = load.names(f"latency{number}", count)
            straight, through = (sorted(times) for times in pacer.run(names, patience=2.0))
            section.count(daemon.name, pacer.failed, 2 * count)
            if not straight or not through:
                raise load.LoadError(f"{daemon.name}: no replies at {RATE} names/s")
            direct.append(statistics.median(straight))
            added[daemon.name].append(statistics.median(through) - statistics.median(straight))
            tail[daemon.name].append(p95(through) - p95(straight))
    section.add("added ms, median", added, digits=3, target=Target(1.0, at_least=False, unit="ms"))
    section.add("added ms, p95", tail, digits=3)
    section.notes.append(f"asked directly: median {statistics.median(direct):.3f} ms")
    return section
