"""The server's side of TLS: one certificate, which is read again when its files change.

The files are checked for each new connection, which costs two system calls, and when somebody wants
to know how long the certificate lasts. While new files cannot be used, for example because only one
of the two is there yet, the old certificate stays.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from staggerdns.errors import StaggerDNSError
from staggerdns.files import Unreadable, located, read_file
from staggerdns.journal import Journal

CLOSE_GRACE = 0.03
"""Seconds between the last reply and the end of a connection when the server stops."""
EXPIRY_WARNING = timedelta(days=14)
"""Time before the end of a certificate in which there are warnings, at most a third of its life."""
WARN_EVERY = timedelta(days=1)


class CertificateProblem(StaggerDNSError, ValueError):
    """What is wrong with one of the files; ``key``: its name in the section ``server``."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(problem)
        self.key = key


class Certificate:
    """The certificates and the private key in two PEM files, as they are now.

    ``wall`` returns the seconds since 1970. Raises `CertificateProblem`.
    """

    def __init__(
        self, path: str, key_path: str, journal: Journal, wall: Callable[[], float]
    ) -> None:
        self._files = path, key_path
        self._journal = journal
        self._wall = wall
        self._contexts: dict[tuple[bytes, ...], SSL.Context] = {}
        self._marks = self._look()
        self._pair = _load(*self._files)
        self._warned: datetime | None = None

    @property
    def expiry(self) -> float:
        """Seconds since 1970 when the server's own certificate expires."""
        return self._pair[0][0].not_valid_after_utc.timestamp()

    def warn(self) -> None:
        """Log a warning if the certificate has expired, will soon, or is not valid yet."""
        now = datetime.fromtimestamp(self._wall(), UTC)
        if self._warned is not None and now - self._warned < WARN_EVERY:
            return
        what = self.concern(now)
        if what:
            self._warned = now
            self._journal.warn("the certificate in {path} {what}", path=self._files[0], what=what)

    def concern(self, now: datetime) -> str:
        """Return what is wrong with the certificate at ``now``, or will be soon; else nothing."""
        own = self._pair[0][0]
        begin, end = own.not_valid_before_utc, own.not_valid_after_utc
        if now >= end:
            return f"has expired on {end:%Y-%m-%d}: replace it, clients refuse it"
        if now < begin:
            return f"is not valid before {begin:%Y-%m-%d}: clients refuse it"
        if end - now <= min(EXPIRY_WARNING, (end - begin) / 3):
            return f"expires on {end:%Y-%m-%d}: replace it"
        return ""

    def context(self, protocols: tuple[bytes, ...]) -> SSL.Context:
        """Return the context for a new connection that may speak one of ``protocols``."""
        self.follow()
        self.warn()
        context = self._contexts.get(protocols)
        if context is None:
            context = self._contexts[protocols] = _context(*self._pair)
            context.set_alpn_select_callback(_AlpnSelection(protocols))
        return context

    def follow(self) -> None:
        """Read the files if they have changed since they were read."""
        if self._look() != self._marks:
            self.reread()

    def reread(self) -> bool:
        """Read the files now; return whether they can be used. If not, nothing changes."""
        self._marks = self._look()
        try:
            self._pair = _load(*self._files)
        except CertificateProblem as error:
            self._journal.warn(
                "the new certificate cannot be used, the old one stays: server.{key}: {problem}",
                key=error.key,
                problem=str(error),
            )
            return False
        self._contexts.clear()
        self._journal.info("the certificate was read anew")
        self._warned = None
        self.warn()
        return True

    def _look(self) -> list[tuple[int, int, int] | None]:
        """Return values that differ when a file has changed."""
        marks: list[tuple[int, int, int] | None] = []
        for path in self._files:
            try:
                found = Path(located(path)).stat()
            except (OSError, Unreadable):
                marks.append(None)
            else:
                marks.append((found.st_mtime_ns, found.st_size, found.st_ino))
        return marks


@implementer(IOpenSSLServerConnectionCreator)
class TlsConnectionCreator:
    """Makes the TLS connections of one listener, with ``certificate`` as it is then.

    ``protocols``: the application protocols spoken there, best first (RFC 7301).
    """

    def __init__(self, certificate: Certificate, protocols: tuple[bytes, ...]) -> None:
        self._certificate = certificate
        self._protocols = protocols

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Return OpenSSL's side of a new connection; called by Twisted."""
        return _Connection(self._certificate.context(self._protocols))


class _Connection(SSL.Connection):
    """OpenSSL's side of a connection.

    What is in all records that have come is given in one piece, so that a client that sends many
    queries, each in a record of its own, gets the replies in one.
    """

    _end: SSL.Error | None = None  # why there was no more

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        """Return the data that has come. Raises `OpenSSL.SSL.Error` when there is none."""
        end, self._end = self._end, None
        if end is not None:
            raise end
        found = b""
        try:
            while len(found) < bufsiz:
                found += super().recv(bufsiz - len(found), flags)
        except SSL.Error as error:
            if not found:
                raise
            self._end = error
        return found


class _AlpnSelection:
    """Chooses the best of the protocols that a client offers, or none, which DNS allows."""

    def __init__(self, protocols: tuple[bytes, ...]) -> None:
        self._protocols = protocols

    def __call__(self, connection: SSL.Connection, offered: list[bytes]) -> Any:
        found = [protocol for protocol in self._protocols if protocol in offered]
        return found[0] if found else SSL.NO_OVERLAPPING_PROTOCOLS


_Pair = tuple[list[x509.Certificate], Any]


def _load(path: str, key_path: str) -> _Pair:
    """Return what is in the two files, after a check that they belong together."""
    certificates = _load_certificates(path)
    private = _load_key(key_path)
    try:
        _context(certificates, private)
    except SSL.Error as error:
        raise _misfit(path, key_path, certificates, private, error) from None
    return certificates, private


def _load_certificates(path: str) -> list[x509.Certificate]:
    content = _read("tls_certificate", path)
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        expected = f"expected certificates in PEM form in {path}"
    if b"PRIVATE KEY-----" in content:
        raise CertificateProblem("tls_certificate", f"{expected}: there is a private key in it")
    raise CertificateProblem("tls_certificate", expected + _form(content))


def _load_key(path: str) -> Any:
    content = _read("tls_key", path)

    def refuse(*_: object) -> bytes:  # without it OpenSSL would ask on the terminal
        raise CertificateProblem(
            "tls_key", f"the key in {path} is encrypted: expected one without a passphrase"
        )

    try:
        return crypto.load_privatekey(crypto.FILETYPE_PEM, content, refuse).to_cryptography_key()
    except crypto.Error:
        expected = f"expected a private key in PEM form in {path}"
    if b"PRIVATE KEY-----" not in content and b"CERTIFICATE-----" in content:
        raise CertificateProblem("tls_key", f"{expected}: there is a certificate in it")
    raise CertificateProblem("tls_key", expected + _form(content))


def _read(name: str, path: str) -> bytes:
    try:
        return read_file(located(path))
    except Unreadable as error:
        raise CertificateProblem(name, f"{path} {error}") from None


def _form(content: bytes) -> str:
    """Return a remark on the content of a file that is not in PEM form."""
    if not content.strip():
        return ": it is empty"
    if content[:1] == b"\x30":  # an ASN.1 SEQUENCE
        return ": it is in DER form"
    return ""


def _misfit(
    path: str,
    key_path: str,
    certificates: list[x509.Certificate],
    private: Any,
    error: SSL.Error,
) -> CertificateProblem:
    """Return the reason why a certificate and a key cannot be used together."""
    public = private.public_key()
    if certificates[0].public_key() == public:
        details = ", ".join(part[2] for part in error.args[0] if part[2])
        return CertificateProblem("tls_certificate", f"{path} cannot be used: {details}")
    for number, certificate in enumerate(certificates[1:], 2):
        if certificate.public_key() == public:
            return CertificateProblem(
                "tls_certificate",
                f"the server's own certificate is number {number} in {path}: it must be the first",
            )
    problem = f"the key in {key_path} is not that of {path} (key values mismatch)"
    return CertificateProblem("tls_key", problem)


def _context(certificates: list[x509.Certificate], private: Any) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    own, *others = certificates
    context.use_certificate(own)
    for other in others:
        context.add_extra_chain_cert(other)
    context.use_privatekey(private)
    context.check_privatekey()
    return context


class TlsFactory(TLSMemoryBIOFactory):
    """Puts TLS under the protocols that ``inner`` builds."""

    protocol = TLSMemoryBIOProtocol

    def __init__(
        self, creator: TlsConnectionCreator, inner: IProtocolFactory, clock: IReactorTime
    ) -> None:
        super().__init__(creator, isClient=False, wrappedFactory=inner, clock=clock)

    def close(self) -> Deferred[None]:
        """Abort every connection, after a moment in which what is written can be sent."""
        if not self.protocols:
            return succeed(None)
        return deferLater(self._clock, CLOSE_GRACE, self._drop)

    def _drop(self) -> None:
        for protocol in list(self.protocols):
            protocol.abortConnection()
