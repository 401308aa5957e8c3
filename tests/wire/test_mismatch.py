"""What tells a reply to a question from every other message (RFC 5452 section 9.1)."""

from __future__ import annotations

import pytest

from staggerdns.wire.reply import mismatch
from tests.kit.messages import ask, raw_reply, record

ASKED = ask()
ADDRESS = record(b"\xcb\0\x71\1", 1)
BADVERS = record(b"", 41, owner=b"\0", rdclass=1232, ttl=1 << 24)
REPLY = raw_reply(ASKED, [ADDRESS])
NO_QUESTION = bytes(8)


def bare(rcode: int, counts: bytes = NO_QUESTION, rest: bytes = b"") -> bytes:
    """A reply without a question section."""
    return b"\0\0" + (0x8180 | rcode).to_bytes(2, "big") + counts + rest


@pytest.mark.parametrize(
    "message",
    [
        REPLY,
        REPLY.replace(b"example", b"eXaMPle"),
        raw_reply(ASKED),
        bare(1),
        bare(5),
        bare(0, b"\0\0\0\0\0\0\0\1", BADVERS),
    ],
)
def test_replies(message: bytes) -> None:
    """The question in any case, or an error by somebody who could not read it."""
    assert mismatch(message, ASKED) == ""


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "short"),
        (bare(2)[:11], "short"),
        (raw_reply(ASKED, [ADDRESS], flags=0x0180), "flags"),
        (raw_reply(ASKED, [ADDRESS], flags=0xA180), "flags"),  # NOTIFY
        (raw_reply(ask("www.example.net."), [ADDRESS]), "question"),
        (raw_reply(ask("example.com."), [ADDRESS]), "question"),
        (raw_reply(ask(rdtype="AAAA"), [ADDRESS]), "question"),
        (REPLY.replace(ASKED.section, ASKED.section[:-1] + b"\3"), "question"),  # class CH
        (REPLY[: len(ASKED.section) + 11], "question"),
        (REPLY[:4] + b"\0\2" + REPLY[6:], "question"),
        (bare(0), "question"),
        (bare(3), "question"),
        (bare(2, b"\0\0\0\1\0\0\0\0", ADDRESS), "question"),
    ],
)
def test_other_messages(message: bytes, reason: str) -> None:
    """An answer without its question may be anybody's; so is one with another."""
    assert mismatch(message, ASKED) == reason
