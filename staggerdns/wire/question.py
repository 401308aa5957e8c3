"""The question as upstreams are asked it."""

from __future__ import annotations

from struct import Struct
from typing import Final

from staggerdns.wire.constants import (
    AD,
    CD,
    CLASS_IN,
    EDNS_DO,
    EDNS_UDP_SIZE,
    HEADER_SIZE,
    RD,
    Type,
    type_text,
)
from staggerdns.wire.key import (
    CD_MARK,
    DEFAULT_SCOPE,
    DO_MARK,
    MARKS,
    NAME_END,
    SECTION_END,
    in_scope,
    make_key,
    scope_of,
)
from staggerdns.wire.names import to_text
from staggerdns.wire.records import pack_opt

_TYPE_CLASS = Struct("!HH")
_TAIL = Struct("!6H")
_ADDRESS_TYPES = (Type.A, Type.AAAA)


class Question:
    """One question: ``name`` (wire form, lower case), ``qtype``, ``qclass``, ``do``, ``cd``, and
    ``scope``, the number of the way in which it is asked.

    ``section`` is the question section in wire form, ``end`` the offset behind it in a message,
    ``mergeable`` whether answers of several
    upstreams may join in one pool: addresses asked for without DO. ``pointer_type_class`` is how
    a record that answers the question directly usually begins. A question is a value: what is
    learned of its replies is the `Judge`'s.
    """

    __slots__ = (
        "key",
        "section",
        "end",
        "name",
        "qtype",
        "qclass",
        "do",
        "cd",
        "scope",
        "mergeable",
        "pointer_type_class",
        "_section_number",
        "_case_bits",
    )

    def __init__(self, key: bytes) -> None:
        self.key: Final = key
        self.section: Final = key[:SECTION_END]
        self.end: Final = HEADER_SIZE + len(self.section)
        self.name: Final = key[:NAME_END]
        type_and_class = key[NAME_END:SECTION_END]
        qtype, qclass = _TYPE_CLASS.unpack(type_and_class)
        self.qtype: Final[int] = qtype
        self.qclass: Final[int] = qclass
        self.do: Final = bool(key[MARKS] & DO_MARK)
        self.cd: Final = bool(key[MARKS] & CD_MARK)
        self.scope: Final = scope_of(key)
        self.pointer_type_class: Final = b"\xc0\x0c" + type_and_class
        self.mergeable: Final = not self.do and qclass == CLASS_IN and qtype in _ADDRESS_TYPES
        self._section_number: Final = int.from_bytes(self.section, "big")
        self._case_bits: Final = int.from_bytes(self.name.translate(_CASE_BITS), "big") << 32

    def __str__(self) -> str:
        """Return name and type as a person reads them."""
        return f"{to_text(self.name)} {type_text(self.qtype)}"

    def in_random_case(self, random: bytes) -> bytes:
        """Return the section with the letters of the name in the case that ``random`` says.

        ``random`` has as many bytes as the section.
        """
        flips = int.from_bytes(random, "big") & self._case_bits
        return (self._section_number ^ flips).to_bytes(len(random), "big")

    def client_query(self) -> bytes:
        """Return a query for the question as a client sends it, without its ID.

        The OPT record offers 1232 bytes (RFC 6891).
        """
        flags = RD | AD | (CD if self.cd else 0)
        opt = pack_opt(0, Type.OPT, EDNS_UDP_SIZE, EDNS_DO if self.do else 0, 0)
        return _TAIL.pack(0, flags, 1, 0, 0, 1)[2:] + self.section + opt


def make_question(
    name: bytes,
    qtype: int,
    qclass: int = CLASS_IN,
    *,
    do: bool = False,
    cd: bool = False,
    scope: int = DEFAULT_SCOPE,
) -> Question:
    """Build a question from its parts, for callers that have no query to scan."""
    key = make_key(name, _TYPE_CLASS.pack(qtype, qclass), do, cd)
    return Question(in_scope(key, scope) if scope else key)


# Labels are at most 63 octets long, so no length is taken for a letter.
_CASE_BITS = bytes(
    0x20 if chr(octet).isascii() and chr(octet).islower() else 0 for octet in range(256)
)
