"""The header that a proxy sends in front of a client's messages: PROXY protocol, version 2.

It stands in front of each datagram, and once in front of what comes over a connection, before the
handshake of TLS. It says for whom the proxy speaks; whoever reads it has to know that what sent it
is a proxy. The protocol is that of HAProxy (proxy-protocol.txt, section 2.2): a signature, version
and command, family and transport, the length of what follows, the addresses, and extensions (TLV),
none of which concern us.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop
from typing import ClassVar

from staggerdns.errors import StaggerDNSError

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""How it begins. As a DNS message that would be a query with opcode 1, which nobody sends."""
MAX_PROXY_HEADER = 1_024
"""Octets that a header may have. The protocol promises senders that 536 arrive in one piece, and
proxies stay below that, unless they send much about certificates.
"""
_FIXED = 16  # octets in front of the addresses
_LOCAL, _PROXY = 0x20, 0x21  # version 2, and the commands
_INET_SIZE, _INET6_SIZE = 12, 36  # octets of two addresses and two ports
_INET = frozenset((0x11, 0x12))  # AF_INET with STREAM and DGRAM
_INET6 = frozenset((0x21, 0x22))
_UNKNOWN = frozenset((0x00, 0x31, 0x32))  # UNSPEC; AF_UNIX, which may be read as that


class ProxyHeaderError(StaggerDNSError, ValueError):
    """What begins with no header that can be believed; ``reason``: as metrics call it."""

    reason: ClassVar[str] = "proxy_invalid"


class MissingHeader(ProxyHeaderError):
    """There is none."""

    reason: ClassVar[str] = "proxy_missing"


class CutHeader(ProxyHeaderError):
    """This may be the beginning of one."""

    reason: ClassVar[str] = "proxy_cut"


def read_proxy_header(message: bytes) -> tuple[str, int]:
    """Return the address of the client (text, as the kernel has it) and the octets that the header
    in front of ``message`` takes.

    The address is empty where the proxy speaks for itself (LOCAL), or for somebody of whom it knows
    none: then the peer is the client. Raises `ProxyHeaderError`: `MissingHeader`, `CutHeader`, or
    itself for one that is false or longer than `MAX_PROXY_HEADER`.
    """
    if not message.startswith(SIGNATURE):
        if message and SIGNATURE.startswith(message):
            raise CutHeader("no more than a part of the signature")
        raise MissingHeader("no header")
    size = len(message)
    if size < _FIXED:
        raise CutHeader("no more than a part of the header")
    command, family = message[12], message[13]
    end = _FIXED + (message[14] << 8 | message[15])
    if end > MAX_PROXY_HEADER:
        raise ProxyHeaderError("longer than a header may be")
    if command == _PROXY and family in _INET:
        if end < _FIXED + _INET_SIZE:
            raise ProxyHeaderError("no room for the addresses")
        if size < end:
            raise CutHeader("no more than a part of the header")
        return inet_ntop(AF_INET, message[16:20]), end
    if command == _PROXY and family in _INET6:
        if end < _FIXED + _INET6_SIZE:
            raise ProxyHeaderError("no room for the addresses")
        if size < end:
            raise CutHeader("no more than a part of the header")
        return inet_ntop(AF_INET6, message[16:32]), end
    if command != _LOCAL and (command != _PROXY or family not in _UNKNOWN):
        raise ProxyHeaderError("another version, command or family")
    if size < end:
        raise CutHeader("no more than a part of the header")
    return "", end
