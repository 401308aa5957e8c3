"""Looking for names in a cache: all that match are found, and the work comes in small pieces."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.page import names
from staggerdns.page.names import NAME_WORK, Steps, search
from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.nameindex import EACH
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.names import from_labels, to_text
from staggerdns.wire.question import make_question
from tests.kit.acts import AAAA, A, name
from tests.kit.cache import SimulatedCache


def keep(cache: AnswerCache, wire: bytes, qtype: int = A) -> None:
    """Keep an answer."""
    cache.commit(
        make_question(wire, qtype).key, 1, AddressPool((), (bytes(4),), 300, ad=False), 0.0
    )


def run(cache: AnswerCache, part: str = "", after: str = "", limit: int = 1_000) -> dict[str, Any]:
    """Search to the end."""
    return finish(search(cache, part, after, limit))


def finish(steps: Steps) -> dict[str, Any]:
    """Do all steps that are left."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: dict[str, Any] = end.value
            return found


def test_pages_have_all_names_once() -> None:
    """However they are cut."""
    cache = SimulatedCache().cache
    wanted = sorted(f"n{number}.example." for number in range(500))
    for text in wanted:
        keep(cache, name(text))
        keep(cache, name(text), AAAA)
    for limit in (1, 7, 250, 499, 500, 501):
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            page = run(cache, after=after, limit=limit)
            assert 0 < len(page["names"]) <= limit
            found += [one["name"] for one in page["names"]]
            after = page["next"]
            if limit == 1 and len(found) == 20:
                break
        assert found == (wanted if limit > 1 else wanted[:20])


_LABELS = st.lists(st.binary(min_size=1, max_size=63), min_size=0, max_size=3)


@given(_LABELS, st.data())
def test_any_part_finds_a_name(labels: list[bytes], data: st.DataObject) -> None:
    """Whatever octets it has, dots and backslashes included."""
    wire = from_labels(labels).lower()
    text = to_text(wire)
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start, len(text)))
    cache = SimulatedCache(max_entries=1).cache
    keep(cache, wire)
    assert [one["name"] for one in run(cache, text[start:end].upper())["names"]] == [text]


def test_lengths_of_labels_are_no_letters() -> None:
    """A label of 49 octets has a length that is the digit 1."""
    cache = SimulatedCache().cache
    keep(cache, name("a" * 49 + ".example"))
    assert run(cache, "1aaa")["names"] == []
    assert len(run(cache, "aaa.exa")["names"]) == 1


def test_work_in_small_pieces() -> None:
    """No step does more than one list of the index has, or a name of the result."""
    cache = SimulatedCache().cache
    for number in range(5_000):
        keep(cache, name(f"n{number}.example"))
    steps = list(search(cache, "", "", 100))
    assert sum(steps) >= 5_000
    assert max(steps) < 10 * EACH * NAME_WORK


def test_too_much_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends, and says so, one past the limit and not at it."""
    cache = SimulatedCache().cache
    for number in range(100):
        keep(cache, name(f"n{number}.example"))
    monkeypatch.setattr(names, "MAX_LOOKED_AT", 100)
    assert run(cache)["complete"]
    keep(cache, name("one-more.example"))
    found = run(cache)
    assert not found["complete"]
    assert len(found["names"]) >= 100


def test_what_goes_meanwhile() -> None:
    """A name that has gone since it was found has no types."""
    cache = SimulatedCache().cache
    keep(cache, name("www.example"))
    steps = search(cache, "", "", 10)
    for _ in cache.names.walk():
        next(steps)
    cache.forget(make_question(name("www.example"), A).key)
    assert [one["types"] for one in finish(steps)["names"]] == [[]]
