"""Never-seen names: what a name costs when all five upstreams are asked for it."""

from __future__ import annotations

from dataclasses import dataclass

from bench import inside, load, servers
from bench.authority import UPSTREAMS, Authority, own, same
from bench.client import Pacer
from bench.daemons import Daemon, Laboratory, wait_for
from bench.report import Section, Target
from bench.servers import Start, dnsmasq, dnsmasq_default, targets
from bench.witness import Witnesses

_WITNESSED = 200
_EVERY = len(UPSTREAMS)
#: Queries outstanding. The first come as one burst: dnsmasq, which leaves its receive buffer as it
#: is, has lost what exceeds 194.
_OUTSTANDING = 100
#: The addresses that all upstreams give alike.
_THREE = ("203.0.113.7", "203.0.113.8", "203.0.113.9")
#: Pools of addresses of their own: so few that each round trip is known after the first names.
_POOLS, _POOL = 16, 15
#: What the default of dnsmasq and more does not change.
_DEFAULT_FILL = 1_000


@dataclass(frozen=True)
class _Plan:
    """``starts``: each server, and with how many names its cache is filled before the first round:
    one that has been up for a while makes room for every new name.
    """

    label: str
    authority: Authority
    starts: list[tuple[Start, int]]
    rounds: int
    count: int
    pools: int = 0


def one(laboratory: Laboratory, *, rounds: int, count: int, fill: int) -> Section:
    """Ask each server in turn for ``count`` names that nobody has asked for before, all with one
    and the same address.

    ``fill``: entries of the cache of StaggerDNS, all of which are there before the first round.
    """
    starts = [(start, fill) for start in servers.every_staggerdns(entries=fill)]
    starts += [(dnsmasq, servers.DNSMASQ_SIZE), (dnsmasq_default, _DEFAULT_FILL)]
    authority = Authority(laboratory, same())
    plan = _Plan("one address", authority, starts, rounds, count)
    section = _measure(
        laboratory,
        plan,
        speed=targets(Target(1.0, at_least=True, of_ratio=True)),
        cost=targets(Target(1.0, at_least=False, of_ratio=True)),
    )
    section.notes.append("dnsmasq (150): the size of its cache by default")
    section.notes.append(f"full caches: {fill:,} entries, dnsmasq {servers.DNSMASQ_SIZE:,}")
    for start in (*servers.every_staggerdns(), dnsmasq):
        name, complete = _witnessed(laboratory, start)
        section.notes.append(
            f"{name}: {complete} of {_WITNESSED} witnessed names reached each of the upstreams"
        )
    return section


def three(laboratory: Laboratory, *, rounds: int, count: int, fill: int) -> Section:
    """The same with three addresses, which all upstreams give."""
    starts = [(start, fill) for start in servers.every_staggerdns(entries=fill)]
    starts.append((dnsmasq, servers.DNSMASQ_SIZE))
    authority = Authority(laboratory, same(_THREE))
    section = _measure(
        laboratory,
        _Plan("the same three addresses from each", authority, starts, rounds, count),
        cost=targets(
            Target(1.25, at_least=False, of_ratio=True), Target(0.8, at_least=False, of_ratio=True)
        ),
    )
    section.notes.append(f"full caches: {fill:,} entries, dnsmasq {servers.DNSMASQ_SIZE:,}")
    return section


def own_addresses(laboratory: Laboratory, *, rounds: int, count: int, fill: int) -> Section:
    """The same with three addresses from each upstream that no other has, and ranking on: every
    round trip is known.
    """
    world = laboratory.enter(inside.internet())
    starts = [(start, fill) for start in servers.every_staggerdns(world, fill)]
    starts.append((dnsmasq, servers.DNSMASQ_SIZE))
    pools = [inside.pool(_POOL, host) for host in range(1, _POOLS + 1)]
    authority = Authority(laboratory, own(pools))
    before = len(world.log())
    section = _measure(
        laboratory,
        _Plan("three addresses of its own from each", authority, starts, rounds, count, _POOLS),
        cost=targets(
            Target(2.5, at_least=False, of_ratio=True), Target(1.3, at_least=False, of_ratio=True)
        ),
    )
    section.notes.append(
        f"{_POOLS} pools of {_POOL}, round trips known ({len(world.log()) - before:,} probes in "
        "all); TTLs differ between upstreams"
    )
    section.notes.append(f"full caches: {fill:,} entries, dnsmasq {servers.DNSMASQ_SIZE:,}")
    return section


def _measure(
    laboratory: Laboratory,
    plan: _Plan,
    *,
    cost: dict[str, Target | None],
    speed: dict[str, Target | None] | None = None,
) -> Section:
    section = Section(
        f"Never-seen names, {_EVERY} upstreams all asked, {plan.label} "
        f"({plan.count:,} names a round, {plan.rounds} rounds, {_OUTSTANDING} outstanding)"
    )
    authority = plan.authority
    daemons = [start(laboratory, authority.addresses) for start, _ in plan.starts]
    speeds: dict[str, list[float]] = {daemon.name: [] for daemon in daemons}
    costs: dict[str, list[float]] = {daemon.name: [] for daemon in daemons}
    upstream: dict[str, list[float]] = {daemon.name: [] for daemon in daemons}

    def ask(daemon: Daemon, label: str, count: int) -> load.Load:
        names = load.names(label, count, pools=plan.pools)
        queries = load.query_file(laboratory, "fresh", names)
        arrived = authority.arrival_of(count * _EVERY)

        def settle() -> None:
            arrived()
            daemon.wait_until_idle()

        return load.run(daemon, queries, outstanding=_OUTSTANDING, settle=settle)

    for daemon, (_, entries) in zip(daemons, plan.starts, strict=True):
        # A few at first: what is known of addresses is then known to all that follow.
        ask(daemon, "first", plan.pools * 4 or _EVERY)
        ask(daemon, "warm", entries)
    for number in range(plan.rounds):
        for daemon in daemons:
            before = authority.queries()
            done = ask(daemon, f"fresh{number}", plan.count)
            speeds[daemon.name].append(done.per_second)
            costs[daemon.name].append(done.cpu_each)
            upstream[daemon.name].append((authority.queries() - before) / plan.count)
            section.count(daemon.name, done.failed, done.answered + done.failed)
    section.add("names/s", speeds, base="dnsmasq", target=speed, paired=True)
    section.add("CPU us per name", costs, digits=1, base="dnsmasq", target=cost, paired=True)
    section.add(
        "upstream queries per name",
        upstream,
        digits=3,
        target=targets(Target(_EVERY * 0.999, at_least=True)),
    )
    return section


def _witnessed(laboratory: Laboratory, start: Start) -> tuple[str, int]:
    """Show with a small load what nsd, which counts its addresses together, cannot show."""
    names = load.names("witness", _WITNESSED)
    with Witnesses() as witnesses:
        daemon = start(laboratory, witnesses.addresses)
        Pacer([daemon.address], rate=200).run(names, patience=2.0)
        wait_for(lambda: witnesses.complete(names) == _WITNESSED, patience=4.0)
        daemon.stop()
        return daemon.name, witnesses.complete(names)
