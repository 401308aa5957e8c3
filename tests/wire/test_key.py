"""The key under which an answer is kept, put together and taken apart."""

from __future__ import annotations

import itertools

import pytest

from staggerdns.wire.key import (
    CD_MARK,
    DO_MARK,
    MARKS,
    NAME_END,
    SECTION_END,
    make_key,
)
from staggerdns.wire.question import Question
from tests.kit.messages import wire_name

AAAA_IN = b"\0\x1c\0\1"
SWITCHES = (False, True)


@pytest.mark.parametrize("name", [".", "com.", "wWw.Example.COM.", "\\000\\005\\255.example."])
def test_what_was_put_in_comes_out(name: str) -> None:
    """Each part is found again, the name in lower case."""
    for do, cd in itertools.product(SWITCHES, SWITCHES):
        key = make_key(wire_name(name), AAAA_IN, do, cd)
        assert key[:NAME_END] == wire_name(name.lower())
        assert key[NAME_END:SECTION_END] == AAAA_IN
        assert key[:SECTION_END] == key[:NAME_END] + AAAA_IN
        assert (key[MARKS] & DO_MARK, key[MARKS] & CD_MARK) == (DO_MARK * do, CD_MARK * cd)


def test_every_part_tells_keys_apart() -> None:
    """Other names, types, classes, DO or CD are other keys."""
    names = wire_name("a.example."), wire_name("b.example.")
    kinds = b"\0\1\0\1", AAAA_IN, b"\0\1\0\3"
    parts = list(itertools.product(names, kinds, SWITCHES, SWITCHES))
    assert len({make_key(*one) for one in parts}) == len(parts)


def test_there_is_room_for_a_scope() -> None:
    """What stands in the upper bits of the marks makes another key, and the same question."""
    key = make_key(wire_name("www.example."), AAAA_IN, True, False)
    scoped = Question(key[:-1] + bytes([key[-1] | 0xFC]))
    plain = Question(key)
    assert scoped.key != plain.key
    for part in ("section", "name", "qtype", "qclass", "do", "cd", "mergeable"):
        assert getattr(scoped, part) == getattr(plain, part)
