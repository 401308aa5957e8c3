"""Names on the wire: RFC 1035 sections 2.3.4, 3.1 and 4.1.4, RFC 4343."""

from __future__ import annotations

import contextlib

import dns.exception
import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.wire.constants import WireError
from staggerdns.wire.names import MAX_HOPS, from_labels, from_text, read_name, skip_name, to_text
from staggerdns.wire.question import make_question
from tests.kit.messages import longest_name, wire_name

HEADER = bytes(12)
LONGEST = b"\x3f" + b"a" * 63, b"\x3d" + b"b" * 61
"""Three of the first, one of the second and the root make exactly 255 octets."""


@st.composite
def names(draw: st.DrawFn) -> dns.name.Name:
    """Names of any octets that fit 255."""
    labels: list[bytes] = []
    room = 254
    for _ in range(draw(st.integers(0, 8))):
        label = draw(st.binary(min_size=1, max_size=63))
        if len(label) + 1 > room:
            break
        room -= len(label) + 1
        labels.append(label)
    return dns.name.Name([*labels, b""])


@given(names())
def test_any_legal_name(name: dns.name.Name) -> None:
    """Every name of any octets is read, skipped, written and shown as dnspython does it."""
    wire = name.to_wire()
    assert wire is not None
    message = HEADER + wire + b"behind"
    assert read_name(message, 12) == (wire, 12 + len(wire))
    assert skip_name(message, 12) == 12 + len(wire)
    assert from_labels(list(name.labels[:-1])) == wire
    assert to_text(wire) == name.to_text()


@given(names())
def test_keys_fold_case_as_dnspython_does(name: dns.name.Name) -> None:
    """The name in a key is the canonical form: ASCII letters in lower case, nothing else."""
    wire = name.to_wire()
    assert wire is not None
    assert make_question(wire, 1).name == name.canonicalize().to_wire()


def test_escaped_dots_and_nuls_stay_apart() -> None:
    """A dot or a NUL inside a label is not a label's end: four names, four keys."""
    spelled = [r"a\.b.example.", "a.b.example.", r"a\000b.example.", r"a\000.b.example."]
    keys = {make_question(wire_name(text), 1).key for text in spelled}
    assert len(keys) == 4
    assert [to_text(wire_name(text)) for text in spelled] == spelled


@pytest.mark.parametrize(("label", "legal"), [(b"", False), (b"x" * 63, True), (b"x" * 64, False)])
def test_label_limit(label: bytes, legal: bool) -> None:
    """A label has 1 to 63 octets."""
    if legal:
        assert from_labels([label]) == bytes((len(label),)) + label + b"\0"
    else:
        with pytest.raises(WireError):
            from_labels([label])


@pytest.mark.parametrize("text", ["", ".", "com", "com.", "wWw.Example-1.COM", "_x._tcp.a.", "1.0"])
def test_text_without_escapes(text: str) -> None:
    """Text and octets, with and without the final dot, are read as dnspython reads them."""
    assert from_text(text) == from_text(text.encode()) == wire_name(text)


@pytest.mark.parametrize("text", ["..", "a..b", ".a", "a..", "x" * 64, "a." * 128, "b\u00fccher"])
def test_text_that_is_no_name(text: str) -> None:
    """Empty labels, too long ones and what is not ASCII."""
    with pytest.raises(ValueError):  # noqa: PT011 (of two kinds)
        from_text(text)


def test_name_limit() -> None:
    """A name of 255 octets is read and made, one of 256 is neither."""
    assert len(longest_name()) == 255
    assert read_name(HEADER + longest_name(), 12) == (longest_name(), 12 + 255)
    with pytest.raises(WireError):
        read_name(HEADER + longest_name(1), 12)
    labels = [b"a" * 63] * 3
    assert len(from_labels([*labels, b"b" * 61])) == 255
    with pytest.raises(WireError):
        from_labels([*labels, b"b" * 62])


def test_name_limit_counts_what_pointers_add() -> None:
    """254 octets behind a pointer take one more octet of label, and not two."""
    tail = LONGEST[0] * 3 + b"\x3b" + b"c" * 59 + b"\0"  # 253
    message = HEADER + tail
    fits = message + b"\1x\xc0\x0c"
    assert read_name(fits, len(message)) == (b"\1x" + tail, len(fits))
    with pytest.raises(WireError):
        read_name(message + b"\2xy\xc0\x0c", len(message))


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(b"\xc0\x0c", id="to itself"),
        pytest.param(b"\1a\xc0\x0c", id="to its own label"),
        pytest.param(b"\xc0\x0e\0", id="forwards"),
        pytest.param(b"\xc0\xff", id="past the end"),
        pytest.param(b"\xc0\x00", id="into the header"),
        pytest.param(b"\1a\xc0\x0b", id="to the header's last octet"),
        pytest.param(b"\xc0", id="half a pointer"),
        pytest.param(b"\x40" + b"a" * 64 + b"\0", id="label type 01"),
        pytest.param(b"\x80" + b"a" * 128 + b"\0", id="label type 10"),
        pytest.param(b"\3ab", id="label cut"),
        pytest.param(b"\3abc", id="no end"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_illegal_names(tail: bytes) -> None:
    """Loops, forward pointers, reserved label types and cut names are refused."""
    with pytest.raises(WireError):
        read_name(HEADER + tail, 12)


def test_a_loop_of_two_pointers() -> None:
    """Two pointers that lead to each other are refused from either side."""
    message = HEADER + b"\xc0\x0e\xc0\x0c"
    for position in (12, 14):
        with pytest.raises(WireError):
            read_name(message, position)


def test_a_loop_over_labels() -> None:
    """A pointer back into the run of labels that it ends is a loop however it gets there."""
    message = HEADER + b"\1a\1b\xc0\x0c\1c\xc0\x0e"
    for position in (12, 14, 18):
        with pytest.raises(WireError):
            read_name(message, position)


@pytest.mark.parametrize("tail", [b"\x40" + b"a" * 64 + b"\0", b"\3ab", b"\3abc", b"\xc0", b""])
def test_skipping_illegal_names(tail: bytes) -> None:
    """What runs over the end or is of a reserved type is not skipped either."""
    with pytest.raises(WireError):
        skip_name(HEADER + tail, 12)


def test_each_pointer_leads_further_back() -> None:
    """A pointer that a pointer led to may not lead forwards again, even to before the first."""
    message = HEADER + b"\1a\xc0\x10" + b"\1b\0" + b"\xc0\x0c"
    with pytest.raises(WireError):
        read_name(message, len(message) - 2)


def test_skipping_does_not_follow_pointers() -> None:
    """A pointer ends a skipped name, wherever it leads."""
    assert skip_name(HEADER + b"\1a\xc0\x0c\0", 12) == 16


def test_as_many_pointers_as_labels() -> None:
    """A name of 127 labels, each behind a pointer of its own, is legal."""
    message = HEADER + b"\1a\0"
    start = 12
    for _ in range(126):
        place = len(message)
        message += b"\1a" + (0xC000 | start).to_bytes(2, "big")
        start = place
    assert read_name(message, start)[0] == b"\1a" * 127 + b"\0"


@pytest.mark.parametrize(
    ("hops", "legal"),
    [(1, True), (2, True), (MAX_HOPS, True), (MAX_HOPS + 1, False), (8000, False)],
)
def test_pointers_to_pointers(hops: int, legal: bool) -> None:
    """A pointer may lead to a name that is a pointer itself, but not thousands in a row.

    To walk them for every record would take seconds.
    """
    message = HEADER + b"\1a\1b\0" + b"\xc0\x0e"
    for _ in range(hops - 1):
        message += (0xC000 | len(message) - 2).to_bytes(2, "big")
    if legal:
        assert read_name(message, len(message) - 2) == (b"\1b\0", len(message))
    else:
        with pytest.raises(WireError):
            read_name(message, len(message) - 2)


def test_a_pointer_to_the_root() -> None:
    """A pointer may lead to the root that ends an earlier name."""
    message = HEADER + b"\1a\0" + b"\1c\xc0\x0e"
    assert read_name(message, 15) == (b"\1c\0", len(message))


def test_a_pointer_into_what_it_ends() -> None:
    """What a pointer leads to has ended before the labels in front of the pointer begin."""
    target = b"\1a\3b\0"  # at offset 12: its second label runs on
    with pytest.raises(WireError, match="runs over its end"):
        read_name(HEADER + target + b"\xc0\x0c\0", 17)
    assert read_name(HEADER + b"\1a\0\xc0\x0c", 15) == (b"\1a\0", 17)
    with pytest.raises(WireError, match="runs over its end"):
        read_name(HEADER + b"\1a\1b\xc0\x0c", 14)


_PIECES = st.one_of(
    st.binary(min_size=1, max_size=5).map(lambda label: bytes((len(label),)) + label),
    st.just(b"\0"),
    st.integers(0, 60).map(lambda target: (0xC000 | target).to_bytes(2, "big")),
    st.binary(max_size=3),
)


@given(st.lists(_PIECES, max_size=20), st.data())
def test_any_bytes_read_as_dnspython_reads_them(pieces: list[bytes], data: st.DataObject) -> None:
    """Labels and pointers in any order: accepted is what dnspython accepts, with the same name."""
    # Illegal as names: dnspython would follow a pointer into the header, which we refuse.
    header = b"\xff" * 12
    message = header + b"".join(pieces)
    position = data.draw(st.integers(12, len(message)))
    expected: tuple[bytes, int] | None = None
    with contextlib.suppress(dns.exception.DNSException):
        name, used = dns.name.from_wire(message, position)
        expected = name.to_wire() or b"", position + used
    found: tuple[bytes, int] | None = None
    with contextlib.suppress(WireError):
        found = read_name(message, position)
    assert found == expected
