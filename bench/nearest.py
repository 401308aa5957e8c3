"""Ranking with upstreams that are far away: how soon the nearest address is first, what that costs
in probes, and whether first answers wait for it.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence

from bench import inside, load, programs, servers
from bench.client import Pacer, ask, records
from bench.daemons import Daemon, Laboratory
from bench.report import Curve, Section, Target, percentile
from bench.servers import Start, targets
from bench.witness import Witnesses
from tests.kit.internet.hosts import milliseconds

#: Milliseconds that each of the five upstreams takes.
DELAYS = (50.0, 87.5, 125.0, 162.5, 200.0)
FIRST_ANSWERS = "first"
#: New names a second, and in all.
_RATE, _NAMES = 25, 100
#: Seconds after the last of them, at which all are looked at.
_PATIENCE = 4.0
#: New names a second while first answers are timed, and how many of them share a pool: there are
#: not addresses enough for every name.
_FIRST_RATE, _SHARING = 100, 4
_QUANTILES = 100


def measure(laboratory: Laboratory, *, rounds: int) -> Section:
    """Ask for new names, wait, and look which address is first."""
    section = Section(
        f"Nearest address first (upstreams {DELAYS[0]:g} to {DELAYS[-1]:g} ms away with three "
        f"addresses each, {_NAMES} names at {_RATE}/s, looked at {_PATIENCE:g} s after the last, "
        f"{rounds} rounds)"
    )
    world = laboratory.enter(inside.internet())
    every = inside.pools()
    labels = [f"nearest{number}" for number in range(rounds)]
    asked = [load.names(label, _NAMES) for label in labels]
    pools = dict(zip(itertools.chain(*asked), every, strict=False))
    witnesses = laboratory.enter(Witnesses(pools, delays=DELAYS))
    share: dict[str, list[float]] = defaultdict(list)
    off: dict[str, list[float]] = defaultdict(list)
    probes: dict[str, list[float]] = defaultdict(list)
    for start in servers.every_staggerdns(world):
        daemon = start(laboratory, witnesses.addresses)
        for names in asked:
            sent = daemon.metric("staggerdns_probes_total")
            pacer = Pacer([daemon.address], rate=_RATE)
            pacer.run(names, patience=0.0)
            time.sleep(_PATIENCE)
            missed = [_missed(daemon, name, pools[name]) for name in names]
            daemon.wait_until_idle()
            share[daemon.name].append(sum(not far for far in missed) / _NAMES * 100)
            off[daemon.name].append(statistics.mean(missed))
            sent = daemon.metric("staggerdns_probes_total") - sent
            probes[daemon.name].append(sent / _NAMES)
            section.count(daemon.name, 0, _NAMES)
        daemon.stop()
    section.add("nearest first, %", share, digits=1, target=targets(Target(100, at_least=True)))
    section.add("ms off, mean", off, digits=1)
    section.add("probes per name", probes, digits=1, target=targets(Target(21, at_least=False)))
    return section


def _missed(daemon: Daemon, name: str, pool: Sequence[str]) -> float:
    """Return how many milliseconds the first address is farther than the nearest of the pool."""
    reply = ask(daemon.address, name, timeout=2.0)
    addresses = records(reply)[0] if reply else []
    if not addresses:
        raise load.LoadError(f"{daemon.name}: no answer for a name that it knows")
    return milliseconds(addresses[0]) - min(map(milliseconds, pool))


def first_answers(laboratory: Laboratory, *, rounds: int, names: int) -> Section:
    """Time first answers, while addresses of earlier ones are probed, beside those of others."""
    section = Section(
        f"First answers while probing goes on (upstreams {DELAYS[0]:g} to {DELAYS[-1]:g} ms "
        f"away, {names:,} names a round at {_FIRST_RATE}/s, {rounds} rounds)"
    )
    world = laboratory.enter(inside.internet())
    every = inside.pools()
    labels = [f"first{number}" for number in range(rounds)]
    asked = [load.names(label, names) for label in labels]
    pools = {
        name: every[number // _SHARING % len(every)]
        for number, name in enumerate(itertools.chain(*asked))
    }
    witnesses = laboratory.enter(Witnesses(pools, delays=DELAYS))
    starts: list[Start] = [*servers.every_staggerdns(world), servers.dnsmasq, servers.unbound]
    if programs.has("smartdns"):
        starts.append(servers.smartdns)
    daemons = [start(laboratory, witnesses.addresses) for start in starts]
    probes = [_probes(daemon) for daemon in daemons]
    p50: dict[str, list[float]] = defaultdict(list)
    p99: dict[str, list[float]] = defaultdict(list)
    everything: dict[str, list[float]] = defaultdict(list)
    for one in asked:
        pacer = Pacer([daemon.address for daemon in daemons], rate=_FIRST_RATE)
        for daemon, times in zip(daemons, pacer.run(one, patience=3.0), strict=True):
            section.count(daemon.name, len(one) - len(times), len(one))
            times.sort()
            p50[daemon.name].append(percentile(times, 50))
            p99[daemon.name].append(percentile(times, 99))
            everything[daemon.name] += times
    section.add("ms, median", p50, digits=1, base="dnsmasq", paired=True)
    section.add(
        "ms, p99",
        p99,
        digits=1,
        base="dnsmasq",
        target=targets(Target(1.05, at_least=False, of_ratio=True)),
        paired=True,
    )
    for daemon, before in zip(daemons, probes, strict=True):
        times = sorted(everything[daemon.name])
        shares = [share * 100 / _QUANTILES for share in range(_QUANTILES)]
        quantiles = [round(percentile(times, share), 3) for share in shares]
        section.curves.append(Curve(FIRST_ANSWERS, daemon.name, quantiles, shares))
        if daemon.web[1]:
            section.notes.append(f"{daemon.name}: {_probes(daemon) - before:,.0f} probes meanwhile")
    return section


def _probes(daemon: Daemon) -> float:
    return daemon.metric("staggerdns_probes_total") if daemon.web[1] else 0.0
