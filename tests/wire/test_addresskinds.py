"""Kinds of addresses: which have a meaning inside of one network only."""

from __future__ import annotations

from ipaddress import ip_address

from staggerdns.wire.addresskinds import is_private

# The first and the last address of each range, and their neighbours outside.
PRIVATE_4 = [
    "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255",
    "127.0.0.0", "127.255.255.255", "169.254.0.0", "169.254.255.255", "172.16.0.0",
    "172.31.255.255", "192.168.0.0", "192.168.255.255", "224.0.0.0", "239.255.255.255",
    "240.0.0.0", "255.255.255.255",
]  # fmt: skip
PUBLIC_4 = [
    "1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
    "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
    "192.167.255.255", "192.169.0.0", "223.255.255.255", "192.0.2.1", "198.51.100.1",
    "203.0.113.1",
]  # fmt: skip
PRIVATE_6 = [
    "::", "::1", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe80::", "febf:ffff::1",
    "fec0::", "feff:ffff::1", "64:ff9b:1::1", "100::1",
    "ff00::", "ff02::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
]  # fmt: skip
PUBLIC_6 = [
    "2001:db8::1", "2606:4700::1111", "fbff:ffff::1", "fe00::1", "fe7f:ffff::1", "1::",
]  # fmt: skip


def test_private_ipv4() -> None:
    """Every special IPv4 range is private, and so is each IPv6 form that stands for it."""
    for text in PRIVATE_4:
        for form in _forms(text):
            assert is_private(form), (text, form.hex())


def test_public_ipv4() -> None:
    """The neighbours of those ranges are public, mapped or not; documentation ranges too."""
    for text in PUBLIC_4:
        for form in _forms(text):
            assert not is_private(form), (text, form.hex())


def _forms(text: str) -> list[bytes]:
    """An IPv4 address and what stands for it: mapped, compatible, translated, NAT64, 6to4."""
    four = ip_address(text).packed
    prefixes = ("::ffff:0:0", "::", "::ffff:0:0:0", "64:ff9b::")
    forms = [ip_address(prefix).packed[:12] + four for prefix in prefixes]
    forms.append(b"\x20\x02" + four + bytes(10))
    # :: and ::1 are themselves, whatever stands in their last octets.
    return [four, *(form for form in forms if int.from_bytes(form, "big") > 1)]


def test_private_ipv6() -> None:
    """Unspecified, loopback, unique local, link-local, site-local and multicast are private."""
    for text in PRIVATE_6:
        assert is_private(ip_address(text).packed), text


def test_public_ipv6() -> None:
    """Their neighbours are public."""
    for text in PUBLIC_6:
        assert not is_private(ip_address(text).packed), text
