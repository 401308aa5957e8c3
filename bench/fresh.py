"""Never-seen names: what a name costs when all five upstreams are asked for it."""

from __future__ import annotations

from collections.abc import Callable

from bench import load, servers
from bench.client import Pacer
from bench.daemons import Daemon, Laboratory, wait_for
from bench.report import Section, Target
from bench.witness import Witnesses

_WITNESSED = 200
#: Names that fill the caches before the first round: a server that has been up for a while
#: makes room for every new name.
_TO_FILL = (servers.CACHE_SIZE, 10_000, 1_000)

_Start = Callable[[Laboratory, servers.Upstreams], Daemon]
_STARTS: tuple[_Start, ...] = (servers.staggerdns, servers.dnsmasq, servers.dnsmasq_default)


def measure(laboratory: Laboratory, *, rounds: int, count: int) -> Section:
    """Ask each server in turn for ``count`` names that nobody has asked for before."""
    section = Section(
        f"Never-seen names, {len(servers.UPSTREAMS)} upstreams all asked "
        f"({count:,} names a round, {rounds} rounds, 200 outstanding)"
    )
    authority = servers.Authority(laboratory)
    daemons = [start(laboratory, authority.addresses) for start in _STARTS]
    speed: dict[str, list[float]] = {daemon.name: [] for daemon in daemons}
    cost: dict[str, list[float]] = {daemon.name: [] for daemon in daemons}
    upstream: dict[str, list[float]] = {daemon.name: [] for daemon in daemons}
    for daemon, entries in zip(daemons, _TO_FILL, strict=True):
        warm = load.query_file(laboratory, "fresh", load.names("warm", entries))
        load.run(daemon, warm, settle=authority.arrival_of(entries * len(servers.UPSTREAMS)))
    for number in range(rounds):
        queries = load.query_file(laboratory, "fresh", load.names(f"fresh{number}", count))
        for daemon in daemons:
            before = authority.queries()
            settle = authority.arrival_of(count * len(servers.UPSTREAMS))
            done = load.run(daemon, queries, outstanding=200, settle=settle)
            speed[daemon.name].append(done.per_second)
            cost[daemon.name].append(done.cpu_each)
            upstream[daemon.name].append((authority.queries() - before) / count)
            section.count(daemon.name, done.failed, done.answered + done.failed)
    section.add("names/s", speed, base="dnsmasq", target=Target(1.0, at_least=True, of_ratio=True))
    section.add(
        "CPU us per name",
        cost,
        digits=1,
        base="dnsmasq",
        target=Target(1.0, at_least=False, of_ratio=True),
    )
    section.add(
        "upstream queries per name",
        upstream,
        digits=3,
        target=Target(len(servers.UPSTREAMS) * 0.999, at_least=True),
    )
    section.notes.append("dnsmasq: 10,000 cache entries; dnsmasq (150): its default; all full")
    for start in (servers.staggerdns, servers.dnsmasq):
        name, complete = _witnessed(laboratory, start)
        section.notes.append(
            f"{name}: {complete} of {_WITNESSED} witnessed names reached each of the upstreams"
        )
    return section


def _witnessed(laboratory: Laboratory, start: _Start) -> tuple[str, int]:
    """Show with a small load what nsd, which counts its addresses together, cannot show."""
    names = load.names("witness", _WITNESSED)
    with Witnesses() as witnesses:
        daemon = start(laboratory, witnesses.addresses)
        Pacer([daemon.address], rate=200).run(names, patience=2.0)
        wait_for(lambda: witnesses.complete(names) == _WITNESSED, patience=4.0)
        daemon.stop()
        return daemon.name, witnesses.complete(names)
