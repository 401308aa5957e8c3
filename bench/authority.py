"""The upstreams of the benchmark: nsd, in which every name of the zone exists, and which counts."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import programs
from bench.daemons import Laboratory, free_port, wait_for

#: Where the five upstreams listen.
UPSTREAMS = tuple(f"127.0.0.{number}" for number in range(11, 16))
ZONE = "bench.example"
Upstreams = Sequence[tuple[str, int]]

#: Seconds after which no staggered batch is still to come.
_SETTLE = 4.0
#: Seconds: a day. In every further zone it is a little less: upstreams answer from caches, so what
#: they give is what is left of a TTL, and hardly twice the same.
_TTL, _TTL_STEP = 86_400, 1_111


class Zone(NamedTuple):
    """What one nsd says: ``addresses`` where it listens, ``ttl`` in seconds, and ``pools``: names
    of the zone's part of a number have the addresses with that number; others have those of 0.
    """

    addresses: Sequence[str]
    ttl: int
    pools: Sequence[Sequence[str]]

    def text(self) -> str:
        """Return the zone file."""
        lines = [
            f"$ORIGIN {ZONE}.",
            f"$TTL {self.ttl}",
            "@ SOA ns hostmaster 1 3600 600 86400 300",
            "@ NS ns",
            "ns A 192.0.2.1",
            *(f"* A {address}" for address in self.pools[0]),
        ]
        for number, pool in enumerate(self.pools):
            lines += [f"*.{part(number)} A {address}" for address in pool]
        return "\n".join(lines) + "\n"


def part(number: int) -> str:
    """Return the label of the zone's part in which names have the pool of this number."""
    return f"p{number}"


def same(records: Sequence[str] = ("203.0.113.7",)) -> list[Zone]:
    """Return the zone of one nsd that listens at all five addresses and knows these records."""
    return [Zone(UPSTREAMS, _TTL, [records])]


def own(pools: Sequence[Sequence[str]]) -> list[Zone]:
    """Return the zones of five nsd, each of which knows every fifth address of each pool."""
    each = len(UPSTREAMS)
    return [
        Zone([address], _TTL - number * _TTL_STEP, [pool[number::each] for pool in pools])
        for number, address in enumerate(UPSTREAMS)
    ]


class Authority:
    """Five upstreams; see `same` and `own` for what they say."""

    def __init__(self, laboratory: Laboratory, zones: Sequence[Zone]) -> None:
        port = free_port(*UPSTREAMS)
        self.addresses: Upstreams = [(address, port) for address in UPSTREAMS]
        self._configs = [
            _start(laboratory, f"nsd{number}", port, zone) for number, zone in enumerate(zones)
        ]

    def queries(self) -> int:
        """How many queries have arrived so far, at all five addresses together."""
        return sum(map(_queries, self._configs))

    def arrival_of(self, more: int) -> Callable[[], None]:
        """Return a function that returns when ``more`` queries have come from now on, or when
        the last of them should have come: staggered batches leave long after the answers.
        """
        goal = self.queries() + more

        def settle() -> None:
            wait_for(lambda: self.queries() >= goal, _SETTLE)

        return settle


def _start(laboratory: Laboratory, name: str, port: int, zone: Zone) -> Path:
    """Start an nsd, wait until it answers, and return its configuration."""
    laboratory.write(f"{name}.zone", zone.text())
    here = laboratory.directory
    lines = [
        "server:",
        *(f"  ip-address: {address}" for address in zone.addresses),
        f"  port: {port}",
        '  username: ""',
        f"  zonesdir: {here}",
        f"  xfrdir: {here}",
        '  database: ""',
        f"  pidfile: {here}/{name}.pid",
        f"  xfrdfile: {here}/{name}.xfrd",
        f"  zonelistfile: {here}/{name}.zones",
        "  server-count: 1",
        "  rrl-ratelimit: 0",
        "remote-control:",
        "  control-enable: yes",
        f"  control-interface: {here}/{name}.control",
        "zone:",
        f"  name: {ZONE}",
        f"  zonefile: {name}.zone",
    ]
    config = laboratory.write(f"{name}.conf", "\n".join(lines) + "\n")
    command = [programs.find("nsd"), "-d", "-c", str(config)]
    daemon = laboratory.start(name, command, programs.cores()[1])
    for address in zone.addresses:
        daemon.wait_until_answering((address, port), f"ready.{ZONE}")
    return config


def _queries(config: Path) -> int:
    done = subprocess.run(
        [programs.find("nsd-control"), "-c", str(config), "stats_noreset"],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    found = re.search(r"^num\.queries=(\d+)$", done.stdout, re.MULTILINE)
    if found is None:
        raise programs.SetupError("nsd-control reports no num.queries")
    return int(found.group(1))
