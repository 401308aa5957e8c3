"""Cached hits over connections: TCP, DNS over TLS and DNS over HTTPS."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from bench import h2load, http2cost, load, programs, servers
from bench.authority import Authority, same
from bench.client import ask, question
from bench.daemons import Daemon, Laboratory, free_port
from bench.report import Section, Target
from bench.servers import Doors, targets
from tests.kit.certificates import CertificateAuthority

NAMES = 1_000
_CLIENTS = 10
#: Requests that each connection over HTTPS has under way.
_STREAMS = 10
_TCP, _DOT, _DOH = "TCP", "DoT", "DoH"


class _Server(NamedTuple):
    daemon: Daemon
    doors: Doors


class _Work(NamedTuple):
    """``queries``: a file for dnsperf; ``query``: one with the octets of one of them."""

    queries: Path
    query: Path
    seconds: float
    requests: int

    def run(self, way: str, server: _Server) -> load.Load:
        """Load a server this way."""
        if way == _DOH:
            return h2load.run(
                server.daemon,
                server.doors.https,
                self.query,
                count=self.requests,
                clients=_CLIENTS,
                outstanding=_STREAMS,
            )
        return load.run(
            server.daemon,
            self.queries,
            seconds=self.seconds,
            mode=way.lower(),
            port=server.doors.tls if way == _DOT else None,
            clients=_CLIENTS,
        )


def measure(laboratory: Laboratory, *, rounds: int, seconds: float, requests: int) -> Section:
    """Ask each server in turn for names that it has cached. ``requests``: how many over HTTPS."""
    section = Section(
        f"Cached hits over connections ({NAMES:,} names, {_CLIENTS} connections, {rounds} rounds "
        f"of {seconds:g} s, 100 outstanding; over HTTPS {requests:,} requests by POST)"
    )
    names = load.names("hit", NAMES)
    query = laboratory.path("query")
    query.write_bytes(question(names[0], 0))
    work = _Work(load.query_file(laboratory, "hits", names), query, seconds, requests)
    running = _start(laboratory)
    for server in running:
        load.run(server.daemon, work.queries, outstanding=20)
    ways = [_TCP, _DOT, *([_DOH] if programs.has("h2load") else [])]
    labels = [server.daemon.name for server in running]
    speed: dict[str, dict[str, list[float]]] = {way: {name: [] for name in labels} for way in ways}
    cost: dict[str, dict[str, list[float]]] = {way: {name: [] for name in labels} for way in ways}
    library = []
    reply = ask(running[0].daemon.address, names[0], timeout=2.0)
    for number in range(rounds + 1):
        for way in ways:
            for server in running:
                done = work.run(way, server)
                if number:  # the first round warms up
                    speed[way][server.daemon.name].append(done.per_second)
                    cost[way][server.daemon.name].append(done.cpu_each)
                    section.count(server.daemon.name, done.failed, done.answered + done.failed)
        if number and _DOH in ways and reply:
            library.append(http2cost.microseconds(query.read_bytes(), reply, requests))
    for way in ways:
        _add(section, way, speed[way], cost[way])
    if library:
        _add_library(section, cost, library)
    return section


def _start(laboratory: Laboratory) -> list[_Server]:
    """Start every server, each with a listener of its own for each transport."""
    authority = Authority(laboratory, same())
    certificate = CertificateAuthority(laboratory.path("authority")).issue("127.0.0.1")
    starts: list[Callable[..., Daemon]] = [
        *(partial(servers.staggerdns, build=build) for build in servers.builds()),
        servers.unbound,
    ]
    running = []
    for start in starts:
        doors = Doors(free_port("127.0.0.1"), free_port("127.0.0.1"), certificate)
        running.append(_Server(start(laboratory, authority.addresses, doors=doors), doors))
    return running


_AT_MOST = {_TCP: (1.3, 1.2), _DOT: (1.6, 1.4)}


def _add(
    section: Section, way: str, speed: dict[str, list[float]], cost: dict[str, list[float]]
) -> None:
    """Add what one transport does, beside unbound."""
    bounds = [Target(bound, at_least=False, of_ratio=True) for bound in _AT_MOST.get(way, ())]
    section.add(f"{way}: queries/s", speed, base="unbound", paired=True)
    section.add(
        f"{way}: CPU us per query",
        cost,
        digits=1,
        base="unbound",
        target=targets(*bounds) if bounds else None,
        paired=True,
    )


def _add_library(
    section: Section, cost: dict[str, dict[str, list[float]]], library: list[float]
) -> None:
    """Add what is ours of DoH: how it compares with DoT and what the library takes by itself."""
    name = f"h2 {metadata.version('h2')} alone"
    section.add("CPU us per request", {name: library}, digits=1)
    section.add(
        "DoH of DoT + h2 alone",
        {
            build.name: [
                whole / (part + alone)
                for whole, part, alone in zip(
                    cost[_DOH][build.name], cost[_DOT][build.name], library, strict=True
                )
            ]
            for build in servers.builds()
        },
        digits=2,
        target=targets(Target(1.3, at_least=False), Target(1.2, at_least=False)),
    )
