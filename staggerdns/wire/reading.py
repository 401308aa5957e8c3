"""From an upstream's reply to the pool of addresses that it brings."""

from __future__ import annotations

import struct
from typing import Final

from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.constants import (
    AD,
    CLASS_IN,
    MAX_TTL,
    RCODE,
    RECORD_SIZE,
    TC,
    Type,
    WireError,
)
from staggerdns.wire.names import skip_name
from staggerdns.wire.question import Question
from staggerdns.wire.records import read_fields
from staggerdns.wire.reply import Reply
from staggerdns.wire.scrub import Path

# Pointer, type and class; TTL; length of the address; the address.
_A_RECORD = struct.Struct("!6sIH4s")
_AAAA_RECORD = struct.Struct("!6sIH16s")
_counts = struct.Struct("!5H").unpack_from
_A: Final = int(Type.A)
_OPT: Final = int(Type.OPT)


def quick_pool(message: bytes, question: Question) -> AddressPool | None:
    """Return the pool of the most usual reply, `None` for any other: that needs an index.

    Usual is NOERROR and nothing in the answer section but addresses at the name asked for, each
    with a pointer to the question. A pool takes nothing from the other sections: of them only
    the outline is checked.
    """
    flags, _, count, nscount, arcount = _counts(message, 2)
    if flags & (TC | RCODE) or not count:
        return None
    record, width = (_A_RECORD, 4) if question.qtype == _A else (_AAAA_RECORD, 16)
    usual = question.pointer_type_class
    start = question.end
    end = start + count * record.size
    if end > len(message):
        return None
    ttl = MAX_TTL
    addresses: list[bytes] = []
    for pointer_type_class, its_ttl, its_width, address in record.iter_unpack(message[start:end]):
        if pointer_type_class != usual or its_width != width:
            return None
        if its_ttl < ttl:
            ttl = its_ttl
        elif its_ttl > MAX_TTL:
            ttl = 0
        addresses.append(address)
    if (nscount or arcount) and not _outline_is_sound(message, end, nscount, arcount):
        return None
    if not nscount and not arcount and end != len(message):
        return None
    return AddressPool((), _unique(addresses), ttl, bool(flags & AD))


def _outline_is_sound(message: bytes, position: int, nscount: int, arcount: int) -> bool:
    """Return whether records fill the rest of the message as they should.

    All are of class IN; one of the last ``arcount`` may be an OPT record, which has no error.
    """
    opts = 0
    try:
        for index in range(nscount + arcount):
            first = message[position]
            position = position + 1 if not first else skip_name(message, position)
            rtype, rclass, ttl, length = read_fields(message, position)
            position += RECORD_SIZE + length
            if rtype == _OPT:
                opts += 1
                if first or opts > 1 or index < nscount or ttl >> 24:
                    return False
            elif rclass != CLASS_IN:
                return False
    except (IndexError, struct.error, WireError):
        return False
    return position == len(message)


def read_pool(reply: Reply, path: Path) -> AddressPool | None:
    """Return chain and addresses of a positive reply, `None` when it holds no address.

    ``path``: where the question leads in ``reply``.
    """
    message = reply.message
    found = path.found
    if not found:
        return None
    addresses = _unique([message[record.data : record.end] for record in found])
    ttl = min(path.ttl, *(record.ttl for record in found))  # one of a set: RFC 2181 section 5.2
    return AddressPool(
        tuple(path.cname_chain), addresses, ttl, bool(reply.flags & AD), cname_life=path.ttl
    )


def _unique(addresses: list[bytes]) -> tuple[bytes, ...]:
    return tuple(addresses) if len(addresses) == 1 else tuple(dict.fromkeys(addresses))
