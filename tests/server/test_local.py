"""Questions that we answer ourselves: RFC 8482, RFC 4892, RFC 6895, RFC 6303, RFC 6761."""

from __future__ import annotations

from ipaddress import ip_address

import dns.rcode
import dns.rdatatype
import pytest
from msgspec.structs import fields, replace

from staggerdns import __version__
from staggerdns.server.local import LOCAL_TTL, LocalNames
from staggerdns.server.request import UDP, Request
from staggerdns.settings.sections import LocalSettings
from staggerdns.wire.query import parse_query
from tests.kit.clients import question
from tests.kit.factory import NO_LISTENER, STRANGER, MemoryServer
from tests.kit.messages import client_query, texts


@pytest.mark.parametrize("name", ["version.bind.", "VERSION.Bind.", "version.server."])
@pytest.mark.parametrize("rdtype", ["TXT", "ANY"])
@pytest.mark.parametrize("payload", [None, 1232])
def test_version(name: str, rdtype: str, payload: int | None) -> None:
    """Name and version of the program are told in class CH, to those who may ask."""
    server = MemoryServer()
    reply = server.reply(client_query(name, rdtype, rdclass="CH", payload=payload))
    (rrset,) = reply.answer
    assert str(rrset) == f'{name} 0 CH TXT "staggerdns {__version__}"'
    assert reply.rcode() == dns.rcode.NOERROR
    assert reply.edns == (-1 if payload is None else 0)
    assert not server.forwarder.asked
    stranger = server.reply(client_query(name, rdtype, rdclass="CH"), host=STRANGER)
    assert stranger.rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize(
    ("name", "rdtype", "rdclass"),
    [
        ("version.bind.", "A", "CH"),
        ("hostname.bind.", "TXT", "CH"),
        ("a.version.bind.", "TXT", "CH"),
        ("version.bind.", "TXT", "HS"),
        ("www.example.com.", "A", "CH"),
        ("www.example.com.", "A", "ANY"),
        ("www.example.com.", "A", "NONE"),
        ("www.example.com.", "A", "CLASS0"),
        ("www.example.com.", "ANY", "CLASS65280"),
    ],
)
def test_other_classes(name: str, rdtype: str, rdclass: str) -> None:
    """Everything else of another class is REFUSED, and never sent on as class IN."""
    server = MemoryServer()
    reply = server.reply(client_query(name, rdtype, rdclass=rdclass))
    assert reply.rcode() == dns.rcode.REFUSED
    assert len(reply.question) == 1
    assert not server.forwarder.asked


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("do", [False, True])
def test_any(transport: str, do: bool) -> None:
    """ANY is answered with one small record, over TCP as well (RFC 8482 section 4.2)."""
    server = MemoryServer()
    reply = server.reply(client_query("wWw.Example.", "ANY", do=do), transport=transport)
    assert texts(reply.answer) == ['wWw.Example. 3600 HINFO "RFC8482" ""']
    assert not server.forwarder.asked


@pytest.mark.parametrize(
    ("rdtype", "rcode"),
    [
        ("TYPE0", "FORMERR"),
        ("OPT", "FORMERR"),
        ("TKEY", "REFUSED"),
        ("TSIG", "FORMERR"),
        ("IXFR", "REFUSED"),
        ("AXFR", "REFUSED"),
        ("MAILB", "REFUSED"),
        ("MAILA", "REFUSED"),
    ],
)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_types_that_are_no_data(rdtype: str, rcode: str, transport: str) -> None:
    """Transfers, TKEY and types that no question may have never go upstream."""
    server = MemoryServer()
    reply = server.reply(client_query(rdtype=rdtype), transport=transport)
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert not reply.answer
    assert len(reply.question) == 1
    assert not server.forwarder.asked


def reverse(addresses: str) -> list[str]:
    """Return the reverse names of some addresses."""
    return [ip_address(text).reverse_pointer + "." for text in addresses.split()]


SPECIAL = {
    "localhost": ["localhost.", "a.localhost.", "a.b.LocalHost."],
    "invalid": ["invalid.", "a.invalid.", "A.B.InValid."],
    "test": ["test.", "www.test."],
    "mdns": ["local.", "printer.local.", "_ipp._tcp.local."],
    "onion": ["onion.", "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion."],
    "home_arpa": ["home.arpa.", "nas.home.arpa.", "a.b.home.arpa."],
    "resolver_arpa": ["resolver.arpa.", "_dns.resolver.arpa."],
    "private_reverse": reverse(
        "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255"
        " 0.0.0.0 0.255.255.255 127.0.0.0 127.0.0.1 127.255.255.255 169.254.0.0 169.254.255.255"
        " 192.0.2.0 192.0.2.255 198.51.100.7 203.0.113.7 255.255.255.255"
        " 100.64.0.0 100.127.255.255"
        " :: ::1 fd00:: fdff::1 fe80::1 febf::1 2001:db8:: 2001:db8:ffff::1"
    ),
}
ORDINARY = [
    ".",
    "com.",
    "arpa.",
    "localhost.example.",
    "xlocalhost.",
    "notlocal.",
    "mytest.",
    "home.example.",
    "homex.arpa.",
    "in-addr.arpa.",
    "ip6.arpa.",
    "192.in-addr.arpa.",
    "172.in-addr.arpa.",
    "100.in-addr.arpa.",
    # The octets of a special name with its length, in a label that is longer.
    r"a\004test.",
    r"a\009localhost.",
    r"a\004home\004arpa.",
    r"a\004home.arpa.",
    *reverse(
        "9.255.255.255 11.0.0.0 172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0 1.0.0.0"
        " 126.0.0.1 128.0.0.1 169.253.0.1 192.0.3.0 198.51.99.1 255.255.255.254 100.63.0.1"
        " 100.128.0.0 ::2 fc00::1 fec0::1 2001:db7:: 2606:4700::1111 ff02::1"
    ),
]


def answered(names: LocalNames, name: str, rdtype: str = "A") -> object:
    """Return what the special names say to a question."""
    query = parse_query(question(name, rdtype).to_wire())
    return names.answer(Request(query, "192.0.2.1", UDP, 0.0, None, NO_LISTENER))


@pytest.mark.parametrize("name", ORDINARY)
@pytest.mark.parametrize("rdtype", ["A", "NS", "SOA", "PTR", "HTTPS", "DS", "TYPE65280"])
def test_ordinary_names(name: str, rdtype: str) -> None:
    """Any other name of class IN is a question for the upstreams, whatever it looks like."""
    names = LocalNames(LocalSettings(), None)
    assert answered(names, name, rdtype) is None
    assert answered(names, name, "ANY") is not None


@pytest.mark.parametrize("switch", SPECIAL)
def test_switches(switch: str) -> None:
    """Each kind of special name has its own switch, which moves that kind alone."""
    assert {field.name for field in fields(LocalSettings)} == {"hosts", "records", *SPECIAL}
    every = LocalNames(LocalSettings(), None)
    without = LocalNames(replace(LocalSettings(), **{switch: False}), None)
    for kind, some in SPECIAL.items():
        for name in some:
            assert answered(every, name) is not None
            assert (answered(without, name) is None) == (kind == switch), name


NOBODY = "nobody.invalid. 1 3600 1200 604800 10800"
LOOPBACK_6 = "1." + "0." * 31 + "ip6.arpa."
RECORDS = [
    ("localhost.", "A", "127.0.0.1"),
    ("a.b.localhost.", "A", "127.0.0.1"),
    ("localhost.", "AAAA", "::1"),
    ("www.localhost.", "AAAA", "::1"),
    ("1.0.0.127.in-addr.arpa.", "PTR", "localhost."),
    (LOOPBACK_6, "PTR", "localhost."),
    ("home.arpa.", "SOA", f"home.arpa. {NOBODY}"),
    ("home.arpa.", "NS", "home.arpa."),
    ("10.in-addr.arpa.", "SOA", f"10.in-addr.arpa. {NOBODY}"),
    ("31.172.in-addr.arpa.", "NS", "31.172.in-addr.arpa."),
    ("resolver.arpa.", "SOA", f"resolver.arpa. {NOBODY}"),
]


@pytest.mark.parametrize(("name", "rdtype", "data"), RECORDS)
def test_records_of_our_own(name: str, rdtype: str, data: str) -> None:
    """``localhost`` is this machine, and the zones that nobody administers have an apex."""
    server = MemoryServer()
    for form in (name, name.upper()):
        reply = server.reply(client_query(form, rdtype))
        assert texts(reply.answer) == [f"{form} {LOCAL_TTL} {rdtype} {data}"]
        assert not reply.authority
    assert not server.forwarder.asked


NEGATIVES = [
    ("localhost.", "MX", "NOERROR", "localhost."),
    ("a.localhost.", "HTTPS", "NOERROR", "localhost."),
    ("a.localhost.", "NS", "NOERROR", "localhost."),
    ("invalid.", "A", "NXDOMAIN", "invalid."),
    ("a.b.invalid.", "ANY", "NXDOMAIN", "invalid."),
    ("test.", "NS", "NXDOMAIN", "test."),
    # Some look for this one to learn whether `.local` is served by DNS.
    ("local.", "SOA", "NXDOMAIN", "local."),
    ("printer.local.", "AAAA", "NXDOMAIN", "local."),
    ("a.onion.", "A", "NXDOMAIN", "onion."),
    ("home.arpa.", "A", "NOERROR", "home.arpa."),
    ("nas.home.arpa.", "A", "NXDOMAIN", "home.arpa."),
    ("nas.home.arpa.", "DS", "NXDOMAIN", "home.arpa."),
    ("resolver.arpa.", "A", "NOERROR", "resolver.arpa."),
    ("_dns.resolver.arpa.", "SVCB", "NOERROR", "resolver.arpa."),
    ("1.0.168.192.in-addr.arpa.", "PTR", "NXDOMAIN", "168.192.in-addr.arpa."),
    ("168.192.in-addr.arpa.", "PTR", "NOERROR", "168.192.in-addr.arpa."),
    ("1.0.0.127.in-addr.arpa.", "A", "NOERROR", "127.in-addr.arpa."),
    ("0.0.127.in-addr.arpa.", "PTR", "NOERROR", "127.in-addr.arpa."),
    ("0.127.in-addr.arpa.", "PTR", "NOERROR", "127.in-addr.arpa."),
    ("2.0.0.127.in-addr.arpa.", "PTR", "NXDOMAIN", "127.in-addr.arpa."),
    ("1.1.0.0.127.in-addr.arpa.", "PTR", "NXDOMAIN", "127.in-addr.arpa."),
    (LOOPBACK_6, "MX", "NOERROR", LOOPBACK_6),
]


@pytest.mark.parametrize(("name", "rdtype", "rcode", "zone"), NEGATIVES)
@pytest.mark.parametrize("payload", [None, 1232])
def test_negatives_can_be_kept(
    name: str, rdtype: str, rcode: str, zone: str, payload: int | None
) -> None:
    """What is not there is denied with the SOA of its zone (RFC 2308 section 3, RFC 6303)."""
    server = MemoryServer()
    reply = server.reply(client_query(name, rdtype, payload=payload))
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert not reply.answer
    assert texts(reply.authority) == [f"{zone} {LOCAL_TTL} SOA {zone} {NOBODY}"]
    assert not server.forwarder.asked


@pytest.mark.parametrize("name", ["home.arpa.", "resolver.arpa.", "10.in-addr.arpa.", LOOPBACK_6])
def test_the_parent_has_the_ds(name: str) -> None:
    """Whether a zone is signed is for its parent to say, upstream (RFC 8375 section 4)."""
    assert answered(LocalNames(LocalSettings(), None), name, "DS") is None


def test_the_longest_name() -> None:
    """A negative answer to the longest name there is fits the smallest reply."""
    name = ".".join(["a" * 63] * 3 + ["b" * 50, "home.arpa."])
    server = MemoryServer()
    reply = server.reply(client_query(name))
    assert reply.rcode() == dns.rcode.NXDOMAIN
    assert reply.authority[0].rdtype == dns.rdatatype.SOA
