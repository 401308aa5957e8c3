"""Connections whose packets vanish without a word: no RST, no FIN, no ICMP."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit import behaviours as b
from tests.kit.certificates import CertificateAuthority
from tests.kit.daemons import encrypted_unbound
from tests.kit.namespaces import command
from tests.kit.ports import free_endpoint
from tests.kit.program import Program
from tests.kit.scripted import ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.clients import Reply

TIMEOUT = 2.0
SETTINGS: dict[str, Any] = {
    "log": {"level": "debug"},
    "upstream": {
        "timeout": f"{TIMEOUT}s",
        "parallel": {"total_collect_timeout": f"{TIMEOUT}s"},
        "health": {"unhealthy_after": 1000, "degraded_after": 1000},
    },
}


@contextlib.contextmanager
def black_hole(port: int) -> Iterator[None]:
    """Lose every packet of the connection with this port of the client."""
    # These rules have to come before that of the loopback.
    if command("ip rule show").startswith("0:"):
        command("ip rule add pref 100 lookup local")
        command("ip rule del pref 0")
    rules = [
        f"pref {10 + end} ipproto tcp {key} {port} blackhole"
        for end, key in enumerate(("sport", "dport"))
    ]
    for rule in rules:
        command(f"ip rule add {rule}")
    try:
        yield
    finally:
        for rule in rules:
            command(f"ip rule del {rule}")


def client_port(server_port: int) -> int:
    """The port of the one connection to a server."""
    own = f"127.0.0.1:{server_port}"
    lines = command(f"ss -Htn state established dst {own}").splitlines()
    (line,) = lines
    return int(line.split()[2].rpartition(":")[2])


def assert_lost_or_late(reply: Reply, address: str) -> None:
    """Check what came of a query on a dead connection, at the end of its time.

    The query and the connection have the same timeout. When the connection is given up first the
    query goes out again, and has its answer in the last moment.
    """
    assert reply.seconds > TIMEOUT * 0.9
    assert reply.rcode == "SERVFAIL" or reply.addresses == [address]


@pytest.fixture
def server() -> Iterator[ScriptedUpstream]:
    """A server over TCP that answers at once."""
    with ScriptedUpstream(b.answers("203.0.113.1")) as running:
        yield running


def test_noticed_and_replaced(server: ScriptedUpstream, tmp_path: Path) -> None:
    """The query on a dead connection costs its timeout; then there is a new connection.

    A query that began later goes out again on that, and has its answer within its own time. The
    lost one does so as well when the connection is given up a moment before it is.
    """
    with Program(tmp_path, [f"tcp://{server.endpoint}"], SETTINGS) as program:
        assert program.ask("first.example.").addresses == ["203.0.113.1"]
        with black_hole(server.queries[-1].source.port):
            lost: list[Reply] = []
            unlucky = threading.Thread(
                target=lambda: lost.append(program.ask("lost.example.", timeout=10))
            )
            unlucky.start()
            time.sleep(TIMEOUT * 0.7)
            saved = program.ask("saved.example.", timeout=10)
            assert saved.addresses == ["203.0.113.1"]
            assert saved.seconds < TIMEOUT
            unlucky.join()
            assert_lost_or_late(lost[0], "203.0.113.1")
            assert program.ask("after.example.").seconds < TIMEOUT * 0.8
        metrics = program.metrics()
        assert metrics.value("staggerdns_upstream_connects_total", result="tcp") == 2
        assert metrics.value("staggerdns_upstream_repeated_total") in (1, 2)
        assert metrics.value("staggerdns_upstream_connections") == 1
    assert server.connections_accepted == 2


@pytest.mark.parametrize("scheme", ["tls", "https"])
def test_encrypted_connections(tmp_path: Path, scheme: str) -> None:
    """The same over TLS and HTTPS: the next query after the timeout is answered at once."""
    authority = CertificateAuthority(tmp_path / "authority")
    certificate = authority.issue("127.0.0.1")
    plain, tls, https = free_endpoint(), free_endpoint(), free_endpoint()
    where = f"tls://{tls}" if scheme == "tls" else f"https://{https}/dns-query"
    settings = {**SETTINGS, "upstream": {**SETTINGS["upstream"], "tls_ca": str(authority.ca)}}
    with (
        encrypted_unbound(tmp_path / "unbound", plain, certificate, tls, https),
        Program(tmp_path / "program", [where], settings) as program,
    ):
        assert program.ask("first.example.").addresses == ["203.0.113.53"]
        with black_hole(client_port(tls.port if scheme == "tls" else https.port)):
            assert_lost_or_late(program.ask("lost.example.", timeout=10), "203.0.113.53")
            reply = program.ask("next.example.", timeout=10)
            assert reply.addresses == ["203.0.113.53"]
            assert reply.seconds < TIMEOUT * 0.8
        metrics = program.metrics()
        assert metrics.value("staggerdns_upstream_connects_total", result="full") >= 1
        made = metrics.find("staggerdns_upstream_connects_total")
        assert sum(sample.value for sample in made) == 2
