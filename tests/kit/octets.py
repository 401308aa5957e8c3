"""Messages octet by octet, as no library would make them, and what becomes of them."""

from __future__ import annotations

import contextlib
import hashlib
import struct
from typing import TYPE_CHECKING

from tests.kit import behaviours as b
from tests.kit.clients import NoReplyError, TcpClient, UdpClient, question
from tests.kit.scripted import Send

if TYPE_CHECKING:
    from tests.kit.clients import Reply
    from tests.kit.scripted import Action, Query
    from tests.kit.testbed import Testbed

ID = 0x4D59
RD = 0x0100
WWW = b"\3www\7example\0"
A_IN = b"\0\1\0\1"


def label(text: bytes) -> bytes:
    """Return one label, whatever its length."""
    return bytes([len(text)]) + text


def opt(
    payload: int = 1232,
    *,
    version: int = 0,
    extended: int = 0,
    flags: int = 0,
    options: bytes = b"",
    owner: bytes = b"\0",
) -> bytes:
    """Return an OPT record (RFC 6891 section 6.1.2)."""
    ttl = extended << 24 | version << 16 | flags
    return owner + struct.pack("!HHIH", 41, payload, ttl, len(options)) + options


def option(code: int, data: bytes = b"") -> bytes:
    """Return one EDNS option."""
    return struct.pack("!HH", code, len(data)) + data


def record(owner: bytes = b"\xc0\x0c", rtype: int = 1, data: bytes = b"\1\2\3\4") -> bytes:
    """Return a record of class IN."""
    return owner + struct.pack("!HHIH", rtype, 1, 60, len(data)) + data


def message(
    *sections: bytes,
    name: bytes = WWW,
    tail: bytes = A_IN,
    flags: int = RD,
    counts: tuple[int, int, int, int] = (1, 0, 0, 0),
) -> bytes:
    """Return a message: header, question and whatever ``sections`` say behind it."""
    return struct.pack("!HHHHHH", ID, flags, *counts) + name + tail + b"".join(sections)


def sent(testbed: Testbed, wire: bytes, *, tcp: bool, answered: bool = True) -> Reply | None:
    """Send one message and then a sane query; return the reply to the first, strictly parsed.

    `None` when there is none. The sane query must be answered. ``answered``: whether a
    reply is expected, and so worth waiting for.
    """
    probe = question("www.example.")
    probe.id = ID ^ 1
    found: dict[int, Reply] = {}
    with (TcpClient if tcp else UdpClient)(testbed.program.endpoint) as client:
        client.send(wire)
        client.send(probe)
        with contextlib.suppress(NoReplyError):
            while len(found) < 2:
                reply = client.receive(5 if answered or probe.id not in found else 0.1)
                assert reply.message.id not in found, "answered twice"
                found[reply.message.id] = reply
    assert found.pop(probe.id).rcode == "NOERROR"
    reply_to_it = found.pop(ID, None)
    assert not found, "an ID that nobody sent"
    return reply_to_it


def address_of(name: str) -> str:
    """Return the address that `by_hash` gives to a name, in lower case and presentation form."""
    digest = hashlib.sha256(name.encode()).digest()
    return f"198.51.{digest[0]}.{digest[1]}"


def by_hash(query: Query) -> list[Action]:
    """Answer A with an address that belongs to the name alone, anything else with NODATA."""
    if query.rdtype != "A":
        return [Send(b.reply(query, (), (b.SOA,)))]
    return [Send(b.reply(query, [(None, 300, "A", address_of(query.name))]))]
