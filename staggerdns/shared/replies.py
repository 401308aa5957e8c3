"""Replies of a store, from octets (RESP 2, https://redis.io/docs/latest/develop/reference/protocol-spec/).

Whoever sends them may be no store at all, so everything is bounded: what waits for the rest of a
reply, and how many elements one has. Pure: octets in, replies out.
"""

from __future__ import annotations

from collections.abc import Iterator

from staggerdns.errors import StaggerDNSError

MAX_OCTETS = 1_048_576
"""Octets of one reply."""
MAX_ELEMENTS = 2_048
"""Elements of one reply: those of arrays, and the arrays themselves."""
MAX_DEPTH = 4
"""Arrays within each other."""
MAX_LINE = 512
"""Octets of a line: a number, a status or an error."""
_END = b"\r\n"
Reply = bytes | int | list["Reply"] | None | Exception


class Garbage(StaggerDNSError):
    """Something that is no reply, or too large for one of ours."""


class Refusal(StaggerDNSError):
    """A reply that is an error: its text begins with a code in capitals."""


class _Incomplete(StaggerDNSError):
    """The rest of a reply has not come yet."""


class ReplyReader:
    """Makes replies of what comes on one connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._wanted = 0  # so many octets there must be, before it makes sense to look again
        self._elements = 0

    def feed(self, data: bytes) -> Iterator[Reply]:
        """Yield the replies that are complete with ``data``. Raises `Garbage`, after which the
        connection is of no use.
        """
        self._buffer += data
        position = 0
        while len(self._buffer) - position >= max(self._wanted, 1):
            self._elements = self._wanted = 0
            try:
                reply, end = self._read(position, 0)
            except _Incomplete:
                self._wanted = max(self._wanted - position, 0)
                break
            if end - position > MAX_OCTETS:
                raise Garbage("a reply that is too large")
            position = end
            yield reply
        del self._buffer[:position]
        if len(self._buffer) > MAX_OCTETS:
            raise Garbage("a reply that is too large")

    def _read(self, position: int, depth: int) -> tuple[Reply, int]:
        self._elements += 1
        if self._elements > MAX_ELEMENTS or depth > MAX_DEPTH:
            raise Garbage("a reply of too many elements")
        text, end = self._text(position)
        kind, rest = text[:1], text[1:]
        if kind == b"+":
            return rest, end
        if kind == b"-":
            return Refusal(_shown(rest)), end
        if kind == b":":
            return _number(rest), end
        if kind == b"$":
            return self._bulk(_number(rest), end)
        if kind == b"*":
            return self._array(_number(rest), end, depth)
        raise Garbage("no reply of a store")

    def _text(self, position: int) -> tuple[bytes, int]:
        end = self._buffer.find(_END, position, position + MAX_LINE + len(_END))
        if end < 0:
            if len(self._buffer) - position > MAX_LINE:
                raise Garbage("a line that is too long")
            raise _Incomplete
        return bytes(self._buffer[position:end]), end + len(_END)

    def _bulk(self, length: int, begin: int) -> tuple[bytes | None, int]:
        if length == -1:
            return None, begin
        end = begin + length
        if not 0 <= length <= MAX_OCTETS:
            raise Garbage("a string that is too long")
        if len(self._buffer) < end + len(_END):
            self._wanted = end + len(_END)
            raise _Incomplete
        if self._buffer[end : end + len(_END)] != _END:
            raise Garbage("a string without its end")
        return bytes(self._buffer[begin:end]), end + len(_END)

    def _array(self, count: int, position: int, depth: int) -> tuple[list[Reply] | None, int]:
        if count == -1:
            return None, position
        if not 0 <= count <= MAX_ELEMENTS:
            raise Garbage("an array of too many elements")
        found: list[Reply] = []
        for _ in range(count):
            reply, position = self._read(position, depth + 1)
            found.append(reply)
        return found, position


def _shown(octets: bytes) -> str:
    """Return a text as it may stand in the log and on a terminal."""
    return "".join([chr(octet) if 0x20 <= octet <= 0x7E else "?" for octet in octets])


def _number(digits: bytes) -> int:
    if not digits.removeprefix(b"-").isdigit() or len(digits) > 20:
        raise Garbage("a number that is none")
    return int(digits)
