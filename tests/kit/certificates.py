"""Certification authorities and certificates of one run, made with trustme."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from typing import TYPE_CHECKING, NamedTuple

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

if TYPE_CHECKING:
    from pathlib import Path


class Certificate(NamedTuple):
    """A server's files, PEM both: the chain with its own certificate first, and the key."""

    chain: Path
    key: Path

    @property
    def pin(self) -> str:
        """The suffix of an upstream that pins this key."""
        found = x509.load_pem_x509_certificate(self.chain.read_bytes()).public_key()
        der = found.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return ";pin-sha256=" + base64.b64encode(hashlib.sha256(der).digest()).decode()


def encrypted(files: Certificate) -> Path:
    """Write the key of ``files`` once more, encrypted; the new file."""
    key = load_pem_private_key(files.key.read_bytes(), None)
    locked = files.key.with_suffix(".locked.pem")
    locked.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    return locked


class CertificateAuthority:
    """An authority that writes what it issues into ``directory``; ``ca``: its own certificate."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._authority = trustme.CA()
        self._count = 0
        self.ca = directory / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca))

    def issue(
        self, *names: str, expired: bool = False, lifetime: dt.timedelta | None = None
    ) -> Certificate:
        """Issue a certificate for ``names``, addresses among them, that expires in a ``lifetime``.

        It is valid from an hour ago, since the clock of a test may stand a little behind.
        """
        if expired:
            lifetime = dt.timedelta(days=-1)
        end = begin = None
        if lifetime is not None:
            now = dt.datetime.now(dt.UTC)
            begin, end = min(now, now + 2 * lifetime) - dt.timedelta(hours=1), now + lifetime
        issued = self._authority.issue_cert(*names, not_before=begin, not_after=end)
        self._count += 1
        files = Certificate(
            self._directory / f"chain{self._count}.pem", self._directory / f"key{self._count}.pem"
        )
        files.chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(files.key))
        return files

    def self_signed(self, name: str) -> Certificate:
        """Make a certificate for ``name`` that its own key has signed."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        files = Certificate(self._directory / "self.pem", self._directory / "self-key.pem")
        files.chain.write_bytes(made.public_bytes(Encoding.PEM))
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files
