"""The ways of probing that the configuration names, as far as the system lets us use them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from staggerdns.journal import Journal
from staggerdns.ranking.connect import Connector
from staggerdns.ranking.icmp import IcmpUnavailable, Pinger
from staggerdns.ranking.sample import Probe
from staggerdns.settings.sections import RankingSettings

ICMP = "icmp"
TCP_PREFIX = "tcp:"


class IcmpProbe:
    """ICMP echo for addresses of both families; see `open` for when sockets are made."""

    name = ICMP
    cheap = True

    def __init__(
        self, reactor: Any, clock: IReactorTime, rng: Callable[[int], bytes], journal: Journal
    ) -> None:
        self._make = lambda family: Pinger(family, reactor, clock, rng)
        self._journal = journal
        self._pingers: dict[int, Pinger] = {}
        self._opened = False

    def open(self) -> None:
        """Open the sockets while there are privileges; what is refused drops out, logged once."""
        if self._opened:
            return
        self._opened = True
        for width, family in ((4, socket.AF_INET), (16, socket.AF_INET6)):
            try:
                self._pingers[width] = self._make(family)
            except IcmpUnavailable:
                continue
        if not self._pingers:
            self._journal.warn(
                "no ICMP probing: it needs root, CAP_NET_RAW or net.ipv4.ping_group_range; "
                "the other ways in ranking.probes remain"
            )

    def usable(self, address: bytes) -> bool:
        """Return whether there is a socket for the address's family."""
        if not self._opened:
            self.open()
        return len(address) in self._pingers

    def ping(self, address: bytes) -> Deferred[float]:
        """Send one echo."""
        return self._pingers[len(address)].ping(address)

    def close(self) -> None:
        """Close the sockets."""
        self._opened = True
        while self._pingers:
            self._pingers.popitem()[1].close()


class TcpProbe:
    """A TCP connection to ``port``; ``cheap``: it is repeated before it has ever answered."""

    def __init__(
        self,
        port: int,
        reactor: Any,
        clock: IReactorTime,
        timeout: float,
        *,
        cheap: bool = False,
    ) -> None:
        self.name = f"{TCP_PREFIX}{port}"
        self.cheap = cheap
        self._connector = Connector(port, reactor, clock, timeout)

    def usable(self, address: bytes) -> bool:
        """Return `True`: TCP reaches every address."""
        return True

    def ping(self, address: bytes) -> Deferred[float]:
        """Open one connection."""
        return self._connector.ping(address)


class Probes:
    """All ways of probing in the order of their names; `open` early, `close` in the end.

    ``icmp``: the sockets of others (`hand_over`), since there may be no privileges for new ones.
    """

    def __init__(
        self,
        settings: RankingSettings,
        reactor: Any,
        clock: IReactorTime,
        rng: Callable[[int], bytes],
        journal: Journal,
        icmp: IcmpProbe | None = None,
    ) -> None:
        self.all: list[Probe] = []
        self._icmp = icmp
        self._connect = partial(TcpProbe, reactor=reactor, clock=clock, timeout=settings.timeout)
        self.handshakes: list[Probe] = []
        """Those by a connection, of which each may be lost."""
        for name in settings.probes:
            if name == ICMP:
                if self._icmp is None:
                    self._icmp = IcmpProbe(reactor, clock, rng, journal)
                self.all.append(self._icmp)
            else:
                self.all.append(self.at_port(_tcp_port(name)))
                self.handshakes.append(self._connect(_tcp_port(name), cheap=True))

    def at_port(self, port: int) -> Probe:
        """Return the way of probing by a connection to ``port``."""
        return self._connect(port)

    def open(self) -> None:
        """Open what needs privileges."""
        if self._icmp is not None:
            self._icmp.open()

    def hand_over(self) -> IcmpProbe | None:
        """Return what needed privileges, if there is anything; it is not closed here any more."""
        icmp, self._icmp = self._icmp, None
        return icmp

    def close(self) -> None:
        """Close what was opened."""
        if self._icmp is not None:
            self._icmp.close()


def check_probe(name: str) -> None:
    """Check the name of a way of probing. Raises `ValueError` that says what was expected."""
    if name != ICMP:
        _tcp_port(name)


def connects(probes: Sequence[str]) -> bool:
    """Return whether any of these ways of probing is by a connection."""
    return any(name != ICMP for name in probes)


def _tcp_port(name: str) -> int:
    text = name.removeprefix(TCP_PREFIX)
    if name == text or not (text.isascii() and text.isdigit()) or not 0 < int(text) < 65536:
        raise ValueError(f"expected {ICMP} or {TCP_PREFIX}PORT, got {name!r}")
    return int(text)
