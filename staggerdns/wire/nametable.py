"""The names of one reply as numbers: equal names have equal ones.

A name's number stands for its labels in lower case (RFC 4343): 0 is the root, 1 to `own` are the
question's name and what it ends with, shortest first. Each label of the message is looked at once,
however many pointers lead to it.

Upstreams are asked in random letters. Some write these out where others would compress, or put
labels of the question in front of other names (RFC 6672 section 2.2). A label with the capitals
of the question as the upstream repeated it is *ours*, and no client is given it so. A place is
*copied* when the name from there on ends the question in just these letters.
"""

from __future__ import annotations

from staggerdns.wire.constants import HEADER_SIZE, MAX_LABEL, MAX_NAME, WireError
from staggerdns.wire.names import MAX_HOPS
from staggerdns.wire.question import Question

_POINTER = 0xC0

Place = tuple[int, int, bool, bool]
"""Of a name that begins somewhere: its number, the pointers on its way, whether it is copied, and
whether labels of the question are written out in it.
"""
_ROOT: Place = (0, 0, True, False)


class _Tree:
    """What the tables of all replies to one question begin with."""

    __slots__ = ("labels", "parents", "sizes", "children", "places")

    def __init__(self, name: bytes) -> None:
        self.labels: list[tuple[int, int, bytes]] = []
        position = 0
        while length := name[position]:
            after = position + length + 1
            self.labels.append((position, after, name[position:after]))
            position = after
        self.parents = [0]
        self.sizes = [1]
        self.children: dict[tuple[int, bytes], int] = {}
        self.places: dict[int, Place] = {HEADER_SIZE + position: _ROOT}
        for node, (start, _, label) in enumerate(reversed(self.labels)):
            self.children[node, label] = node + 1
            self.parents.append(node)
            self.sizes.append(self.sizes[node] + len(label))
            self.places[HEADER_SIZE + start] = (node + 1, 0, True, False)


class NameTable:
    """The names that have been read of ``message``, whose question section is in lower case.

    ``sent``: the question's name as the upstream repeated it; `None` when it left the question out.
    ``ours``: labels as we sent them, with capitals. Of the name read last, ``shares`` says whether
    what the question ends with is written out in it, ``has_ours`` whether labels of ours are.
    ``strange``: a pointer in any name led to where no name of a record begins. ``question`` is what
    a name is that is nothing but a pointer to the question's.
    """

    __slots__ = (
        "own",
        "parents",
        "sizes",
        "places",
        "shares",
        "ours",
        "has_ours",
        "strange",
        "question",
        "_message",
        "_lower",
        "_sent",
        "_name",
        "_children",
    )

    def __init__(self, message: bytes, question: Question, sent: bytes | None) -> None:
        self._message = message
        self._lower = message.lower()
        self._name = question.name
        tree = question.tree
        if tree is None:
            tree = question.tree = _Tree(question.name)
        self.own = len(tree.labels)
        self.question: Place = (self.own, 1, True, False)
        self.parents = tree.parents.copy()
        self.sizes = tree.sizes.copy()
        self._children = tree.children.copy()
        self.places: dict[int, Place] = {}
        self.ours: dict[bytes, bytes] = {}
        self._sent = question.name
        if sent is not None:
            self.places = tree.places.copy()
            if sent != question.name:
                self._sent = sent
                for start, after, label in tree.labels:
                    if sent[start:after] != label:
                        self.ours[sent[start:after]] = label
        self.shares = self.has_ours = self.strange = False

    def read(self, position: int, limit: int = 0, hops: int = 0) -> tuple[int, int]:
        """Check the name at ``position``; return its number and the offset behind it.

        A pointer leads to an earlier name (RFC 1035 section 4.1.4). Raises `WireError` for what is
        no legal name, `IndexError` for one that is cut. ``limit``: where the name has to end at the
        latest, 0 for anywhere; ``hops``: the pointers that led there.
        """
        message, places = self._message, self.places
        first = position
        starts: list[int] = []
        while 0 < (length := message[position]) <= MAX_LABEL:
            if hops and position in places:
                break
            starts.append(position)
            position += length + 1
            if position - first > MAX_NAME:
                raise WireError("name longer than 255 octets")
        end = position + 1 + (length >= _POINTER)
        if limit and end > limit:
            raise WireError("name runs over its end")
        if length == 0:
            rest = places[position] = _ROOT
        elif length >= _POINTER:
            rest = places[position] = self._pointed(position, first, hops)
        elif length > MAX_LABEL:
            raise WireError("reserved label type")
        else:
            rest = places[position]
        if not starts:
            self.shares, self.has_ours = rest[3], False
            return rest[0], end
        return self._add_labels(starts, rest, position), end

    def _add_labels(self, starts: list[int], rest: Place, end: int) -> int:
        """Take the labels that begin at ``starts`` and end at ``end``, in front of ``rest``."""
        lower, own, children, places = self._lower, self.own, self._children, self.places
        node, way, copied, shares = rest
        written = self._message[starts[0] : end]
        ours = self.ours if written != lower[starts[0] : end] else None
        has_ours = False
        for start in reversed(starts):
            label = lower[start:end]
            child = children.get((node, label))
            node = child if child is not None else self._child(node, label)
            if node > own:
                copied = False
            else:
                shares = True
                copied = copied and self._is_copied(node, self._message[start:end])
            if ours and self._message[start:end] in ours:
                has_ours = True
            places[start] = (node, way, copied, shares)
            end = start
        self.shares, self.has_ours = shares, has_ours
        return node

    def _is_copied(self, node: int, label: bytes) -> bool:
        place = len(self._name) - self.sizes[node]
        return self._sent[place : place + len(label)] == label

    def _pointed(self, position: int, first: int, hops: int) -> Place:
        """Return where the pointer at ``position`` leads, from a name that begins at ``first``."""
        message = self._message
        target = (message[position] & 0x3F) << 8 | message[position + 1]
        known = self.places.get(target)
        if known is None:
            known = self._stranger(target, first, hops)
        node, way, copied, shares = known
        if way == MAX_HOPS:
            raise WireError("too many compression pointers in one name")
        return node, way + 1, copied, shares

    def _stranger(self, target: int, first: int, hops: int) -> Place:
        """Return what is at a place that a pointer leads to, and no record's name begins at.

        Others take any name that stands before, as in the data of types that are opaque to us.
        """
        if not HEADER_SIZE <= target < first or hops == MAX_HOPS:
            raise WireError("compression pointer to no earlier name")
        self.strange = True
        self.read(target, first, hops + 1)
        return self.places[target]

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

    def is_within(self, node: int, zone: int) -> bool:
        """Say whether a name is another's, or below it."""
        size = self.sizes[zone]
        while self.sizes[node] > size:
            node = self.parents[node]
        return node == zone

    def above(self, node: int) -> list[int]:
        """Return the numbers of a name and of all that it ends with, the root last."""
        found = [node]
        while node:
            node = self.parents[node]
            found.append(node)
        return found

    def spelled(self, position: int) -> bytes:
        """Return the uncompressed name at a place that was read, as the upstream spells it.

        Labels of ours are in lower case.
        """
        message = self._message
        parts: list[bytes] = []
        while length := message[position]:
            if length >= _POINTER:
                position = (length & 0x3F) << 8 | message[position + 1]
                continue
            following = position + length + 1
            label = message[position:following]
            parts.append(self.ours.get(label, label))
            position = following
        parts.append(b"\0")
        return b"".join(parts)
