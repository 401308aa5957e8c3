"""The server's side of TLS: one certificate, read anew when its files change.

The files are looked at for each new connection, which costs two system calls. New ones that
cannot be used, because only one of the two is there yet, say, change nothing until they can.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

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

from staggerdns.journal import Journal

LAST_MOMENT = 0.03
"""Seconds from the last reply to the end of a connection when the server stops."""


class EncryptedKey(ValueError):
    """A private key that cannot be read without a passphrase, which a server has nobody to ask."""

    def __init__(self) -> None:
        super().__init__("the key is encrypted: expected one without a passphrase")


@implementer(IOpenSSLServerConnectionCreator)
class Certificate:
    """Shows the certificate chain and the key in two PEM files to clients.

    ``protocols``: the application protocols spoken, best first (RFC 7301). Raises `ValueError` that
    says what is wrong with the files, `EncryptedKey` among them.
    """

    def __init__(
        self, chain: str, key: str, protocols: tuple[bytes, ...], journal: Journal
    ) -> None:
        self._files = Path(chain), Path(key)
        self._protocols = protocols
        self._journal = journal
        self._marks = self._look()
        try:
            self._context = self._load()
        except (SSL.Error, crypto.Error, OSError) as error:
            raise ValueError(_explain(error)) from None

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Return OpenSSL's side of a new connection; called by Twisted."""
        marks = self._look()
        if marks != self._marks:
            self._marks = marks
            try:
                self._context = self._load()
            except (SSL.Error, crypto.Error, OSError, EncryptedKey) as error:
                self._journal.warn(
                    "the new certificate cannot be used, the old one stays: {problem}",
                    problem=_explain(error),
                )
            else:
                self._journal.info("the certificate was read anew")
        return SSL.Connection(self._context)

    def _look(self) -> list[tuple[int, int, int] | None]:
        """Return what changes when a file does."""
        marks: list[tuple[int, int, int] | None] = []
        for path in self._files:
            try:
                found = path.stat()
            except OSError:
                marks.append(None)
            else:
                marks.append((found.st_mtime_ns, found.st_size, found.st_ino))
        return marks

    def _load(self) -> SSL.Context:
        chain, key = self._files
        # For an encrypted key the context would ask on the terminal, and wait.
        crypto.load_privatekey(crypto.FILETYPE_PEM, key.read_bytes(), _no_passphrase)
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.use_certificate_chain_file(str(chain))
        context.use_privatekey_file(str(key))  # and is compared with the certificate
        context.set_alpn_select_callback(self._select)
        return context

    def _select(self, connection: SSL.Connection, offered: list[bytes]) -> Any:
        """Return the best of the offered protocols, or none: DNS need not be named."""
        found = [protocol for protocol in self._protocols if protocol in offered]
        return found[0] if found else SSL.NO_OVERLAPPING_PROTOCOLS


class EncryptedFactory(TLSMemoryBIOFactory):
    """Puts TLS under the protocols of ``inner``, which themselves write together what they can."""

    protocol = TLSMemoryBIOProtocol

    def __init__(
        self, certificate: Certificate, inner: IProtocolFactory, clock: IReactorTime
    ) -> None:
        super().__init__(certificate, isClient=False, wrappedFactory=inner, clock=clock)

    def close(self) -> Deferred[None]:
        """Drop every connection, when what is written already has had its moment to leave."""
        if not self.protocols:
            return succeed(None)
        return deferLater(self._clock, LAST_MOMENT, self._drop)

    def _drop(self) -> None:
        for protocol in list(self.protocols):
            protocol.abortConnection()


def _no_passphrase(*_: object) -> bytes:
    raise EncryptedKey


def _explain(error: SSL.Error | crypto.Error | OSError | EncryptedKey) -> str:
    """Say in words why files cannot be used."""
    if isinstance(error, EncryptedKey):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename} cannot be read: {error.strerror}"
    details = [part[2] for part in error.args[0]] if error.args else []
    return ", ".join(filter(None, details)) or "it is no PEM file"
