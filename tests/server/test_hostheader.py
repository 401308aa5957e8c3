"""By which names a browser may have found the page."""

from __future__ import annotations

import pytest

from staggerdns.server.hostheader import canonical_host, is_known_host, is_loopback

KNOWN = {"localhost", "dns.lan.example", "192.0.2.9", "2001:db8::9"}


@pytest.mark.parametrize(
    "field",
    [
        b"localhost", b"localhost:9153", b"LOCALHOST:8080", b"localhost.:80", b"localhost:",
        b"dns.lan.example", b"192.0.2.9", b"192.0.2.9:80", b"[2001:db8::9]:9153",
        b"[2001:DB8:0::9]",
        b" localhost ", b"127.0.0.1", b"127.0.0.1:9153", b"[::ffff:127.0.0.1]:9153",
    ],
)  # fmt: skip
def test_known(field: bytes) -> None:
    """Names and addresses of the configuration, and where the connection came in; with any port."""
    assert is_known_host([field], KNOWN, "127.0.0.1")


@pytest.mark.parametrize(
    "field",
    [
        b"", b"evil.example", b"evil.example:9153", b"localhost.evil.example", b"evillocalhost",
        b"127.0.0.2", b"127.0.0.1.evil.example", b"[::1]", b"2001:db8::9", b"[2001:db8::9",
        b"localhost:9153:1", b"localhost:x", b"localhost/", b"user@localhost", b"localhost\xff",
        b"2130706433", b"0x7f.1", b"127.1", b"localhost, evil.example", b"[evil.example]", b"..",
    ],
)  # fmt: skip
def test_unknown(field: bytes) -> None:
    """Everything else, however near it looks."""
    assert not is_known_host([field], KNOWN, "127.0.0.1")


def test_one_field() -> None:
    """None, and more than one, are nobody's."""
    assert not is_known_host([], KNOWN, "127.0.0.1")
    assert not is_known_host([b"localhost", b"localhost"], KNOWN, "127.0.0.1")


def test_own_address() -> None:
    """That of the connection, whether it is written or mapped in another way."""
    assert is_known_host([b"[::1]:9153"], (), "::1")
    assert is_known_host([b"[0:0::1]"], (), "::1")
    assert is_known_host([b"192.0.2.7"], (), "::ffff:192.0.2.7")
    assert is_known_host([b"[fe80::1]"], (), "fe80::1%eth0")
    assert not is_known_host([b"localhost"], (), "127.0.0.1")


@pytest.mark.parametrize(
    "text", ["a:80", "", ".", "a b", "http://a", "a/", "*", "é", "[::1]", "-" * 64]
)
def test_what_is_no_host(text: str) -> None:
    """A port, a URL, a pattern: an error that shows it."""
    with pytest.raises(ValueError, match="without a port"):
        canonical_host(text)


def test_canonical() -> None:
    """One form for each."""
    assert canonical_host("DNS.Example.") == "dns.example"
    assert canonical_host("2001:DB8::0") == "2001:db8::"
    assert canonical_host("a" * 63) == "a" * 63
    with pytest.raises(ValueError, match="expected"):
        canonical_host("a" * 64)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True),
     ("0.0.0.0", False), ("::", False), ("192.0.2.1", False), ("localhost", False)],
)  # fmt: skip
def test_loopback(host: str, expected: bool) -> None:
    """What nobody else can reach."""
    assert is_loopback(host) is expected
