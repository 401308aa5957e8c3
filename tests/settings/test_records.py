"""How records of the operator's own are written, and which of them counts for a name."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any

import pytest

from staggerdns.settings.records import MAX_CNAMES, Records, read_records
from staggerdns.wire.names import from_text, to_text

WRITTEN: dict[str, Any] = {
    "nas.home.example": "192.168.1.10",
    "Both.Home.Example.": ["192.168.1.20", "fd00::20"],
    "old.example": {"cname": "New.Example."},
    "*.dev.example": "10.0.0.1",
    "*.test.dev.example": {"cname": "deep.example"},
    "exact.dev.example": ["fd00::1"],
    "free.dev.example": {"cname": "free.dev.example"},
    "*.one.example": {"cname": "www.one.example"},
    "localhost6": "::1",
}


def found(records: Records, name: str) -> str:
    """What counts for a name, in words; empty if nothing does."""
    record = records.find(from_text(name))
    if record is None:
        return ""
    if record.cname:
        return f"to {to_text(record.cname)}"
    return " ".join(str(ip_address(address)) for address in record.addresses)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nas.home.example", "192.168.1.10"),
        ("x.nas.home.example", ""),
        ("home.example", ""),
        ("both.home.example", "192.168.1.20 fd00::20"),
        ("old.example", "to new.example."),
        ("new.example", ""),
        ("dev.example", ""),
        ("a.dev.example", "10.0.0.1"),
        ("a.b.dev.example", "10.0.0.1"),
        ("xdev.example", ""),
        ("test.dev.example", "10.0.0.1"),
        ("a.test.dev.example", "to deep.example."),
        ("exact.dev.example", "fd00::1"),
        ("a.exact.dev.example", "10.0.0.1"),
        ("free.dev.example", ""),
        ("a.free.dev.example", "10.0.0.1"),
        ("one.example", ""),
        ("a.one.example", "to www.one.example."),
        ("www.one.example", ""),
        ("a.www.one.example", "to www.one.example."),
        ("localhost6", "::1"),
        ("", ""),
    ],
)
def test_which_record_counts(name: str, says: str) -> None:
    """That of the name itself, else that of the longest domain above it."""
    assert found(read_records(WRITTEN), name) == says


def test_equal_records() -> None:
    """Records are equal when they say the same; without any they are nothing."""
    assert read_records(WRITTEN) == read_records(dict(WRITTEN))
    assert hash(read_records(WRITTEN)) == hash(read_records(dict(WRITTEN)))
    assert read_records({}) == Records()
    assert not Records()
    assert read_records({"a.example": "192.0.2.1"})
    assert read_records({"*.example": "192.0.2.1"}) != read_records({"example": "192.0.2.1"})
    assert str(read_records({"*.example": "192.0.2.1", "a": "::1"})) == "{a, *.example}"
    assert str(Records()) == "{}"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "expected a map of names and records, got nothing"),
        ([], "expected a map of names and records, got a list"),
        ({"": "::1"}, "'': expected a name like nas.home.example or '*.dev.example'"),
        ({"*": "::1"}, "'*': expected a name like"),
        ({"*.": "::1"}, "'*.': expected a name like"),
        ({"a.*.example": "::1"}, "'a.*.example': expected a name like"),
        ({"*.*.example": "::1"}, "'*.*.example': expected a name like"),
        ({"a..example": "::1"}, "'a..example': expected a name like"),
        ({"/a.example/": "::1"}, "'/a.example/': expected a name like"),
        ({"x" * 64: "::1"}, "expected a name like"),
        (
            {"a.example": None},
            "a.example: expected an address, a list of addresses or {cname: NAME}",
        ),
        ({"a.example": 5}, "a.example: expected an address"),
        ({"a.example": "b.example"}, "got 'b.example'"),
        ({"a.example": "192.0.2.0/24"}, "got '192.0.2.0/24'"),
        ({"a.example": "fe80::1%eth0"}, "got 'fe80::1%eth0'"),
        ({"a.example": []}, "a.example: expected at least one address"),
        ({"a.example": ["192.0.2.1", ["::1"]]}, "got a list"),
        ({"a.example": ["::1", "0:0::1"]}, "a.example: 0:0::1 is there already"),
        ({"a.example": {}}, "a.example: expected an address"),
        ({"a.example": {"cname": "b", "ttl": 5}}, "a.example: expected an address"),
        ({"a.example": {"mx": "b"}}, "a.example: expected an address"),
        ({"a.example": {"cname": 5}}, "a.example: expected {cname: NAME} with a name like"),
        ({"a.example": {"cname": "*.b"}}, "a.example: expected {cname: NAME} with a name like"),
        (
            {"a.example": {"cname": "192.0.2.1"}},
            "a.example: expected {cname: NAME} with a name like",
        ),
        (
            {"a": {"cname": "192.0.2.1"}},
            "got '192.0.2.1': an address is written alone, as in a: 192.",
        ),
        ({"a": {"cname": "192.0.2.1."}}, "an address is written alone, as in a: 192.0.2.1"),
        ({"a": {"cname": "::1"}}, "an address is written alone, as in a: ::1"),
        ({"*.M\xfcnchen.example": "::1"}, "'*.M\xfcnchen.example': expected a name like nas"),
        ({"*.M\xfcnchen.example": "::1"}, ": write xn--mnchen-3ya.example"),
        ({"a": {"cname": "m\xfcnchen.example"}}, ": write xn--mnchen-3ya.example"),
        ({"a.example": {"cname": "."}}, "a.example: expected {cname: NAME} with a name like"),
        ({"a.example": "::1", "A.Example.": "::2"}, "A.Example.: this name is there twice"),
        ({"*.a": "::1", "*.A": "::2"}, "*.A: this name is there twice"),
    ],
)
def test_what_is_no_record(value: object, message: str) -> None:
    """The error names the record, and says what was expected."""
    with pytest.raises(ValueError, match=re.escape(message)):
        read_records(value)


@pytest.mark.parametrize(
    "value",
    [
        {"a": {"cname": "b"}, "b": {"cname": "a"}},
        {"a": {"cname": "b"}, "b": {"cname": "c"}, "c": {"cname": "b"}},
        {"*.x": {"cname": "y"}, "y": {"cname": "b.x"}},
        {"*.x": {"cname": "a.y"}, "*.y": {"cname": "b.x"}},
    ],
)
def test_a_circle(value: object) -> None:
    """CNAMEs that lead back to where they came from are an error."""
    with pytest.raises(ValueError, match="its CNAMEs lead in a circle"):
        read_records(value)


def test_the_longest_chain() -> None:
    """There may be so many CNAMEs in a row, and not one more."""
    assert MAX_CNAMES == 16

    def cname_chain(links: int) -> dict[str, object]:
        return {
            f"n{number}.example": {"cname": f"n{number + 1}.example"} for number in range(links)
        }

    assert read_records(cname_chain(MAX_CNAMES))
    with pytest.raises(ValueError, match=r"n0\.example: its CNAMEs lead in a circle, or are more"):
        read_records(cname_chain(MAX_CNAMES + 1))
    end: dict[str, object] = {f"n{MAX_CNAMES}.example": "192.0.2.1"}
    assert read_records(cname_chain(MAX_CNAMES) | end)
