"""The lines of a list: docs/specification.rst, Lists."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from staggerdns.policy.lists.lines import (
    ALLOW_BELOW,
    ALLOW_ITSELF,
    BELOW,
    ITSELF,
    NOT_UNDERSTOOD,
    PASSED_OVER,
    Rule,
    read_line,
)
from staggerdns.wire.names import from_text
from tests.kit.listlines import slow_read_line

BOTH = ITSELF | BELOW
ALLOWED = ALLOW_ITSELF | ALLOW_BELOW
LONG_LABEL = "a" * 63
LONGEST = ".".join([LONG_LABEL, LONG_LABEL, LONG_LABEL, "a" * 61])


@pytest.mark.parametrize(
    ("text", "effect", "names"),
    [
        ("0.0.0.0 ads.example", ITSELF, ["ads.example"]),
        ("127.0.0.1\tads.example\tother.example  # both", ITSELF, ["ads.example", "other.example"]),
        ("::1 ads.example", ITSELF, ["ads.example"]),
        (":: ads.example", ITSELF, ["ads.example"]),
        ("127.0.0.53 ads.example", ITSELF, ["ads.example"]),
        ("0 ads.example", ITSELF, ["ads.example"]),
        ("0.0.0.0 ads", ITSELF, ["ads"]),
        ("0.0.0.0 localhost ads.example", ITSELF, ["ads.example"]),
        ("0.0.0.0 a$b.example ads.example", ITSELF, ["ads.example"]),
        ("0.0.0.0 ads.example ## not cosmetic", ITSELF, ["ads.example"]),
        ("ads.example", BOTH, ["ads.example"]),
        ("  ADS.Example.\r\n", BOTH, ["ads.example"]),
        ("ads.example # why", BOTH, ["ads.example"]),
        ("_dns.ads-1.example", BOTH, ["_dns.ads-1.example"]),
        (LONGEST, BOTH, [LONGEST]),
        ("*.ads.example", BELOW, ["ads.example"]),
        ("*.zip", BELOW, ["zip"]),
        ("||ads.example^", BOTH, ["ads.example"]),
        ("||zip^", BOTH, ["zip"]),
        ("||ads.example^|", BOTH, ["ads.example"]),
        ("||ads.example^$important", BOTH, ["ads.example"]),
        ("||*.ads.example^", BELOW, ["ads.example"]),
        ("@@||good.example^", ALLOWED, ["good.example"]),
        ("@@||*.good.example^", ALLOW_BELOW, ["good.example"]),
        ("address=/ads.example/", BOTH, ["ads.example"]),
        ("address=/ads.example/#", BOTH, ["ads.example"]),
        ("address=/ads.example/0.0.0.0", BOTH, ["ads.example"]),
        ("address=/ads.example/other.example/::", BOTH, ["ads.example", "other.example"]),
    ],
)
def test_forms(text: str, effect: int, names: list[str]) -> None:
    """Each form has its meaning; letters are folded."""
    assert read_line(text.encode()) == Rule(effect, tuple(map(from_text, names)))


@pytest.mark.parametrize(
    "text",
    [
        *("", "   ", "\n", "# a comment", "! a comment", "; a comment", "#"),
        *(
            "[Adblock Plus 2.0]",
            "##.banner",
            "###ad",
            "example.com##.ad",
            "a.example,~b.example##x",
        ),
        *("a.example#@#.ad", "a.example#?#x:has(y)", "a.example#@?#x", "a.example#$#abort"),
        *("a.example#@$#abort", "a.example#%#//script", "a.example#@%#x", "a.example#$?#x"),
        *("a.example$$script", "a.example$@$script", "#@#.ad", "*##.ad"),
        *("127.0.0.1 localhost", "::1 ip6-localhost ip6-loopback", "ff02::1 ip6-allnodes"),
        *("255.255.255.255 broadcasthost", "0.0.0.0 0.0.0.0", "fe80::1%lo0 localhost"),
        *("[$path=/x]a.example##.ad", "[$path=/x,domain=a.example]##.ad", "[$app=a b]#%#//x"),
        *("[$]##.ad", r"[$path=/\[a\]/]a.example#@#.ad", "[$url=||a^]a.example$$script", "[$a]b]"),
        "127.0.0.1 LocalHost",
    ],
)
def test_passed_over(text: str) -> None:
    """Comments, headings, cosmetic rules, and what stands in every hosts file."""
    assert read_line(text.encode()) == PASSED_OVER


@pytest.mark.parametrize(
    "text",
    [
        *("<html>", '<a href="#top">', "<p>ads.example is down</p>", "window.open();", "{", "}"),
        *(
            "ads",
            "zip.",
            ".",
            "..",
            "a..example",
            "*.",
            "*",
            "*.*.example",
            "ads.*",
            "||^",
            "@@||^",
        ),
        *("||ads.example", "||ads.example^$third-party", "||ads.example^path", "|ads.example|"),
        *(
            "||ads*.example^",
            "/banner/*",
            "&ad=",
            "-ad-",
            "@@/x",
            "@@ads.example",
            "||a b.example^",
        ),
        *("192.0.2.1", "::1", "0.0.0.0", "1.2.3.4 ads.example", "2001:db8::1 ads.example"),
        *("0.0.0.0 b$d.example", "ads.example other.example", "http://ads.example/", "a/b.example"),
        *("address=/ads.example/192.0.2.1", "address=//", "address=/", "address=/#", "address="),
        *(
            "[$path=/x]a.example",
            "[$path=/x##.ad",
            r"[$a\]##.ad",
            "[$a][$b]##.ad",
        ),
        *("address=/ads.example", "server=/ads.example/", "bücher.example", "ads.example\0"),
        *(f"{LONG_LABEL}a.example", f"{LONGEST}a", f"||{LONGEST}a^", "0.0.0.0 1.2.3"),
    ],
)
def test_not_understood(text: str) -> None:
    """Nothing else is taken for a name: an address, a pattern, a piece of HTML."""
    assert read_line(text.encode()) == NOT_UNDERSTOOD


PIECES = st.sampled_from(
    [
        *(
            "ads.example",
            "a.b.c",
            "zip",
            "localhost",
            "0.0.0.0",
            "127.0.0.1",
            "::1",
            "1.2.3.4",
            "x",
        ),
        *(
            "||",
            "@@",
            "^",
            "*.",
            "*",
            "address=/",
            "/",
            "#",
            "##",
            "#@#",
            "$$",
            "$@$",
            "!",
            ";",
            "[",
        ),
        *("]", " ", "\t", "$important", "$third-party", "|", ".", "-", "_", "é", "\0", LONG_LABEL),
        *("[$", "\\", "#?#", "#$?#", "$", "?", "%", ":", "A.B", "1", "0", "<p>", ","),
    ]
)


@given(st.lists(PIECES, max_size=8).map("".join).map(str.encode) | st.binary(max_size=40))
@example(b"0.0.0.0 a.example\x0b# x")
def test_against_a_slow_reader(line: bytes) -> None:
    """Another reader, by character and without regular expressions, says the same of any line."""
    found = read_line(line)
    assert (found.effect, found.names) == slow_read_line(line)
    assert all(name == name.lower() and len(name) > 1 for name in found.names)
