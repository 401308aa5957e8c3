"""Numbers of the DNS protocol that more than one module needs (IANA DNS parameters)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from staggerdns.errors import StaggerDNSError

HEADER_SIZE: Final = 12  # RFC 1035 section 4.1.1
MAX_NAME: Final = 255  # RFC 1035 section 2.3.4, octets with the root label
MAX_LABEL: Final = 63
POINTER: Final = 0xC0  # RFC 1035 section 4.1.4: both bits set where a label has its length
RECORD_SIZE: Final = 10  # RFC 1035 section 4.1.3: type, class, TTL and length, behind the name
MAX_MESSAGE: Final = 65535  # RFC 1035 section 4.2.2
MEDIA_TYPE: Final = b"application/dns-message"  # RFC 8484 section 6
MAX_TTL: Final = 0x7FFFFFFF  # RFC 2181 section 8: above it the TTL counts as 0

MIN_UDP_SIZE: Final = 512  # RFC 1035 section 4.2.1
EDNS_UDP_SIZE: Final = 1232  # what fits an IPv6 minimum MTU without fragments

# Header flags, as bits of the 16-bit word after the ID.
QR: Final = 0x8000
OPCODE: Final = 0x7800
TC: Final = 0x0200
RD: Final = 0x0100
RA: Final = 0x0080
AD: Final = 0x0020
CD: Final = 0x0010
RCODE: Final = 0x000F

CLASS_IN: Final = 1
CLASS_CH: Final = 3
OPT_SIZE: Final = 11  # RFC 6891 section 6.1.2: octets of an OPT record without options
EDNS_DO: Final = 0x8000  # RFC 3225, a bit of the OPT record's TTL field

# EDNS options.
CLIENT_SUBNET: Final = 8  # RFC 7871 section 6
COOKIE: Final = 10  # RFC 7873 section 4
CLIENT_COOKIE_SIZE: Final = 8  # octets, section 4.1
WITH_SERVER_COOKIE: Final = range(16, 41)  # octets of both cookies, section 4.2
KEEPALIVE: Final = 11  # RFC 7828 section 3.1
PADDING: Final = 12  # RFC 7830 section 3
EXTENDED_ERROR: Final = 15  # RFC 8914 section 2


class Type(IntEnum):
    """Record types that the code treats specially or names; all the others pass untouched."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    HINFO = 13
    MX = 15
    TXT = 16
    SIG = 24
    AAAA = 28
    SRV = 33
    NAPTR = 35
    DNAME = 39
    OPT = 41
    DS = 43
    RRSIG = 46
    NSEC = 47
    DNSKEY = 48
    NSEC3 = 50
    TLSA = 52
    SVCB = 64
    HTTPS = 65
    TKEY = 249
    TSIG = 250
    IXFR = 251
    AXFR = 252
    MAILB = 253
    MAILA = 254
    ANY = 255
    CAA = 257


def rcode_text(rcode: int) -> str:
    """Return the name of a response code, or its number behind ``RCODE`` (RFC 6895 section 2.3)."""
    return Rcode(rcode).name if rcode in Rcode._value2member_map_ else f"RCODE{rcode}"


def type_text(rtype: int) -> str:
    """Return the name of a type, or the form that RFC 3597 section 5 gives to others."""
    return Type(rtype).name if rtype in Type._value2member_map_ else f"TYPE{rtype}"


class Rcode(IntEnum):
    """Response codes (RFC 1035 section 4.1.1, RFC 6891 for BADVERS, RFC 7873)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16
    BADCOOKIE = 23


SOUND: Final = frozenset((int(Rcode.NOERROR), int(Rcode.NXDOMAIN)))
"""The codes that answer a question; with any other a server says that it does not."""


class Ede(IntEnum):
    """Extended DNS Errors that we attach (RFC 8914 section 4)."""

    OTHER = 0
    STALE_ANSWER = 3
    STALE_NXDOMAIN = 19
    NOT_READY = 14
    BLOCKED = 15
    PROHIBITED = 18
    NOT_AUTHORITATIVE = 20
    NOT_SUPPORTED = 21
    NO_REACHABLE_AUTHORITY = 22
    NETWORK_ERROR = 23


class WireError(StaggerDNSError, ValueError):
    """Bytes that are not the DNS message they claim to be."""
