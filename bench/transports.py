"""The same upstream over UDP, TCP, DNS over TLS and DNS over HTTPS."""

from __future__ import annotations

import statistics
from pathlib import Path

from bench import load, programs, servers
from bench.authority import ZONE
from bench.client import Pacer
from bench.daemons import Daemon, Laboratory, free_port
from bench.report import Section, Target
from tests.kit.certificates import Certificate, CertificateAuthority

RATE = 100
_FORMS = {
    "DoH": "https://127.0.0.1:{https}/dns-query",
    "DoT": "tls://127.0.0.1:{tls}",
    "TCP": "tcp://127.0.0.1:{plain}",
    "UDP": "127.0.0.1:{plain}",
}
_Ports = dict[str, int]


def measure(laboratory: Laboratory, *, rounds: int, count: int, seconds: float) -> Section:
    """Ask unbound through four programs, one for each transport, for never-seen names."""
    section = Section(
        f"One unbound over four transports ({count:,} never-seen names a round, {rounds} rounds, "
        f"200 outstanding; latency at {RATE} names/s for {seconds:g} s)"
    )
    authority = CertificateAuthority(laboratory.path("authority"))
    ports = {name: free_port("127.0.0.1") for name in ("plain", "tls", "https")}
    _unbound(laboratory, ports, authority.issue("127.0.0.1"))
    daemons = {
        name + build.suffix: _staggerdns(
            laboratory, name + build.suffix, form.format(**ports), authority.ca, build
        )
        for build in servers.builds()
        for name, form in _FORMS.items()
    }
    speed: dict[str, list[float]] = {name: [] for name in daemons}
    cost: dict[str, list[float]] = {name: [] for name in daemons}
    for number in range(rounds + 1):
        queries = load.query_file(laboratory, "names", load.names(f"transport{number}", count))
        for name, daemon in daemons.items():
            done = load.run(daemon, queries, outstanding=200)
            if number:  # the first round warms up
                speed[name].append(done.per_second)
                cost[name].append(done.cpu_each)
                section.count(name, done.failed, done.answered + done.failed)
    section.add("names/s", speed, base="TCP")
    section.add("CPU us per name", cost, digits=1, base="TCP")
    _add_latency(section, daemons, seconds, rounds)
    made = {
        name: daemon.metric("staggerdns_upstream_connects_total")
        for name, daemon in daemons.items()
    }
    listed = ", ".join(f"{name} {number:.0f}" for name, number in made.items())
    section.notes.append(f"connections made in all: {listed}")
    return section


def _add_latency(section: Section, daemons: dict[str, Daemon], seconds: float, rounds: int) -> None:
    """Add what a name takes at a steady rate, and how much longer than over TCP."""
    added: dict[str, list[float]] = {name: [] for name in daemons}
    taken: dict[str, list[float]] = {name: [] for name in daemons}
    count = int(RATE * seconds)
    for number in range(rounds):
        pacer = Pacer([daemon.address for daemon in daemons.values()], rate=RATE)
        times = pacer.run(load.names(f"paced{number}", count), patience=2.0)
        medians = dict(zip(daemons, map(statistics.median, times), strict=True))
        for name, median in medians.items():
            taken[name].append(median)
            added[name].append(median - medians["TCP" + name[len("TCP") :]])
        section.count("latency", pacer.failed, count * len(daemons))
    section.add("ms, median", taken, digits=3)
    bound = Target(1.0, at_least=False, unit="ms")
    encrypted = {name: figures for name, figures in added.items() if name[:3] in {"DoH", "DoT"}}
    section.add("ms more than TCP", encrypted, digits=3, target=dict.fromkeys(encrypted, bound))


def _unbound(laboratory: Laboratory, ports: _Ports, certificate: Certificate) -> Daemon:
    """Start unbound with an answer for every name of the zone, on the core of the client."""
    lines = [
        "server:",
        *(f"  interface: 127.0.0.1@{port}" for port in ports.values()),
        f"  tls-port: {ports['tls']}",
        f"  https-port: {ports['https']}",
        f"  tls-service-key: {certificate.key}",
        f"  tls-service-pem: {certificate.chain}",
        "  incoming-num-tcp: 100",
        '  username: ""',
        '  chroot: ""',
        f"  directory: {laboratory.directory}",
        f"  pidfile: {laboratory.directory}/transports.pid",
        "  num-threads: 1",
        "  do-daemonize: no",
        "  use-syslog: no",
        '  module-config: "iterator"',
        f'  local-zone: "{ZONE}." redirect',
        f'  local-data: "{ZONE}. 300 A 203.0.113.7"',
        "  access-control: 127.0.0.0/8 allow",
        "remote-control:",
        "  control-enable: no",
    ]
    config = laboratory.write("transports.conf", "\n".join(lines) + "\n")
    command = [programs.find("unbound"), "-d", "-c", str(config)]
    daemon = laboratory.start("unbound", command, programs.cores()[1])
    daemon.wait_until_answering(("127.0.0.1", ports["plain"]), f"ready.{ZONE}")
    return daemon


def _staggerdns(
    laboratory: Laboratory, name: str, upstream: str, ca: Path, build: servers.Build
) -> Daemon:
    """Start StaggerDNS with this one upstream."""
    port, metrics = free_port("127.0.0.1"), free_port("127.0.0.1")
    config = laboratory.write(
        f"staggerdns-{port}.yaml",
        f"server: {{listen: ['127.0.0.1:{port}']}}\n"
        f"upstream: {{servers: ['{upstream}'], tls_ca: {ca}}}\n"
        f"metrics: {{listen: '127.0.0.1:{metrics}'}}\n"
        "ranking: {enabled: false}\n",
    )
    command = [programs.twistd(), "-n", "--pidfile=", "staggerdns", "--config", str(config)]
    daemon = laboratory.start(name, command, programs.cores()[0], build.environment)
    daemon.wait_until_answering(("127.0.0.1", port), f"ready.{ZONE}")
    daemon.web = ("127.0.0.1", metrics)
    return daemon
