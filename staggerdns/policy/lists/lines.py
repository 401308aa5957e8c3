"""One line of a list, told apart by its form (docs/specification.rst, Lists).

=====================  ==========================================================================
``0.0.0.0 x y``        a line of a hosts file: these very names; the address is a null or a loopback
                       one
``x``                  the name and all below it; of two labels at least
``*.x``                what is below the name
``||x^``               the name and all below it
``@@||x^``             the name and all below it are not blocked
``address=/x/y/``      the names and all below them; an address behind them is null or loopback
=====================  ==========================================================================

Comments, headings, cosmetic rules and the names that every hosts file has are passed over. All else
is not understood: patterns, paths and options of browsers' rules would block too much.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final, NamedTuple

from staggerdns.wire.constants import MAX_LABEL, MAX_NAME, WireError
from staggerdns.wire.names import from_text

ITSELF: Final = 1
"""The name itself is blocked."""
BELOW: Final = 2
"""What is below the name is blocked."""
ALLOW_ITSELF: Final = 4
"""The name itself is not blocked, whatever else says so."""
ALLOW_BELOW: Final = 8
"""What is below the name is not blocked."""


class Rule(NamedTuple):
    """What a line says: ``effect``, of the constants above, on ``names`` in wire form."""

    effect: int
    names: tuple[bytes, ...] = ()


PASSED_OVER: Final = Rule(0)
"""There is nothing in it for us."""
NOT_UNDERSTOOD: Final = Rule(-1)
"""It has none of the forms."""

_NAME = re.compile(rb"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?")
_RULE = re.compile(rb"(@@)?\|\|(\*\.)?([A-Za-z0-9_.-]+)\^\|?(?:\$important)?")
_COSMETIC = re.compile(
    rb"(?:\[\$(?:[^\]\\]|\\(?s:.))*\])?"  # modifiers; a bracket in them has a backslash before it
    rb"[^\s#$]*(?:#@?(?:\$\?|[$?%])?#|\$@?\$)"
)
"""The separators of element hiding, its exceptions, styles, scripts and HTML filters."""
_USUAL = re.compile(
    rb"(?:((?:0\.0\.0\.0|127\.0\.0\.1)[ \t]+)|(\|\|))?"
    rb"([a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.[a-z][a-z0-9-]*)(\^)?\r?\n?"
)
"""Nearly every line of a long list: nothing but a name, in one of three forms."""
_LENGTHS = [bytes((length,)) for length in range(MAX_LABEL + 1)]
_COMMENTS = b"#!;"
_NOWHERE = frozenset({b"0.0.0.0", b"127.0.0.1", b"::", b"::1", b"0"})
_BOILERPLATE = frozenset(
    {
        *(b"localhost", b"localhost.localdomain", b"local", b"broadcasthost", b"0.0.0.0"),
        *(b"localhost4", b"localhost4.localdomain4", b"localhost6", b"localhost6.localdomain6"),
        *(b"ip6-localhost", b"ip6-loopback", b"ip6-localnet", b"ip6-mcastprefix"),
        *(b"ip6-allnodes", b"ip6-allrouters", b"ip6-allhosts"),
    }
)
"""Names that stand in hosts files because systems want them there."""


def read_line(line: bytes) -> Rule:
    """Return what a line says, its end included or not; any octets may come."""
    if line and line[0] in _COMMENTS:  # of which long lists have many
        return PASSED_OVER
    usual = _USUAL.fullmatch(line)
    if usual is not None and (usual[2] is None) == (usual[4] is None):
        labels = usual[3].split(b".")
        # What is too long is missing here, and so the name is too short.
        name = b"".join(
            [_LENGTHS[len(label)] + label for label in labels if len(label) <= MAX_LABEL]
        )
        if len(name) == len(usual[3]) + 1 < MAX_NAME and (
            usual[1] is None or usual[3] not in _BOILERPLATE
        ):
            return Rule(ITSELF | BELOW if usual[1] is None else ITSELF, (name + b"\0",))
    return _read_any(line.strip())


def _read_any(line: bytes) -> Rule:
    if not line or line[0] in _COMMENTS or (line[0] == 0x5B and line[-1] == 0x5D):  # [a heading]
        return PASSED_OVER
    if b"$$" in line or b"#" in line or b"$@$" in line:
        if _COSMETIC.match(line):
            return PASSED_OVER
    elif b"|" in line:
        return _read_rule(line)
    fields = line.partition(b"#")[0].split()
    if not fields:
        return NOT_UNDERSTOOD
    if len(fields) > 1:
        return _read_hosts(fields)
    return _read_single(fields[0])


def _read_single(text: bytes) -> Rule:
    """Read what stands alone in its line."""
    if text.startswith(b"address=/"):
        return _read_address(text)
    if text.startswith((b"||", b"@@||")):
        return _read_rule(text)
    if text.startswith(b"*."):
        return _of(BELOW, [text[2:]])
    if b"." in text.rstrip(b"."):
        return _of(ITSELF | BELOW, [text])
    return NOT_UNDERSTOOD


def _read_rule(text: bytes) -> Rule:
    match = _RULE.fullmatch(text)
    if match is None:
        return NOT_UNDERSTOOD
    effect = ALLOW_BELOW if match[1] else BELOW
    if not match[2]:
        effect |= ALLOW_ITSELF if match[1] else ITSELF
    return _of(effect, [match[3]])


def _read_address(text: bytes) -> Rule:
    _, *names, address = text.split(b"/")
    if address not in (b"", b"#") and address not in _NOWHERE:
        return NOT_UNDERSTOOD  # it leads somewhere
    return _of(ITSELF | BELOW, names)


def _read_hosts(fields: list[bytes]) -> Rule:
    """Read a line of a hosts file; of its names those that are none are left out."""
    try:
        address = ip_address(fields[0].decode("ascii"))
    except ValueError:
        if fields[0] not in _NOWHERE:
            return NOT_UNDERSTOOD
    else:
        if all(name.lower() in _BOILERPLATE for name in fields[1:]):
            return PASSED_OVER
        if not (address.is_loopback or address.is_unspecified):
            return NOT_UNDERSTOOD  # it leads somewhere
    return _of(ITSELF, [name for name in fields[1:] if name.lower() not in _BOILERPLATE])


def _of(effect: int, texts: list[bytes]) -> Rule:
    names = tuple(filter(None, map(_wire, texts)))
    return Rule(effect, names) if names else NOT_UNDERSTOOD


def _wire(text: bytes) -> bytes:
    """Return a name in wire form and lower case; empty if it is none, or the root."""
    if _NAME.fullmatch(text) is None or text.rstrip(b".").rpartition(b".")[2].isdigit():
        return b""  # a number at the end makes it an address
    try:
        return from_text(text.lower())
    except WireError:
        return b""
