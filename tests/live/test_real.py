"""Real servers as upstreams, real clients: nsd, unbound, dnsmasq, dig, kdig."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import pytest

from tests.kit import daemons
from tests.kit.clients import ask, dig, eventually, kdig
from tests.kit.ports import Endpoint, free_endpoints
from tests.kit.program import Program

if TYPE_CHECKING:
    from collections.abc import Iterator

ZONE = """\
$ORIGIN zone.example.
$TTL 300
@ SOA ns.zone.example. host.zone.example. 7 3600 600 86400 60
@ NS ns.zone.example.
ns A 192.0.2.1
www A 203.0.{site}.1
www A 203.0.{site}.2
www AAAA 2a00:{six}::1
alias CNAME www
@ MX 10 Mail.Zone.Example.
@ MX 20 mail2
@ TXT "v=spf1 -all" "and more"
_sip._udp SRV 10 20 5060 Sip
@ CAA 0 issue "ca.example"
web HTTPS 1 . alpn="h2,h3" ipv4hint="203.0.113.1"
odd TYPE65280 \\# 6 C00C00FFC0FF
big TXT {big}
*.wild A 203.0.113.99
delegated NS ns.elsewhere.example.
"""

BIG = " ".join(f'"{"x" * 200}"' for _ in range(12))


class ZoneTestbed:
    """Five real upstreams with five views of one zone, and the program before them."""

    def __init__(self, upstreams: list[Endpoint], program: Program) -> None:
        self.upstreams = upstreams
        self.program = program


@pytest.fixture(scope="module")
def zones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZoneTestbed]:
    """Three nsd, an unbound and a dnsmasq that forward to two further nsd."""
    base = tmp_path_factory.mktemp("real")
    ends = free_endpoints(7, first=41)
    with contextlib.ExitStack() as stack:
        for number in range(5):
            text = ZONE.format(site=number, six=number + 1, big=BIG)
            directory = base / f"nsd{number}"
            stack.enter_context(daemons.nsd(directory, {"zone.example": text}, [ends[number]]))
        stack.enter_context(daemons.unbound(base / "unbound", ends[5], [ends[3]]))
        stack.enter_context(daemons.dnsmasq(base / "dnsmasq", ends[6], [ends[4]]))
        upstreams = [ends[0], ends[1], ends[2], ends[5], ends[6]]
        servers = [*map(str, upstreams[:2]), f"tcp://{upstreams[2]}", *map(str, upstreams[3:])]
        program = stack.enter_context(Program(base / "program", servers))
        yield ZoneTestbed(upstreams, program)
        program.check_log()


SETS = {f"203.0.{zones}.{host}" for zones in range(5) for host in (1, 2)}


def test_five_views_in_one_pool(zones: ZoneTestbed) -> None:
    """The addresses of five real servers end in one pool."""
    first = zones.program.ask("www.zone.example")
    assert first.rcode == "NOERROR"
    assert set(first.addresses) <= SETS
    zones.program.pool("www.zone.example", SETS)
    zones.program.ask("www.zone.example", "AAAA")
    zones.program.pool("www.zone.example", {f"2a00:{n}::1" for n in range(1, 6)}, "AAAA")


def test_alias_in_one_pool(zones: ZoneTestbed) -> None:
    """A CNAME and the addresses of five servers behind it."""
    zones.program.ask("alias.zone.example")
    reply = zones.program.pool("alias.zone.example", SETS)
    assert reply.types == ["CNAME", "A"]
    assert reply.message.answer[1].name.to_text() == "www.zone.example."


@pytest.mark.parametrize(
    ("name", "rdtype"),
    [
        ("zone.example", "MX"),
        ("zone.example", "TXT"),
        ("_sip._udp.zone.example", "SRV"),
        ("zone.example", "CAA"),
        ("web.zone.example", "HTTPS"),
        ("odd.zone.example", "TYPE65280"),
        ("zone.example", "NS"),
        ("zone.example", "SOA"),
        ("big.zone.example", "TXT"),
    ],
)
def test_octets_are_those_of_the_server(zones: ZoneTestbed, name: str, rdtype: str) -> None:
    """The data of every type is octet by octet what nsd sends when asked directly."""
    direct = ask(zones.upstreams[0], name, rdtype, tcp=True)
    want = sorted(rdata.to_wire() for rdata in direct.message.answer[0])
    for _ in range(2):
        reply = zones.program.ask(name, rdtype, tcp=True)
        assert sorted(rdata.to_wire() for rdata in reply.message.answer[0]) == want


def test_negatives_with_the_soa_of_the_server(zones: ZoneTestbed) -> None:
    """NXDOMAIN and NODATA come with nsd's SOA, in about one round trip."""
    for name, rdtype, rcode in (
        ("nobody.zone.example", "A", "NXDOMAIN"),
        ("www.zone.example", "MX", "NOERROR"),
    ):
        reply = zones.program.ask(name, rdtype)
        assert reply.rcode == rcode
        assert reply.seconds < 2
        found = reply.authority("SOA")
        assert found is not None
        assert found[0].to_text().startswith("ns.zone.example. host.zone.example. 7 ")
        assert found.ttl <= 60


def test_dig(zones: ZoneTestbed) -> None:
    """Dig has nothing to complain about, over UDP and TCP, with and without EDNS."""
    server = zones.program.endpoint
    zones.program.ask("www.zone.example")
    zones.program.pool("www.zone.example", SETS)
    for extra in ("+noedns", "+bufsize=4096", "+tcp", "+dnssec", "+nocookie"):
        output = dig(server, "WWW.zone.example", "A", extra)
        assert "status: NOERROR" in output
        assert re.search(r"flags: qr rd ra[ ;]", output)
        assert "203.0." in output
        assert ";WWW.zone.example." in output
    assert dig(server, "odd.zone.example", "TYPE65280", "+short").strip() == (r"\# 6 C00C00FFC0FF")
    assert "status: NXDOMAIN" in dig(server, "nobody.zone.example")
    assert "RFC8482" in dig(server, "zone.example", "ANY", "+tcp")
    assert "status: NOTIMP" in dig(server, "zone.example", "+opcode=notify")


def test_dig_falls_back_to_tcp(zones: ZoneTestbed) -> None:
    """A big answer is truncated for dig over UDP, which then gets all of it over TCP."""
    output = dig(zones.program.endpoint, "big.zone.example", "TXT")
    assert "Truncated, retrying in TCP mode" in output
    assert output.count("x" * 200) == 12
    assert "flags: qr tc rd ra" in dig(zones.program.endpoint, "big.zone.example", "TXT", "+ignore")


def test_kdig(zones: ZoneTestbed) -> None:
    """Kdig agrees with dig, also with several queries on one TCP connection."""
    server = zones.program.endpoint
    zones.program.ask("www.zone.example")
    zones.program.pool("www.zone.example", SETS)
    lines = set(kdig(server, "www.zone.example", "A", "+short").split())
    assert lines == SETS
    queries = ["-q", "web.zone.example", "-t", "HTTPS", "-q", "zone.example", "-t", "MX"]
    output = kdig(server, "+tcp", "+keepopen", *queries)
    assert "alpn" in output
    assert "mail.zone.example." in output.lower()
    # nothing to say about a malformed packet
    assert ";; WARNING" not in kdig(server, "nobody.zone.example", "+dnssec")


def test_wildcard(zones: ZoneTestbed) -> None:
    """Each name under a wildcard is a name of its own."""
    for label in ("a", "b"):
        reply = zones.program.ask(f"{label}.wild.zone.example")
        assert reply.addresses == ["203.0.113.99"]
        assert reply.message.answer[0].name.to_text() == f"{label}.wild.zone.example."


def test_all_five_are_asked(zones: ZoneTestbed) -> None:
    """Metrics tell that all five have answered, and the program stays healthy."""
    zones.program.ask("ns.zone.example")

    def answered() -> set[str]:
        found = zones.program.metrics().find("staggerdns_upstream_seconds_count")
        return {sample.labels["upstream"] for sample in found if sample.value}

    eventually(lambda: len(answered()) == 5)
    assert zones.program.health() == 200
    eventually(lambda: zones.program.metrics().value("staggerdns_upstream_inflight") == 0)
