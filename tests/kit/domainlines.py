"""Files of domains, read slowly and plainly: what the reader of the program is compared with."""

from __future__ import annotations

FIRST_LETTERS = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
LETTERS = FIRST_LETTERS + b"-"
MARK = b"\xef\xbb\xbf"
NO_TEXT = "is no text"


def wire(text: bytes) -> bytes:
    """Return a name in wire form, empty for what is none."""
    if text[-1:] == b".":
        text = text[:-1]
    name = b""
    for label in text.lower().split(b"."):
        if not 1 <= len(label) <= 63 or label[0] not in FIRST_LETTERS:
            return b""
        if any(letter not in LETTERS for letter in label):
            return b""
        name += bytes([len(label)]) + label
    return name + b"\0"


def slow_read_domains(content: bytes) -> list[bytes] | str:
    """Return the domains in a file, or how that begins which is said of what is wrong with it."""
    if 0 in content:
        return NO_TEXT
    if content[:3] == MARK:
        content = content[3:]
    domains = []
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    for number, line in enumerate(lines, 1):
        text = line.split(b"#")[0].strip(b" \t\x0b\x0c")
        if not text:
            continue
        if text[:2] == b"*.":
            name = wire(text[2:])
            domain = name and b"\1*" + name
        else:
            domain = wire(text)
        if not domain or len(domain) > 255:
            return f"line {number}: "
        domains.append(domain)
    return domains
