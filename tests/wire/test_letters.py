"""The random letters of our queries do not reach clients, wherever an upstream writes them."""

from __future__ import annotations

import struct

import pytest

from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.question import Question
from staggerdns.wire.render import render
from tests.kit.messages import (
    POINTER,
    ask,
    judged,
    pool_of,
    raw_reply,
    record,
    replied,
    scanned,
    sections_answer,
    texts,
    wire_name,
)

NAME = "www.example.com."
OURS = "wWw.eXAMplE.cOM."
"""The name in the letters that the upstream was asked in."""
CLIENTS = "Www.exampLe.Com."
"""The name in a client's letters."""
SOA_TAIL = struct.pack("!5I", 1, 2, 3, 4, 60)


def raw(asked: Question, *sections: list[bytes], flags: int = 0x8180) -> bytes:
    """Return a reply that repeats the question in our letters."""
    message = raw_reply(asked, *sections, flags=flags)
    return message[:12] + wire_name(OURS) + message[12 + len(asked.name) :]


def shown(wire: bytes, asked: Question, rdtype: str, *, do: bool = False) -> list[str]:
    """Return all records as a client that has letters of its own gets them."""
    message = replied(scanned(CLIENTS, rdtype, do=do), judged(wire, asked)[1])  # type: ignore[arg-type]
    assert str(message.question[0].name) == CLIENTS
    return texts(message.answer) + texts(message.authority) + texts(message.additional)


DATA = {
    "TXT": b"\5hello",
    "HTTPS": b"\0\1\0",
    "MX": b"\0\1" + wire_name("mail.example.org."),
    "TYPE65280": b"xyz",
    "CAA": b"\0\5issueca",
    "NS": wire_name("ns.example.org."),
}


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize("rdtype", DATA)
@pytest.mark.parametrize("spelling", [OURS, NAME, NAME.upper(), CLIENTS])
def test_owners_written_out(rdtype: str, do: bool, spelling: str) -> None:
    """An owner that is the question's name has each client's own letters."""
    asked = ask(rdtype=rdtype, do=do)
    owner = wire_name(spelling)
    wire = raw(asked, [record(DATA[rdtype], asked.qtype, owner=owner)] * 2)
    for client in (CLIENTS, NAME, "WWW.EXAMPLE.com."):
        reply = replied(scanned(client, rdtype, do=do), sections_answer(wire, asked))
        assert {str(rrset.name) for rrset in reply.answer} == {client}
    body = render(scanned(CLIENTS, rdtype), sections_answer(wire, asked), 60, 65535)
    assert body.count(POINTER + struct.pack("!H", asked.qtype)) == 2


@pytest.mark.parametrize("do", [False, True])
def test_owners_in_every_section(do: bool) -> None:
    """So have names that share labels with the question: zones, name servers, mail hosts."""
    asked = ask(rdtype="MX", do=do)
    zone = wire_name("eXAMplE.cOM.")
    host, server = b"\4Mail" + zone, b"\2nS" + zone
    wire = raw(
        asked,
        [record(b"\0\1" + host, 15, owner=wire_name(OURS))],
        [record(server, 2, owner=zone)],
        [record(bytes(4), 1, owner=host), record(bytes(16), 28, owner=server)],
    )
    assert shown(wire, asked, "MX", do=do) == [
        f"{CLIENTS} 60 MX 1 Mail.exampLe.Com.",
        "exampLe.Com. 60 NS nS.exampLe.Com.",
        "Mail.exampLe.Com. 60 A 0.0.0.0",
        "nS.exampLe.Com. 60 AAAA ::",
    ]


@pytest.mark.parametrize("rcode", [0, 3])
def test_negatives(rcode: int) -> None:
    """An SOA written in our letters, owner and data, is given in the client's."""
    asked = ask()
    zone = wire_name("eXAMplE.cOM.")
    soa = b"\2ns" + zone + b"\4host" + zone + SOA_TAIL
    wire = raw(asked, [], [record(soa, 6, owner=zone)], flags=0x8180 | rcode)
    assert shown(wire, asked, "A") == [
        "exampLe.Com. 60 SOA ns.exampLe.Com. host.exampLe.Com. 1 2 3 4 60"
    ]


NAMED = {
    "SRV": (33, b"\0\1\0\1\0\1", b""),
    "RP": (17, b"", b"\0"),
    "KX": (36, b"\0\1", b""),
    "AFSDB": (18, b"\0\1", b""),
    "NAPTR": (35, b"\0\1\0\1\1s\0\0", b""),
    "CNAME": (5, b"", b""),
    "PTR": (12, b"", b""),
    "NS": (2, b"", b""),
    "HTTPS": (65, b"\0\1", b"\0\1\0\3\2h2"),
}


@pytest.mark.parametrize("rdtype", NAMED)
def test_names_in_data(rdtype: str) -> None:
    """Our letters in data are lower case or the client's: no capital of ours is left."""
    number, before, behind = NAMED[rdtype]
    asked = ask(rdtype=rdtype)
    for target in (OURS, "x." + OURS, "eXAMplE.cOM.", "wWw.eXAMplE.net.", "a.wWw.cOM.edge.Net."):
        wire = raw(asked, [record(before + wire_name(target) + behind, number)])
        (found,) = shown(wire, asked, rdtype)
        for letters in ("wWw", "eXAMplE", "cOM"):
            assert letters not in found, target
        assert ("Net." in found) == ("Net." in target), "the upstream's own letters stay"


@pytest.mark.parametrize(("rdtype", "zone"), [("MX", "exampLe.Com."), ("SRV", "example.com.")])
def test_the_upstreams_own_letters(rdtype: str, zone: str) -> None:
    """Letters that have nothing to do with the question are the zone's, and stay (RFC 1035 section
    2.3.3). What names have in common with its end is the question's, as where upstreams compress:
    it may be in letters of an earlier question, from a cache.
    """
    number, before, behind = {**NAMED, "MX": (15, b"\0\1", b"")}[rdtype]
    asked = ask(rdtype=rdtype)
    for target, expected in (
        ("Mail.Example.Org.", "Mail.Example.Org."),
        ("WWW.Example.Org.", "WWW.Example.Org."),
        ("Mail.ExAMple.COM.", "Mail." + zone),
    ):
        wire = raw(asked, [record(before + wire_name(target) + behind, number)])
        assert shown(wire, asked, rdtype)[0].endswith(" " + expected)
    lower = record(before + wire_name("Mail.example.com.") + behind, number)
    assert sections_answer(raw(asked, [lower]), asked).body == lower, "no need to write it anew"


def test_chains() -> None:
    """Links that an upstream wrote in our letters are kept in lower case, DNAME's included."""
    asked = ask()
    zone = wire_name("eXAMplE.cOM.")
    target, last = b"\3wWw" + wire_name("other.Example."), b"\4eDge" + zone
    answer = [
        record(wire_name("other.Example."), 39, owner=zone),
        record(target, 5, owner=wire_name(OURS)),
        record(last, 5, owner=target),
        record(b"\xc0\0\2\1", 1, owner=last),
    ]
    pool = pool_of(raw(asked, answer), asked)
    assert pool.cname_chain == (wire_name("www.other.Example."), wire_name("eDge.example.com."))
    signed = ask(do=True)
    assert shown(raw(signed, answer), signed, "A", do=True) == [
        "exampLe.Com. 60 DNAME other.Example.",
        f"{CLIENTS} 60 CNAME www.other.Example.",
        "www.other.Example. 60 CNAME eDge.exampLe.Com.",
        "eDge.exampLe.Com. 60 A 192.0.2.1",
    ]


def test_what_signatures_cover() -> None:
    """A signer's name may change its letters (RFC 4034 section 6.2), the next name of an NSEC
    record (RFC 6840 section 5.1) and the target of an HTTPS record may not.
    """
    zone = wire_name("eXAMplE.cOM.")
    covered = bytes(17)
    for asked, number, before, names, rest in (
        (ask(rdtype="HTTPS", do=True), 65, b"\0\1", [wire_name(OURS)], b""),
        (ask(rdtype="NSEC", do=True), 47, b"", [wire_name(OURS)], b"\0\1\x40"),
    ):
        data = before + names[0] + rest
        signature = struct.pack("!H", number) + covered[1:] + zone + b"signature"
        wire = raw(
            asked,
            [
                record(data, number, owner=wire_name(OURS)),
                record(signature, 46, owner=wire_name(OURS)),
            ],
        )
        body = sections_answer(wire, asked).body
        assert data in body
        assert signature not in body
        assert signature.replace(zone, zone.lower()) in body


def test_replies_of_two_clients() -> None:
    """What is kept is the same whatever letters the upstream was asked in."""
    asked = ask(rdtype="TXT")
    plain = raw_reply(asked, [record(b"\5hello", 16)])
    kept = sections_answer(plain, asked).body
    for owner in (OURS, NAME, CLIENTS):
        assert (
            sections_answer(
                raw(asked, [record(b"\5hello", 16, owner=wire_name(owner))]), asked
            ).body
            == kept
        )
    assert isinstance(
        pool_of(raw(ask(), [record(bytes(4), 1, owner=wire_name(OURS))]), ask()), AddressPool
    )


def test_pointers_to_names_that_moved() -> None:
    """Names compressed by others that were written out still mean what they meant."""
    asked = ask(rdtype="MX")
    start = 12 + len(asked.section)
    zone = struct.pack("!H", 0xC000 | start + 4)
    mail = struct.pack("!H", 0xC000 | start + len(wire_name(OURS)) + 12)
    wire = raw(
        asked,
        [
            record(b"\0\1" + b"\4mail" + zone, 15, owner=wire_name(OURS)),
            record(b"\0\2" + b"\2b2" + mail, 15, owner=struct.pack("!H", 0xC000 | start)),
        ],
        [],
        [record(bytes(4), 1, owner=mail), record(bytes(4), 1, owner=b"\2b2" + mail)],
    )
    assert shown(wire, asked, "MX") == [
        f"{CLIENTS} 60 MX 1 mail.exampLe.Com.",
        f"{CLIENTS} 60 MX 2 b2.mail.exampLe.Com.",
        "mail.exampLe.Com. 60 A 0.0.0.0",
        "b2.mail.exampLe.Com. 60 A 0.0.0.0",
    ]


@pytest.mark.parametrize("rdtype", ["MX", "SRV"])
def test_more_than_pointers_reach(rdtype: str) -> None:
    """Behind the first 16 KiB names are written out or point to what stands before."""
    number, before, behind = {**NAMED, "MX": (15, b"\0\1", b"")}[rdtype]
    asked = ask(rdtype=rdtype)
    hosts = [f"host{n}.{'x' * 40}.example.net." for n in range(330)]
    wire = raw(
        asked,
        [
            record(before + wire_name(host) + behind, number, owner=wire_name(OURS))
            for host in hosts
        ],
        [],
        [record(struct.pack("!I", n), 1, owner=wire_name(host)) for n, host in enumerate(hosts)],
    )
    reply = replied(scanned(CLIENTS, rdtype), sections_answer(wire, asked))
    assert len(texts(reply.answer)) == len(hosts)
    assert [str(rrset.name) for rrset in reply.additional] == hosts
    assert [text.split()[-1] for text in texts(reply.answer)] == hosts
    assert len(sections_answer(wire, asked).body) > 0x4000 + 10_000
