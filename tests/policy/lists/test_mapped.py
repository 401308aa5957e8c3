"""Compiled lists: what is written is found, and nothing else; damage is noticed."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.policy.lists import mapped, table
from staggerdns.policy.lists.lines import (
    ALLOW_BELOW,
    ALLOW_ITSELF,
    BELOW,
    ITSELF,
    Rule,
)
from staggerdns.policy.lists.mapped import (
    Choice,
    Damaged,
    Hit,
    ListSet,
    empty_set,
    open_set,
)
from staggerdns.policy.lists.table import HEADER_SIZE, MAX_LISTS, TableWriter, TooManyNames
from staggerdns.wire.names import from_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BOTH = ITSELF | BELOW
Rules = list[tuple[int, int, str]]
"""List, effect and name of lines."""


def octets_of(rules: Iterable[tuple[int, int, str]], *, lists: int = MAX_LISTS) -> bytes:
    """Return the compiled file of some lines."""
    writer = TableWriter(b"sixteen octets..")
    for number, effect, name in rules:
        writer.add(number, Rule(effect, (from_text(name),)))
    file = BytesIO()
    writer.write(file, lists, "test")
    return file.getvalue()


def set_of(*rules: tuple[int, int, str]) -> ListSet:
    """Return the set of some lines."""
    return ListSet(octets_of(rules), 1)


def blocked(found: ListSet, name: str, choice: Choice) -> Hit | None:
    """Return the verdict on a name in text."""
    return choice.verdict(found.listing(from_text(name)))


@pytest.mark.parametrize(
    ("effect", "itself", "below"),
    [(ITSELF, True, False), (BELOW, False, True), (BOTH, True, True)],
)
def test_what_is_blocked(effect: int, itself: bool, below: bool) -> None:
    """The name, what is below it, or both; never what is above or beside it."""
    found = set_of((3, effect, "ads.example"))
    hits = {name: blocked(found, name, Choice([3])) for name in ("ads.example", "x.y.ads.example")}
    assert hits == {
        "ads.example": Hit(3, False) if itself else None,
        "x.y.ads.example": Hit(3, False) if below else None,
    }
    for other in ("example", "xads.example", "ads.example.org", "s.example", ""):
        assert blocked(found, other, Choice([3])) is None


def test_only_chosen_lists_count() -> None:
    """The same set serves clients with different lists."""
    found = set_of((0, BOTH, "a.example"), (1, BOTH, "b.example"), (63, BOTH, "c.example"))
    for number, name in ((0, "a.example"), (1, "b.example"), (63, "c.example")):
        for chosen in (0, 1, 63):
            expected = Hit(number, False) if chosen == number else None
            assert blocked(found, name, Choice([chosen])) == expected
        assert blocked(found, name, Choice([0, 1, 63])) == Hit(number, False)
        assert blocked(found, name, Choice([])) is None


def test_allow_comes_before_block() -> None:
    """A list to allow by, or an exception in any chosen list, wins at whatever length."""
    found = set_of(
        (0, BOTH, "ads.example"),
        (1, BOTH, "good.ads.example"),
        (2, ALLOW_ITSELF | ALLOW_BELOW, "fine.ads.example"),
        (3, BOTH, "deep.good.ads.example"),
    )
    assert blocked(found, "good.ads.example", Choice([0], [1])) == Hit(1, True)
    assert blocked(found, "deep.good.ads.example", Choice([0, 3], [1])) == Hit(1, True)
    assert blocked(found, "good.ads.example", Choice([0, 1])) == Hit(0, False)
    assert blocked(found, "x.fine.ads.example", Choice([0, 2])) == Hit(2, True)
    assert blocked(found, "x.fine.ads.example", Choice([0], [2])) == Hit(2, True)
    assert blocked(found, "x.fine.ads.example", Choice([0])) == Hit(0, False)
    assert blocked(found, "elsewhere.example", Choice([0], [1])) is None


def test_a_name_in_several_lists() -> None:
    """It is kept once, and counts in each; the first list of the configuration is named."""
    name = "ads.example"
    found = set_of((2, BOTH, name), (1, ITSELF, name), (2, BOTH, name), (1, BELOW, name))
    assert found.names[:4] == (0, 1, 1, 0)
    assert blocked(found, name, Choice([1, 2])) == Hit(1, False)
    assert blocked(found, f"x.{name}", Choice([1])) == Hit(1, False)


def test_names_of_one_label() -> None:
    """They are looked up when a list has one."""
    assert blocked(set_of((0, BOTH, "zip")), "a.zip", Choice([0])) == Hit(0, False)


def test_no_names() -> None:
    """Before anything has been compiled nothing is blocked."""
    found = empty_set(2)
    assert (found.number, found.names) == (0, (0, 0))
    assert blocked(found, "ads.example", Choice([0, 1])) is None
    assert blocked(found, "", Choice([0])) is None


LABELS = st.sampled_from(["a", "b", "cc", "xn--d"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
RULES = st.lists(st.tuples(st.sampled_from([0, 1, 2, 63]), st.integers(1, 15), NAMES), max_size=40)
NUMBERS = st.sets(st.sampled_from([0, 1, 2, 63]))


def slow_verdict(rules: Rules, name: str, block: set[int], allow: set[int]) -> Hit | None:
    """Return the verdict by going through all lines, for each suffix of the name."""
    labels = name.split(".")
    blocking: list[int] = []
    allowing: list[int] = []
    for start in range(len(labels)):
        suffix = ".".join(labels[start:])
        of_suffix = [(number, effect) for number, effect, text in rules if text == suffix]
        bad, good = (BELOW, ALLOW_BELOW) if start else (ITSELF, ALLOW_ITSELF)
        allowing += [
            number
            for number, effect in of_suffix
            if (number in block | allow and effect & good) or (number in allow and effect & bad)
        ]
        blocking += [number for number, effect in of_suffix if number in block and effect & bad]
    if allowing:
        return Hit(min(allowing), True)
    return Hit(min(blocking), False) if blocking else None


@pytest.mark.long
@given(RULES, NAMES, NUMBERS, NUMBERS)
def test_against_a_slow_look_up(rules: Rules, name: str, block: set[int], allow: set[int]) -> None:
    """A look-up through all lines gives the same."""
    found = set_of(*rules)
    assert blocked(found, name, Choice(block, allow)) == slow_verdict(rules, name, block, allow)
    assert found.names == tuple(
        len({text for other, _, text in rules if other == number}) for number in range(MAX_LISTS)
    )


@pytest.mark.parametrize("count", [1, 7, 8, 1000, 20_000])
def test_every_name_is_found(count: int) -> None:
    """Whatever the size of the index."""
    found = set_of(*[(0, ITSELF, f"n{number}.example") for number in range(count)])
    for number in range(count):
        assert blocked(found, f"n{number}.example", Choice([0])) == Hit(0, False)
        assert blocked(found, f"m{number}.example", Choice([0])) is None


def test_what_is_forgotten() -> None:
    """A source that is refused in its midst leaves nothing behind."""
    writer = TableWriter(bytes(16))
    writer.add(0, Rule(BOTH, (from_text("kept.example"),)))
    mark = writer.mark()
    for number in range(1000):
        writer.add(0, Rule(BOTH, (from_text(f"n{number}.example"),)))
    writer.back_to(mark)
    file = BytesIO()
    assert writer.write(file, 1, "") == [1]
    found = ListSet(file.getvalue(), 1)
    assert blocked(found, "kept.example", Choice([0])) == Hit(0, False)
    assert blocked(found, "n1.example", Choice([0])) is None


def test_most_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for so many, and for no more."""
    monkeypatch.setattr(table, "MAX_NAMES", 3)
    writer = TableWriter(bytes(16))
    writer.add(0, Rule(BOTH, (from_text("a"), from_text("b"), from_text("c"))))
    with pytest.raises(TooManyNames):
        writer.add(0, Rule(BOTH, (from_text("d"),)))


SOME = octets_of([(0, BOTH, "a.example"), (1, ITSELF, "b.example")], lists=2)


def test_the_file(tmp_path: Path) -> None:
    """It is mapped, and tells what it is."""
    path = tmp_path / "x.lists"
    path.write_bytes(SOME)
    found = open_set(str(path), 7)
    path.unlink()
    list(found.check())
    assert (found.number, found.names, found.summary) == (7, (1, 1), "test")
    assert blocked(found, "a.example", Choice([0])) == Hit(0, False)


@pytest.mark.parametrize(
    "octets",
    [
        *(b"", bytes(10), bytes(HEADER_SIZE), SOME[:-1], SOME + b"x", b"X" + SOME[1:]),
        SOME[:-1] + b"]",
    ],
)
def test_what_cannot_be_used(tmp_path: Path, octets: bytes) -> None:
    """Another file, one that was cut off, or one of another version is not taken for a set."""
    path = tmp_path / "x.lists"
    path.write_bytes(octets)
    with pytest.raises(Damaged):
        open_set(str(path), 1)


def test_every_bit_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever bit of the file is wrong, it is found before anything is looked up, and in slices
    that keep nobody waiting.
    """
    monkeypatch.setattr(mapped, "SLICE", 16)
    assert len(list(ListSet(SOME, 1).check())) > 5
    for place in range(len(SOME)):
        if HEADER_SIZE - 4 <= place < HEADER_SIZE:
            continue  # nothing stands there
        wrong = bytearray(SOME)
        wrong[place] ^= 1
        with pytest.raises(Damaged):
            list(ListSet(bytes(wrong), 1).check())
