"""TLS to one upstream: whose certificate is accepted, and sessions that are resumed.

No query is sent to a server before its certificate was accepted: when the handshake is over,
`Handshake.finish` says what is wrong with it. OpenSSL checks the chain up to the authorities,
service-identity the name or address (RFC 8310 section 8.1), and pins the server's key (RFC 7858
section 4.2). The last session of an accepted server is kept, so that the next handshake is short
(RFC 8446 section 2.2); name and pins are checked again with the certificate in it.
"""

from __future__ import annotations

from hashlib import sha256
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure
from zope.interface import implementer

from staggerdns.files import Unreadable, read_file
from staggerdns.upstream.reason import Reason

H2 = b"h2"
DOT = b"dot"
"""Application protocols (RFC 9113 section 3.2, RFC 7858 section 6)."""
_UNSPOKEN = {
    H2: "the server offers no HTTP/2, and HTTP/1.1 is not spoken here: ask it over tls:// or over "
    "UDP if it has that, or another server",
    DOT: "the server insists on another protocol than DNS over TLS",
}
_NO_PROTOCOL = "no application protocol"  # the alert of RFC 7301 section 3.2 in OpenSSL's words
_PROBLEMS = {  # of OpenSSL's X509_V_ERR numbers those that people meet
    2: "its issuer is not there",
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed",
    19: "its chain ends in an authority that is not trusted",
    20: "its issuer is not trusted",
    21: "its issuer is not there",
    23: "it is revoked",
    26: "it is not for servers",
}


class Authorities:
    """The certification authorities that are trusted: those in a PEM file, or the system's.

    Raises `ValueError` that says what is wrong with the file.
    """

    def __init__(self, path: str | None = None) -> None:
        self._path = path
        self._given = None if path is None else load_certificates(path)
        self._context: SSL.Context | None = None

    def reread(self) -> str:
        """Read the file once more: its authorities are trusted from the next connection on. A file
        that cannot be used changes nothing. Return what is wrong with it, if anything.
        """
        if self._path is None:
            return ""
        try:
            found = load_certificates(self._path)
        except ValueError as error:
            return str(error)
        if found != self._given:
            self._given = found
            self._context = None
        return ""

    @property
    def context(self) -> SSL.Context:
        """OpenSSL's context of all connections: it takes long to load a system's authorities."""
        if self._context is None:
            self._context = context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_min_proto_version(SSL.TLS1_2_VERSION)
            context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # each upstream keeps its own
            store = context.get_cert_store()
            if self._given is None or store is None:
                context.set_default_verify_paths()
            else:
                for certificate in self._given:
                    store.add_cert(crypto.X509.from_cryptography(certificate))
        return self._context


class TlsClient:
    """What connections to one upstream have in common.

    ``auth_name``: whose certificate it must be, a name or an address; when empty, ``pins`` (SHA-256
    of the subject public key info) decide alone. ``alpn``: the application protocol to speak.
    """

    def __init__(
        self, auth_name: str, pins: frozenset[bytes], alpn: bytes, authorities: Authorities
    ) -> None:
        self.alpn = alpn
        self.auth_name = auth_name
        self.pins = pins
        self.session: SSL.Session | None = None
        self._authorities = authorities
        self._context = authorities.context

    @property
    def context(self) -> SSL.Context:
        """The context of the next connection. When the authorities have changed, the session is
        dropped: they may not trust the server that it is with.
        """
        if self._context is not self._authorities.context:
            self._context = self._authorities.context
            self.session = None
        return self._context


@implementer(IOpenSSLClientConnectionCreator)
class Handshake:
    """One connection of ``client``, from its handshake on.

    ``resumed``: there was no certificate in the handshake, the one in the session counts.
    """

    def __init__(self, client: TlsClient) -> None:
        self._client = client
        self._connection: SSL.Connection | None = None
        self._problem = ""
        self.resumed = True

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """Return OpenSSL's side of the connection; called by Twisted."""
        client = self._client
        self._connection = connection = SSL.Connection(client.context)
        connection.set_alpn_protos([client.alpn])
        if client.auth_name and not _is_address(client.auth_name):
            connection.set_tlsext_host_name(client.auth_name.encode("ascii"))
        if client.session is not None:
            connection.set_session(client.session)
        connection.set_verify(SSL.VERIFY_PEER, self._seen)
        return connection

    def finish(self) -> str:
        """Return, when the handshake is over, what is wrong with the certificate, if anything."""
        assert self._connection is not None
        certificate = self._connection.get_peer_certificate()
        name, pins = self._client.auth_name, self._client.pins
        try:
            if name and _is_address(name):
                verify_ip_address(self._connection, name)
            elif name:
                verify_hostname(self._connection, name)
        except (VerificationError, CertificateError, ValueError):
            return f"it is not for {name}"
        if pins and (
            certificate is None or _fingerprint(certificate.to_cryptography()) not in pins
        ):
            return "its key is none of the pinned ones"
        return ""

    @property
    def speaks(self) -> bool:
        """Whether the server agreed to the application protocol; for DNS it may leave that out."""
        assert self._connection is not None
        agreed = self._connection.get_alpn_proto_negotiated()
        return agreed == self._client.alpn or (self._client.alpn == DOT and not agreed)

    @property
    def unspoken(self) -> str:
        """What is wrong with a server that does not agree to the application protocol."""
        return _UNSPOKEN[self._client.alpn]

    def keep_session(self) -> None:
        """Keep the session for the next connection to resume; the server was accepted."""
        if self._connection is not None and self._connection.get_context() is self._client.context:
            self._client.session = self._connection.get_session()

    def end(self) -> None:
        """Let go of the connection, which is closed."""
        self._connection = None

    def explain(self, failure: Failure) -> tuple[Reason, str] | None:
        """Return why there is no session, and the details, if that is TLS's fault."""
        if self._problem:
            return Reason.CERTIFICATE, self._problem
        if not isinstance(failure.value, SSL.Error):
            return None
        details = [error[2] for error in failure.value.args[0]] if failure.value.args else []
        if any(_NO_PROTOCOL in detail for detail in details):
            return Reason.TLS, self.unspoken
        return Reason.TLS, ", ".join(details) or "unknown"

    def _seen(
        self, connection: SSL.Connection, certificate: Any, number: int, depth: int, ok: int
    ) -> bool:
        """Note OpenSSL's opinion of one certificate of the chain; called by OpenSSL."""
        self.resumed = False
        if ok or not self._client.auth_name:  # the pins decide
            return True
        self._problem = self._problem or _PROBLEMS.get(number, f"error {number} of OpenSSL")
        return False


def load_certificates(path: str) -> list[x509.Certificate]:
    """Return the certificates in a PEM file.

    Raises `ValueError` that says what is wrong with it.
    """
    try:
        content = read_file(path)
    except Unreadable as error:
        raise ValueError(f"{path} {error}") from None
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise ValueError(f"expected certificates in PEM form in {path}") from None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _fingerprint(certificate: x509.Certificate) -> bytes:
    key = certificate.public_key()
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
