"""Sockets that are open before the program is: systemd passes them in (sd_listen_fds(3)).

Clients notice nothing of a restart then: what comes meanwhile waits in the socket. Each has the
name that ``FileDescriptorName=`` gives it, which says what is spoken there: ``dns`` (UDP and TCP),
``tls``, ``https``, ``metrics``. A listener of the configuration takes the sockets that have its
address and port, and opens those that are missing. A name that is none of these, such as that of
the unit, which a socket has if none is given, leaves it to the configuration.

The program never drains or closes the sockets themselves. It reads duplicates, so that a listener
can leave and come back.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from ipaddress import ip_address
from socket import SOCK_DGRAM, SOCK_STREAM
from typing import Any, NamedTuple

from staggerdns.errors import StaggerDNSError
from staggerdns.server.sockets import enlarge_beyond
from staggerdns.settings.addresses import Endpoint, Listener

FIRST = 3
"""The descriptor of the first one; the others follow it."""
METRICS = "metrics"
_NAMES = {"": "dns", "tls": "tls", "https": "https"}
_KINDS: Mapping[str, tuple[int, ...]] = {
    "dns": (SOCK_DGRAM, SOCK_STREAM),
    "tls": (SOCK_STREAM,),
    "https": (SOCK_STREAM,),
    METRICS: (SOCK_STREAM,),
}
_UNITS = {SOCK_DGRAM: "ListenDatagram=", SOCK_STREAM: "ListenStream="}
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class WrongSocket(StaggerDNSError, ValueError):
    """A socket that was passed in and that nothing can be made of; the text is one line."""


class PassedSocket(NamedTuple):
    """A socket and its ``name``; ``kind`` is that of UDP or TCP."""

    name: str
    kind: int
    socket: socket.socket

    def is_at(self, endpoint: Endpoint) -> bool:
        """Return whether it has this address and port."""
        return _place(self.socket.getsockname()) == _place(endpoint.place)

    @property
    def takes_both(self) -> bool:
        """Whether it is on all addresses of IPv6 and takes what comes by IPv4 as well."""
        own = self.socket
        return own.family == socket.AF_INET6 and not own.getsockopt(
            socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
        )

    def __str__(self) -> str:
        host, port = self.socket.getsockname()[:2]
        return f"{self.name} ({_UNITS[socket.SocketKind(self.kind)]}{Endpoint(host, port)})"


class PassedSockets:
    """The sockets that were passed in."""

    def __init__(self, sockets: list[PassedSocket]) -> None:
        self._sockets = sockets

    def find(self, endpoint: Endpoint, kind: int) -> PassedSocket | None:
        """Return the socket for a listener, or for the page if ``endpoint`` is none; `None` if
        there is none. Raises `WrongSocket` if what has its place is meant for something else.
        """
        name = _NAMES[endpoint.scheme] if isinstance(endpoint, Listener) else METRICS
        for one in self._sockets:
            if one.kind == kind and one.is_at(endpoint):
                if one.name in _KINDS and one.name != name:
                    raise WrongSocket(
                        f"the socket {one} was passed in for it: expected FileDescriptorName={name}"
                    )
                return one
        return None

    def in_the_way(self, endpoint: Endpoint) -> PassedSocket | None:
        """Return a socket that takes what an IPv4 ``endpoint`` would, `None` if there is none."""
        for one in self._sockets:
            if one.takes_both and one.socket.getsockname()[1] == endpoint.port:
                return one
        return None

    def unused(self, used: set[int]) -> list[PassedSocket]:
        """Return those whose descriptors are not in ``used``."""
        return [one for one in self._sockets if one.socket.fileno() not in used]

    def close(self) -> None:
        """Close our descriptors; whoever has passed them in has his own."""
        for one in self._sockets:
            one.socket.close()


def take_passed_sockets(
    environ: MutableMapping[str, str], pid: int, first: int = FIRST
) -> PassedSockets:
    """Return what ``environ`` says was passed in to the process ``pid``, from the descriptor
    ``first`` on. Processes that we start learn nothing of it. Raises `WrongSocket`.
    """
    found = {name: environ.pop(name, "") for name in _VARIABLES}
    if found["LISTEN_PID"] != str(pid):
        return PassedSockets([])
    count = found["LISTEN_FDS"]
    if not (count.isascii() and count.isdigit()):
        raise WrongSocket(f"LISTEN_FDS in the environment is {count!r}: expected a number")
    names = found["LISTEN_FDNAMES"].split(":")
    names += ["unknown"] * (int(count) - len(names))
    return PassedSockets(
        [_take(number, names[number - first]) for number in range(first, first + int(count))]
    )


def _take(number: int, name: str) -> PassedSocket:
    """Return the socket behind a descriptor. Raises `WrongSocket`."""
    what = f"descriptor {number} was passed in as {name!r}"
    try:
        os.set_inheritable(number, False)
        taken = socket.socket(fileno=number)
    except OSError as error:
        raise WrongSocket(f"{what}, and is no socket: {error.strerror}") from None
    taken.setblocking(False)
    kinds = _KINDS.get(name, (SOCK_DGRAM, SOCK_STREAM))
    expected = " or ".join(f"{_UNITS[socket.SocketKind(kind)]}ADDRESS:PORT" for kind in kinds)
    problem = ""
    if taken.family not in (socket.AF_INET, socket.AF_INET6):
        problem = "is no socket of the Internet"
    elif taken.type not in kinds:
        problem = {SOCK_DGRAM: "is for datagrams", SOCK_STREAM: "is for streams"}.get(
            socket.SocketKind(taken.type), "is of another kind"
        )
    elif taken.type == SOCK_STREAM and not taken.getsockopt(
        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
    ):
        problem, expected = "does not listen", "Accept=no"
    if problem:
        taken.close()
        raise WrongSocket(f"{what}, and {problem}: expected {expected} in the unit of the socket")
    if taken.type == SOCK_DGRAM:
        with suppress(OSError):  # else it is as large as ReceiveBuffer= has it
            enlarge_beyond(taken)
    return PassedSocket(name, taken.type, taken)


def _place(address: Any) -> tuple[object, int, int]:
    """Return what tells one address of a socket from another."""
    host, port, *more = address
    return ip_address(host.partition("%")[0]), port, more[1] if more else 0
