"""Sockets that clients come in by, bound and not read from yet."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import EADDRNOTAVAIL
from socket import SOCK_DGRAM, SOCK_STREAM

from staggerdns.settings.addresses import Endpoint

RECEIVE_BUFFER = 4 * 1024 * 1024
"""Bytes asked of the kernel for a burst of datagrams; it may grant less (net.core.rmem_max)."""
_FREEBIND = {  # Linux; the socket module names neither
    socket.AF_INET: (socket.IPPROTO_IP, 15),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 78),
}
_LOOPBACK = "::1"
_SO_RCVBUFFORCE = 33  # Linux; the socket module does not name it
_SHARE = {SOCK_DGRAM: socket.SO_REUSEADDR, SOCK_STREAM: socket.SO_REUSEPORT}


def open_socket(
    endpoint: Endpoint, kind: socket.SocketKind, backlog: int, beside: Sequence[socket.socket] = ()
) -> socket.socket:
    """Return a socket of ``kind`` (``SOCK_DGRAM``, ``SOCK_STREAM``) that is bound to ``endpoint``;
    ``[::]`` means IPv6 alone. One of streams listens, and ``backlog`` connections may wait.

    An address that the machine does not have is bound all the same (``IP_FREEBIND`` of ip(7)), so
    that it counts as soon as it is there: see `is_ahead`. This is not for the loopback of IPv6,
    without which there is no IPv6.

    ``beside``: our own sockets of that kind that are in the way, since they are on all addresses
    and this one is named, or the reverse. Datagrams and connections go to the one that is named.
    Raises `OSError`.
    """
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    opened = create(family, kind | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == SOCK_STREAM:  # connections of an earlier process may still be ending
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            enlarge(opened)
        with _sharing([opened, *beside] if beside else [], _SHARE[kind]):
            _bind(opened, endpoint)
            if kind == SOCK_STREAM:
                opened.listen(backlog)
    except BaseException:
        opened.close()
        raise
    return opened


def is_ahead(opened: socket.socket) -> bool:
    """Return whether the machine did not have the address of a socket when that was bound."""
    return bool(opened.getsockopt(*_FREEBIND[opened.family]))


def _bind(opened: socket.socket, endpoint: Endpoint) -> None:
    """Bind a socket, ahead of its address if need be. Raises `OSError`."""
    try:
        opened.bind(endpoint.place)
    except OSError as error:
        if error.errno != EADDRNOTAVAIL or endpoint.host == _LOOPBACK:
            raise
        try:
            opened.setsockopt(*_FREEBIND[opened.family], 1)
        except OSError:  # Linux before 4.15 has none for IPv6
            raise error from None
        opened.bind(endpoint.place)


def create(family: int, kind: int) -> socket.socket:
    """Return a socket that is bound to nothing. Raises `OSError`."""
    return socket.socket(family, kind)


def enlarge(opened: socket.socket) -> None:
    """Have the kernel keep a burst of datagrams."""
    try:
        enlarge_beyond(opened)
    except OSError:  # without the privilege the kernel caps what it grants
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


def enlarge_beyond(opened: socket.socket) -> None:
    """Do it whatever net.core.rmem_max says. Raises `OSError` without CAP_NET_ADMIN."""
    opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)


@contextmanager
def _sharing(sockets: Sequence[socket.socket], option: int) -> Iterator[None]:
    """Let these have the same port. Linux looks at the option when a socket is bound and when it
    begins to listen, so that others cannot share the port at any other time; but once a port of
    streams was shared, programs of the same user could that ask for it themselves.
    """
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        yield
    finally:
        for each in sockets:
            each.setsockopt(socket.SOL_SOCKET, option, 0)
