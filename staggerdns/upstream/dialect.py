"""How one upstream is asked, and which of its replies are the last word.

Beside a random ID and port, two things in a query tell a forged reply from the right one: the
letters of its name in random case (0x20), which a reply must repeat, and a DNS Cookie (RFC 7873).
Not every server repeats the letters or knows cookies, or EDNS at all (RFC 8906). What the replies
of one upstream show about that is remembered in `Case`, `Cookies` and `Edns`.

Most replies are the last word. Others have a reason to ask once more, a `RetryReason`:

    reply                                            what is done                 reason
    over UDP, with TC                                asked over TCP               truncated
                                                     (RFC 7766 section 5)
    over UDP, in other letters than ours             doubted: checked over TCP    case
    over UDP, without a question section             doubted: checked over TCP    question
    over UDP, without our cookie, from an upstream   doubted: checked over TCP    cookie
    that has given us one
    over UDP, for another client subnet than ours    dropped: asked over TCP      subnet
    (RFC 7871 section 7.3)
    over a connection, for another client subnet     dropped: a network error     subnet
    BADCOOKIE                                        asked with the new cookie    badcookie
    an error that EDNS may have caused               asked one level lower        edns
    no answer to random case, and none so far        asked in lower case          lowercase

    no reply within a moment                         what is done                 reason
    the level of EDNS is not proven                  asked one level lower, too   silence
    random case is not proven                        asked in lower case, too     silence

`ConcurrentRetries` says how long a doubted reply is kept, and when it is used after all. Everything
in these tables happens within the time of the client's question, so that no answer is lost while we
learn.

What an upstream was found not to cope with is left out for `MEMORY` seconds. Then a query of our
own, a copy of one that was just answered, tries it again (`Dialect.probe`); its reply is used for
nothing else. A question with DO goes out without OPT only when nobody else can answer it
(`Exchange.unsigned`), since the answer then lacks the signatures.
"""

from __future__ import annotations

from enum import Enum, auto
from ipaddress import IPv4Network, IPv6Network

from staggerdns.upstream.case import Case
from staggerdns.upstream.cookies import Cookies
from staggerdns.upstream.edns import BARE, FULL, PLAIN, Edns
from staggerdns.upstream.entropy import Entropy
from staggerdns.upstream.exchange import Exchange
from staggerdns.upstream.reason import RetryReason
from staggerdns.wire.clientsubnet import ClientSubnet
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

_HEAD = HEADER_SIZE - 2  # a query is kept without its ID
_TC_OCTET = TC >> 8
_ADDITIONAL_COUNT = 9  # where its low octet stands in a query


def _heads(flags: int, additional: int) -> tuple[bytes, bytes]:
    """Return flags and counts of queries without and with CD."""
    return tuple(  # type: ignore[return-value]  # there are two
        (flags | checking).to_bytes(2, "big") + bytes((0, 1, 0, 0, 0, 0, 0, additional))
        for checking in (0, CD)
    )


# By level of EDNS. With AD, so that the upstream says whether it validated (RFC 6840 section 5.7).
_HEADS = (_heads(RD, 0), _heads(RD | AD, 1), _heads(RD | AD, 1))


def is_positive(message: bytes) -> bool:
    """Return whether a reply has answers and no error, or would have if it were not truncated."""
    sound = not message[3] & RCODE
    return sound and (message[6:8] != b"\0\0" or bool(message[2] & _TC_OCTET))


class ProbeKind(Enum):
    """What a probe tries again: random case, or a higher level of EDNS."""

    CASE = auto()
    EDNS = auto()


class Dialect:
    """What one upstream copes with. ``case``, ``cookies``: whether they are wanted at all;
    ``subnet``: what it is told of where clients are, if anything.

    Times are seconds of the caller's clock. ``stream_works``: a reply has come over a connection.
    """

    def __init__(
        self,
        entropy: Entropy,
        *,
        case: bool,
        cookies: bool,
        subnet: IPv4Network | IPv6Network | None = None,
    ) -> None:
        self._entropy = entropy
        self._subnet = None if subnet is None else ClientSubnet(subnet)
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

    def rephrase(self, exchange: Exchange, reason: RetryReason, now: float) -> None:
        """Compose the query of an exchange anew for ``BADCOOKIE``, ``EDNS`` or ``LOWERCASE``."""
        if reason is RetryReason.BADCOOKIE:
            exchange.renewed = True
        elif reason is RetryReason.LOWERCASE:
            exchange.lowered = True
        else:
            sent = sent_level(exchange)
            exchange.complained = max(exchange.complained, sent)
            exchange.level = sent - 1
        exchange.optioned = False
        exchange.query = self.compose(
            exchange.question, now, exchange.level, lowered=exchange.lowered
        )

    def is_as_usual(self, message: bytes) -> bool:
        """Return whether a reply that repeats the question letter by letter looks like those before
        it, so that `retry_reason` would find nothing: true of most, and quickly found.
        """
        if not self._is_settled or message[2] & _TC_OCTET or message[3] & RCODE not in SOUND:
            return False
        cookies = self.cookies
        if (cookies.ours in message) is not cookies.expected:
            return False
        return self._subnet is None or self._subnet.fits(message)

    def retry_reason(
        self,
        exchange: Exchange,
        message: bytes,
        now: float,
        *,
        over_stream: bool,
        believed: bool = False,
    ) -> RetryReason | None:
        """Return why to ask once more after the reply ``message``, `None` if it is the last word;
        that is remembered then.

        ``believed``: TCP could not be asked, so that no doubts count.
        """
        if self._subnet is not None and not self._subnet.fits(message):
            return RetryReason.SUBNET
        self._is_settled = False
        section = exchange.question.section
        sent = exchange.query[_HEAD : _HEAD + len(section)]
        repeated = message[HEADER_SIZE : HEADER_SIZE + len(section)] == sent
        mixed = sent != section
        if not over_stream and not believed:
            if message[2] & _TC_OCTET:
                return RetryReason.TRUNCATED
            if not message[5]:
                return RetryReason.QUESTION
            if mixed and not repeated:
                return RetryReason.CASE
        if repeated:
            self.case.repeated()
        elif over_stream and mixed and message[5]:
            self.case.missed(now)
        rcode = full_rcode(message)
        level = sent_level(exchange)
        about_the_name = rcode not in SOUND and bool(extended_errors(message))
        reason = None
        if level == FULL and self.cookies.wanted and not believed:
            reason = self._cookie_problem(exchange, message, rcode, over_stream=over_stream)
        if reason is None and not about_the_name and self.edns.complains(rcode, level, now):
            reason = RetryReason.EDNS
        positive = rcode == Rcode.NOERROR and is_positive(message)
        if reason is None and not positive and not about_the_name and not exchange.lowered:
            reason = RetryReason.LOWERCASE if mixed and self.case.doubts_negatives else None
        if reason is None:
            proves_case = positive and mixed and repeated and not over_stream
            self._learn(exchange, rcode, now, positive=positive, proves_case=proves_case)
        return reason

    def _learn(
        self, exchange: Exchange, rcode: int, now: float, *, positive: bool, proves_case: bool
    ) -> None:
        """Remember what the last word on a question shows."""
        if exchange.lowered:
            self.case.in_lower_case(exchange.started, now, positive=positive)
        elif proves_case:
            self.case.answered()
        level = sent_level(exchange)
        if rcode in SOUND:
            self.edns.good(level, exchange.complained, exchange.started, now)
        self._look_around(level)

    def trusts(self, doubt: RetryReason) -> bool:
        """Return whether a reply with that doubt may be used when TCP cannot be asked.

        Not if the upstream has shown that its TCP works, or that its replies over UDP usually have
        what this one lacks; never if it is for another client subnet.
        """
        if self.stream_works or doubt is RetryReason.SUBNET:
            return False
        if doubt is RetryReason.CASE:
            return not self.case.is_proven
        return doubt is RetryReason.COOKIE or not self.cookies.server

    def uncleared(self, doubt: RetryReason, now: float) -> None:
        """Note that TCP could not be asked about a doubted reply."""
        if doubt is RetryReason.CASE:
            self.case.missed(now)
        elif doubt is RetryReason.COOKIE:
            self.cookies.missed()
            self._make_opts()
        self._look_around(PLAIN)
        self._is_settled = False

    @property
    def is_unsure(self) -> bool:
        """Whether the level or the letters that are usually sent may cause silence."""
        edns, case = self.edns, self.case
        return edns.proven < edns.level or (case.is_mixed and not case.is_proven)

    def unsure_of_level(self, exchange: Exchange) -> bool:
        """Return whether the level of a query may be why the upstream is silent."""
        proven = self.edns.proven
        return proven < self.edns.level and proven < sent_level(exchange)

    def unsure_of_case(self, exchange: Exchange) -> bool:
        """Return whether the letters of a query may be why the upstream is silent."""
        return self.case.doubts_negatives and not exchange.lowered

    # Probes.

    def probe(self, question: Question, now: float) -> tuple[ProbeKind, int, bytes] | None:
        """Return what to try again with a question that was just answered, with the level of EDNS
        and the query; `None` if nothing is due.
        """
        if now >= self.case.probe_at:
            level = self.edns.level
            section = question.in_random_case(self._entropy.take_bytes(len(question.section)))
            query = _HEADS[level][question.cd] + section + self._opts[level][question.do]
            return (ProbeKind.CASE, level, query) if section != question.section else None
        if now >= self.edns.probe_at:
            level = self.edns.level + 1
            return ProbeKind.EDNS, level, self.compose(question, now, level)
        return None

    def probed(self, kind: ProbeKind, exchange: Exchange, message: bytes, now: float) -> None:
        """Note the reply to a probe, empty if none has come."""
        good = bool(message) and is_positive(message) and full_rcode(message) == Rcode.NOERROR
        if kind is ProbeKind.CASE:
            size = len(exchange.question.section)
            sent = exchange.query[_HEAD : _HEAD + size]
            good = good and message[HEADER_SIZE : HEADER_SIZE + size] == sent
            self.case.probed(now, good=good)
        else:
            self.edns.probed(exchange.level, now, good=good)
        self._look_around(PLAIN)

    # The rest.

    def moved(self, host: str) -> None:
        """Note the address of ours that queries are sent from. At another one than before there is
        a new cookie: the old one would tell the upstream that we are the same (RFC 9018 section 3).
        """
        if host != self._host:
            if self._host:
                self.cookies.renew()
                self._make_opts()
            self._host = host

    def _cookie_problem(
        self, exchange: Exchange, message: bytes, rcode: int, *, over_stream: bool
    ) -> RetryReason | None:
        if self.cookies.learn(message):
            self._make_opts()
            if rcode == Rcode.BADCOOKIE and not over_stream:
                return RetryReason.COOKIE if exchange.renewed else RetryReason.BADCOOKIE
        elif self.cookies.server:
            if not over_stream:
                return RetryReason.COOKIE
            self.cookies.missed()
            self._make_opts()
        return None

    def _look_around(self, level: int) -> None:
        """Note when a probe is due, and whether replies to queries at that level of EDNS are well
        known by now.
        """
        self._probe_at = min(self.case.probe_at, self.edns.probe_at)
        proven = level <= self.edns.proven
        self._is_settled = proven and self.edns.is_settled and self.case.is_settled

    def _make_opts(self) -> None:
        kind = b"\0" + Type.OPT.to_bytes(2, "big") + EDNS_UDP_SIZE.to_bytes(2, "big")
        made = [(b"", b"")]
        subnet = b"" if self._subnet is None else self._subnet.option
        for option in (b"", self.cookies.option + subnet):
            size = len(option).to_bytes(2, "big")
            made.append(
                (
                    kind + bytes(4) + size + option,
                    kind + EDNS_DO.to_bytes(4, "big") + size + option,
                )
            )
        self._opts = tuple(made)


def lowest_level(exchange: Exchange) -> int:
    """Return the lowest level at which a question may be asked: with DO it needs an OPT record."""
    return BARE if exchange.question.do and not exchange.unsigned else PLAIN


def sent_level(exchange: Exchange) -> int:
    """Return the level at which a query really went out, which may be lower than was allowed."""
    query = exchange.query
    if not query[_ADDITIONAL_COUNT]:
        return PLAIN
    bare = len(query) == _HEAD + len(exchange.question.section) + OPT_SIZE
    return BARE if bare and not exchange.optioned else FULL
