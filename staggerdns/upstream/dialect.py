"""How one upstream is asked, and what a reply must show to be believed: a theory of operation.

An ID and a port are little to tell a forged reply by. So a query also has the letters of its name
in random case (0x20) and carries a DNS Cookie (RFC 7873). Not every server repeats the one or
knows the other, or EDNS at all (RFC 8906). What an upstream's replies show is remembered here, each
kind in a module of its own: `Case`, `Cookies`, `Edns`. What an exchange does about a reply:

    reply                                        what follows
    over UDP: TC                                 over TCP (RFC 7766 section 5)        ``truncated``
    over UDP: letters not ours                   doubted: a check over TCP            ``case``
    over UDP: no question section                doubted likewise                     ``question``
    over UDP: no cookie, though it has given one doubted likewise                     ``cookie``
    BADCOOKIE                                    once more with the new cookie        ``badcookie``
    an error that may be about EDNS              one level lower                      ``edns``
    no answer to random case, before any was     in lower case                        ``lowercase``
    nothing at all, before the level is proven   lower levels beside it               ``silence``
    nothing at all, before the case is proven    lower case beside it                 ``silence``
    anything else                                it is the reply

A doubted reply is kept while TCP is asked; see `SideQueries` for when it is used. All else happens
within the time of the client's question, so that learning costs no answer. What was found not to
work is tried anew after `MEMORY` seconds with a query of our own (``probe``), a copy of one that
was just answered, whose reply only teaches. A question with DO goes without OPT only when nobody
else can answer it (`Exchange.unsigned`): its answer lacks the signatures.
"""

from __future__ import annotations

from typing import Protocol

from staggerdns.upstream.case import Case
from staggerdns.upstream.cookies import Cookies
from staggerdns.upstream.edns import BARE, FULL, PLAIN, Edns
from staggerdns.upstream.entropy import Entropy
from staggerdns.wire.constants import (
    AD,
    CD,
    EDNS_DO,
    EDNS_UDP_SIZE,
    HEADER_SIZE,
    OPT_SIZE,
    RCODE,
    RD,
    SOUND,
    TC,
    Rcode,
    Type,
)
from staggerdns.wire.edns import extended_errors, full_rcode
from staggerdns.wire.question import Question

NO_EDNS = "no edns"
"""Why a question with DO is not asked, or not once more: without OPT there are no signatures."""
DOUBTS = frozenset(("case", "cookie", "question"))
"""Why a reply over UDP may be forged."""
_HEAD = HEADER_SIZE - 2  # a query is kept without its ID
_TC_OCTET = TC >> 8
_ADDITIONAL_COUNT = 9  # where its low octet stands in a query


class Asked(Protocol):
    """What a dialect has to know of an exchange; see there."""

    question: Question
    query: bytes
    started: float
    level: int
    optioned: bool
    complained: int
    lowered: bool
    renewed: bool
    unsigned: bool


def _heads(flags: int, additional: int) -> tuple[bytes, bytes]:
    """Return flags and counts of queries without and with CD."""
    return tuple(  # type: ignore[return-value]  # there are two
        (flags | checking).to_bytes(2, "big") + bytes((0, 1, 0, 0, 0, 0, 0, additional))
        for checking in (0, CD)
    )


# AD, so that the upstream says whether it validated (RFC 6840 section 5.7).
_HEADS = (_heads(RD, 0), _heads(RD | AD, 1), _heads(RD | AD, 1))


def is_positive(message: bytes) -> bool:
    """Say whether a reply has answers and no error, or would have if it were not truncated."""
    sound = not message[3] & RCODE
    return sound and (message[6:8] != b"\0\0" or bool(message[2] & _TC_OCTET))


class Dialect:
    """What one upstream copes with. ``case``, ``cookies``: whether they are wanted at all.

    Times are seconds of the caller's clock. ``stream_works``: a reply has come over a connection.
    """

    def __init__(self, entropy: Entropy, *, case: bool, cookies: bool) -> None:
        self._entropy = entropy
        self.case = Case(wanted=case)
        self.cookies = Cookies(entropy, wanted=cookies)
        self.edns = Edns()
        self.stream_works = False
        self._host = ""
        self._opts: tuple[tuple[bytes, bytes], ...] = ()  # by level, without and with DO
        self._make_opts()
        self._probe_at = self.edns.probe_at
        self._is_settled = False  # another usual reply would tell nothing new

    def compose(
        self, question: Question, now: float, level: int | None = None, *, lowered: bool = False
    ) -> bytes:
        """Return a query without its ID, as this upstream should get it at ``now``.

        ``level``: of EDNS, if not the usual one; ``lowered``: the letters as they are.
        """
        if now >= self._probe_at:
            self._is_settled = False
        section = question.section
        if self.case.is_mixed and not lowered:
            section = question.in_random_case(self._entropy.take_bytes(len(section)))
        if level is None:
            level = self.edns.level
        return _HEADS[level][question.cd] + section + self._opts[level][question.do]

    def prepare(self, asked: Asked, reason: str, now: float) -> None:
        """Phrase a query anew after that doubt: ``badcookie``, ``edns`` or ``lowercase``."""
        if reason == "badcookie":
            asked.renewed = True
        elif reason == "lowercase":
            asked.lowered = True
        else:
            sent = sent_level(asked)
            asked.complained = max(asked.complained, sent)
            asked.level = sent - 1
        asked.optioned = False
        asked.query = self.compose(asked.question, now, asked.level, lowered=asked.lowered)

    def is_as_usual(self, query: bytes, message: bytes, size: int) -> bool:
        """Say whether a reply gives no reason to look closer: `doubt` would find none.

        That is so for most. ``size``: of the question section, in bytes.
        """
        if not self._is_settled or message[2] & _TC_OCTET or message[3] & RCODE not in SOUND:
            return False
        if message[HEADER_SIZE : HEADER_SIZE + size] != query[_HEAD : _HEAD + size]:
            return False
        cookies = self.cookies
        if cookies.server:
            return cookies.ours in message
        return not cookies.wanted or cookies.ours not in message

    def doubt(
        self, asked: Asked, message: bytes, now: float, *, over_stream: bool, believed: bool = False
    ) -> str:
        """Return why the ``message`` that replied is not the last word, or nothing.

        ``truncated`` and `DOUBTS`: ask over TCP; `NO_EDNS`: give up; others: see `prepare`.
        ``believed``: TCP could not be asked, so that the doubts do not count.
        """
        self._is_settled = False
        section = asked.question.section
        sent = asked.query[_HEAD : _HEAD + len(section)]
        repeated = message[HEADER_SIZE : HEADER_SIZE + len(section)] == sent
        mixed = sent != section
        if not over_stream and not believed:
            if message[2] & _TC_OCTET:
                return "truncated"
            if not message[5]:
                return "question"
            if mixed and not repeated:
                return "case"
        if repeated:
            self.case.repeated()
        elif over_stream and mixed and message[5]:
            self.case.missed(now)
        rcode = full_rcode(message)
        level = sent_level(asked)
        about_the_name = rcode not in SOUND and bool(extended_errors(message))
        reason = ""
        if level == FULL and self.cookies.wanted and not believed:
            reason = self._cookie_problem(asked, message, rcode, over_stream=over_stream)
        if not reason and not about_the_name and self.edns.complains(rcode, level, now):
            signed = asked.question.do and not asked.unsigned
            reason = NO_EDNS if signed and level == BARE else "edns"
        positive = rcode == Rcode.NOERROR and is_positive(message)
        if not reason and not positive and not about_the_name and not asked.lowered:
            reason = "lowercase" if mixed and self.case.doubts_denials else ""
        if not reason:
            proves_case = positive and mixed and repeated and not over_stream
            self._learn(asked, rcode, now, positive=positive, proves_case=proves_case)
        return reason

    def _learn(
        self, asked: Asked, rcode: int, now: float, *, positive: bool, proves_case: bool
    ) -> None:
        """Take note of the last word on a question."""
        if asked.lowered:
            self.case.in_lower_case(asked.started, now, positive=positive)
        elif proves_case:
            self.case.answered()
        level = sent_level(asked)
        if rcode in SOUND:
            self.edns.good(level, asked.complained, asked.started, now)
        self._look_round(level)

    def trusts(self, doubt: str) -> bool:
        """Say whether a reply doubted for that may be used when TCP cannot be asked: not where the
        upstream has shown that TCP works, or that it does better over UDP.
        """
        if self.stream_works:
            return False
        if doubt == "case":
            return not self.case.is_proven
        return doubt == "cookie" or not self.cookies.server

    def uncleared(self, doubt: str, now: float) -> None:
        """Note that TCP could not be asked about a doubted reply."""
        if doubt == "case":
            self.case.missed(now)
        elif doubt == "cookie":
            self.cookies.missed()
            self._make_opts()
        self._look_round(PLAIN)
        self._is_settled = False

    @property
    def is_unsure(self) -> bool:
        """Whether silence may be about what is usually sent: its level or its letters."""
        edns, case = self.edns, self.case
        return edns.proven < edns.level or (case.is_mixed and not case.is_proven)

    def unsure(self, asked: Asked) -> bool:
        """Say whether silence of the upstream may be about the level of the query."""
        proven = self.edns.proven
        return proven < self.edns.level and proven < sent_level(asked)

    def unsure_of_case(self, asked: Asked) -> bool:
        """Say whether silence of the upstream may be about the letters of the query."""
        return self.case.doubts_denials and not asked.lowered

    # Probes.

    def probe(self, question: Question, now: float) -> tuple[str, int, bytes] | None:
        """Return what to try anew with a question that was just answered: the kind of the probe,
        the level of EDNS and the query; `None` if nothing is due.
        """
        if now >= self.case.probe_at:
            level = self.edns.level
            section = question.in_random_case(self._entropy.take_bytes(len(question.section)))
            query = _HEADS[level][question.cd] + section + self._opts[level][question.do]
            return ("case", level, query) if section != question.section else None
        if now >= self.edns.probe_at:
            level = self.edns.level + 1
            return "edns", level, self.compose(question, now, level)
        return None

    def probed(self, kind: str, asked: Asked, message: bytes, now: float) -> None:
        """Note the reply to a probe, empty when none has come."""
        good = bool(message) and is_positive(message) and full_rcode(message) == Rcode.NOERROR
        if kind == "case":
            size = len(asked.question.section)
            sent = asked.query[_HEAD : _HEAD + size]
            good = good and message[HEADER_SIZE : HEADER_SIZE + size] == sent
            self.case.probed(now, good=good)
        else:
            self.edns.probed(asked.level, now, good=good)
        self._look_round(PLAIN)

    # The rest.

    def moved(self, host: str) -> None:
        """Take a new cookie if we are at another address, ``host``, now: the old one would tell
        the upstream that we are the same (RFC 9018 section 3).
        """
        if host != self._host:
            if self._host:
                self.cookies.renew()
                self._make_opts()
            self._host = host

    def _cookie_problem(
        self, asked: Asked, message: bytes, rcode: int, *, over_stream: bool
    ) -> str:
        if self.cookies.learn(message):
            self._make_opts()
            if rcode == Rcode.BADCOOKIE and not over_stream:
                return "cookie" if asked.renewed else "badcookie"
        elif self.cookies.server:
            if not over_stream:
                return "cookie"
            self.cookies.missed()
            self._make_opts()
        return ""

    def _look_round(self, level: int) -> None:
        self._probe_at = min(self.case.probe_at, self.edns.probe_at)
        proven = level <= self.edns.proven
        self._is_settled = proven and self.edns.is_settled and self.case.is_settled

    def _make_opts(self) -> None:
        kind = b"\0" + Type.OPT.to_bytes(2, "big") + EDNS_UDP_SIZE.to_bytes(2, "big")
        made = [(b"", b"")]
        for option in (b"", self.cookies.option):
            size = len(option).to_bytes(2, "big")
            made.append(
                (
                    kind + bytes(4) + size + option,
                    kind + EDNS_DO.to_bytes(4, "big") + size + option,
                )
            )
        self._opts = tuple(made)


def sent_level(asked: Asked) -> int:
    """Return the level at which a query really went out, which may be lower than was allowed."""
    query = asked.query
    if not query[_ADDITIONAL_COUNT]:
        return PLAIN
    bare = len(query) == _HEAD + len(asked.question.section) + OPT_SIZE
    return BARE if bare and not asked.optioned else FULL
