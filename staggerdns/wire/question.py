"""The question as upstreams are asked it."""

from __future__ import annotations

from struct import Struct
from typing import Any

from staggerdns.wire.constants import AD, CD, CLASS_IN, EDNS_DO, EDNS_UDP_SIZE, RD, Type, type_text
from staggerdns.wire.key import (
    CD_MARK,
    DO_MARK,
    MARKS,
    NAME,
    SECTION,
    TYPE_AND_CLASS,
    make_key,
)
from staggerdns.wire.names import to_text
from staggerdns.wire.records import pack_opt

_TYPE_CLASS = Struct("!HH")
_TAIL = Struct("!6H")
_ADDRESS_TYPES = (Type.A, Type.AAAA)


class Question:
    """One question: ``name`` (wire form, lower case), ``qtype``, ``qclass``, ``do``, ``cd``.

    ``section`` is the question section in wire form, ``mergeable`` whether answers of several
    upstreams may join in one pool: addresses asked for without DO. ``pointer_type_class`` is how
    a record that answers the question directly usually begins. ``judged`` remembers the last
    reply to it and the verdict on that. ``screened``: private addresses do not answer it;
    ``stripped``: how many records have been taken out of replies because of that; ``strays``: how
    many because they did not belong there, by kind. ``tree`` is for who reads names in replies.
    """

    __slots__ = (
        "key",
        "section",
        "name",
        "qtype",
        "qclass",
        "do",
        "cd",
        "mergeable",
        "pointer_type_class",
        "judged",
        "_letters",
        "screened",
        "stripped",
        "strays",
        "tree",
    )

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.section = key[SECTION]
        self.name = key[NAME]
        type_and_class = key[TYPE_AND_CLASS]
        self.qtype, self.qclass = _TYPE_CLASS.unpack(type_and_class)
        self.do = bool(key[MARKS] & DO_MARK)
        self.cd = bool(key[MARKS] & CD_MARK)
        self.screened = False
        self.stripped = 0
        self.strays: dict[str, int] = {}
        self.tree: Any = None
        self.judged: tuple[bytes, Any] | None = None
        self._letters: tuple[int, int] | None = None  # the section as a number; its case bits
        self.pointer_type_class = b"\xc0\x0c" + type_and_class
        self.mergeable = not self.do and self.qclass == CLASS_IN and self.qtype in _ADDRESS_TYPES

    def __str__(self) -> str:
        """Return name and type as a person reads them."""
        return f"{to_text(self.name)} {type_text(self.qtype)}"

    def in_random_case(self, random: bytes) -> bytes:
        """Return the section with the letters of the name in the case that ``random`` says.

        ``random`` has as many bytes as the section.
        """
        if self._letters is None:
            letters = self.name.translate(_CASE_BITS) + bytes(4)
            self._letters = int.from_bytes(self.section, "big"), int.from_bytes(letters, "big")
        section, letters_in_it = self._letters
        flips = int.from_bytes(random, "big") & letters_in_it
        return (section ^ flips).to_bytes(len(random), "big")

    def upstream_query(self) -> bytes:
        """Return a query for the question without its ID: everything from the flags on.

        The OPT record offers 1232 bytes (RFC 6891).
        """
        flags = RD | AD | (CD if self.cd else 0)
        opt = pack_opt(0, Type.OPT, EDNS_UDP_SIZE, EDNS_DO if self.do else 0, 0)
        return _TAIL.pack(0, flags, 1, 0, 0, 1)[2:] + self.section + opt


def make_question(
    name: bytes, qtype: int, qclass: int = CLASS_IN, *, do: bool = False, cd: bool = False
) -> Question:
    """Build a question from its parts, for callers that have no query to scan."""
    return Question(make_key(name, _TYPE_CLASS.pack(qtype, qclass), do, cd))


# Labels are at most 63 octets long, so no length is taken for a letter.
_CASE_BITS = bytes(
    0x20 if chr(octet).isascii() and chr(octet).islower() else 0 for octet in range(256)
)
