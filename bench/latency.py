"""What asking through a server adds to asking the fastest upstream directly."""

from __future__ import annotations

import statistics
from collections import defaultdict

from bench import load, servers
from bench.authority import Authority, same
from bench.client import Pacer
from bench.daemons import Laboratory
from bench.report import Section, Target, percentile

RATE = 200
#: What is looked at, and whether there is a target.
_SHARES = {50: True, 95: False, 99: True}


def measure(laboratory: Laboratory, *, rounds: int, seconds: float) -> Section:
    """Ask for never-seen names at RATE a second, directly and through each server, in turns
    within the same intervals.

    One server at a time: what others do behind their answers would be in its times.
    """
    section = Section(
        f"Added latency over the fastest upstream "
        f"({RATE} never-seen names/s, {rounds} rounds of {seconds:g} s)"
    )
    authority = Authority(laboratory, same())
    daemons = [
        start(laboratory, authority.addresses)
        for start in (*servers.every_staggerdns(), servers.dnsmasq)
    ]
    added: dict[int, dict[str, list[float]]] = {share: defaultdict(list) for share in _SHARES}
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
            for share, figures in added.items():
                more = percentile(through, share) - percentile(straight, share)
                figures[daemon.name].append(more * 1000)
    for share, figures in added.items():
        target = Target(2.0, at_least=False, of_ratio=True) if _SHARES[share] else None
        section.add(
            f"added us, p{share}",
            figures,
            base="dnsmasq",
            target={servers.COMPILED.name: target},
            paired=True,
        )
    section.notes.append(f"asked directly: median {statistics.median(direct) * 1000:.0f} us")
    return section
