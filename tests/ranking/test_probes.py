"""The ways of probing that a configuration names, and what happens where one is not allowed."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs

from staggerdns.journal import Journal
from staggerdns.ranking import icmp as icmp_module
from staggerdns.ranking.icmp import IcmpUnavailable
from staggerdns.ranking.probes import Probes, check_probe
from staggerdns.settings.sections import RankingSettings
from tests.kit.probing import FakeSocket, address, rng

IPV6 = b"\x20\x01\x0d\xb8" + b"\0" * 12


class Sockets:
    """What the system says to whoever wants an ICMP socket."""

    def __init__(self, *forbidden: socket.AddressFamily) -> None:
        self.forbidden = forbidden
        self.opened: dict[socket.AddressFamily, FakeSocket] = {}

    def __call__(self, family: socket.AddressFamily) -> tuple[FakeSocket, bool]:
        """Open one, or refuse."""
        if family in self.forbidden:
            raise IcmpUnavailable
        assert family not in self.opened, "opened twice"
        self.opened[family] = FakeSocket()
        return self.opened[family], True


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set which families the system forbids; returns its sockets."""

    def set_to(*forbidden: socket.AddressFamily) -> Sockets:
        sockets = Sockets(*forbidden)
        monkeypatch.setattr(icmp_module, "_open", sockets)
        return sockets

    return set_to


def probes(*names: str) -> Probes:
    """Probes on a reactor in memory."""
    reactor = MemoryReactorClock()
    return Probes(RankingSettings(probes=names), reactor, reactor, rng, Journal())


@pytest.mark.parametrize("name", ["icmp", "tcp:1", "tcp:443", "tcp:65535"])
def test_names(name: str) -> None:
    """ICMP, and TCP with a port."""
    check_probe(name)


@pytest.mark.parametrize(
    "name",
    ["", "ICMP", "tcp", "tcp:", "tcp:0", "tcp:65536", "tcp:-1", "tcp:+80", "tcp: 80", "tcp:8 0",
     "tcp:http", "udp:53", "443", "tcp:\N{SUPERSCRIPT TWO}", "tcp:\N{ARABIC-INDIC DIGIT TWO}",
     "tcp:1.5", "icmp:1", "tcp:" + "9" * 5000],
)  # fmt: skip
def test_what_is_no_name(name: str) -> None:
    """Anything else is refused with what was expected."""
    with pytest.raises(ValueError, match=r"\A(expected icmp or tcp:PORT|Exceeds)"):
        check_probe(name)


def test_order(allow: Any) -> None:
    """The ways come in the order in which they are named, each under its name."""
    allow()
    for names in (("icmp", "tcp:443", "tcp:80"), ("tcp:8443", "icmp")):
        made = probes(*names)
        assert [way.name for way in made.all] == list(names)
        assert [way.cheap for way in made.all] == [name == "icmp" for name in names]
        made.close()


def test_open_early(allow: Any) -> None:
    """Sockets are opened with `open`, once, one for each family, and closed with `close`."""
    sockets = allow()
    made = probes("icmp", "tcp:80")
    assert sockets.opened == {}
    made.open()
    made.open()
    assert set(sockets.opened) == {socket.AF_INET, socket.AF_INET6}
    made.close()
    assert [opened.closed for opened in sockets.opened.values()] == [True, True]


def test_open_late(allow: Any) -> None:
    """Who was not opened early is opened when it is needed."""
    sockets = allow()
    made = probes("icmp")
    assert made.all[0].usable(address(1))
    assert sockets.opened
    made.close()


def test_without_icmp(allow: Any) -> None:
    """No sockets are opened when ICMP is not named."""
    sockets = allow()
    made = probes("tcp:443")
    made.open()
    assert made.all[0].usable(address(1))
    assert made.all[0].usable(IPV6)
    assert sockets.opened == {}
    made.close()


def test_ping_goes_to_the_family(allow: Any) -> None:
    """An address is pinged through the socket of its family."""
    sockets = allow()
    (icmp,) = (made := probes("icmp")).all
    for packed, family in ((address(1), socket.AF_INET), (IPV6, socket.AF_INET6)):
        assert icmp.usable(packed)
        icmp.ping(packed).addErrback(lambda _: None)
        assert [len(opened.sent) for opened in sockets.opened.values()].count(1) >= 1
        assert sockets.opened[family].sent[0][1] == socket.inet_ntop(family, packed)
    made.close()


def test_icmp_is_forbidden(allow: Any) -> None:
    """Without the privilege ICMP drops out with one line, and TCP is left."""
    allow(socket.AF_INET, socket.AF_INET6)
    with capturedLogs() as events:
        made = probes("icmp", "tcp:443")
        made.open()
        made.open()
        usable = [[way.usable(packed) for way in made.all] for packed in (address(1), IPV6)] * 2
    assert usable == [[False, True]] * 4
    assert [event["log_level"].name for event in events] == ["warn"]
    made.close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_one_family_is_missing(allow: Any, family: socket.AddressFamily) -> None:
    """A machine without one of the families pings the other, and says nothing."""
    allow(family)
    with capturedLogs() as events:
        made = probes("icmp")
        made.open()
    (icmp,) = made.all
    assert icmp.usable(address(1)) is (family != socket.AF_INET)
    assert icmp.usable(IPV6) is (family != socket.AF_INET6)
    assert events == []
    made.close()


def test_closed_stays_closed(allow: Any) -> None:
    """After the end nothing is opened any more."""
    sockets = allow()
    made = probes("icmp")
    made.close()
    assert not made.all[0].usable(address(1))
    made.open()
    assert sockets.opened == {}


def test_tcp_connects_to_its_port() -> None:
    """Each TCP way has its own port."""
    reactor = MemoryReactorClock()
    settings = RankingSettings(probes=("tcp:443", "tcp:80"), timeout=0.5)
    made = Probes(settings, reactor, reactor, rng, Journal())
    for way in made.all:
        way.ping(address(9)).addErrback(lambda _: None)
    clients = [(host, port, timeout) for host, port, _, timeout, _ in reactor.tcpClients]
    assert clients == [("203.0.113.9", 443, 0.5), ("203.0.113.9", 80, 0.5)]
    made.close()
