"""Ranking with upstreams that are far away: how soon the nearest address is first, what that costs
in probes, and whether first answers wait for it.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from random import Random

from bench import inside, load, programs, servers
from bench.client import Pacer, ask, records
from bench.daemons import Daemon, Laboratory
from bench.report import Curve, Section, Target, percentile
from bench.servers import Start, targets
from bench.witness import Witnesses
from tests.kit.internet.hosts import Kind, host_at, milliseconds, special
from tests.kit.internet.world import World

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
#: Shares of addresses that never answer, and of packets that get lost.
_SILENT, _LOST = 0.1, 0.05
_ASKED = (
    f"upstreams {DELAYS[0]:g} to {DELAYS[-1]:g} ms away with three addresses each, {_NAMES} names "
    f"at {_RATE}/s, looked at {_PATIENCE:g} s after the last"
)


def measure(laboratory: Laboratory, *, rounds: int) -> Section:
    """Ask for new names, wait, and look which address is first."""
    section = Section(f"Nearest address first ({_ASKED}, {rounds} rounds)")
    every = inside.pools()
    labels = [f"nearest{number}" for number in range(rounds)]
    asked = [load.names(label, _NAMES) for label in labels]
    pools = dict(zip(itertools.chain(*asked), every, strict=False))
    world = laboratory.enter(inside.internet())
    share: dict[str, list[float]] = defaultdict(list)
    off: dict[str, list[float]] = defaultdict(list)
    probes: dict[str, list[float]] = defaultdict(list)
    for daemon, names in _every(laboratory, world, pools, asked, section):
        sent = _probes(daemon)
        _ask_and_wait(daemon, names)
        missed = [_missed(pools[name], _answer(daemon, name)[0]) for name in names]
        daemon.wait_until_idle()
        share[daemon.name].append(sum(not far for far in missed) / _NAMES * 100)
        off[daemon.name].append(statistics.mean(missed))
        probes[daemon.name].append((_probes(daemon) - sent) / _NAMES)
    section.add("nearest first, %", share, digits=1, target=targets(Target(100, at_least=True)))
    section.add("ms off, mean", off, digits=1)
    section.add("probes per name", probes, digits=1, target=targets(Target(21, at_least=False)))
    return section


def with_losses(laboratory: Laboratory, *, rounds: int) -> Section:
    """The same where addresses are silent and packets get lost."""
    section = Section(
        f"Nearest address first, {_SILENT:.0%} of the addresses silent and {_LOST:.0%} of the "
        f"packets lost ({_ASKED}, {rounds} rounds)"
    )
    chance = Random(rounds)
    mute = (special(Kind.SILENT, number % 256, number // 256) for number in itertools.count())
    labels = [f"lost{number}" for number in range(rounds)]
    asked = [load.names(label, _NAMES) for label in labels]
    pools = {
        name: [next(mute) if chance.random() < _SILENT else address for address in pool]
        for name, pool in zip(itertools.chain(*asked), inside.pools(), strict=False)
    }
    world = laboratory.enter(inside.internet())
    share: dict[str, list[float]] = defaultdict(list)
    silent_first: dict[str, list[float]] = defaultdict(list)
    nearest_last: dict[str, list[float]] = defaultdict(list)
    for daemon, names in _every(laboratory, world, pools, asked, section):
        with world.losing(_LOST):
            _ask_and_wait(daemon, names)
        found = [(pools[name], _answer(daemon, name)) for name in names]
        daemon.wait_until_idle()
        first = [not _is_silent(order[0]) and not _missed(pool, order[0]) for pool, order in found]
        share[daemon.name].append(sum(first) / _NAMES * 100)
        silent_first[daemon.name].append(sum(_is_silent(order[0]) for _, order in found))
        last = [not _missed(pool, _heard(order)[-1]) for pool, order in found]
        nearest_last[daemon.name].append(sum(last))
    never = targets(Target(0, at_least=False))
    section.add("nearest first, %", share, digits=1)
    section.add("names with a silent address first", silent_first, target=never)
    section.add("names with the nearest last", nearest_last, target=never)
    return section


def after_echo(laboratory: Laboratory, *, names: int) -> Section:
    """Ask for a new name again and again, until its nearest address is the first."""
    section = Section(
        f"From the echo of the nearest address to its being first ({names} names one by one, "
        f"asked again at once)"
    )
    asked = load.names("echo", names)
    pools = dict(zip(asked, inside.pools(), strict=False))
    world = laboratory.enter(inside.internet())
    took: dict[str, list[float]] = defaultdict(list)
    for daemon, one_by_one in _every(laboratory, world, pools, [asked], section):
        for name in one_by_one:
            begin = len(world.log())
            nearest = min(pools[name], key=milliseconds)
            end = time.monotonic() + _PATIENCE
            while _answer(daemon, name)[0] != nearest:
                if time.monotonic() > end:
                    raise load.LoadError(f"{daemon.name}: {nearest} of {name} is never first")
            first = time.monotonic()
            probe = next(probe for probe in world.log(begin) if probe.address == nearest)
            took[daemon.name].append((first - probe.at) * 1000 - milliseconds(nearest))
    section.add("ms", took, digits=1, target=targets(Target(10, at_least=False)))
    return section


def _every(
    laboratory: Laboratory,
    world: World,
    pools: Mapping[str, Sequence[str]],
    asked: Sequence[Sequence[str]],
    section: Section,
) -> Iterator[tuple[Daemon, Sequence[str]]]:
    """Start each build in its turn, and yield it with the names of each round; all get answers, or
    the measurement ends.
    """
    witnesses = laboratory.enter(Witnesses(pools, delays=DELAYS))
    for start in servers.every_staggerdns(world):
        daemon = start(laboratory, witnesses.addresses)
        for names in asked:
            yield daemon, names
            section.count(daemon.name, 0, len(names))
        daemon.stop()


def _ask_and_wait(daemon: Daemon, names: Sequence[str]) -> None:
    """Ask for each name once, and leave time for its pool to be put in order."""
    Pacer([daemon.address], rate=_RATE).run(names, patience=0.0)
    time.sleep(_PATIENCE)


def _answer(daemon: Daemon, name: str) -> list[str]:
    """Return the addresses of a name that the server knows."""
    reply = ask(daemon.address, name, timeout=2.0)
    addresses = records(reply)[0] if reply else []
    if not addresses:
        raise load.LoadError(f"{daemon.name}: no answer for a name that it knows")
    return addresses


def _is_silent(address: str) -> bool:
    return host_at(ip_address(address).packed).kind == Kind.SILENT


def _heard(addresses: Sequence[str]) -> list[str]:
    return [address for address in addresses if not _is_silent(address)]


def _missed(pool: Sequence[str], first: str) -> float:
    """Return how many milliseconds an address is farther than the nearest that answers."""
    return milliseconds(first) - min(map(milliseconds, _heard(pool)))


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
