"""Memory at a full cache: the peak, and the bytes that one more name takes."""

from __future__ import annotations

from bench import load, servers
from bench.authority import UPSTREAMS, Authority, same
from bench.daemons import Laboratory
from bench.report import Section, Target

#: Names asked before the first look, so that buffers, pools and code are there already.
_WARM = 2_000
#: A name may take so many bytes.
_LIMIT = 1536


def measure(laboratory: Laboratory, *, rate: int) -> Section:
    """Fill fresh servers with as many names as StaggerDNS may hold, then ask for each name
    once more.
    """
    total = servers.CACHE_SIZE
    section = Section(f"Memory with {total:,} cached names (filled at {rate:,} names/s)")
    authority = Authority(laboratory, same())
    # wait_until_answering has cached a name.
    room = total - 1
    warm = load.query_file(laboratory, "memory-warm", load.names("memory", _WARM))
    rest = load.query_file(
        laboratory, "memory-rest", load.names("memory", room - _WARM, start=_WARM)
    )
    everything = load.query_file(laboratory, "memory-all", load.names("memory", room))
    filled: dict[str, list[float]] = {}
    hit: dict[str, list[float]] = {}
    peak: dict[str, list[float]] = {}
    for start, asks_all in (
        (servers.staggerdns, True),
        (servers.unbound, False),
        (servers.dnsmasq_large, True),
    ):
        daemon = start(laboratory, authority.addresses)
        looks = []
        upstream = 0
        for queries, count in ((warm, _WARM), (rest, room - _WARM), (everything, room)):
            upstream = authority.queries()
            each = 0 if queries is everything else len(UPSTREAMS) if asks_all else 1
            settle = authority.arrival_of(count * each)
            done = load.run(daemon, queries, rate=rate, settle=settle)
            section.count(daemon.name, done.failed, done.answered + done.failed)
            looks.append(daemon.memory()[0])
        again = authority.queries() - upstream
        if again:
            section.notes.append(f"{daemon.name}: {again:,} upstream queries for names once cached")
        before, full, after = looks
        if daemon.name != "dnsmasq":  # which takes the whole cache at its start
            filled[daemon.name] = [(full - before) / (room - _WARM)]
            hit[daemon.name] = [(after - before) / (room - _WARM)]
        peak[daemon.name] = [daemon.memory()[1] / 2**20]
        daemon.stop()
    section.add("bytes per name", filled, target=Target(_LIMIT, at_least=False, unit="bytes"))
    section.add(
        "bytes per name, all hit once",
        hit,
        target=Target(_LIMIT, at_least=False, unit="bytes"),
    )
    section.add("peak RSS, MiB", peak, digits=1)
    return section
