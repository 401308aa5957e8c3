"""YAML that would take longer to look through than it took to write."""

from __future__ import annotations

import time

import pytest

from staggerdns.document import MAX_VALUES, ConfigError, read_document


def test_values_are_counted() -> None:
    """A document may have `MAX_VALUES` values, lists among them; one more is refused."""
    items = MAX_VALUES - 2
    document = read_document(f"a: [{'x,' * items}]")
    assert document == {"a": ["x"] * items}
    with pytest.raises(ConfigError, match=r"a\[.*more than"):
        read_document(f"a: [{'x,' * (items + 1)}]")


def test_aliases_of_aliases() -> None:
    """Ten lines that stand for a billion values are refused at once."""
    lines = ["a0: &a0 x"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 11)]
    start = time.process_time()
    with pytest.raises(ConfigError, match="more than"):
        read_document("\n".join(lines))
    assert time.process_time() - start < 2


def test_an_alias() -> None:
    """An alias is as good as what it stands for."""
    assert read_document("a: &a [x]\nb: *a") == {"a": ["x"], "b": ["x"]}
