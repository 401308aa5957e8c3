"""Domain names as uncompressed wire bytes: reading, checking, text form.

A name is held as its labels with their length octets and the closing root label (RFC 1035
section 3.1). Length octets are at most 63, below every ASCII letter, so ``bytes.lower()``
on such a name folds its case and nothing else (RFC 4343).
"""

from __future__ import annotations

from staggerdns.wire.constants import HEADER_SIZE, MAX_LABEL, MAX_NAME, POINTER, WireError

MAX_HOPS = 128
"""Compression pointers on the way through one name: one a label is the most that makes sense."""
_ESCAPED = frozenset(b'."\\();@$')


def skip_name(message: bytes, position: int) -> int:
    """Return the offset behind the name at ``position`` without following its pointer.

    Raises `WireError` when the name runs over the end or uses a reserved label type.
    """
    size = len(message)
    while position < size:
        length = message[position]
        if length == 0:
            return position + 1
        if length >= POINTER:
            if position + 2 > size:
                break
            return position + 2
        if length > MAX_LABEL:
            raise WireError("reserved label type")
        position += length + 1
    raise WireError("name runs over the end of the message")


def read_name(message: bytes, position: int) -> tuple[bytes, int]:
    """Return the uncompressed name at ``position``, case as sent, and the offset behind it.

    Pointers must lead to what ends before the labels in front of them, not into the header, and be
    `MAX_HOPS` at most, which bounds the walk (RFC 1035 section 4.1.4: a prior occurrence). Raises
    `WireError` for anything but a legal name of at most 255 octets.
    """
    parts: list[bytes] = []
    total = 0
    hops = 0
    end = -1
    limit = position  # a pointer has to lead before the run of labels that it ends
    bound = len(message)
    while position < bound:
        length = message[position]
        if length >= POINTER:
            if position + 2 > bound:
                break
            if end < 0:
                end = position + 2
            target = (length & 0x3F) << 8 | message[position + 1]
            hops += 1
            if not HEADER_SIZE <= target < limit or hops > MAX_HOPS:
                raise WireError("compression pointer does not lead back to a name")
            bound, limit = limit, target
            position = target
            continue
        if length > MAX_LABEL:
            raise WireError("reserved label type")
        following = position + length + 1
        total += length + 1
        if total > MAX_NAME:
            raise WireError("name longer than 255 octets")
        if following > bound:
            break
        parts.append(message[position:following])
        if length == 0:
            return b"".join(parts), end if end >= 0 else following
        position = following
    raise WireError("name runs over its end")


def to_text(name: bytes) -> str:
    """Return the presentation form of a wire name, with a final dot (RFC 4343 section 2.1)."""
    labels: list[str] = []
    position = 0
    while length := name[position]:
        label = name[position + 1 : position + 1 + length]
        labels.append("".join(_escape(octet) for octet in label))
        position += length + 1
    return ".".join(labels) + "."


def _escape(octet: int) -> str:
    if octet in _ESCAPED:
        return "\\" + chr(octet)
    return chr(octet) if 0x21 <= octet <= 0x7E else f"\\{octet:03d}"


def is_below(name: bytes, domain: bytes) -> bool:
    """Return whether a name is a domain or one below it, both in wire form and lower case."""
    if not name.endswith(domain):
        return False
    place, start = 0, len(name) - len(domain)
    while place < start:
        place += name[place] + 1
    return place == start


def reverse_name(address: bytes) -> bytes:
    """Return the reverse name of an address of 4 or 16 bytes (RFC 1035 section 3.5, RFC 3596)."""
    if len(address) == 4:
        labels = [str(octet) for octet in reversed(address)] + ["in-addr", "arpa"]
    else:
        labels = [*reversed(address.hex()), "ip6", "arpa"]
    return from_text(".".join(labels))


def from_text(text: str | bytes) -> bytes:
    """Return the wire form of a name that is written without escapes, with or without a final dot.

    Raises `ValueError` for what is no name: `WireError`, or `UnicodeEncodeError` for what is not
    ASCII.
    """
    octets = (text.encode("ascii") if isinstance(text, str) else text).removesuffix(b".")
    return from_labels(octets.split(b".") if octets else [])


def from_labels(labels: list[bytes]) -> bytes:
    """Return the wire form of a list of labels, without the root. Raises `WireError`."""
    if any(not 0 < len(label) <= MAX_LABEL for label in labels):
        raise WireError("a label has 1 to 63 octets")
    name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    if len(name) > MAX_NAME:
        raise WireError("a name has at most 255 octets")
    return name
