"""Protection against rebinding: public names must not lead to private addresses.

Somebody whose page is open in a browser inside can have his own name answer with an address inside,
and so reach what trusts only those who are inside. Upstreams' replies lose such addresses, in
whatever section and form they come, HTTPS and SVCB hints included (RFC 9460 section 7.3). Names
below domains that are our own are excepted, by the name asked for: an alias does not lend its
target's trust.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from staggerdns.wire.constants import AD, Type, WireError
from staggerdns.wire.reply import Record, Reply
from staggerdns.wire.serviceparams import addresses_of, parameters


class Rebinding:
    """Which names must not lead to private addresses: all but those in ``allowed`` domains.

    ``allowed``: names in wire form, lower case.
    """

    def __init__(self, allowed: Iterable[bytes]) -> None:
        self._allowed = frozenset(allowed)

    def screens(self, name: bytes) -> bool:
        """Return whether ``name`` (wire form, lower case) must not have private addresses."""
        allowed = self._allowed
        position = 0
        while allowed:
            if name[position:] in allowed:
                return False
            if not name[position]:
                break
            position += name[position] + 1
        return True


def strip(reply: Reply, section: list[Record], unwanted: Callable[[bytes], bool]) -> set[Record]:
    """Return the records of a section of ``reply`` that hold ``unwanted`` addresses, which are to
    be left out.

    AD is cleared then, since nobody has validated what is left.
    """
    message = reply.message
    removed = {record for record in section if holds(message, record, unwanted)}
    if removed:
        reply.flags &= ~AD
    return removed


def holds(
    message: bytes,
    record: Record,
    unwanted: Callable[[bytes], bool],
    *,
    malformed: bool = True,
) -> bool:
    """Return whether a record of ``message`` has an ``unwanted`` address, as data or as a hint.

    ``malformed``: what is said of hints that cannot be read, which may be any.
    """
    if record.type in (Type.A, Type.AAAA):
        return unwanted(message[record.data : record.end])
    if record.type in (Type.HTTPS, Type.SVCB):
        try:
            data = message[record.data : record.end]
            return any(
                unwanted(address)
                for key, start, end in parameters(data)
                for address in addresses_of(data, key, start, end)
            )
        except (WireError, struct.error):
            return malformed
    return False
