"""What of a reply belongs to its question (RFC 2181 section 5.4.1); everything else is left out.

The answer section holds the chain of CNAME and DNAME records that leads from the question's name to
the records asked for, and these; the authority section what zones say that enclose a name of the
chain; the additional section what is known of the names that those two name. Signatures stay with
what they cover, for those who asked for them. So an upstream can tell clients nothing about
names that they did not ask for and were not led to.
"""

from __future__ import annotations

from collections.abc import Iterable

from staggerdns.wire.constants import MAX_TTL, Type, WireError
from staggerdns.wire.dropped import UNRELATED as UNRELATED_ADDRESS
from staggerdns.wire.question import Question
from staggerdns.wire.reply import DNSSEC, UNRELATED, Record, Reply

MAX_CNAME_CHAIN = 32
"""CNAME links followed in one answer; a longer chain is refused."""

_ONE_PER_NAME = frozenset((Type.CNAME, Type.SOA, Type.DNAME))  # RFC 2181 section 10.1
_FOLLOWED_ALL_THE_WAY = frozenset((Type.RRSIG, Type.ANY))  # there may be some at every link
_OF_AUTHORITY = frozenset((Type.SOA, Type.NS, Type.DS))
_DENIALS = frozenset((Type.NSEC, Type.NSEC3))
_FOR_DO_ALONE = frozenset((Type.RRSIG, Type.NSEC, Type.NSEC3, Type.DS))
_HINTS = frozenset((Type.A, Type.AAAA, Type.SRV, Type.SVCB, Type.HTTPS))
_MORE_HINTS: dict[int, frozenset[int]] = {
    Type.PTR: frozenset((Type.TXT,)),  # RFC 6763 section 12.1
    Type.SVCB: frozenset((Type.CNAME,)),  # RFC 9460 section 4.2
    Type.HTTPS: frozenset((Type.CNAME,)),
}
_NAMES_NO_HOST = frozenset((Type.SOA, Type.SIG, Type.RRSIG, Type.NSEC, 17, 30))  # RP, NXT
_SERVICES = frozenset((Type.SVCB, Type.HTTPS))


class Path:
    """Where a question leads.

    ``cname_chain``: the targets of its CNAMEs in order, as they are spelled; ``ttl``: the least of
    their records; ``names``: the numbers of all its names; ``found``: the records asked for.
    """

    __slots__ = ("cname_chain", "ttl", "names", "found")

    def __init__(self) -> None:
        self.names: list[int] = []
        self.cname_chain: list[bytes] = []
        self.ttl = MAX_TTL
        self.found: list[Record] = []


class _Sets:
    """The sets of records that stay, by owner and type, and the records that are one alone."""

    __slots__ = ("_sets", "_single")

    def __init__(self) -> None:
        self._sets: set[tuple[int, int]] = set()
        self._single: dict[tuple[int, int], Record] = {}

    def add(self, record: Record) -> None:
        """Keep a record and all of its set; of some types a set has one."""
        key = record.name, record.type
        if record.type in _ONE_PER_NAME:
            self._single.setdefault(key, record)
        else:
            self._sets.add(key)

    def keeps(self, record: Record, message: bytes, *, signed: bool) -> bool:
        """Return whether a record stays; ``signed``: whether signatures do."""
        key = record.name, record.type
        if key in self._sets:
            return True
        if signed and record.type == Type.RRSIG:
            covered = record.name, covered_type(message, record)
            return covered in self._sets or covered in self._single
        return self._single.get(key) is record


def covered_type(message: bytes, signature: Record) -> int:
    """Return the type that a RRSIG record covers, 0 when it is too short to say."""
    if signature.end - signature.data < 2:
        return 0
    return message[signature.data] << 8 | message[signature.data + 1]


def scrub_answers(reply: Reply, question: Question) -> Path:
    """Leave in the answer section what ``question`` leads to; return the way through it.

    Raises `WireError` for a chain that loops or is longer than `MAX_CNAME_CHAIN`.
    """
    path = Path()
    if _is_plain(reply, question, path):
        return path
    names, qtype = reply.names, question.qtype
    aliases: dict[int, Record] = {}
    redirects: dict[int, Record] = {}
    wanted: dict[int, list[Record]] = {}
    for record in reply.answers:
        rtype = record.type
        if qtype in (rtype, Type.ANY):
            wanted.setdefault(record.name, []).append(record)
        if rtype == Type.CNAME:
            aliases.setdefault(record.name, record)
        elif rtype == Type.DNAME:
            redirects.setdefault(record.name, record)
    kept = _Sets()
    node, spelled = names.own, question.name
    nodes = path.names = [node]
    while True:
        here = wanted.get(node, [])
        alias = aliases.get(node)
        target = names.spelled(alias.data) if alias is not None else b""
        redirect = _nearest(reply, redirects, node) if redirects else None
        if redirect is not None:  # RFC 6672 section 2.2
            made = spelled[: -names.sizes[redirect.name]] + names.spelled(redirect.data)
            target = target or (b"" if here else made)  # some leave the CNAME out
            if target and names.number(made) == names.number(target):
                kept.add(redirect)
                path.ttl = min(path.ttl, redirect.ttl)
        for record in here:
            kept.add(record)
        path.found += here[:1] if qtype in _ONE_PER_NAME else here
        if not target or (here and qtype not in _FOLLOWED_ALL_THE_WAY):
            break
        if alias is not None:
            kept.add(alias)
            path.ttl = min(path.ttl, alias.ttl)
        if len(path.cname_chain) == MAX_CNAME_CHAIN:
            raise WireError("CNAME chain too long, or a loop")
        path.cname_chain.append(target)
        spelled = target
        node = alias.named[0] if alias is not None else names.number(target)
        nodes.append(node)
    _keep(reply, reply.answers, kept, do=question.do)
    return path


def _is_plain(reply: Reply, question: Question, path: Path) -> bool:
    """Fill ``path`` if all answers are of the question's own name, as most are; return whether."""
    own, qtype = reply.names.own, question.qtype
    found = []
    for record in reply.answers:
        if record.name != own:
            return False
        if record.type == qtype:
            found.append(record)
        elif (
            not question.do
            or record.type != Type.RRSIG
            or covered_type(reply.message, record) != qtype
        ):
            return False
    if (not found and reply.answers) or (len(found) > 1 and qtype in _ONE_PER_NAME):
        return False
    path.names.append(own)
    path.found = found
    return True


def _nearest(reply: Reply, redirects: dict[int, Record], node: int) -> Record | None:
    """Return the DNAME record nearest above a name."""
    for above in reply.names.above(node)[1:]:
        if above in redirects:
            return redirects[above]
    return None


def scrub_rest(reply: Reply, question: Question, path: Path) -> None:
    """Leave in the other sections what belongs to the names of ``path`` and to the answers."""
    authority = reply.authority
    is_plain = (
        len(authority) == 1
        and authority[0].type == Type.SOA
        and authority[0].name <= reply.names.own
    )
    if authority and not is_plain:
        _scrub_authority(reply, question, path)
    if reply.additional:
        _scrub_additional(reply, question, path)


def _scrub_authority(reply: Reply, question: Question, path: Path) -> None:
    names, do = reply.names, question.do
    enclosing = {above for node in path.names for above in names.above(node)}
    kept = _Sets()
    zones: set[int] = set()
    for record in reply.authority:
        if record.type in _OF_AUTHORITY and record.name in enclosing:
            if do or record.type != Type.DS:
                kept.add(record)
            if record.type == Type.SOA:
                zones.add(record.name)
        elif do and record.type == Type.RRSIG and record.named:
            zones.update(enclosing.intersection(record.named))
    if do:
        inside = dict.fromkeys(zones, True)
        for record in reply.authority:
            if record.type in _DENIALS and _is_inside(reply, record.name, inside):
                kept.add(record)
    _keep(reply, reply.authority, kept, do=do)


def _is_inside(reply: Reply, node: int, inside: dict[int, bool]) -> bool:
    """Return whether a name is below one of ``inside``; note what is found there."""
    way = []
    while node not in inside:
        way.append(node)
        if not node:
            break
        node = reply.names.parents[node]
    found = inside.get(node, False)
    inside.update(dict.fromkeys(way, found))
    return found


def _scrub_additional(reply: Reply, question: Question, path: Path) -> None:
    hints = _HINTS | _MORE_HINTS.get(question.qtype, frozenset())
    by_owner: dict[int, list[Record]] = {}
    for record in reply.additional:
        if record.type in hints:
            by_owner.setdefault(record.name, []).append(record)
    kept = _Sets()
    todo = [*path.names, *_hosts(reply.answers)]
    todo += _hosts(record for record in reply.authority if record.type == Type.NS)
    while todo:
        for record in by_owner.pop(todo.pop(), ()):
            kept.add(record)
            todo += _hosts((record,))
    _keep(reply, reply.additional, kept, do=question.do)


def _hosts(records: Iterable[Record]) -> list[int]:
    """Return the numbers of the names that the data of ``records`` leads clients to."""
    found: list[int] = []
    for record in records:
        if record.type in _SERVICES:  # "." is the owner itself (RFC 9460 section 2.5)
            found += (node or record.name for node in record.named)
        elif record.type not in _NAMES_NO_HOST:
            found += record.named
    return found


def _keep(reply: Reply, section: list[Record], kept: _Sets, *, do: bool) -> None:
    """Leave in a section what is to be kept, and count the rest."""
    message = reply.message
    left = [record for record in section if not kept.keeps(record, message, signed=do)]
    if not left:
        return
    unasked = 0 if do else sum(record.type in _FOR_DO_ALONE for record in left)
    reply.strayed(DNSSEC, unasked)
    reply.strayed(UNRELATED, len(left) - unasked)
    if section is reply.answers:
        reply.drop(left, UNRELATED_ADDRESS)
    section[:] = [record for record in section if kept.keeps(record, message, signed=do)]
