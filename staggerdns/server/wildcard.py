"""UDP sockets on all addresses of the machine.

A client takes a reply only from the address that it has asked. A socket that is bound to one
address can send from no other; one that is bound to all sends from the address that the system
would choose, which on a machine with several may be another one. So the system is asked to tell of
each datagram to which address it came (``IP_PKTINFO`` of ip(7), RFC 3542 section 6), and the reply
leaves from there, whatever addresses come and go meanwhile.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address
from typing import Any

from staggerdns.server.ratelimit import Address

_IP_PKTINFO = 8  # Linux; the socket module names it from Python 3.14 on
_V4 = struct.Struct("=i4s4s")  # interface, our address, address in the header
_V6 = struct.Struct("=16si")  # our address, interface
_ROOM = 64  # octets for what the system tells of a datagram

_Ancillary = list[tuple[int, int, bytes]]


def is_wildcard(host: str) -> bool:
    """Return whether an address stands for all of the machine."""
    return not host or ip_address(host).is_unspecified


class WildcardSocket:
    """A UDP ``socket`` bound to all addresses, as a port uses it.

    Addresses of clients have one more item at their end: from where to reply.
    """

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        if inner.family == socket.AF_INET6:
            inner.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            inner.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def recvfrom(self, size: int) -> tuple[bytes, Address]:
        """Read a datagram of at most ``size`` bytes. Raises `OSError`."""
        message, ancillary, _, address = self._inner.recvmsg(size, _ROOM)
        return message, (*address, _from_there(ancillary))

    def sendto(self, message: bytes, address: Address) -> int:
        """Send a reply. Raises `OSError`."""
        return self._inner.sendmsg([message], address[-1], 0, address[:-1])


def _from_there(told: _Ancillary) -> _Ancillary:
    """Return what sends a reply from the address that a datagram came to."""
    for level, kind, data in told:
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            address, interface = _V6.unpack(data)
            if not _is_link_local(address):  # others may be reached by any interface
                interface = 0
            return [(level, kind, _V6.pack(address, interface))]
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            _, address, _ = _V4.unpack(data)
            return [(level, kind, _V4.pack(0, address, bytes(4)))]
    return []


def _is_link_local(address: bytes) -> bool:
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80
