"""The key under which an answer is kept, put together and taken apart."""

from __future__ import annotations

import itertools

import pytest

from staggerdns.wire.key import (
    CD_MARK,
    DEFAULT_SCOPE,
    DO_MARK,
    MARKS,
    NAME_END,
    SCOPE_NUMBERS,
    SECTION_END,
    in_scope,
    make_key,
    scope_of,
)
from staggerdns.wire.question import Question, make_question
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


@pytest.mark.parametrize("number", [0, 1, 255, 256, SCOPE_NUMBERS - 1])
def test_a_scope_makes_another_key_of_the_same_question(number: int) -> None:
    """The number of a scope is found again, and only it tells the questions apart."""
    plain = Question(make_key(wire_name("www.example."), AAAA_IN, True, False))
    scoped = Question(in_scope(plain.key, number))
    assert (scope_of(scoped.key), scoped.scope) == (number, number)
    assert (scoped.key == plain.key) == (number == DEFAULT_SCOPE)
    assert in_scope(scoped.key, DEFAULT_SCOPE) == plain.key
    for part in ("section", "name", "qtype", "qclass", "do", "cd", "mergeable"):
        assert getattr(scoped, part) == getattr(plain, part)
    made = make_question(plain.name, plain.qtype, do=True, scope=number)
    assert made.key == scoped.key


def test_there_is_no_number_beyond_the_last() -> None:
    """It would not fit, and cannot become another scope's."""
    key = make_key(wire_name("www.example."), AAAA_IN, False, False)
    with pytest.raises(OverflowError):
        in_scope(key, SCOPE_NUMBERS)
