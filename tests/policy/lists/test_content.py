"""The content of a source: read in pieces, bounded, refused when it is no list."""

from __future__ import annotations

import gzip
import os
import re
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from staggerdns.policy.lists import content
from staggerdns.policy.lists.content import Lines, Refused, read_source
from staggerdns.policy.lists.lines import Rule, read_line
from staggerdns.wire.names import to_text
from tests.kit.effort import amount

if TYPE_CHECKING:
    from pathlib import Path

EASY = b"""[Adblock Plus 2.0]
! Title: a list for browsers
||ads.example^
@@||good.ads.example^
example.com##.banner
example.com#@#.banner
###popup
address=/tracker.example/
0.0.0.0 hosts.example # a comment
*.wild.example
plain.example
/banner/*/ad.
||third.example^$third-party
"""
PAGE = b"""<!DOCTYPE html>
<html>
<head><title>502 Bad Gateway</title></head>
<body>
<h1>Bad Gateway</h1>
<p>The server lists.example is not there.</p>
<hr>
nginx.example
</body>
</html>
"""


def read(path: Path, octets: bytes) -> tuple[Lines, list[str]]:
    """Return the counts of a file and the names in it."""
    path.write_bytes(octets)
    names: list[str] = []
    lines = read_source(str(path), lambda line: names.extend(map(to_text, line.names)))
    return lines, names


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the file of a source is to stand."""
    return tmp_path / "list.txt"


def test_all_forms_in_one_file(path: Path) -> None:
    """Comments and cosmetic rules are passed over; the rest is counted, the first of it named."""
    lines, names = read(path, EASY)
    assert lines == Lines(understood=6, wrong=2, first="12: '/banner/*/ad.'")
    assert [name.partition(".")[0] for name in names] == [
        *("ads", "good", "tracker", "hosts", "wild", "plain")
    ]


def test_packed(path: Path) -> None:
    """What is packed with gzip is read like what is not, with all its members."""
    assert read(path, gzip.compress(EASY)) == read(path, EASY)
    half = len(EASY) // 2
    for block in (3, 7, 65_536):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(content, "BLOCK", block)
            members = (EASY[:half], b"", EASY[half:])
            assert read(path, b"".join(map(gzip.compress, members))) == read(path, EASY)


@pytest.mark.parametrize(
    ("octets", "blank"),
    [
        *((b"", True), (b" \r\n\n", True), (b"\xef\xbb\xbf", True), (b"# none\n", False)),
        *((b"\n\n!", False), (b"\n##.ad\n\n", False), (b"\n127.0.0.1 localhost", False)),
        *((gzip.compress(b"", mtime=0), True), (gzip.compress(b"#", mtime=0), False)),
    ],
)
def test_empty(path: Path, octets: bytes, blank: bool) -> None:
    """A list may have nothing in it; a comment shows that this is meant."""
    assert read(path, octets) == (Lines(0, 0, "", blank), [])


def test_a_page_is_no_list(path: Path) -> None:
    """What a server sends in the place of a list is refused, with its first line."""
    with pytest.raises(Refused, match="of 10 lines 9 are not understood, the first is 1: '<!DOC"):
        read(path, PAGE)


def test_one_line_in_two(path: Path) -> None:
    """Half of the lines is enough, and one fewer is not; comments do not count."""
    comments = b"# no\n##.no\n" * 9
    assert read(path, comments + b"a.example\n/b/\n")[0] == Lines(1, 1, "20: '/b/'")
    with pytest.raises(Refused, match="of 3 lines 2 are not"):
        read(path, comments + b"a.example\n/b/\n/c/\n")


def test_binary(path: Path) -> None:
    """A picture is no list, and its octets do not get into the log."""
    with pytest.raises(Refused) as refused:
        read(path, b"\x89PNG\r\n\x1a\n\0\0\x1b[31m" + bytes(range(256)) * 4)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("limit", "within", "beyond", "why"),
    [
        ("MAX_LINES", b"a.example\n" * 10, b"a.example\n" * 11, "more than 10 lines"),
        ("MAX_PACKED", b"a.example\n", b"a.example\n#", "more than 10 bytes"),
        ("MAX_CONTENT", *(gzip.compress(b"#" * size, mtime=0) for size in (10, 11)), "is unpacked"),
        (
            "MAX_CONTENT",
            *(
                gzip.compress(b"#" * size, mtime=0) + gzip.compress(b"#" * 5, mtime=0)
                for size in (5, 6)
            ),
            "is unpacked",
        ),
    ],
)
def test_bounds(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    within: bytes,
    beyond: bytes,
    why: str,
) -> None:
    """A source that is too long is refused; one that is just as long as it may be is not."""
    monkeypatch.setattr(content, limit, 10)
    read(path, within)
    with pytest.raises(Refused, match=why):
        read(path, beyond)


def test_a_small_file_that_is_huge_when_unpacked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is unpacked in pieces, and no further than to the limit."""
    monkeypatch.setattr(content, "MAX_CONTENT", 1_000_000)
    packed = gzip.compress(b"#" * 100_000_000)
    assert len(packed) < 200_000
    with pytest.raises(Refused, match="1000000 bytes when it is unpacked"):
        read(path, packed)


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (gzip.compress(EASY, mtime=0)[:-9], "its end is missing"),
        (gzip.compress(EASY, mtime=0)[:-8] + bytes(8), "it is damaged"),
        (gzip.compress(EASY, mtime=0) + b"rest", "it is damaged"),
        (gzip.compress(EASY, mtime=0) * 2 + b"\x1f", "its end is missing"),
        (b"\x1f\x8b", "its end is missing"),
    ],
)
def test_damaged(path: Path, octets: bytes, why: str) -> None:
    """What cannot be unpacked to its end is refused whole."""
    with pytest.raises(Refused, match=re.escape(why)):
        read(path, octets)


def test_no_file(path: Path) -> None:
    """What is not there, or no file, is refused at once: nobody waits for a pipe's writer."""
    for make in (lambda: None, path.mkdir, path.rmdir, lambda: os.mkfifo(path)):
        make()
        with pytest.raises(Refused, match=r"cannot be read|not a regular file"):
            read_source(str(path), lambda line: None)


def test_long_lines(path: Path) -> None:
    """Of a line that is too long the beginning counts; the next line is read again."""
    rest = b"x" * (content.MAX_LINE - len(b"a.example # "))
    for more in (0, 1, content.BLOCK, 3 * content.BLOCK):
        lines, names = read(path, b"a.example # " + rest + b"y" * more + b"\nb.example")
        assert (lines.understood, lines.wrong) == (2, 0)
        assert names == ["a.example.", "b.example."]
    assert read(path, b"a.example\n" + b"y" * 99_999)[0].wrong == 1


@settings(
    max_examples=amount(30, 300),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(st.lists(st.sampled_from([b"a.example", b"\n", b"\r\n", b"#", b" ", b"*.b.c", b"x" * 19])))
def test_pieces(path: Path, parts: list[bytes]) -> None:
    """However a file falls into blocks, its lines are the same."""
    octets = b"\xef\xbb\xbf" + b"".join(parts) + b"\nlast.example\n" * 99
    found = []
    for block in (1, 2, 7, 65_536):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(content, "BLOCK", block)
            found.append(read(path, octets))
    assert found == [found[0]] * 4
    texts = octets.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    assert found[0][0].understood == sum(read_line(text).effect > 0 for text in texts)


def test_what_is_kept(path: Path) -> None:
    """A copy is made of what is read, as it stands in the file."""
    packed = gzip.compress(EASY)
    path.write_bytes(packed)
    kept: list[bytes] = []

    def ignore(line: Rule) -> None:
        """Do nothing with it."""

    read_source(str(path), ignore, kept.append)
    assert b"".join(kept) == packed


def test_ten_million_lines(path: Path) -> None:
    """It is refused at its real size, within the time of the lines that it may have."""
    with path.open("wb") as file:
        for _ in range(10):
            file.write(b"#\n" * 1_000_000)
    assert path.stat().st_size < content.MAX_PACKED
    with pytest.raises(Refused, match=f"has more than {content.MAX_LINES} lines"):
        read_source(str(path), lambda line: None)


def test_a_line_as_long_as_a_file_may_be(path: Path) -> None:
    """Of it, too, the beginning counts, and no more than that is held."""
    octets = b"a.example # " + b"x" * (content.MAX_PACKED - 24) + b"\nb.example.\n"
    assert len(octets) == content.MAX_PACKED
    lines, names = read(path, octets)
    assert (lines, names) == (Lines(2, 0, ""), ["a.example.", "b.example."])
    path.write_bytes(b"x" * content.MAX_PACKED)
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match="of 1 lines 1 are not understood"):
            read_source(str(path), lambda line: None)
        assert tracemalloc.get_traced_memory()[1] < 2 * 1024 * 1024
    finally:
        tracemalloc.stop()
