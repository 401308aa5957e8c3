"""An upstream's records written anew, where clients cannot be given them as they stand.

Owner names get the letters of each client's own question, by pointing to it. They and the data of
the oldest types are compressed no less than they came; in the data of newer types names are written
out (RFC 3597 section 4). Work and result are bounded by the largest message there can be.
"""

from __future__ import annotations

from staggerdns.wire.constants import MAX_MESSAGE, POINTER, Type, WireError
from staggerdns.wire.names import read_name, skip_name
from staggerdns.wire.question import Question
from staggerdns.wire.reply import (
    MAY_BE_COMPRESSED,
    Record,
    Reply,
    keeps_letters,
    names_start,
)

_TYPE_AND_CLASS = 4  # octets of a question behind its name
_LAST_OFFSET = 0x3FFF  # that a pointer leads to


class Rewriter:
    """Writes records of ``reply`` behind ``question``: ``body`` grows with each.

    ``start``: where that begins in the message that it is for, and ``name_end``: where the name of
    the question ends there, if they are not where they usually are.
    """

    __slots__ = ("body", "_reply", "_do", "_start", "_name_end", "_owners", "_written")

    def __init__(self, reply: Reply, question: Question, start: int = 0, name_end: int = 0) -> None:
        self.body = bytearray()
        self._reply = reply
        self._do = question.do
        self._start = start or question.end
        self._name_end = name_end or question.end - _TYPE_AND_CLASS
        self._owners: dict[int, int] = {}  # by number: where a name is, in whatever letters
        self._written: dict[int, int] = {}  # by position in the reply: where the name is now

    def write(self, record: Record, data: bytes | None = None) -> tuple[int, int]:
        """Write a record, with other ``data`` if any are given, in which names are written out;
        return the offsets of its type field and of its data in ``body``.

        Raises `WireError` when the records are too large for a message.
        """
        body, message = self.body, self._reply.message
        self._write_name(record.owner, is_owner=True)
        header = len(body)
        body += message[record.header : record.data]
        start = len(body)
        if data is not None:
            body += data
        elif record.named and record.type in MAY_BE_COMPRESSED:
            position = names_start(message, record)
            body += message[record.data : position]
            for _ in record.named:
                position = self._write_name(position, is_owner=False)
            body += message[position : record.end]
        else:
            body += expand_data(self._reply, record, do=self._do)
        body[start - 2 : start] = (len(body) - start).to_bytes(2, "big")
        if self._start + len(body) > MAX_MESSAGE:
            raise WireError("too large with its names written out")
        return header, start

    def _write_name(self, position: int, *, is_owner: bool) -> int:
        """Write the name at ``position`` of the reply; return the offset behind it there."""
        body, message, names = self.body, self._reply.message, self._reply.names
        end = 0
        while length := message[position]:
            if length >= POINTER:
                end = end or position + 2
                position = (length & 0x3F) << 8 | message[position + 1]
                continue
            node = names.by_offset[position][0]
            if node <= names.own:
                offset: int | None = self._name_end - names.sizes[node]
            else:
                offset = self._owners.get(node) if is_owner else self._written.get(position)
            if offset is not None:
                body += (POINTER << 8 | offset).to_bytes(2, "big")
                return end or skip_name(message, position)
            offset = self._start + len(body)
            if offset <= _LAST_OFFSET:
                self._owners.setdefault(node, offset)
                self._written[position] = offset
            following = position + length + 1
            label = message[position:following]
            body += names.ours.get(label, label)
            position = following
        body.append(0)
        return end or position + 1


def expand_data(reply: Reply, record: Record, *, do: bool) -> bytes:
    """Return a record's data with its names written out, and none of our letters in them.

    ``do``: the client may check signatures.
    """
    message = reply.message
    if not record.named:
        if record.type == Type.TXT and record.data == record.end and not do:
            return b"\0"  # RFC 6763 section 6.1
        return message[record.data : record.end]
    position = names_start(message, record)
    data = message[record.data : position]
    as_it_stands = keeps_letters(record.type, do=do)
    for _ in record.named:
        data += read_name(message, position)[0] if as_it_stands else reply.names.spelled(position)
        position = skip_name(message, position)
    return data + message[position : record.end]
