"""The lines of lists, read slowly and plainly: what the reader of the program is compared with."""

from __future__ import annotations

import ipaddress
import string

LETTERS = string.ascii_letters + string.digits + "-_"
LOCAL = {
    *("localhost", "localhost.localdomain", "local", "broadcasthost", "0.0.0.0"),
    *("localhost4", "localhost4.localdomain4", "localhost6", "localhost6.localdomain6"),
    *("ip6-localhost", "ip6-loopback", "ip6-localnet", "ip6-mcastprefix"),
    *("ip6-allnodes", "ip6-allrouters", "ip6-allhosts"),
}
COSMETIC = ["##", "#@#", "#?#", "#@?#", "#$#", "#@$#", "#%#", "#@%#", "#$?#", "#@$?#", "$$", "$@$"]
NONE: tuple[int, tuple[bytes, ...]] = (-1, ())
PASSED: tuple[int, tuple[bytes, ...]] = (0, ())


def wire(text: str) -> bytes:
    """Return a name in wire form, empty for what is none."""
    labels = text.removesuffix(".").lower().split(".")
    for label in labels:
        if not 1 <= len(label) <= 63 or any(letter not in LETTERS for letter in label):
            return b""
    if all(digit in string.digits for digit in labels[-1]):
        return b""
    name = b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"
    return name if len(name) <= 255 else b""


def of(effect: int, texts: list[str]) -> tuple[int, tuple[bytes, ...]]:
    """Return the effect on those that are names."""
    names = tuple(name for name in map(wire, texts) if name)
    return (effect, names) if names else NONE


def leads_nowhere(text: str) -> bool:
    """Return whether an address is one where nobody is."""
    return text in ("0.0.0.0", "127.0.0.1", "::", "::1", "0")


def is_cosmetic(text: str) -> bool:
    """Return whether a rule is cosmetic, with modifiers before it or without."""
    return has_separator(text) or (
        text.startswith("[$") and has_separator(text[modifiers_end(text) or len(text) :])
    )


def has_separator(text: str) -> bool:
    """Return whether there is a separator of cosmetic rules before any space."""
    for index, letter in enumerate(text):
        if any(text.startswith(mark, index) for mark in COSMETIC):
            return True
        if letter in "#$" or letter.isspace():
            return False
    return False


def modifiers_end(text: str) -> int:
    """Return where the modifiers in brackets at the beginning end, 0 if they do not."""
    index = 2
    while index < len(text):
        if text[index] == "]":
            return index + 1
        index += 2 if text[index] == "\\" else 1
    return 0


def rule(text: str) -> tuple[int, tuple[bytes, ...]]:
    """Read a rule of the kind ``||x^``."""
    allow = text.startswith("@@")
    text = text.removeprefix("@@")
    if not text.startswith("||"):
        return NONE
    text = text[2:].removesuffix("$important").removesuffix("|")
    if not text.endswith("^"):
        return NONE
    text = text[:-1]
    below = text.startswith("*.")
    if below:
        text = text[2:]
    return of((2 if below else 3) * (4 if allow else 1), [text])


def slow_read_line(line: bytes) -> tuple[int, tuple[bytes, ...]]:
    """Return the effect of a line and its names, as ``read_line`` does."""
    text = line.decode("latin-1").strip(" \t\n\r\x0b\x0c")
    if not text or text[0] in "#!;" or (text[0] == "[" and text[-1] == "]"):
        return PASSED
    if is_cosmetic(text):
        return PASSED
    if "|" in text and "#" not in text and "$$" not in text and "$@$" not in text:
        return rule(text)
    fields = text.partition("#")[0].encode("latin-1").split()
    words = [field.decode("latin-1") for field in fields]
    if not words:
        return NONE
    if len(words) > 1:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address | None = None
        try:
            address = ipaddress.ip_address(words[0])
        except ValueError:
            if words[0] != "0":
                return NONE
        names = [word for word in words[1:] if word.lower() not in LOCAL]
        if address is not None and not names:
            return PASSED
        if address is not None and not (address.is_loopback or address.is_unspecified):
            return NONE
        return of(1, names)
    (word,) = words
    if word.startswith("address=/"):
        _, *names, target = word.split("/")
        return of(3, names) if target in ("", "#") or leads_nowhere(target) else NONE
    if word.startswith(("||", "@@||")):
        return rule(word)
    if word.startswith("*."):
        return of(2, [word[2:]])
    return of(3, [word]) if "." in word.rstrip(".") else NONE
