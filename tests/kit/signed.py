"""Signed zones for nsd, and delv, which validates what it gets."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dns.dnssec
import dns.name
import dns.rdatatype
import dns.rdtypes.ANY.DNSKEY
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.ports import Endpoint

_DAY = 86_400


@dataclass(frozen=True)
class SignedZone:
    """A zone file with signatures, the trust anchor as delv reads it, and the DS of its key."""

    origin: str
    text: str
    anchor: str
    ds: str


def sign(origin: str, text: str) -> SignedZone:
    """Sign a zone with a new key (ECDSA P-256, NSEC) from now on for a day."""
    zone = dns.zone.from_text(text, origin, relativize=False)
    private = ec.generate_private_key(ec.SECP256R1())
    key = dns.dnssec.make_dnskey(private.public_key(), "ECDSAP256SHA256", flags=257)
    with zone.writer() as transaction:
        dns.dnssec.sign_zone(zone, transaction, keys=[(private, key)], lifetime=_DAY)
    flags, protocol, algorithm, data = key.to_text().split(" ", 3)
    packed = data.replace(" ", "")
    return SignedZone(
        origin,
        zone.to_text(relativize=False),
        f'trust-anchors {{ {origin} static-key {flags} {protocol} {algorithm} "{packed}"; }};\n',
        dns.dnssec.make_ds(origin, key, "SHA256").to_text(),
    )


def delv(
    directory: Path, server: Endpoint, zone: SignedZone, name: str, rdtype: str, *arguments: str
) -> str:
    """Run delv with the key of ``zone`` as its only trust anchor; all that it says."""
    anchor = directory / "anchor.conf"
    anchor.write_text(zone.anchor)
    done = subprocess.run(
        [
            "delv",
            f"@{server.host}",
            "-p",
            str(server.port),
            "-a",
            str(anchor),
            f"+root={zone.origin}",
            *arguments,
            name,
            rdtype,
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout + done.stderr
