"""The server's certificate: what is told of its end, on a wall clock of our own."""

from __future__ import annotations

import datetime as dt
import shutil
from typing import TYPE_CHECKING, cast

import pytest
from cryptography import x509
from twisted.logger import Logger, LogLevel, formatEvent

from staggerdns.journal import Journal
from staggerdns.server.tls import SOON, WARN_EVERY, Certificate, CertificateProblem
from tests.kit.certificates import Office

if TYPE_CHECKING:
    from pathlib import Path

    from twisted.logger import ILogObserver, LogEvent

DAY = dt.timedelta(days=1)


class Desk:
    """A certificate, the time, and what was logged."""

    def __init__(self, tmp_path: Path, lifetime: dt.timedelta | None = None) -> None:
        self.office = Office(tmp_path)
        self.files = self.office.issue("dns.example", lifetime=lifetime)
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
        (SOON + dt.timedelta(seconds=1), None),
        (SOON, "expires on {:%Y-%m-%d}: replace it"),
        (dt.timedelta(seconds=1), "expires on {:%Y-%m-%d}: replace it"),
        (dt.timedelta(0), "has expired on {:%Y-%m-%d}: replace it, clients refuse it"),
        (-400 * DAY, "has expired on {:%Y-%m-%d}: replace it, clients refuse it"),
    ],
)
def test_the_end_of_a_certificate(tmp_path: Path, before: dt.timedelta, said: str | None) -> None:
    """It is warned of from two weeks before it on."""
    desk = Desk(tmp_path, 365 * DAY)
    desk.now = desk.end - before
    desk.certificate.warn()
    expected = said and f"the certificate in {desk.files.chain} {said.format(desk.end)}"
    assert desk.warnings() == ([expected] if expected else [])
    assert desk.certificate.expiry == desk.end.timestamp()


def test_a_short_lived_certificate(tmp_path: Path) -> None:
    """One that lasts for days is warned of in its last third only."""
    desk = Desk(tmp_path, 6 * DAY)
    made = x509.load_pem_x509_certificate(desk.files.chain.read_bytes())
    third = (desk.end - made.not_valid_before_utc) / 3
    desk.now = desk.end - third - dt.timedelta(seconds=1)
    desk.certificate.warn()
    assert desk.warnings() == []
    desk.now = desk.end - third
    desk.certificate.warn()
    assert len(desk.warnings()) == 1


def test_not_valid_yet(tmp_path: Path) -> None:
    """A certificate of the future, or a clock that is wrong, is warned of."""
    desk = Desk(tmp_path)
    desk.now -= 20_000 * DAY
    desk.certificate.warn()
    (warning,) = desk.warnings()
    assert "is not valid before" in warning


def test_once_a_day(tmp_path: Path) -> None:
    """However many connections come, the warning comes once a day."""
    desk = Desk(tmp_path)
    desk.now = desk.end + DAY
    for _ in range(3):
        desk.certificate.context((b"dot",))
    assert len(desk.warnings()) == 1
    desk.now += WARN_EVERY - dt.timedelta(seconds=1)
    desk.certificate.context((b"dot",))
    assert desk.warnings() == []
    desk.now += dt.timedelta(seconds=1)
    desk.certificate.context((b"h2",))
    assert len(desk.warnings()) == 1


def test_a_new_certificate(tmp_path: Path) -> None:
    """A new one is looked at when it is read, the next day or at once, and the number follows."""
    desk = Desk(tmp_path, 365 * DAY)
    first = desk.certificate.context((b"dot",))
    assert desk.certificate.context((b"dot",)) is first
    assert desk.certificate.context((b"h2",)) is not first
    for lifetime, warned in ((-DAY, 1), (DAY, 0), (-2 * DAY, 1), (400 * DAY, 0)):
        renewed = desk.office.issue("dns.example", lifetime=lifetime)
        shutil.copy(renewed.chain, desk.files.chain)
        shutil.copy(renewed.key, desk.files.key)
        desk.certificate.context((b"dot",))
        assert len(desk.warnings()) == warned
        assert desk.certificate.expiry == desk.end.timestamp()
    assert desk.certificate.context((b"dot",)) is not first


def test_reading_again(tmp_path: Path) -> None:
    """Asked to, the files are read whether they look changed or not; broken ones change nothing."""
    desk = Desk(tmp_path)
    context = desk.certificate.context((b"dot",))
    desk.certificate.reread()
    assert [formatEvent(event) for event in desk.events] == ["the certificate was read anew"]
    assert desk.certificate.context((b"dot",)) is not context
    context = desk.certificate.context((b"dot",))
    desk.files.key.write_text("nothing")
    desk.events.clear()
    desk.certificate.reread()
    (warning,) = desk.warnings()
    assert "the old one stays: server.tls_key: " in warning
    assert desk.certificate.context((b"dot",)) is context
    with pytest.raises(CertificateProblem) as caught:
        Certificate(str(desk.files.chain), str(desk.files.key), Journal(), desk.wall)
    assert caught.value.key == "tls_key"
