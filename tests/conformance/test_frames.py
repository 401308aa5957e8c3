"""DNS over TCP: how a stream is cut into messages (RFC 1035 section 4.2.2, RFC 7766)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.kit import behaviours as b
from tests.kit.clients import NoReplyError, TcpClient
from tests.kit.octets import ID, message, opt, option

if TYPE_CHECKING:
    from tests.kit.testbed import Testbed

EMPTY = b"\0\0"


def frame(wire: bytes) -> bytes:
    """Return a message behind its length."""
    return len(wire).to_bytes(2, "big") + wire


def numbered(number: int) -> bytes:
    """Return a query with this ID."""
    return number.to_bytes(2, "big") + message()[2:]


def ids(client: TcpClient, count: int) -> list[int]:
    """Return the IDs of the next replies, sorted."""
    return sorted(client.receive().message.id for _ in range(count))


THREE = b"".join(frame(numbered(number)) for number in range(3))


@pytest.mark.parametrize("cut", range(1, 2 * len(frame(message())) + 3))
def test_frames_cut_anywhere(testbed: Testbed, cut: int) -> None:
    """Three messages in two segments, wherever those meet, are three messages."""
    with TcpClient(testbed.program.endpoint) as client:
        client.send_raw(THREE[:cut])
        whole = cut // (len(THREE) // 3)
        assert ids(client, whole) == list(range(whole))  # these do not wait for the rest
        client.send_raw(THREE[cut:])
        assert ids(client, 3 - whole) == list(range(whole, 3))


PIECES = {
    "one segment": [THREE],
    "octet by octet": [bytes([octet]) for octet in THREE],
    "three and seven octets in turn": [
        THREE[start:end]
        for start, end in itertools.pairwise(
            [position for base in range(0, len(THREE), 10) for position in (base, base + 3)]
            + [len(THREE)]
        )
    ],
    "empty frames before, between and behind": [
        EMPTY * 3 + b"".join(frame(numbered(number)) + EMPTY * 2 for number in range(3))
    ],
    "empty frames alone, then messages": [EMPTY * 1000, THREE],
    "frames that are too short": [
        b"".join(frame(b"x" * size) for size in range(12)) + THREE,
    ],
    "responses between": [
        b"".join(frame(b"\0\x09\x81\x80" + message()[4:]) + frame(numbered(i)) for i in range(3))
    ],
}


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
def test_streams(testbed: Testbed, pieces: list[bytes]) -> None:
    """However a stream is cut and padded, each query in it gets one reply, and nothing else."""
    with TcpClient(testbed.program.endpoint) as client:
        for piece in pieces:
            client.send_raw(piece)
        assert ids(client, 3) == [0, 1, 2]
        client.finish()
        assert client.seconds_until_closed() is not None


@pytest.mark.parametrize("size", [4095, 4096, 4097, 65535])
def test_large_frames(testbed: Testbed, size: int) -> None:
    """A frame may be as long as its length field can say."""
    padding = size - len(message(opt(options=option(65001)), counts=(1, 0, 0, 1)))
    wire = message(opt(options=option(65001, b"p" * padding)), counts=(1, 0, 0, 1))
    assert len(wire) == size
    with TcpClient(testbed.program.endpoint) as client:
        client.send(wire, numbered(7))
        assert ids(client, 2) == [7, ID]


@pytest.mark.parametrize("after", [0.0, 0.2])
def test_half_close(testbed: Testbed, after: float) -> None:
    """Who stops sending still gets every answer, soon or late, and then the end."""
    name = testbed.route("half", b.answers("203.0.113.1", after=after))
    with TcpClient(testbed.program.endpoint) as client:
        wire = message(name=b"".join(_labels(name)))
        client.send(numbered(1), wire, numbered(2))
        client.finish()
        assert ids(client, 3) == [1, 2, ID]
        assert client.seconds_until_closed() is not None


@pytest.mark.parametrize("rest", [b"\0", frame(message())[:2], frame(message())[:-1], EMPTY])
def test_half_close_in_a_frame(testbed: Testbed, rest: bytes) -> None:
    """Half a message at the end of a stream is dropped, what came before it is answered."""
    with TcpClient(testbed.program.endpoint) as client:
        client.send_raw(frame(numbered(5)) + rest)
        client.finish()
        assert ids(client, 1) == [5]
        assert client.seconds_until_closed() is not None


def test_nothing_at_all(testbed: Testbed) -> None:
    """A connection that is half-closed before it has asked is closed."""
    with TcpClient(testbed.program.endpoint) as client:
        client.finish()
        with pytest.raises(NoReplyError, match="closed"):
            client.receive()


def _labels(name: str) -> list[bytes]:
    return [bytes([len(text)]) + text.encode() for text in name.split(".")]
