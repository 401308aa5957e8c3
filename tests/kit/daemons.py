"""nsd, unbound, dnsmasq, dnsdist and Prometheus on loopback, each in the foreground and killed by
its pid.

They run as the user that runs the tests, with everything that they write in the directory that
the test gives them. Each is a context manager that is left when its process has ended.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import dns.exception
import yaml

from tests.kit.clients import parse, question, raw_udp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.kit.certificates import Certificate
    from tests.kit.ports import Endpoint

_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def find_program(name: str) -> str:
    """Return the path of a program of a Debian package."""
    found = shutil.which(name, path=_PATH)
    assert found, f"{name} is not installed: `make test` installs it"
    return found


def signal_all(pid: int, number: int) -> None:
    """Send a signal to a process and to all below it: those of nsd that serve are some."""
    os.kill(pid, number)
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
        signal_all(int(child), number)


def _answers(endpoint: Endpoint) -> bool:
    try:
        wire = raw_udp(endpoint, question(".", "SOA").to_wire(), 0.2)
        return wire is not None and parse(wire).id >= 0
    except (OSError, dns.exception.DNSException):
        return False


def _is_ready(endpoint: Endpoint) -> bool:
    try:
        with urllib.request.urlopen(f"http://{endpoint}/-/ready", timeout=1) as page:
            return bool(page.status == 200)
    except OSError:  # an error of HTTP is one as well
        return False


@contextlib.contextmanager
def _running(
    command: Sequence[str],
    log: Path,
    endpoints: Sequence[Endpoint],
    answers: Callable[[Endpoint], bool] = _answers,
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 10
        while not all(answers(endpoint) for endpoint in endpoints):
            assert process.poll() is None, f"{command[0]} ended: {log.read_text()}"
            assert time.monotonic() < deadline, f"{command[0]} is mute: {log.read_text()}"
            time.sleep(0.02)
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)


@contextlib.contextmanager
def nsd(
    directory: Path, zones: Mapping[str, str], endpoints: Sequence[Endpoint]
) -> Iterator[subprocess.Popen[bytes]]:
    """Serve ``zones`` (origin -> zone file text) on all ``endpoints``."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = [
        "server:",
        "  server-count: 1",
        '  username: ""',
        '  chroot: ""',
        '  pidfile: ""',
        f'  zonesdir: "{directory}"',
        f'  zonelistfile: "{directory}/zone.list"',
        f'  xfrdfile: "{directory}/xfrd.state"',
        f'  xfrdir: "{directory}"',
        '  database: ""',
        "  hide-version: no",
        "  refuse-any: no",
        "  minimal-responses: no",
        "  rrl-ratelimit: 0",
        "  reuseport: no",
        "  answer-cookie: yes",
        *(f"  ip-address: {end.host}@{end.port}" for end in endpoints),
        "remote-control:",
        "  control-enable: no",
    ]
    for index, (origin, text) in enumerate(zones.items()):
        path = directory / f"zone{index}"
        path.write_text(text)
        lines += ["zone:", f'  name: "{origin}"', f'  zonefile: "{path}"']
    configuration = directory / "nsd.conf"
    configuration.write_text("\n".join(lines) + "\n")
    command = [find_program("nsd"), "-d", "-c", str(configuration)]
    with _running(command, directory / "nsd.log", endpoints) as process:
        yield process


def _unbound(
    directory: Path, endpoints: Sequence[Endpoint], settings: Sequence[str]
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """Run unbound at ``endpoints`` until it answers at the first of them.

    ``settings``: further lines of the section ``server``, and other sections behind them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lines = [
        "remote-control:",
        "  control-enable: no",
        "server:",
        *(f"  interface: {end.host}@{end.port}" for end in endpoints),
        '  username: ""',
        '  chroot: ""',
        '  pidfile: ""',
        f'  directory: "{directory}"',
        "  num-threads: 1",
        "  use-syslog: no",
        '  logfile: ""',
        '  module-config: "iterator"',
        "  access-control: 127.0.0.0/8 allow",
        *(f"  {line}" for line in settings),
    ]
    configuration = directory / "unbound.conf"
    configuration.write_text("\n".join(lines) + "\n")
    command = [find_program("unbound"), "-d", "-c", str(configuration)]
    return _running(command, directory / "unbound.log", endpoints[:1])


@contextlib.contextmanager
def unbound(
    directory: Path, endpoint: Endpoint, forward_to: Sequence[Endpoint], *more: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Resolve by forwarding everything to ``forward_to``; no validation. ``more`` settings of the
    section ``server`` may follow.
    """
    settings = [
        *more,
        "do-not-query-localhost: no",
        "do-ip6: no",
        "forward-zone:",
        'name: "."',
        *(f"forward-addr: {end.host}@{end.port}" for end in forward_to),
    ]
    with _unbound(directory, [endpoint], settings) as process:
        yield process


@contextlib.contextmanager
def dnsmasq(
    directory: Path,
    endpoint: Endpoint,
    forward_to: Sequence[Endpoint],
    *arguments: str,
) -> Iterator[subprocess.Popen[bytes]]:
    """Forward everything to ``forward_to``; further dnsmasq ``arguments`` may follow."""
    directory.mkdir(parents=True, exist_ok=True)
    command = [
        find_program("dnsmasq"),
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--log-facility=-",
        f"--port={endpoint.port}",
        f"--listen-address={endpoint.host}",
        *(f"--server={end.host}#{end.port}" for end in forward_to),
        *arguments,
    ]
    if os.getuid() == 0:
        command += ["--user=root", "--group=root"]
    with _running(command, directory / "dnsmasq.log", [endpoint]) as process:
        yield process


@contextlib.contextmanager
def encrypted_unbound(
    directory: Path,
    plain: Endpoint,
    certificate: Certificate,
    tls: Endpoint,
    https: Endpoint,
    *settings: str,
) -> Iterator[subprocess.Popen[bytes]]:
    """Answer 203.0.113.53 to every name in ``example.`` over UDP, TCP, DoT and DoH.

    ``settings``: further lines of the section ``server``.
    """
    lines = [
        f"tls-port: {tls.port}",
        f"https-port: {https.port}",
        'http-endpoint: "/dns-query"',
        f'tls-service-key: "{certificate.key}"',
        f'tls-service-pem: "{certificate.chain}"',
        "edns-tcp-keepalive: yes",
        "edns-tcp-keepalive-timeout: 20000",
        'local-zone: "." refuse',
        'local-zone: "example." redirect',
        'local-data: "example. 300 A 203.0.113.53"',
        *settings,
    ]
    with _unbound(directory, [plain, tls, https], lines) as process:
        yield process


@contextlib.contextmanager
def dnsdist(
    directory: Path,
    plain: Endpoint,
    certificate: Certificate,
    tls: Endpoint,
    https: Endpoint,
    *lines: str,
) -> Iterator[subprocess.Popen[bytes]]:
    """Answer 203.0.113.54 to every A question over UDP, TCP, DoT and DoH.

    ``lines``: further lines of its configuration, in Lua.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files = f"'{certificate.chain}', '{certificate.key}'"
    script = [
        f"setLocal('{plain}')",
        f"addTLSLocal('{tls}', {files})",
        f"addDOHLocal('{https}', {files}, '/dns-query')",
        "setSecurityPollSuffix('')",  # or it would ask the world
        *lines,
        "addAction(QTypeRule(DNSQType.A), SpoofAction('203.0.113.54'))",
        "addAction(AllRule(), RCodeAction(DNSRCode.REFUSED))",
    ]
    with _dnsdist(directory, script, plain) as process:
        yield process


@contextlib.contextmanager
def balancing_dnsdist(
    directory: Path, endpoint: Endpoint, *lines: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Answer at ``endpoint`` as its configuration says, which is these ``lines`` in Lua."""
    directory.mkdir(parents=True, exist_ok=True)
    script = [f"setLocal('{endpoint}')", "setSecurityPollSuffix('')", *lines]
    with _dnsdist(directory, script, endpoint) as process:
        yield process


@contextlib.contextmanager
def _dnsdist(
    directory: Path, script: Sequence[str], endpoint: Endpoint
) -> Iterator[subprocess.Popen[bytes]]:
    configuration = directory / "dnsdist.conf"
    configuration.write_text("\n".join(script) + "\n")
    command = [
        find_program("dnsdist"),
        "--supervised",
        "--disable-syslog",
        "--config",
        str(configuration),
    ]
    with _running(command, directory / "dnsdist.log", [endpoint]) as process:
        yield process


@contextlib.contextmanager
def prometheus(
    directory: Path, configuration: Mapping[str, object], endpoint: Endpoint
) -> Iterator[subprocess.Popen[bytes]]:
    """Scrape and evaluate what this prometheus.yml says, and answer queries at ``endpoint``."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(dict(configuration)))
    command = [
        find_program("prometheus"),
        f"--config.file={file}",
        f"--web.listen-address={endpoint}",
        f"--storage.tsdb.path={directory / 'data'}",
        "--log.level=warn",
    ]
    with _running(command, directory / "prometheus.log", [endpoint], _is_ready) as process:
        yield process
