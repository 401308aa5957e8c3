"""Memory at a full cache: the peak, and the bytes that one more name takes."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

from bench import inside, load, servers
from bench.authority import UPSTREAMS, Authority, Upstreams, own, same
from bench.daemons import Daemon, Laboratory
from bench.report import Section, Target
from bench.servers import Start, dnsmasq_large, targets, unbound

#: Names asked before the first look, so that buffers, pools and code are there already.
_WARM = 2_000
#: A name with one address, and one with a pool of fifteen, may take so many bytes.
_ONE, _FIFTEEN = 614, 1229
#: The same with the reply that is ready to be sent once more.
_HIT = 1536
#: Pools that the names share: so few that each round trip is known after the first names.
_POOLS, _POOL = 16, 15
_RANKED = ", ranked"


def one(laboratory: Laboratory, *, total: int, rate: int) -> Section:
    """Fill fresh servers with as many names as StaggerDNS holds, then ask for each name once more.

    ``total``: up to `servers.CACHE_SIZE`, which is what the others may hold.
    """
    section = Section(f"Memory with {total:,} cached names (filled at {rate:,} names/s)")
    fill = _Fill(laboratory, Authority(laboratory, same()), total, rate, pools=0)
    starts: list[Start] = [*servers.every_staggerdns(entries=total), unbound, dnsmasq_large]
    _measure(section, fill, starts, targets(Target(_ONE, at_least=False, unit="bytes")))
    return section


def fifteen(laboratory: Laboratory, *, total: int, rate: int) -> Section:
    """The same with pools of fifteen addresses, three from each upstream, as they come and in
    order of distance.
    """
    section = Section(f"Memory with {total:,} cached pools of {_POOL} (filled at {rate:,} names/s)")
    world = laboratory.enter(inside.internet())
    pools = [inside.pool(_POOL, host) for host in range(1, _POOLS + 1)]
    authority = Authority(laboratory, own(pools))
    fill = _Fill(laboratory, authority, total, rate, pools=_POOLS)
    plain = servers.every_staggerdns(entries=total)
    starts = [*plain, *(_ranked(start) for start in servers.every_staggerdns(world, total))]
    bound = Target(_FIFTEEN, at_least=False, unit="bytes")
    names = [name + suffix for name in targets(bound) for suffix in ("", _RANKED)]
    _measure(section, fill, starts, dict.fromkeys(names, bound))
    return section


def _ranked(start: Start) -> Start:
    def started(laboratory: Laboratory, upstreams: Upstreams) -> Daemon:
        daemon = start(laboratory, upstreams)
        daemon.name += _RANKED
        return daemon

    return started


class _Fill:
    """The loads that fill a server with ``total`` names, and ask for them again."""

    def __init__(
        self, laboratory: Laboratory, authority: Authority, total: int, rate: int, *, pools: int
    ) -> None:
        self.laboratory = laboratory
        self.authority = authority
        # wait_until_answering has cached a name.
        self.count = total - 1
        self._rate = rate
        file = partial(load.query_file, laboratory)
        names = partial(load.names, "memory", pools=pools)
        self._loads = (
            (file("memory-warm", names(_WARM)), _WARM),
            (file("memory-rest", names(self.count - _WARM, start=_WARM)), self.count - _WARM),
            (file("memory-all", names(self.count)), 0),
        )

    def run(self, daemon: Daemon, section: Section, asked: int) -> tuple[list[int], int]:
        """Return the resident bytes after a few names, after all of them, and after each was
        asked for again; and how many upstream queries that took. ``asked``: upstreams that are
        asked for a name.
        """
        looks = []
        upstream = 0
        for queries, new in self._loads:
            upstream = self.authority.queries()
            settle = self.authority.arrival_of(new * asked)
            rate = self._rate if new else None
            done = load.run(daemon, queries, rate=rate, settle=settle)
            daemon.wait_until_idle()
            section.count(daemon.name, done.failed, done.answered + done.failed)
            looks.append(daemon.memory()[0])
        return looks, self.authority.queries() - upstream


def _measure(
    section: Section, fill: _Fill, starts: list[Start], bounds: dict[str, Target | None]
) -> None:
    filled: dict[str, list[float]] = {}
    hit: dict[str, list[float]] = {}
    peak: dict[str, list[float]] = defaultdict(list)
    for start in starts:
        daemon = start(fill.laboratory, fill.authority.addresses)
        asked = 1 if daemon.name == "unbound" else len(UPSTREAMS)
        (before, full, after), again = fill.run(daemon, section, asked)
        if again:
            section.notes.append(f"{daemon.name}: {again:,} upstream queries for names once cached")
        if daemon.name != "dnsmasq":  # which takes the whole cache at its start
            filled[daemon.name] = [(full - before) / (fill.count - _WARM)]
            hit[daemon.name] = [(after - before) / (fill.count - _WARM)]
        peak[daemon.name].append(daemon.memory()[1] / 2**20)
        daemon.stop()
    section.add("bytes per name", filled, target=bounds)
    section.add(
        "bytes per name, all hit once",
        hit,
        target=targets(Target(_HIT, at_least=False, unit="bytes")) if "unbound" in hit else None,
    )
    section.add("peak RSS, MiB", peak, digits=1)
