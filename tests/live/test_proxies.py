"""Clients behind proxies that say for whom they ask: by hand over every transport, and dnsdist."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import tempfile
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from staggerdns.command.client import ask as control
from tests.kit import behaviours as b
from tests.kit.certificates import CertificateAuthority
from tests.kit.clients import Reply, UdpClient, ask, eventually, parse, question
from tests.kit.daemons import balancing_dnsdist
from tests.kit.ports import free_endpoint, free_endpoints
from tests.kit.program import Program
from tests.kit.proxied import LOCAL, speaking_for
from tests.kit.scripted import ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.ports import Endpoint

pytestmark = [
    pytest.mark.live,
    # `ssl` leaves a socket open that was reset before it could be wrapped.
    pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning"),
]
PROXY = "127.0.0.53"
"""The proxy, which may ask itself as well."""
CHILD, ADULT, STRANGER = "198.51.100.9", "2001:db8::9", "203.0.113.5"
"""Of these the first has rules of its own, and the last may not ask."""
ADDRESS = "203.0.113.7"
CHILDS = "203.0.113.8"
"""What the upstream says that the child alone is sent to."""
NOTHING = {"domains": ["ads.example"], "servers": []}
TRANSPORTS = ("udp", "tcp", "tls", "https")
DROPPED = "staggerdns_dropped_queries_total"


class Behind(NamedTuple):
    """A program with a listener of each kind, and where they are."""

    program: Program
    places: dict[str, Endpoint]
    ca: Path
    log: Path

    def dial(self, transport: str, header: bytes, source: str = PROXY) -> socket.socket:
        """Connect, and send a header in front of everything."""
        dialled = socket.create_connection(
            self.places[transport], timeout=5, source_address=(source, 0)
        )
        dialled.sendall(header)
        if transport == "tcp":
            return dialled
        context = ssl.create_default_context(cafile=str(self.ca))
        return context.wrap_socket(dialled, server_hostname="dns.example")

    def ask(self, transport: str, header: bytes, name: str, source: str = PROXY) -> Reply:
        """Ask for an address, with a header in front."""
        wire = question(name).to_wire()
        if transport == "udp":
            with UdpClient(self.places["udp"], source) as client:
                client.send(header + wire)
                return client.receive()
        with self.dial(transport, header, source) as dialled:
            if transport == "https":
                page = http.client.HTTPConnection("dns.example")
                page.sock = dialled
                kind = {"Content-Type": "application/dns-message"}
                page.request("POST", "/dns-query", wire, kind)
                body = page.getresponse().read()
            else:
                dialled.sendall(len(wire).to_bytes(2, "big") + wire)
                with dialled.makefile("rb") as stream:
                    body = stream.read(int.from_bytes(stream.read(2), "big"))
        return Reply(body, parse(body), 0.0)

    def dropped(self, transport: str, reason: str) -> float:
        """How often something was dropped."""
        return self.program.metrics().value(DROPPED, transport=transport, reason=reason)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """One program for all tests here."""
    directory = tmp_path_factory.mktemp("behind")
    authority = CertificateAuthority(directory / "authority")
    files = authority.issue("dns.example", "127.0.0.1")
    plain, tls, https = free_endpoints(3)
    everywhere = free_endpoint()
    log = directory / "queries"
    log.touch()
    settings: dict[str, Any] = {
        "server": {
            "listen": [
                str(plain),
                f"tls://{tls}",
                f"https://{https}",
                f"0.0.0.0:{everywhere.port}",
            ],
            "tls_certificate": str(files.chain),
            "tls_key": str(files.key),
            "allow": ["198.51.100.0/24", "2001:db8::/32", "127.0.0.0/8"],
            "proxy_protocol": [PROXY],
        },
        "groups": {"children": {"clients": [CHILD], "routes": [NOTHING]}},
        "query_log": {"file": str(log)},
        "log": {"level": "debug"},
    }
    with (
        ScriptedUpstream(b.answers(ADDRESS, ttl=300)) as upstream,
        Program(directory / "program", [upstream.endpoint], settings, listen=plain) as program,
    ):
        places = {"udp": plain, "tcp": plain, "tls": tls, "https": https, "all": everywhere}
        yield Behind(program, places, authority.ca, log)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_client_counts(behind: Behind, transport: str) -> None:
    """Access, group and query log are those of the client in the header, over each transport."""
    stream = transport != "udp"
    child, adult = speaking_for(CHILD, stream=stream), speaking_for(ADULT, stream=stream)
    for _ in range(2):
        assert behind.ask(transport, child, "ads.example.").rcode == "NXDOMAIN"
        assert behind.ask(transport, adult, "ads.example.").addresses == [ADDRESS]
        assert behind.ask(transport, LOCAL, "ads.example.").addresses == [ADDRESS]
        assert behind.ask(transport, b"", "ads.example.", "127.0.0.1").addresses == [ADDRESS]
    stranger = speaking_for(STRANGER, stream=stream)
    if transport == "https":
        with pytest.raises(ConnectionError):
            behind.ask(transport, stranger, "ads.example.")
    else:
        assert behind.ask(transport, stranger, "ads.example.").rcode == "REFUSED"

    def logged() -> set[str]:
        *whole, _ = behind.log.read_text().split("\n")
        lines = [json.loads(line) for line in whole]
        return {line["client"] for line in lines if line["transport"] == transport}

    expected = {CHILD, ADULT, PROXY, "127.0.0.1"}
    if transport != "https":  # where no query is read from who may not ask
        expected.add(STRANGER)
    eventually(logged, lambda found: found == expected)


def test_a_listener_on_all_addresses(behind: Behind) -> None:
    """There as well replies go to the proxy, from the address that it has asked."""
    with UdpClient(behind.places["all"], PROXY) as client:
        for _ in range(2):
            query = question("www.example.")
            client.send(speaking_for(ADULT) + query.to_wire())
            assert client.receive().addresses == [ADDRESS]


@pytest.mark.parametrize("transport", TRANSPORTS[1:])
@pytest.mark.parametrize(
    ("header", "source", "reason"),
    [
        (b"", PROXY, "proxy_missing"),
        (speaking_for(CHILD, stream=True), "127.0.0.1", "proxy_unexpected"),
    ],
    ids=["missing", "unexpected"],
)
def test_what_is_broken(
    behind: Behind, transport: str, header: bytes, source: str, reason: str
) -> None:
    """Who should have sent a header and has not, or the reverse, is disconnected and counted."""
    before = behind.dropped(transport, reason)
    with pytest.raises((OSError, AssertionError, ValueError)):
        behind.ask(transport, header, "www.example.", source)
    assert behind.dropped(transport, reason) == before + 1


def test_what_is_not_answered(behind: Behind) -> None:
    """The same over UDP, where nothing comes back."""
    query = question("www.example.").to_wire()
    for source, message in ((PROXY, query), ("127.0.0.1", speaking_for(CHILD) + query)):
        with UdpClient(behind.places["udp"], source) as client:
            client.send(message)
            assert client.receive_raw(0.2) is None
    assert behind.dropped("udp", "proxy_missing") == 1
    assert behind.dropped("udp", "proxy_unexpected") == 1


def test_dnsdist(tmp_path: Path) -> None:
    """As a proxy: its clients count, over UDP and TCP, for what is told of them as well, and its
    health checks are answered.
    """
    front = free_endpoint()
    friend, child, stranger = "127.0.0.9", "127.0.0.10", "127.0.0.11"
    log = tmp_path / "queries"
    log.touch()
    with (
        ScriptedUpstream(b.answers(ADDRESS, ttl=300)) as upstream,
        ScriptedUpstream(b.answers(CHILDS, ttl=300)) as other,
        tempfile.TemporaryDirectory(prefix="proxied") as short,
    ):
        own = {"domains": ["own.example"], "servers": [str(other.endpoint)]}
        settings = {
            "server": {"proxy_protocol": [PROXY], "allow": [PROXY, friend, child]},
            "groups": {"children": {"clients": [child], "routes": [NOTHING, own]}},
            "query_log": {"file": str(log)},
            "control": {"socket": f"{short}/socket"},
        }
        with (
            Program(tmp_path / "program", [upstream.endpoint], settings) as program,
            balancing_dnsdist(
                tmp_path / "dnsdist",
                front,
                f"newServer({{address='{program.endpoint}', source='{PROXY}', "
                "useProxyProtocol=true, checkName='ready.staggerdns.invalid.', checkInterval=1, "
                "mustResolve=true})",
                "setACL('127.0.0.0/8')",
            ),
        ):
            for tcp in (False, True):
                for _ in range(2):
                    assert ask(front, "ads.example", tcp=tcp, source=friend).addresses == [ADDRESS]
                    assert ask(front, "ads.example", tcp=tcp, source=child).rcode == "NXDOMAIN"
                    assert ask(front, "ads.example", tcp=tcp, source=stranger).rcode == "REFUSED"
                    assert ask(front, "own.example", tcp=tcp, source=friend).addresses == [ADDRESS]
                    assert ask(front, "own.example", tcp=tcp, source=child).addresses == [CHILDS]

            for client, asked in ((friend, upstream), (child, other)):
                arguments = {"name": "own.example", "client": client}
                trace = control(f"{short}/socket", "why", arguments)["trace"]
                assert [one["upstream"] for one in trace["asked"]] == [str(asked.endpoint)]

            def logged() -> Counter[str]:
                *whole, _ = log.read_text().split("\n")
                clients = (json.loads(line)["client"] for line in whole)
                return Counter(client for client in clients if client in expected)

            expected = {friend: 8, child: 8, stranger: 4}
            eventually(logged, lambda found: found == expected)

            def checked() -> float:
                samples = program.metrics()
                return samples.value("staggerdns_responses_total", transport="udp", rcode="NOERROR")

            before = checked()
            eventually(checked, lambda count: count > before)  # nobody else asks
            assert program.metrics().value(DROPPED) == 0
