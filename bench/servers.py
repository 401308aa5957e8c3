"""How each server is configured: one thread, loopback only, the same upstreams."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Sequence

from bench import programs
from bench.daemons import Daemon, Laboratory, free_port, wait_for
from tests.kit.internet.world import World

#: Where the one nsd listens: five upstreams.
UPSTREAMS = tuple(f"127.0.0.{number}" for number in range(11, 16))
ZONE = "bench.example"
#: Entries that every cache may hold.
CACHE_SIZE = 50_000
#: Seconds after which no staggered batch is still to come.
_SETTLE = 4.0

_ZONE_FILE = f"""\
$ORIGIN {ZONE}.
$TTL 86400
@ SOA ns hostmaster 1 3600 600 86400 300
@ NS ns
ns A 192.0.2.1
"""

Upstreams = Sequence[tuple[str, int]]


class Authority:
    """nsd on five addresses with a wildcard, so that every name exists; it counts.

    ``records``: the addresses that every name has.
    """

    def __init__(self, laboratory: Laboratory, records: Sequence[str] = ("203.0.113.7",)) -> None:
        port = free_port(*UPSTREAMS)
        self.addresses: Upstreams = [(address, port) for address in UPSTREAMS]
        wildcard = "".join(f"* A {record}\n" for record in records)
        laboratory.write("zone", _ZONE_FILE + wildcard)
        here = laboratory.directory
        lines = [
            "server:",
            *(f"  ip-address: {address}" for address in UPSTREAMS),
            f"  port: {port}",
            '  username: ""',
            f"  zonesdir: {here}",
            f"  xfrdir: {here}",
            '  database: ""',
            f"  pidfile: {here}/nsd.pid",
            f"  xfrdfile: {here}/nsd.xfrd",
            f"  zonelistfile: {here}/nsd.zones",
            "  server-count: 1",
            "  rrl-ratelimit: 0",
            "remote-control:",
            "  control-enable: yes",
            f"  control-interface: {here}/nsd.control",
            "zone:",
            f"  name: {ZONE}",
            "  zonefile: zone",
        ]
        self._config = laboratory.write("nsd.conf", "\n".join(lines) + "\n")
        command = [programs.find("nsd"), "-d", "-c", str(self._config)]
        daemon = laboratory.start("nsd", command, programs.cores()[1])
        for address in self.addresses:
            daemon.wait_until_answering(address, f"ready.{ZONE}")

    def queries(self) -> int:
        """How many queries have arrived so far, at all five addresses together."""
        done = subprocess.run(
            [programs.find("nsd-control"), "-c", str(self._config), "stats_noreset"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
        found = re.search(r"^num\.queries=(\d+)$", done.stdout, re.MULTILINE)
        if found is None:
            raise programs.SetupError("nsd-control reports no num.queries")
        return int(found.group(1))

    def arrival_of(self, more: int) -> Callable[[], None]:
        """Return a function that returns when ``more`` queries have come from now on, or when
        the last of them should have come: staggered batches leave long after the answers.
        """
        goal = self.queries() + more

        def settle() -> None:
            wait_for(lambda: self.queries() >= goal, _SETTLE)

        return settle


def staggerdns(laboratory: Laboratory, upstreams: Upstreams) -> Daemon:
    """Start StaggerDNS with its defaults: access control, metrics and TTL ageing are on.

    Ranking is not: its probes would leave the machine.
    """
    return _staggerdns(laboratory, upstreams, ranking=False)


def staggerdns_ranking(laboratory: Laboratory, upstreams: Upstreams, world: World) -> Daemon:
    """Start StaggerDNS with ranking on, inside ``world``, where its probes stay."""
    with world.inside():
        return _staggerdns(laboratory, upstreams, ranking=True)


def _staggerdns(laboratory: Laboratory, upstreams: Upstreams, *, ranking: bool) -> Daemon:
    port, metrics = free_port("127.0.0.1"), free_port("127.0.0.1")
    listed = ", ".join(f"'{host}:{number}'" for host, number in upstreams)
    config = laboratory.write(
        f"staggerdns-{port}.yaml",
        f"server: {{listen: ['127.0.0.1:{port}']}}\n"
        "upstream:\n"
        f"  servers: [{listed}]\n"
        f"cache: {{max_entries: {CACHE_SIZE}}}\n"
        f"metrics: {{listen: '127.0.0.1:{metrics}'}}\n"
        f"ranking: {{enabled: {str(ranking).lower()}}}\n",
    )
    command = [programs.twistd(), "-n", "--pidfile=", "staggerdns", "--config", str(config)]
    daemon = _started("staggerdns", command, laboratory, port)
    daemon.web = ("127.0.0.1", metrics)
    return daemon


def unbound(laboratory: Laboratory, upstreams: Upstreams) -> Daemon:
    """Start unbound as a forwarder that does not validate, as StaggerDNS does not."""
    port = free_port("127.0.0.1")
    lines = [
        "server:",
        "  interface: 127.0.0.1",
        f"  port: {port}",
        '  username: ""',
        '  chroot: ""',
        f"  directory: {laboratory.directory}",
        f"  pidfile: {laboratory.directory}/unbound-{port}.pid",
        "  num-threads: 1",
        "  do-daemonize: no",
        "  use-syslog: no",
        "  do-not-query-localhost: no",
        '  module-config: "iterator"',
        '  local-zone: "test." nodefault',
        "  access-control: 127.0.0.0/8 allow",
        # Room for CACHE_SIZE answers and their records.
        "  msg-cache-size: 64m",
        "  rrset-cache-size: 64m",
        "remote-control:",
        "  control-enable: no",
        "forward-zone:",
        '  name: "."',
        *(f"  forward-addr: {host}@{number}" for host, number in upstreams),
    ]
    config = laboratory.write(f"unbound-{port}.conf", "\n".join(lines) + "\n")
    command = [programs.find("unbound"), "-d", "-c", str(config)]
    return _started("unbound", command, laboratory, port)


def dnsmasq(laboratory: Laboratory, upstreams: Upstreams, entries: int = 10_000) -> Daemon:
    """Start dnsmasq asking all upstreams at once (--all-servers).

    What a new name costs it depends on ``entries``: with full caches dnsmasq 2.90 took 31 us of
    CPU per name with 150 and 122 us with 10,000, in one run of `bench.fresh`. With 10,001 it logs
    at its start that so many may cost performance, with 10,000 it does not.
    """
    port = free_port("127.0.0.1")
    command = [
        programs.find("dnsmasq"),
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        f"--port={port}",
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
        "--no-resolv",
        "--no-hosts",
        "--all-servers",
        f"--cache-size={entries}",
        "--dns-forward-max=1000",
        f"--pid-file={laboratory.directory}/dnsmasq-{port}.pid",
        *(f"--server={host}#{number}" for host, number in upstreams),
    ]
    if os.geteuid() == 0:
        command.append("--user=root")
    return _started("dnsmasq", command, laboratory, port)


def _started(name: str, command: list[str], laboratory: Laboratory, port: int) -> Daemon:
    daemon = laboratory.start(name, command, programs.cores()[0])
    daemon.wait_until_answering(("127.0.0.1", port), f"ready.{ZONE}")
    return daemon


def dnsmasq_default(laboratory: Laboratory, upstreams: Upstreams) -> Daemon:
    """Start dnsmasq as above, with the cache size that it has by default."""
    daemon = dnsmasq(laboratory, upstreams, entries=150)
    daemon.name = "dnsmasq (150)"
    return daemon


def dnsmasq_large(laboratory: Laboratory, upstreams: Upstreams) -> Daemon:
    """Start dnsmasq as above, with as many entries as StaggerDNS."""
    return dnsmasq(laboratory, upstreams, entries=CACHE_SIZE)
