"""How each server is configured: one thread, loopback only, the same upstreams."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench import programs
from bench.authority import ZONE, Upstreams
from bench.client import ask, failed
from bench.daemons import START_TIME, Daemon, Laboratory, StartError, free_port, wait_for
from bench.report import Target
from tests.kit.balancer import balancer
from tests.kit.certificates import Certificate
from tests.kit.checkout import ROOT
from tests.kit.internet.world import World

#: Entries that every cache may hold.
CACHE_SIZE = 50_000
#: Entries of dnsmasq. With 10,001 it logs at its start that so many may cost performance.
DNSMASQ_SIZE = 10_000

#: What the other servers are called.
RIVALS = {"dnsmasq", "dnsmasq (150)", "smartdns", "unbound"}

Start = Callable[[Laboratory, Upstreams], Daemon]


class Build(NamedTuple):
    """One way to run StaggerDNS: ``name`` in the tables, ``path`` that its modules come from (None:
    the checkout).
    """

    name: str
    path: Path | None

    @property
    def suffix(self) -> str:
        """What tells the build apart in the label of something that it does."""
        return self.name.removeprefix("staggerdns")

    @property
    def environment(self) -> dict[str, str]:
        """What the program is started with beyond the environment of the benchmark."""
        return {} if self.path is None else {"PYTHONPATH": str(self.path)}


class Doors(NamedTuple):
    """The ports of a server for DNS over TLS and DNS over HTTPS, and its certificate."""

    tls: int
    https: int
    certificate: Certificate


PURE = Build("staggerdns", None)
COMPILED = Build("staggerdns (compiled)", ROOT / "build" / "compiled")


def builds() -> list[Build]:
    """Return the builds that there are here: the checkout, and what `make compiled` has made."""
    return [build for build in (PURE, COMPILED) if build.path is None or _whole(build.path)]


def _whole(path: Path) -> bool:
    """Tell whether a build has ended well: make leaves a mark."""
    return (path / ".ready").exists()


def targets(pure: Target | None, compiled: Target | None = None) -> dict[str, Target | None]:
    """Return the target of each build; without one of its own, the compiled one has the other's."""
    return {PURE.name: pure, COMPILED.name: compiled or pure}


def staggerdns(
    laboratory: Laboratory,
    upstreams: Upstreams,
    build: Build = PURE,
    *,
    world: World | None = None,
    entries: int = CACHE_SIZE,
    doors: Doors | None = None,
    proxy: str = "",
    anywhere: bool = False,
    store: str = "",
    more: str = "",
) -> Daemon:
    """Start StaggerDNS with its defaults: access control, metrics and TTL ageing are on.

    Ranking is on inside a ``world``, where its probes stay; elsewhere they would leave the machine.
    ``doors``: where it is asked over encrypted connections, too. ``proxy``: an address from which
    others are spoken for. ``anywhere``: it may use all cores. ``store``: its second level, a URL.
    ``more``: other sections of the configuration.
    """
    port, metrics = free_port("127.0.0.1"), free_port("127.0.0.1")
    listed = ", ".join(f"'{host}:{number}'" for host, number in upstreams)
    listeners = f"'127.0.0.1:{port}'"
    certificate = ""
    if doors:
        listeners += f", 'tls://127.0.0.1:{doors.tls}', 'https://127.0.0.1:{doors.https}'"
        certificate = (
            f", tls_certificate: {doors.certificate.chain}, tls_key: {doors.certificate.key}"
        )
    proxies = f", proxy_protocol: [{proxy}]" if proxy else ""
    shared = f", shared: {{url: '{store}', timeout: 50ms}}" if store else ""
    config = laboratory.write(
        f"staggerdns-{port}.yaml",
        f"server: {{listen: [{listeners}]{certificate}{proxies}}}\n"
        "upstream:\n"
        f"  servers: [{listed}]\n"
        f"cache: {{max_entries: {entries}{shared}}}\n"
        f"metrics: {{listen: '127.0.0.1:{metrics}'}}\n"
        f"ranking: {{enabled: {str(world is not None).lower()}}}\n{more}",
    )
    command = [programs.twistd(), "-n", "--pidfile=", "staggerdns", "--config", str(config)]
    with world.inside() if world else contextlib.nullcontext():
        daemon = _started(
            build.name, command, laboratory, port, build.environment, anywhere=anywhere
        )
    daemon.web = ("127.0.0.1", metrics)
    return daemon


def every_staggerdns(world: World | None = None, entries: int = CACHE_SIZE) -> list[Start]:
    """Return how to start each of the `builds`."""
    return [partial(staggerdns, build=build, world=world, entries=entries) for build in builds()]


def unbound(
    laboratory: Laboratory,
    upstreams: Upstreams,
    doors: Doors | None = None,
    include: Path | None = None,
) -> Daemon:
    """Start unbound as a forwarder that does not validate, as StaggerDNS does not.

    ``doors``: where it is asked over encrypted connections, too. ``include``: a file with more
    lines for the section ``server``.
    """
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
        *(_unbound_doors(doors) if doors else ()),
        *([f"  include: {include}"] if include else ()),
        "remote-control:",
        "  control-enable: no",
        "forward-zone:",
        '  name: "."',
        *(f"  forward-addr: {host}@{number}" for host, number in upstreams),
    ]
    config = laboratory.write(f"unbound-{port}.conf", "\n".join(lines) + "\n")
    command = [programs.find("unbound"), "-d", "-c", str(config)]
    return _started("unbound", command, laboratory, port)


def _unbound_doors(doors: Doors) -> list[str]:
    return [
        f"  interface: 127.0.0.1@{doors.tls}",
        f"  interface: 127.0.0.1@{doors.https}",
        f"  tls-port: {doors.tls}",
        f"  https-port: {doors.https}",
        f"  tls-service-key: {doors.certificate.key}",
        f"  tls-service-pem: {doors.certificate.chain}",
        "  incoming-num-tcp: 100",
    ]


def dnsmasq(
    laboratory: Laboratory,
    upstreams: Upstreams,
    entries: int = DNSMASQ_SIZE,
    include: Path | None = None,
) -> Daemon:
    """Start dnsmasq asking all upstreams at once (--all-servers).

    What a new name costs it depends on ``entries``: with full caches dnsmasq 2.90 took 31 us of
    CPU per name with 150 and 122 us with 10,000, in one run of `bench.fresh`.

    ``include``: a file with more lines of its configuration.
    """
    port = free_port("127.0.0.1")
    command = [
        programs.find("dnsmasq"),
        "--keep-in-foreground",
        f"--conf-file={include or '/dev/null'}",
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


def smartdns(laboratory: Laboratory, upstreams: Upstreams) -> Daemon:
    """Start smartdns with its defaults, which ask all upstreams and probe what they answer."""
    port = free_port("127.0.0.1")
    here = laboratory.directory
    lines = [
        f"bind 127.0.0.1:{port}",
        f"cache-size {CACHE_SIZE}",
        "cache-persist no",
        "log-level error",
        f"log-file {here}/smartdns-{port}.log",
        *(f"server {host}:{number}" for host, number in upstreams),
    ]
    config = laboratory.write(f"smartdns-{port}.conf", "\n".join(lines) + "\n")
    command = [programs.find("smartdns"), "-f", "-c", str(config), "-p", "-"]
    return _started("smartdns", command, laboratory, port)


def _started(
    name: str,
    command: list[str],
    laboratory: Laboratory,
    port: int,
    environment: Mapping[str, str] | None = None,
    *,
    anywhere: bool = False,
) -> Daemon:
    core = None if anywhere else programs.cores()[0]
    daemon = laboratory.start(name, command, core, environment)
    daemon.wait_until_answering(("127.0.0.1", port), f"ready.{ZONE}")
    return daemon


def dnsdist(
    laboratory: Laboratory, instances: Sequence[Daemon], *, anywhere: bool = False
) -> Daemon:
    """Start dnsdist in front of instances that know its address as a `staggerdns` ``proxy``,
    configured as in etc/.
    """
    port = free_port("127.0.0.1")
    front = f'setLocal("127.0.0.1:{port}")\n'
    nodes = [f"{host}:{number}" for host, number in (one.address for one in instances)]
    config = laboratory.write(f"dnsdist-{port}.conf", front + balancer(nodes))
    command = [programs.find("dnsdist"), "--supervised", "--disable-syslog", "-C", str(config)]
    daemon = _started("dnsdist", command, laboratory, port, anywhere=anywhere)

    def ready() -> bool:
        reply = ask(daemon.address, f"ready.{ZONE}", timeout=1.0)
        return reply is not None and not failed(reply)

    # Until it has looked whether they are, it answers that it has none.
    if not wait_for(ready, START_TIME):
        raise StartError("dnsdist finds none of its instances")
    return daemon


def redis(laboratory: Laboratory) -> str:
    """Start redis-server, which keeps nothing on disk; return its URL."""
    port = free_port("127.0.0.1")
    command = [
        programs.find("redis-server"),
        *("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
        *("--dir", str(laboratory.directory)),
    ]
    laboratory.start("redis", command, None)

    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    if not wait_for(listens, START_TIME):
        raise StartError("redis-server does not listen")
    return f"redis://127.0.0.1:{port}"


def dnsmasq_default(laboratory: Laboratory, upstreams: Upstreams) -> Daemon:
    """Start dnsmasq as above, with the cache size that it has by default."""
    daemon = dnsmasq(laboratory, upstreams, entries=150)
    daemon.name = "dnsmasq (150)"
    return daemon


def dnsmasq_large(laboratory: Laboratory, upstreams: Upstreams) -> Daemon:
    """Start dnsmasq as above, with as many entries as StaggerDNS."""
    return dnsmasq(laboratory, upstreams, entries=CACHE_SIZE)
