"""The key under which an answer is kept: two queries share an answer exactly when theirs are equal.

It is bytes, since it is made for every query: the name in lower case, type and class, all in wire
form, one octet of marks, of which DO and CD have the two lowest bits, and two octets with the
number of a scope: the way in which upstreams are asked (docs/specification.rst, Scopes). `make_key`
puts it together, and the indices below take it apart: no other module knows what stands where.
"""

from __future__ import annotations

from typing import Final

NAME_END: Final = -7
"""Where the name ends, and type and class begin."""
SECTION_END: Final = -3
"""Where these end; all up to here is a question section in wire form."""
MARKS: Final = -3
DO_MARK: Final = 1
CD_MARK: Final = 2
DEFAULT_SCOPE: Final = 0
"""The number of the scope in which the upstreams of the whole program are asked by its rules."""
SCOPE_NUMBERS: Final = 65_536
"""How many scopes two octets can tell apart."""
_SCOPE: Final = -2
_CLASS: Final = -5
_REST = (b"\0\0\0", b"\1\0\0", b"\2\0\0", b"\3\0\0")


def make_key(name: bytes, type_and_class: bytes, do: bool, cd: bool) -> bytes:
    """Return the key of a question in the default scope; ``name`` in wire form with any case."""
    marks = (DO_MARK if do else 0) | (CD_MARK if cd else 0)
    return name.lower() + type_and_class + _REST[marks]


def with_name(key: bytes, name: bytes) -> bytes:
    """Return the key of the same question about another name (wire form, lower case)."""
    return name + key[NAME_END:]


def with_type(key: bytes, qtype: int) -> bytes:
    """Return the key of the question about the same name, of another type of the same class."""
    return key[:NAME_END] + qtype.to_bytes(2, "big") + key[_CLASS:]


def in_scope(key: bytes, number: int) -> bytes:
    """Return the key of the same question in the scope with that number, below `SCOPE_NUMBERS`."""
    return key[:_SCOPE] + number.to_bytes(2, "big")


def scope_of(key: bytes) -> int:
    """Return the number of the scope in which the question of a key is asked."""
    return key[-2] << 8 | key[-1]


def type_and_class(key: bytes) -> bytes:
    """Return type and class of a key, in wire form."""
    return key[NAME_END:SECTION_END]


def without_scope(key: bytes) -> bytes:
    """Return what of a key means the same in every process: all but the number of its scope."""
    return key[:_SCOPE]


def with_scope(rest: bytes, number: int) -> bytes:
    """Return the key of which ``rest`` is all but the scope, in the scope with that number."""
    return rest + number.to_bytes(2, "big")
