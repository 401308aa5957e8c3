"""YAML that would take longer to look through than it took to write."""

from __future__ import annotations

import time

import pytest

from staggerdns.settings.document import MAX_VALUES, ConfigError, read_document


def test_values_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document may have `MAX_VALUES` values, lists among them; one more is refused."""
    assert MAX_VALUES == 100_000
    monkeypatch.setattr(
        "staggerdns.settings.document.MAX_VALUES", 1000
    )  # what there are takes seconds
    items = 998
    document = read_document(f"a: [{'x,' * items}]")
    assert document == {"a": ["x"] * items}
    with pytest.raises(ConfigError, match=r"a\[.*more than 1000 values"):
        read_document(f"a: [{'x,' * (items + 1)}]")


def test_aliases_of_aliases() -> None:
    """Eleven lines that stand for a billion values are refused after `MAX_VALUES` of them.

    Seconds are enough to look at that many; all would take an hour.
    """
    lines = ["a0: &a0 x"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 11)]
    start = time.process_time()  # what others do meanwhile does not count
    with pytest.raises(ConfigError, match="more than"):
        read_document("\n".join(lines))
    assert time.process_time() - start < 60


def test_an_alias() -> None:
    """An alias is as good as what it stands for."""
    assert read_document("a: &a [x]\nb: *a") == {"a": ["x"], "b": ["x"]}


def test_two_documents() -> None:
    """What PyYAML says in two halves is one sentence."""
    with pytest.raises(ConfigError) as raised:
        read_document("a: 1\n---\nb: 1")
    assert str(raised.value) == (
        "line 2: not YAML: expected a single document in the stream but found another document"
    )
