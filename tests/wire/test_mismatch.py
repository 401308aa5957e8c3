"""What tells a reply to a question from every other message (RFC 5452 section 9.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.wire.reply import mismatch, repeats
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
    assert mismatch(message, ASKED) is None


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
    found = mismatch(message, ASKED)
    assert found is not None
    assert found.value == reason


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (REPLY, True),
        (raw_reply(ASKED, flags=0x8583), True),
        (REPLY.replace(b"example", b"eXaMPle"), False),
        (REPLY[: ASKED.end], True),
        (REPLY[: ASKED.end - 1], False),
        (raw_reply(ASKED, [ADDRESS], flags=0x0180), False),
        (raw_reply(ASKED, [ADDRESS], flags=0xA180), False),
        (raw_reply(ASKED, [ADDRESS], flags=0x8980), False),
        (REPLY[:4] + b"\0\2" + REPLY[6:], False),
        (REPLY[:4] + b"\1\1" + REPLY[6:], False),
        (bare(2), False),
        (b"", False),
    ],
)
def test_the_question_letter_by_letter(message: bytes, expected: bool) -> None:
    """The quick look accepts what the thorough one does, if it is also in our letters."""
    query = b"\1\0\0\1" + bytes(6) + ASKED.section
    assert repeats(message, query, ASKED.end) is expected
    assert not expected or mismatch(message, ASKED) is None


@given(st.data())
def test_the_quick_look_accepts_no_more(data: st.DataObject) -> None:
    """Whatever octets of a reply are others: what is accepted quickly is so thoroughly, too."""
    query = (
        b"\1\0\0\1"
        + bytes(6)
        + ASKED.in_random_case(
            data.draw(st.binary(min_size=len(ASKED.section), max_size=len(ASKED.section)))
        )
    )
    message = bytearray(b"\0\0\x81\x80\0\1" + bytes(6) + query[10:] + bytes(5))
    for place in data.draw(st.lists(st.integers(2, len(message) - 1), max_size=2)):
        message[place] = data.draw(st.integers(0, 255))
    if repeats(bytes(message), query, ASKED.end):
        assert mismatch(bytes(message), ASKED) is None
