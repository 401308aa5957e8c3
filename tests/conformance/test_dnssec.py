"""Clients that validate: delv gets through us what it can validate, and nothing else passes.

(RFC 4035 section 3.2; a forwarder changes neither a signed set nor what proves an absence.)
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.kit import behaviours, daemons
from tests.kit.clients import eventually
from tests.kit.ports import Endpoint, free_endpoints
from tests.kit.program import Program
from tests.kit.scripted import ScriptedUpstream
from tests.kit.signed import SignedZone, delv, sign
from tests.kit.testbed import own_answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.kit.scripted import Action, Behaviour, Query

_TOP = """\
@ 300 SOA ns host 7 3600 600 86400 60
@ 300 NS ns
ns 300 A 192.0.2.1
"""
_CHILD = """\
@ 300 SOA ns.zone.example. host 7 3600 600 86400 60
@ 300 NS ns.zone.example.
www 300 A 203.0.113.9
"""
_BIG = " ".join(f'"{"x" * 250}"' for _ in range(8))
_ZONE = f"""\
{_TOP}
www 300 A 203.0.113.1
www 300 A 203.0.113.2
www 300 A 203.0.113.3
www 300 AAAA 2001:db8::1
alias 300 CNAME www
across 300 CNAME www.secure
@ 300 MX 10 www
big 300 TXT {_BIG}
odd 300 TYPE65280 \\# 6 C00C00FFC0FF
*.wild 300 A 203.0.113.7
secure 300 NS ns
plain 300 NS ns
forged 300 A 203.0.113.65
forged 300 MX 10 good
swapped 300 CNAME good
bare 300 A 203.0.113.70
"""


class SignedTestbed:
    """A signed zone with a signed and an unsigned child, on two nsd; the program before them."""

    def __init__(self, zone: SignedZone, upstream: Endpoint, program: Program) -> None:
        self.zone = zone
        self.upstream = upstream
        self.program = program

    def delv(self, name: str, rdtype: str, *, direct: bool = False) -> str:
        """What delv says, through the program or straight from an upstream."""
        server = self.upstream if direct else self.program.endpoint
        return delv(self.program.directory, server, self.zone, name, rdtype)

    def collections(self) -> float:
        """How many questions have gone upstream so far, when none is under way any more."""
        seen = eventually(
            self.program.metrics,
            lambda metrics: not metrics.value("staggerdns_collections_running"),
        )
        return seen.value("staggerdns_answer_seconds_count", source="upstream")


def _spoil(text: str) -> str:
    """Change records of a signed zone behind the back of their signatures."""
    for old, new in (
        ("203.0.113.65", "203.0.113.66"),
        ("MX 10 good.", "MX 10 evil."),
        ("CNAME good.", "CNAME evil."),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("bare.zone.example. 300 IN RRSIG"))


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedTestbed]:
    """Two nsd with the same zones, and a program that asks both."""
    directory = tmp_path_factory.mktemp("signed")
    child = sign("secure.zone.example.", _CHILD)
    zone = sign("zone.example.", f"{_ZONE}secure 300 DS {child.ds}\n")
    zones = {
        zone.origin: _spoil(zone.text),
        child.origin: child.text,
        "plain.zone.example.": f"$ORIGIN plain.zone.example.\n{_CHILD}",
    }
    upstreams = free_endpoints(2, first=61)
    with contextlib.ExitStack() as stack:
        stack.enter_context(daemons.nsd(directory / "nsd", zones, upstreams))
        yield SignedTestbed(zone, upstreams[0], stack.enter_context(Program(directory, upstreams)))


VALID = [
    ("zone.example.", "DNSKEY"),
    ("zone.example.", "SOA"),
    ("zone.example.", "MX"),
    ("www.zone.example.", "A"),
    ("WWW.Zone.Example.", "AAAA"),
    ("alias.zone.example.", "A"),
    ("alias.zone.example.", "CNAME"),
    ("across.zone.example.", "A"),
    ("big.zone.example.", "TXT"),
    ("odd.zone.example.", "TYPE65280"),
    ("some.wild.zone.example.", "A"),
    ("secure.zone.example.", "DS"),
    ("www.secure.zone.example.", "A"),
    # What is not there, with its proof.
    ("nowhere.zone.example.", "A"),
    ("nowhere.zone.example.", "MX"),
    ("www.zone.example.", "TXT"),
    ("plain.zone.example.", "DS"),
    ("some.wild.zone.example.", "AAAA"),
    ("nowhere.secure.zone.example.", "A"),
]


@pytest.mark.parametrize(("name", "rdtype"), VALID)
def test_valid(signed: SignedTestbed, name: str, rdtype: str) -> None:
    """Delv validates, from a cold cache and a warm one, the very same that it gets without us."""
    expected = signed.delv(name, rdtype, direct=True)
    assert "fully validated" in expected
    cold = signed.delv(name, rdtype)
    asked = signed.collections()
    warm = signed.delv(name, rdtype)
    assert signed.collections() == asked
    assert _plain(cold) == _plain(warm) == _plain(expected)


def _plain(output: str) -> list[str]:
    """Return delv's lines without their TTLs, which run; sets are sorted."""
    lines = [line.split() for line in output.lower().splitlines()]
    return sorted(" ".join(part for part in line if not part.isdigit()) for line in lines)


def test_unsigned(signed: SignedTestbed) -> None:
    """Data of an unsigned zone is proved to be that, and passes as such."""
    for _ in range(2):
        said = signed.delv("www.plain.zone.example.", "A")
        assert "unsigned answer" in said
        assert "203.0.113.9" in said


@pytest.mark.parametrize(
    ("name", "rdtype"),
    [
        ("forged.zone.example.", "A"),
        ("forged.zone.example.", "MX"),
        ("swapped.zone.example.", "CNAME"),
        ("bare.zone.example.", "A"),
    ],
)
def test_bogus(signed: SignedTestbed, name: str, rdtype: str) -> None:
    """Bogus data stays bogus: what cannot be validated upstream cannot be validated here."""
    for direct in (True, False, False):
        said = signed.delv(name, rdtype, direct=direct)
        assert "validated" not in said
        assert "resolution failed" in said
    reply = signed.program.ask(name, rdtype, do=True, ad=True)
    assert reply.rcode == "NOERROR"
    assert not reply.flag("AD")


def test_the_wrong_anchor(signed: SignedTestbed) -> None:
    """With another trust anchor nothing is validated: the test can fail."""
    other = sign("zone.example.", _TOP)
    said = delv(signed.program.directory, signed.program.endpoint, other, "www.zone.example.", "A")
    assert "validated" not in said
    assert "resolution failed" in said


def test_plain_questions_do_not_spoil_signed_ones(signed: SignedTestbed) -> None:
    """The merged answers to those who do not validate are kept apart from the signed ones."""
    name = "WWW.zone.example."
    assert len(signed.program.ask(name).addresses) == 3
    assert "RRSIG" not in signed.program.ask(name, payload=1232).types
    assert "fully validated" in signed.delv(name, "A")
    assert "RRSIG" in signed.program.ask(name, do=True).types
    assert "RRSIG" not in signed.program.ask(name).types


def test_beside_an_upstream_without_edns(signed: SignedTestbed, tmp_path: Path) -> None:
    """A quicker one that gives no signatures never answers those who validate; others it may."""
    formerr = behaviours.rcode_without_edns("FORMERR")

    def old(query: Query) -> Sequence[Action]:
        answer: Behaviour = own_answer(0) if query.rdtype == "A" else behaviours.nodata()
        return (formerr if query.parsed.edns >= 0 else answer)(query)

    with contextlib.ExitStack() as stack:
        quick = stack.enter_context(ScriptedUpstream(old))
        program = stack.enter_context(
            Program(tmp_path, [str(quick.endpoint), str(signed.upstream)])
        )
        for number in range(5):  # so that it is known for what it is
            assert program.ask(f"n{number}.wild.zone.example.").addresses
        mixed = SignedTestbed(signed.zone, signed.upstream, program)
        for name, rdtype in VALID[:8]:
            assert "fully validated" in mixed.delv(name, rdtype)
        assert "unsigned answer" in mixed.delv("www.plain.zone.example.", "A")
