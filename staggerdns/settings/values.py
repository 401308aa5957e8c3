"""The values of the configuration that have a form of their own, and how they are read.

At run time each is a class of its own, which tells the reader of a section what is written there.
For type checkers they are the plain types below, so that a section can be made from plain values.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from staggerdns.settings.addresses import (
    Endpoint,
    Listener,
    UpstreamAddress,
    parse_endpoint,
    parse_listener,
    parse_upstream,
)
from staggerdns.settings.networks import Network, parse_network
from staggerdns.settings.stores import StoreAddress, parse_store
from staggerdns.wire.constants import MAX_NAME
from staggerdns.wire.names import from_text

if TYPE_CHECKING:
    Seconds = float
    SecondsOrAuto = float
    Interval = float
    Octets = int
    Domain = bytes
    DomainPattern = bytes
    Secret = bytes
else:

    class Seconds(float):
        """A duration in seconds, written ``300ms``, ``3s``, ``5m``, ``1h`` or as a number."""

    class SecondsOrAuto(Seconds):
        """A duration where ``auto`` may be written as well, which is `None`."""

    class Interval(Seconds):
        """A duration of minutes to weeks, after which something is done again."""

    class Octets(int):
        """An amount of memory in octets, written ``128MiB`` or as a number."""

    class Domain(bytes):
        """A domain name in wire form, lower case, written ``lan.example``."""

    class DomainPattern(bytes):
        """The same, or with ``*.`` in front for the names below it alone."""

    class Secret(bytes):
        """16 octets, written as 32 hexadecimal digits."""


AUTO = "auto"
"""What is written for a number that is found out; in a section that is `None`."""
LIST = "a list"
MAP = "a map of keys and values"
YAML_BOOLEAN = "(YAML reads on, off, yes and no so: put quotes around text)"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(ms|s|m|h)")
_SHORTEST = 0.001
_LONGEST = 86_400.0
SHORTEST_INTERVAL = 60.0
LONGEST_INTERVAL = 30 * 86_400.0
"""Seconds that an `Interval` may have."""
_SIZES = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_SIZE = re.compile(r"([0-9]{1,15}) ?(|KiB|MiB|GiB|TiB)")
_BELOW = "*."
_LABEL = re.compile("[0-9a-z_](?:[0-9a-z_-]{0,62})")
_SECRET = re.compile("[0-9a-fA-F]{32}")


def read_value(kind: type, value: object) -> object:
    """Return what a plain ``value`` of YAML means where a ``kind`` of those above, or an address,
    belongs. Raises `ValueError` that says what was expected.
    """
    if kind is Seconds:
        return _read_seconds(value)
    if kind is SecondsOrAuto:
        return SecondsOrAuto(_read_seconds(value, "auto or a duration"))
    if kind is Interval:
        return Interval(_read_seconds(value, shortest=SHORTEST_INTERVAL, longest=LONGEST_INTERVAL))
    if kind is Octets:
        return _read_octets(value)
    if kind is Listener:
        return parse_listener(value)
    if kind is Endpoint:
        return parse_endpoint(value)
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {show_value(value)}")  # noqa: TRY004 (msgspec adds the path)
    if kind is Domain:
        return Domain(_read_domain(value))
    if kind is DomainPattern:
        return _read_pattern(value)
    if kind is Secret:
        if _SECRET.fullmatch(value) is None:
            raise ValueError("expected 32 hexadecimal digits")
        return Secret(bytes.fromhex(value))
    return _PARSERS[kind](value)


_PARSERS: dict[type, Callable[[str], object]] = {
    Network: parse_network,
    StoreAddress: parse_store,
    UpstreamAddress: parse_upstream,
}


def _read_domain(text: str, shown: str = "lan.example", limit: int = MAX_NAME - 2) -> bytes:
    name = text.removesuffix(".").lower()
    labels_are_right = text.isascii() and all(map(_LABEL.fullmatch, name.split(".")))
    if labels_are_right and len(name) <= limit:
        return from_text(name)
    raise ValueError(f"expected a domain like {shown}, got {text!r}{a_label_hint(text)}")


def a_label_hint(text: str) -> str:
    """Return what to say of a name that is wrong if it is written in other letters than those of
    the DNS: how it is written there (RFC 5890, A-labels). Empty if it is not.
    """
    if text.isascii():
        return ""
    below, name = (_BELOW, text[len(_BELOW) :]) if text.startswith(_BELOW) else ("", text)
    written = _a_labels(name) if len(name) <= MAX_NAME else ""  # what is longer takes long
    if not written:
        return ": letters beyond ASCII are written as the DNS has them, in labels with xn--"
    return f": write {below}{written}"


def _a_labels(name: str) -> str:
    """Return a name as the DNS has it, empty if it cannot be there."""
    from idna import IDNAError, encode  # noqa: PLC0415 (large, and rarely needed)

    try:
        written = ".".join(
            label if label.isascii() else encode(label, uts46=True).decode()
            for label in name.split(".")
        )
        _read_domain(written)
    except (IDNAError, ValueError):
        return ""
    return written


def _read_pattern(text: str) -> DomainPattern:
    shown = "lan.example or *.lan.example"
    if not text.startswith(_BELOW):
        return DomainPattern(_read_domain(text, shown))
    try:
        below = _read_domain(text.removeprefix(_BELOW), limit=MAX_NAME - 2 - len(_BELOW))
    except ValueError:
        raise ValueError(
            f"expected a domain like {shown}, got {text!r}{a_label_hint(text)}"
        ) from None
    return DomainPattern(from_text("*")[:-1] + below)


def _read_seconds(
    value: object,
    what: str = "a duration",
    *,
    shortest: float = _SHORTEST,
    longest: float = _LONGEST,
) -> Seconds:
    expected = f"expected {what} like 300ms, 3s or 5m, got {show_value(value)}"
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError(expected)
        seconds = float(match[1]) * _UNITS[match[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise ValueError(expected)  # noqa: TRY004 (as above)
    if not shortest <= seconds <= longest:
        least = f"{shortest:g}s" if shortest >= 1 else f"{1000 * shortest:g}ms"
        raise ValueError(
            f"expected a duration from {least} to {longest / 3600:g}h, got {show_value(value)}"
        )
    return Seconds(seconds)


def _read_octets(value: object) -> Octets:
    expected = (
        f"expected a size like 128MiB or 1GiB, or a number of octets, got {show_value(value)}"
    )
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            raise ValueError(expected)
        octets = int(match[1]) * _SIZES[match[2]]
    elif isinstance(value, int) and not isinstance(value, bool):
        octets = value
    else:
        raise ValueError(expected)  # noqa: TRY004 (as above)
    if not _SIZES["MiB"] <= octets <= _SIZES["TiB"]:
        raise ValueError(f"expected a size from 1MiB to 1TiB, got {show_value(value)}")
    return Octets(octets)


def show_value(value: object) -> str:
    """Return a value of YAML as errors show it."""
    if isinstance(value, bool):
        return f"{str(value).lower()} {YAML_BOOLEAN}"
    if isinstance(value, list | dict):
        return LIST if isinstance(value, list) else MAP
    return "nothing" if value is None else repr(value)
