"""Groups of clients with real servers: each group has one of its own for the same names."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Self

import pytest

from tests.kit.certificates import CertificateAuthority
from tests.kit.clients import TcpClient, UdpClient, kdig, question
from tests.kit.daemons import nsd
from tests.kit.ports import free_endpoint
from tests.kit.program import Program, run_to_end

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from tests.kit.internet.world import World
    from tests.kit.ports import Endpoint

pytestmark = pytest.mark.usefixtures("own_network")
KID, OTHER = "127.0.0.2", "127.0.0.3"
"""Source addresses of clients."""
DISTANCES = {"kids": 16, "guests": 32, "public": 48}
NETWORKS = {kind: f"198.18.{distance}.0/20" for kind, distance in DISTANCES.items()}
"""What the server of each group answers with; in the test internet, addresses that are so many
milliseconds away, and up to 15 more.
"""
ADDRESSES = 3
"""Addresses of each name."""
NAMES = tuple(f"www{number}.example." for number in range(8))
ALIASES = tuple(f"alias{number}.example." for number in range(4))
"""Names that are CNAMEs to one of their group's."""
TTL = 1


def zone(kind: str) -> str:
    """What the server of a group knows."""
    lines = ["@ 5 SOA ns admin 1 3600 600 86400 5", "@ 5 NS ns", "ns 5 A 127.0.0.1"]
    names = [f"www{number}" for number in range(len(NAMES))]
    for number in range(len(ALIASES)):
        lines.append(f"alias{number} {TTL} CNAME {kind}{number}")
        names.append(f"{kind}{number}")
    for host, name in enumerate(names, 1):
        lines += [
            f"{name} {TTL} A 198.18.{DISTANCES[kind] + 7 * step}.{host}"
            for step in reversed(range(ADDRESSES))  # the farthest first
        ]
    return "\n".join(lines) + "\n"


class Site:
    """Three servers that know the same names, and the program in front of them."""

    def __init__(self, directory: Path, *, ranked: bool = False) -> None:
        self.directory = directory
        self._ranked = ranked
        self.authority = CertificateAuthority(directory / "authority")
        self.plain, self.second, self.tls, self.https = (free_endpoint() for _ in range(4))
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._stack as stack:
            servers: dict[str, Endpoint] = {}
            self.processes = []
            for kind in NETWORKS:
                servers[kind] = free_endpoint()
                process = nsd(self.directory / kind, {"example": zone(kind)}, [servers[kind]])
                self.processes.append(stack.enter_context(process))
            listeners = [str(self.second), f"tls://{self.tls}", f"https://{self.https}"]
            files = self.authority.issue("dns.example", "127.0.0.1")
            settings = {
                "server": {
                    "listen": [str(self.plain), *listeners],
                    "tls_certificate": str(files.chain),
                    "tls_key": str(files.key),
                },
                "ranking": {"enabled": self._ranked, "rtt_cache_ttl": 1},
                "groups": {
                    "kids": {"clients": [KID], "routes": [self._route(servers["kids"])]},
                    "guests": {
                        "listeners": listeners,
                        "routes": [self._route(servers["guests"])],
                    },
                },
            }
            self.program = stack.enter_context(
                Program(
                    self.directory / "program", [servers["public"]], settings, listen=self.plain
                )
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @staticmethod
    def _route(server: Endpoint) -> dict[str, list[str]]:
        return {"domains": ["example"], "servers": [str(server)]}

    def stop_servers(self) -> None:
        """Let them answer nothing any more."""
        for process in self.processes:
            process.send_signal(signal.SIGSTOP)

    def continue_servers(self) -> None:
        """Let them answer again."""
        for process in self.processes:
            process.send_signal(signal.SIGCONT)


def check(found: list[str], kind: str) -> None:
    """Check that all addresses are those of one server."""
    assert len(found) == ADDRESSES
    assert all(ip_address(one) in ip_network(NETWORKS[kind]) for one in found), (found, kind)


def test_clients_of_two_groups_in_turns(tmp_path: Path, world: World | None) -> None:
    """They ask the same names at the same time, over UDP and TCP, new ones, cached and stale ones,
    CNAMEs too, while refreshes and sorts are under way: each gets the addresses and the CNAMEs of
    its own group's server only. Without a test internet there are no sorts.
    """
    kinds = {KID: "kids", OTHER: "public"}
    ranked = world is not None  # probes must not leave
    with Site(tmp_path, ranked=ranked) as site, contextlib.ExitStack() as stack:
        clients: list[tuple[str, UdpClient | TcpClient]] = []
        for source in kinds:
            clients.append((source, stack.enter_context(UdpClient(site.plain, source))))
            clients.append((source, stack.enter_context(TcpClient(site.plain, source))))

        def ask_all() -> None:
            for name in (*NAMES, *ALIASES):
                for _, client in clients:
                    client.send(question(name))
            for source, client in clients:
                for _ in (*NAMES, *ALIASES):
                    reply = client.receive(30)
                    check(reply.addresses, kinds[source])
                    if reply.message.question[0].name.to_text() in ALIASES:
                        assert f"CNAME {kinds[source]}" in str(reply.message), reply.message

        end = time.monotonic() + 3 * TTL
        rounds = 0
        while time.monotonic() < end or rounds < 5:
            ask_all()
            rounds += 1
        site.stop_servers()
        try:
            time.sleep(1.5 * TTL)
            ask_all()
            ask_all()
        finally:
            site.continue_servers()
        ask_all()
        metrics = site.program.metrics()
        assert metrics.value("staggerdns_answer_seconds_count", source="stale") > 0
        assert metrics.value("staggerdns_answer_seconds_count", source="upstream") > 0
        probed = metrics.value("staggerdns_probes_total")
        assert probed > len(NAMES) if ranked else probed == 0


@pytest.mark.parametrize("source", [KID, OTHER])
def test_listeners(tmp_path: Path, source: str) -> None:
    """A client of no network belongs to the group of the listener that it comes in by, over each
    protocol, when its name is new and when the reply is ready.
    """
    with Site(tmp_path) as site:
        trust = (f"+tls-ca={site.authority.ca}", "+tls-hostname=dns.example")
        ways: list[tuple[Endpoint, tuple[str, ...], str]] = [
            (site.plain, (), "public"),
            (site.plain, ("+tcp",), "public"),
            (site.second, (), "guests"),
            (site.second, ("+tcp",), "guests"),
            (site.tls, ("+tls", *trust), "guests"),
            (site.https, ("+https", *trust), "guests"),
        ]
        for name in NAMES[:2]:
            for _ in range(2):
                for endpoint, arguments, kind in ways:
                    text = kdig(endpoint, "-b", source, *arguments, "+short", name)
                    check(text.split(), kind if source == OTHER else "kids")


def test_a_group_that_nobody_can_have_meant(tmp_path: Path) -> None:
    """The program does not start, and says in one line which and why."""
    configuration = tmp_path / "staggerdns.yaml"
    configuration.write_text(
        "upstream: {servers: [127.0.0.1]}\n"
        "groups: {a: {clients: [10.0.0.0/8]}, b: {clients: [10.0.0.0/8]}}\n"
    )
    done = run_to_end(configuration, tmp_path)
    assert done.returncode == os.EX_CONFIG
    said = "groups.b.clients[0]: 10.0.0.0/8 belongs to groups.a already"
    assert said in done.stdout + done.stderr
