"""Whether clients get the IPv6 addresses of a name (docs/specification.rst, Families).

That is decided when a reply is made, from what is in the cache for both families and from the round
trips of TCP handshakes, and stored nowhere: the cache has the answer as it came. Only AAAA is ever
suppressed, and with it the hints that would lead to the same addresses.

                      nearer by more than margin and jitter, or IPv6 does not connect
    both families  ------------------------------------------------------------------>  IPv4 alone
                   <------------------------------------------------------------------
                      not nearer by margin less jitter any more

What was decided last is remembered, so that round trips near the margin do not turn it again and
again, and while they are measured anew. It is forgotten when nobody asks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from twisted.internet.interfaces import IReactorTime

from staggerdns.metrics import Metrics
from staggerdns.ranking.handshakes import NONE_CONNECTS, Handshakes
from staggerdns.ranking.order import LEAST_JITTER
from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.entry import Entry
from staggerdns.settings.policy import FamiliesSettings, OwnFamiliesSettings
from staggerdns.settings.values import AUTO
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer, LocalNegativeAnswer
from staggerdns.wire.constants import Rcode, Type
from staggerdns.wire.hintremoval import without_ipv6_hints
from staggerdns.wire.key import with_name, with_type
from staggerdns.wire.question import Question
from staggerdns.wire.sections import SectionsAnswer
from staggerdns.wire.serviceanswer import SERVICE_TYPES

MAX_DECISIONS: Final = 16_384
"""Names without IPv6 addresses that are remembered; the one not asked for the longest goes first.
"""
HELD_FOR: Final = 3600.0
"""Seconds for which a decision stands that cannot be made anew at once: whoever asks for a name now
and then gets no other family while the first look at it is under way again.
"""
NEARER, UNREACHABLE, BOTH = "ipv4_nearer", "ipv6_unreachable", "both"
"""What metrics call the decisions."""
_CONCERNED: Final = SERVICE_TYPES | {int(Type.AAAA)}


class Verdict(Enum):
    """What becomes of a name's IPv6 addresses; `WAIT`: they are given, while that is found out."""

    GIVE = auto()
    SUPPRESS = auto()
    WAIT = auto()


class Families:
    """Decides about the names in ``cache``; times are seconds of its ``clock``."""

    def __init__(self, cache: AnswerCache, clock: IReactorTime, metrics: Metrics) -> None:
        self._cache = cache
        self._clock = clock
        self._handshakes: Handshakes | None = None
        self._by_scope: Mapping[int, FamiliesSettings] = {}
        self._short_ttl = 0
        # Of the keys of names without IPv6 addresses, with the margin: until when, soonest first.
        self._decisions: OrderedDict[tuple[bytes, float], float] = OrderedDict()
        self._changes = {to: metrics.family_changes.cell(to) for to in (NEARER, UNREACHABLE, BOTH)}
        metrics.families_suppressed.read_from(self._count)

    def use(
        self,
        by_scope: Mapping[int, FamiliesSettings],
        handshakes: Handshakes | None,
        *,
        short_ttl: int,
    ) -> None:
        """Go by what is said of each scope from now on. ``short_ttl``: that of what may change
        soon. Without ``handshakes`` nothing is suppressed, and nothing remembered.
        """
        if handshakes is None:
            self._decisions.clear()
        self._by_scope = by_scope
        self._handshakes = handshakes
        self._short_ttl = short_ttl

    def margin(self, question: Question, own: OwnFamiliesSettings | None) -> float | None:
        """Return by how much IPv4 has to be nearer for a client that asks ``question``, `None` if
        it gets both families whatever they are. ``own``: what is said for this client.
        """
        if self._handshakes is None or question.do or question.qtype not in _CONCERNED:
            return None
        settings = self._by_scope.get(question.scope)
        prefer = None if own is None else own.prefer
        if settings is None or (prefer or settings.prefer) != AUTO:
            return None
        return settings.margin if own is None or own.margin is None else own.margin

    def suppressed(
        self, question: Question, answer: Answer, own: OwnFamiliesSettings | None, now: float
    ) -> bool:
        """Return whether IPv6 addresses in ``answer`` to ``question`` are not given to such a
        client, by what was decided last; nothing is decided or measured for this.
        """
        margin = self.margin(question, own)
        if margin is None:
            return False
        if not isinstance(answer, SectionsAnswer):
            return self._is_decided(question.key, margin, now)
        if answer.negative:
            return False
        left = without_ipv6_hints(
            answer,
            question,
            lambda name: self._is_decided(self._key_of(question, name), margin, now),
        )
        return left is not answer

    def chosen(
        self, question: Question, answer: Answer, ttl: int, margin: float, now: float
    ) -> tuple[Answer, int]:
        """Return what a client is given at ``now`` in the place of ``answer`` with ``ttl``."""
        if isinstance(answer, AddressPool):
            verdict = self.verdict(question.key, margin, now)
            if verdict is Verdict.GIVE:
                return answer, ttl
            ttl = min(ttl, self._short_ttl)
            if verdict is Verdict.WAIT:
                return answer, ttl
            return LocalNegativeAnswer(Rcode.NOERROR, len(question.name), ttl), ttl
        if not isinstance(answer, SectionsAnswer) or answer.negative:
            return answer, ttl
        verdicts = []

        def unwanted(name: bytes) -> bool:
            verdicts.append(self.verdict(self._key_of(question, name), margin, now))
            return verdicts[-1] is Verdict.SUPPRESS

        found = without_ipv6_hints(answer, question, unwanted)
        if any(verdict is not Verdict.GIVE for verdict in verdicts):
            ttl = min(ttl, self._short_ttl)
        return found, ttl

    def verdict(self, key: bytes, margin: float, now: float) -> Verdict:
        """Return what becomes of the addresses of an AAAA question."""
        pools = self._pools(key, now)
        if isinstance(pools, Verdict):
            return pools
        handshakes = self._handshakes
        assert handshakes is not None
        decisions, place = self._decisions, (key, margin)
        before = self._is_decided(key, margin, now)
        four, six = [handshakes.nearest(addresses, now) for addresses in pools]
        if four is None or six is None:
            return Verdict.SUPPRESS if before else Verdict.WAIT
        gain = six[0] - four[0]  # not a number if nobody connects, which is no gain
        band = max(LEAST_JITTER, four[1] + six[1])
        wanted = gain > (max(0.0, margin - band) if before else margin + band)
        if wanted:
            decisions[place] = now + HELD_FOR
            decisions.move_to_end(place)
            if len(decisions) > MAX_DECISIONS:
                decisions.popitem(last=False)
        else:
            decisions.pop(place, None)
        if wanted != before:
            to = BOTH if not wanted else UNREACHABLE if six[0] == NONE_CONNECTS else NEARER
            self._changes[to].value += 1
        return Verdict.SUPPRESS if wanted else Verdict.GIVE

    def _is_decided(self, key: bytes, margin: float, now: float) -> bool:
        """Return whether the addresses of an AAAA question were suppressed last."""
        return now < self._decisions.get((key, margin), 0.0)

    def _key_of(self, question: Question, target: bytes) -> bytes:
        """Return the key of the AAAA question for a target in the answer to ``question``. Where the
        name leads there by CNAMEs clients ask for the addresses under that name.
        """
        own = with_type(question.key, Type.AAAA)
        entry = self._cache.held(own)
        answer = None if entry is None else entry.answer
        chain = answer.cname_chain if isinstance(answer, AddressPool) else ()
        return own if chain and chain[-1].lower() == target else with_name(own, target)

    def _count(self) -> int:
        """Return how many decisions stand; forget the others."""
        decisions, now = self._decisions, self._clock.seconds()
        while decisions and next(iter(decisions.values())) <= now:
            decisions.popitem(last=False)
        return len(decisions)

    def _pools(self, key: bytes, now: float) -> tuple[list[bytes], list[bytes]] | Verdict:
        """Return the addresses of both families, IPv4 first, or what follows from there being none
        to compare.
        """
        cache = self._cache
        found = []
        for key_of_one in (with_type(key, Type.A), key):
            entry = cache.held(key_of_one)
            if entry is None or not _is_pool(entry) or not cache.freshness.is_servable(entry, now):
                return Verdict.GIVE  # one family is alone, or the other was not asked for yet
            ranker = cache.ranker_of(key_of_one)
            addresses = [] if ranker is None else ranker.probed(entry.answer)
            if len(addresses) < len(entry.answer.addresses):
                return Verdict.GIVE  # some must not be measured
            if not entry.complete or (entry.rankable and entry.sorted_at is None):
                return Verdict.WAIT
            found.append(addresses)
        four, six = found
        return four, six


def _is_pool(entry: Entry) -> bool:
    return isinstance(entry.answer, AddressPool)
