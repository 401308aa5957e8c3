"""The names of one reply as numbers: equal names have equal ones.

A name's number stands for its labels in lower case (RFC 4343). 0 is the root; 1 to `NameTable.own`
are the question's name and those above it, shortest first. Each label of the message is read once,
however many pointers lead to it.

Upstreams are asked in random letters, which no client must be given. Some upstreams write names out
where others would compress them: in the letters of our question, or of an earlier one that they
answered from a cache. Therefore

* the end that a name shares with the question is taken for a pointer to it, and
* labels of the question that stand elsewhere with its capitals, as in front of another zone
  (RFC 6672 section 2.2), are taken in lower case.
"""

from __future__ import annotations

from staggerdns.wire.constants import HEADER_SIZE, MAX_LABEL, MAX_NAME, POINTER, WireError
from staggerdns.wire.names import MAX_HOPS

NameAt = tuple[int, int, bool]
"""Of the name that begins at an offset: its number, how many pointers it goes through, and whether
the end that it shares with the question is written out.
"""
_ROOT: NameAt = (0, 0, False)


class NameTree:
    """What the tables of all replies to one question begin with: its own name, in wire form."""

    __slots__ = ("name", "labels", "parents", "sizes", "children", "by_offset")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.labels: list[tuple[int, int, bytes]] = []
        position = 0
        while length := name[position]:
            after = position + length + 1
            self.labels.append((position, after, name[position:after]))
            position = after
        self.parents = [0]
        self.sizes = [1]
        self.children: dict[tuple[int, bytes], int] = {}
        self.by_offset: dict[int, NameAt] = {HEADER_SIZE + position: _ROOT}
        for node, (start, _, label) in enumerate(reversed(self.labels)):
            self.children[node, label] = node + 1
            self.parents.append(node)
            self.sizes.append(self.sizes[node] + len(label))
            self.by_offset[HEADER_SIZE + start] = (node + 1, 0, False)


class NameTable:
    """The names that have been read of ``message``, whose question section is in lower case.

    ``sent``: the question's name as the upstream repeated it; `None` when it left the question out.
    ``ours``: labels with capitals, as we sent them, and their lower case. ``question``: what a name
    is that is nothing but a pointer to the question's. ``odd_pointer``: some pointer led to where
    no record's name begins.

    Of the name read last: ``shares``: the end that it shares with the question is written out;
    ``has_ours``: its capitals may be ours.
    """

    __slots__ = (
        "own",
        "parents",
        "sizes",
        "by_offset",
        "shares",
        "ours",
        "has_ours",
        "odd_pointer",
        "question",
        "_message",
        "_lower",
        "_name",
        "_children",
    )

    def __init__(self, message: bytes, tree: NameTree, sent: bytes | None) -> None:
        self._message = message
        self._lower = message.lower()
        self._name = tree.name
        self.own = len(tree.labels)
        self.question: NameAt = (self.own, 1, False)
        self.parents = tree.parents.copy()
        self.sizes = tree.sizes.copy()
        self._children = tree.children.copy()
        self.by_offset: dict[int, NameAt] = {}
        self.ours: dict[bytes, bytes] = {}
        if sent is not None:
            self.by_offset = tree.by_offset.copy()
            if sent != tree.name:
                for start, after, label in tree.labels:
                    if sent[start:after] != label:
                        self.ours[sent[start:after]] = label
        self.shares = self.has_ours = self.odd_pointer = False

    def read(self, position: int, limit: int = 0, hops: int = 0) -> tuple[int, int]:
        """Check the name at ``position``; return its number and the offset behind it.

        A pointer leads to an earlier name (RFC 1035 section 4.1.4). Raises `WireError` for what is
        no legal name, `IndexError` for one that is cut. ``limit``: where the name has to end at the
        latest, 0 for anywhere; ``hops``: the pointers that led there.
        """
        message, by_offset = self._message, self.by_offset
        first = position
        starts: list[int] = []
        while 0 < (length := message[position]) <= MAX_LABEL:
            if hops and position in by_offset:
                break
            starts.append(position)
            position += length + 1
            if position - first > MAX_NAME:
                raise WireError("name longer than 255 octets")
        end = position + 1 + (length >= POINTER)
        if limit and end > limit:
            raise WireError("name runs over its end")
        if length == 0:
            rest = by_offset[position] = _ROOT
        elif length >= POINTER:
            rest = by_offset[position] = self._pointed(position, first, hops)
        elif length > MAX_LABEL:
            raise WireError("reserved label type")
        else:
            rest = by_offset[position]
        if not starts:
            self.shares, self.has_ours = rest[2], False
            return rest[0], end
        return self._add_labels(starts, rest, position), end

    def _add_labels(self, starts: list[int], rest: NameAt, end: int) -> int:
        """Add the labels that begin at ``starts`` and end at ``end``, in front of ``rest``.

        Returns the number of the whole name.
        """
        lower, own, children, by_offset = self._lower, self.own, self._children, self.by_offset
        node, pointers, shares = rest
        message, ours, has_ours = self._message, self.ours, False
        capitals = message[starts[0] : end] != lower[starts[0] : end]
        for start in reversed(starts):
            label = lower[start:end]
            child = children.get((node, label))
            node = child if child is not None else self._child(node, label)
            if node <= own:
                shares = True
            if capitals and not has_ours:
                written = message[start:end]
                has_ours = written in ours or (node <= own and written != label)
            by_offset[start] = (node, pointers, shares)
            end = start
        self.shares, self.has_ours = shares, has_ours
        return node

    def _pointed(self, position: int, first: int, hops: int) -> NameAt:
        """Return where the pointer at ``position`` leads, from a name that begins at ``first``."""
        message = self._message
        target = (message[position] & 0x3F) << 8 | message[position + 1]
        known = self.by_offset.get(target)
        if known is None:
            known = self._read_target(target, first, hops)
        node, pointers, shares = known
        if pointers == MAX_HOPS:
            raise WireError("too many compression pointers in one name")
        return node, pointers + 1, shares

    def _read_target(self, target: int, first: int, hops: int) -> NameAt:
        """Return what is where a pointer leads to, and no record's name begins.

        Others take any name that stands before, as in the data of types that are opaque to us.
        """
        if not HEADER_SIZE <= target < first or hops == MAX_HOPS:
            raise WireError("compression pointer to no earlier name")
        self.odd_pointer = True
        self.read(target, first, hops + 1)
        return self.by_offset[target]

    def _child(self, node: int, label: bytes) -> int:
        size = self.sizes[node] + len(label)
        if size > MAX_NAME:
            raise WireError("name longer than 255 octets")
        child = self._children[node, label] = len(self.parents)
        self.parents.append(node)
        self.sizes.append(size)
        return child

    def number(self, name: bytes) -> int:
        """Return the number of an uncompressed ``name`` from elsewhere. Raises `WireError` when it
        is too long.
        """
        name = name.lower()
        starts = []
        position = 0
        while length := name[position]:
            starts.append(position)
            position += length + 1
        node = 0
        for start in reversed(starts):
            label = name[start : start + name[start] + 1]
            child = self._children.get((node, label))
            node = self._child(node, label) if child is None else child
        return node

    def above(self, node: int) -> list[int]:
        """Return the numbers of a name and of all that it ends with, the root last."""
        found = [node]
        while node:
            node = self.parents[node]
            found.append(node)
        return found

    def spelled(self, position: int) -> bytes:
        """Return the uncompressed name at a position that was read, as the upstream spells it.

        What is the question's, or may be in our letters, is in lower case.
        """
        message, by_offset, own = self._message, self.by_offset, self.own
        parts: list[bytes] = []
        while length := message[position]:
            if length >= POINTER:
                position = (length & 0x3F) << 8 | message[position + 1]
                continue
            node = by_offset[position][0]
            if node <= own:
                parts.append(self._name[-self.sizes[node] :])
                return b"".join(parts)
            following = position + length + 1
            label = message[position:following]
            parts.append(self.ours.get(label, label))
            position = following
        parts.append(b"\0")
        return b"".join(parts)
