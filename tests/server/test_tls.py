"""The server's certificate: what is told of its end, on a wall clock of our own. Records."""

from __future__ import annotations

import datetime as dt
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import pytest
from cryptography import x509
from OpenSSL import SSL
from twisted.logger import Logger, LogLevel, formatEvent

from staggerdns.journal import Journal
from staggerdns.server.tls import (
    EXPIRY_WARNING,
    WARN_EVERY,
    Certificate,
    CertificateProblem,
    TlsConnectionCreator,
)
from tests.kit.certificates import CertificateAuthority

if TYPE_CHECKING:
    from pathlib import Path

    from twisted.logger import ILogObserver, LogEvent

DAY = dt.timedelta(days=1)


class WatchedCertificate:
    """A certificate, the time, and what was logged."""

    def __init__(self, tmp_path: Path, lifetime: dt.timedelta | None = None) -> None:
        self.authority = CertificateAuthority(tmp_path)
        self.files = self.authority.issue("dns.example", lifetime=lifetime)
        self.now = dt.datetime.now(dt.UTC)
        self.events: list[LogEvent] = []
        log = Logger(namespace="staggerdns", observer=cast("ILogObserver", self.events.append))
        self.certificate = Certificate(
            str(self.files.chain), str(self.files.key), Journal("info", log), self.wall
        )

    def wall(self) -> float:
        """The time in seconds since 1970."""
        return self.now.timestamp()

    @property
    def end(self) -> dt.datetime:
        """When the certificate in the file expires."""
        return x509.load_pem_x509_certificate(self.files.chain.read_bytes()).not_valid_after_utc

    def warnings(self) -> list[str]:
        """What was warned of since the last call."""
        found = [formatEvent(e) for e in self.events if e["log_level"] is LogLevel.warn]
        self.events.clear()
        return found


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (EXPIRY_WARNING + dt.timedelta(seconds=1), None),
        (EXPIRY_WARNING, "expires on {:%Y-%m-%d}: replace it"),
        (dt.timedelta(seconds=1), "expires on {:%Y-%m-%d}: replace it"),
        (dt.timedelta(0), "has expired on {:%Y-%m-%d}: replace it, clients refuse it"),
        (-400 * DAY, "has expired on {:%Y-%m-%d}: replace it, clients refuse it"),
    ],
)
def test_the_end_of_a_certificate(tmp_path: Path, before: dt.timedelta, said: str | None) -> None:
    """It is warned of from two weeks before it on."""
    watched = WatchedCertificate(tmp_path, 365 * DAY)
    watched.now = watched.end - before
    watched.certificate.warn()
    expected = said and f"the certificate in {watched.files.chain} {said.format(watched.end)}"
    assert watched.warnings() == ([expected] if expected else [])
    assert watched.certificate.expiry == watched.end.timestamp()


def test_a_short_lived_certificate(tmp_path: Path) -> None:
    """One that lasts for days is warned of in its last third only."""
    watched = WatchedCertificate(tmp_path, 6 * DAY)
    made = x509.load_pem_x509_certificate(watched.files.chain.read_bytes())
    third = (watched.end - made.not_valid_before_utc) / 3
    watched.now = watched.end - third - dt.timedelta(seconds=1)
    watched.certificate.warn()
    assert watched.warnings() == []
    watched.now = watched.end - third
    watched.certificate.warn()
    assert len(watched.warnings()) == 1


def test_not_valid_yet(tmp_path: Path) -> None:
    """A certificate of the future, or a clock that is wrong, is warned of."""
    watched = WatchedCertificate(tmp_path)
    watched.now -= 20_000 * DAY
    watched.certificate.warn()
    (warning,) = watched.warnings()
    assert "is not valid before" in warning


def test_once_a_day(tmp_path: Path) -> None:
    """However many connections come, the warning comes once a day."""
    watched = WatchedCertificate(tmp_path)
    watched.now = watched.end + DAY
    for _ in range(3):
        watched.certificate.context((b"dot",))
    assert len(watched.warnings()) == 1
    watched.now += WARN_EVERY - dt.timedelta(seconds=1)
    watched.certificate.context((b"dot",))
    assert watched.warnings() == []
    watched.now += dt.timedelta(seconds=1)
    watched.certificate.context((b"h2",))
    assert len(watched.warnings()) == 1


def test_a_new_certificate(tmp_path: Path) -> None:
    """A new one is looked at when it is read, the next day or at once, and the number follows."""
    watched = WatchedCertificate(tmp_path, 365 * DAY)
    first = watched.certificate.context((b"dot",))
    assert watched.certificate.context((b"dot",)) is first
    assert watched.certificate.context((b"h2",)) is not first
    for lifetime, warned in ((-DAY, 1), (DAY, 0), (-2 * DAY, 1), (400 * DAY, 0)):
        renewed = watched.authority.issue("dns.example", lifetime=lifetime)
        shutil.copy(renewed.chain, watched.files.chain)
        shutil.copy(renewed.key, watched.files.key)
        watched.certificate.context((b"dot",))
        assert len(watched.warnings()) == warned
        assert watched.certificate.expiry == watched.end.timestamp()
    assert watched.certificate.context((b"dot",)) is not first


def test_a_renewal_that_no_client_sees(tmp_path: Path) -> None:
    """Whoever asks for the end has the files looked at, and read again if they have changed."""
    watched = WatchedCertificate(tmp_path, 9 * DAY)
    watched.certificate.follow()
    assert watched.events == []
    renewed = watched.authority.issue("dns.example", lifetime=90 * DAY)
    shutil.copy(renewed.chain, watched.files.chain)
    shutil.copy(renewed.key, watched.files.key)
    watched.certificate.follow()
    assert [formatEvent(event) for event in watched.events] == ["the certificate was read anew"]
    assert watched.certificate.expiry == watched.end.timestamp()


def test_reading_again(tmp_path: Path) -> None:
    """Asked to, the files are read whether they look changed or not; broken ones change nothing."""
    watched = WatchedCertificate(tmp_path)
    context = watched.certificate.context((b"dot",))
    watched.certificate.reread()
    assert [formatEvent(event) for event in watched.events] == ["the certificate was read anew"]
    assert watched.certificate.context((b"dot",)) is not context
    context = watched.certificate.context((b"dot",))
    watched.files.key.write_text("nothing")
    watched.events.clear()
    watched.certificate.reread()
    (warning,) = watched.warnings()
    assert "the old one stays: server.tls_key: " in warning
    assert watched.certificate.context((b"dot",)) is context
    with pytest.raises(CertificateProblem) as caught:
        Certificate(str(watched.files.chain), str(watched.files.key), Journal(), watched.wall)
    assert caught.value.key == "tls_key"


class Tls:
    """Both ends of a connection, in memory."""

    def __init__(self, tmp_path: Path) -> None:
        authority = CertificateAuthority(tmp_path / "authority")
        files = authority.issue("127.0.0.1")
        certificate = Certificate(str(files.chain), str(files.key), Journal(), time.time)
        creator = TlsConnectionCreator(certificate, (b"dot",))
        self.server = creator.serverConnectionForTLS(cast("Any", None))
        self.server.set_accept_state()
        self.client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
        self.client.set_connect_state()
        for _ in range(4):
            for end, other in ((self.client, self.server), (self.server, self.client)):
                with suppress(SSL.WantReadError):
                    end.do_handshake()
                with suppress(SSL.WantReadError):
                    other.bio_write(end.bio_read(65536))

    def carry(self) -> None:
        """Give the server all that the client has sent."""
        self.server.bio_write(self.client.bio_read(65536))


def test_records_in_one_piece(tmp_path: Path) -> None:
    """What several records say is read at once; then there is nothing more, until more comes."""
    tls = Tls(tmp_path)
    for _ in range(2):
        for part in (b"one ", b"two ", b"three"):
            tls.client.send(part)
        tls.carry()
        assert tls.server.recv(100) == b"one two three"
        with pytest.raises(SSL.WantReadError):
            tls.server.recv(100)
    tls.client.send(b"abcdef")
    tls.carry()
    assert tls.server.recv(4) == b"abcd"
    assert tls.server.recv(4) == b"ef"
    with pytest.raises(SSL.WantReadError):
        tls.server.recv(4)


def test_records_before_the_end(tmp_path: Path) -> None:
    """A client that says good-bye behind its queries is read to the end."""
    tls = Tls(tmp_path)
    tls.client.send(b"one ")
    tls.client.send(b"two")
    tls.client.shutdown()
    tls.carry()
    assert tls.server.recv(100) == b"one two"
    for _ in range(2):
        with pytest.raises(SSL.ZeroReturnError):
            tls.server.recv(100)


def test_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in the directory that systemd names, and are read anew as other files are."""
    authority = CertificateAuthority(tmp_path / "authority")
    first, second = (authority.issue("dns.example") for _ in range(2))
    directory = tmp_path / "credentials"
    directory.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
    copies = {"chain": first.chain, "key": first.key}
    for name, source in copies.items():
        (directory / name).write_bytes(source.read_bytes())
    read = Certificate("credential:chain", "credential:key", Journal(), lambda: 0.0)
    before = read.context(())
    assert read.context(()) is before
    (directory / "chain").write_bytes(second.chain.read_bytes())
    (directory / "key").write_bytes(second.key.read_bytes())
    after = read.context(())
    assert after is not before
    (directory / "key").unlink()
    assert read.context(()) is after


NO_DIRECTORY = (
    "credential:key cannot be read: CREDENTIALS_DIRECTORY is not set, as systemd does for a unit "
    "that has LoadCredential=key:PATH"
)
NOT_IN_IT = (
    "credential:key cannot be read: it is not in /nowhere: expected LoadCredential=key:PATH in the "
    "unit"
)
NO_NAME = "credential:../key cannot be read: expected a name behind credential:, as in tls-key"


@pytest.mark.parametrize(
    ("name", "directory", "problem"),
    [
        ("credential:key", None, NO_DIRECTORY),
        ("credential:key", "/nowhere", NOT_IN_IT),
        ("credential:../key", "/nowhere", NO_NAME),
    ],
)
def test_credentials_that_are_not_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    directory: str | None,
    problem: str,
) -> None:
    """What is lacking, and where it is said."""
    if directory is None:
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    else:
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", directory)
    files = CertificateAuthority(tmp_path).issue("dns.example")
    with pytest.raises(CertificateProblem) as caught:
        Certificate(str(files.chain), name, Journal(), lambda: 0.0)
    assert (caught.value.key, str(caught.value)) == ("tls_key", problem)
