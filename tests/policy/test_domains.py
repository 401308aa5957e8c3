"""What is in a file of domains, compared with what a slow and plain reader finds in it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from staggerdns.policy.domains import DomainFile, finish
from tests.kit.domainlines import slow_read_domains

LONG_LABEL = "a" * 63
LONG = f"{LONG_LABEL}.{LONG_LABEL}.{LONG_LABEL}."
KELVIN = "\N{KELVIN SIGN}"
"""Its small letter is that of ASCII."""
PIECES = st.sampled_from(
    [
        *("a.example", "B.Example.", "*.", "*", ".", "..", "-", "_", "_tcp.", "x", "1", "xn--a"),
        *("\n", "\n", "\n", "\r\n", "\r", "\n\r", "#", " # ", " ", "\t", "\v", "\f", "\0"),
        *("\x1c", "\x85", "\u2028", "\ufeff", "\xfc", KELVIN, KELVIN * 40, "/", ",", "'", "<p>"),
        *(LONG_LABEL, LONG, LONG + "a" * 59, LONG + "a" * 60, LONG + "a" * 61, LONG + "a" * 62),
    ]
)
LINES = st.lists(PIECES, max_size=12).map("".join).map(str.encode) | st.binary(max_size=40)
GOOD_LINES = st.sampled_from([b"a.example\n", b"*.b.example \r\n", b"# c\r", b"\n", b"_d.e.\n"])
FILLERS = st.sampled_from([b"", b"#" * 65_530, b"x.example\n" * 6_553, b"\r\n" * 32_770])
"""What stands in front: files are made lines of in pieces of 64 KiB."""


@given(FILLERS, st.lists(GOOD_LINES, max_size=6).map(b"".join), LINES)
@example(b"", b"", KELVIN.encode() + b".example")
@example(b"", b"", b"\xef\xbb\xbf\xef\xbb\xbfa.example")
@example(b"", b"", (".".join([KELVIN * 60] * 3) + "/").encode())
def test_against_a_slow_reader(filler: bytes, good: bytes, rest: bytes) -> None:
    """Both find the same domains, or the same line wrong."""
    content = filler + good + rest
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "domains"
        path.write_bytes(content)
        file = DomainFile(str(path))
        read = finish(file.read())
    expected = slow_read_domains(content)
    if isinstance(expected, str):
        assert read is None
        assert file.problem.startswith(expected)
        assert file.problem.isprintable()
        assert file.domains == []
    else:
        assert (read, file.problem) == ([], "")
        assert file.domains == expected
