"""How one upstream is asked, and what a reply must show to be believed.

An ID and a port are little to tell a forged reply by. So a query also has the letters of its name
in random case (0x20) and carries a DNS Cookie (RFC 7873). Not every server repeats the one
or knows the other, or EDNS at all; what an upstream's replies show is remembered here:

* A UDP reply that does not repeat the letters is not believed, and the query goes again over
  TCP. What comes there, where nobody forges, shows whether the upstream does repeat them: when
  it does not, or nothing comes, `CASE_MISSES` times in a row, case is left alone for `MEMORY`
  seconds.
* From an upstream that has given us a cookie, a UDP reply without ours is not believed. The
  query goes again over TCP, too: discarding it (RFC 7873 section 5.3) would hurt a farm of
  unlike servers behind one address. When TCP brings none either, `COOKIE_MISSES` times in a row,
  the server's cookie is forgotten. BADCOOKIE brings a new one, and one more try with it.
* Whether it copes with EDNS is a matter of its own: see `Edns`.
"""

from __future__ import annotations

from math import inf

from staggerdns.upstream.edns import MEMORY, Edns
from staggerdns.upstream.entropy import Entropy
from staggerdns.wire.constants import (
    AD,
    CD,
    EDNS_DO,
    EDNS_UDP_SIZE,
    HEADER_SIZE,
    RCODE,
    RD,
    TC,
    Rcode,
    Type,
)
from staggerdns.wire.question import Question

CASE_MISSES = 3
"""Repeated queries in a row that did not show that the upstream repeats letters."""
COOKIE_MISSES = 3
"""Repeated queries in a row that brought no cookie of an upstream that has given one."""
SAME_WAY = frozenset(("badcookie", "formerr"))
"""Doubts after which a query is repeated as it went, not over TCP."""
COOKIE = 10
_CLIENT_COOKIE_SIZE = 8
_WITH_SERVER_COOKIE = range(16, 41)  # bytes of the whole option (RFC 7873 section 4)
_HEAD = HEADER_SIZE - 2  # a query is kept without its ID
_TC_OCTET = TC >> 8
_USUAL = (int(Rcode.NOERROR), int(Rcode.NXDOMAIN))
_ADDITIONAL_COUNT = 9  # where its low octet stands in a query
_BADCOOKIE = 23 & RCODE  # the rest stands in the OPT record; no query is answered YXRRSET


_NOT_UNDERSTOOD = (int(Rcode.FORMERR), int(Rcode.NOTIMP))


def has_opt(query: bytes) -> bool:
    """Say whether a query (without its ID) has an OPT record."""
    return bool(query[_ADDITIONAL_COUNT])


def _heads(additional: int) -> tuple[bytes, bytes]:
    """Return flags and counts of queries without and with CD.

    RD is set, and AD, so that the upstream says whether it validated (RFC 6840 section 5.7).
    """
    return tuple(  # type: ignore[return-value]  # there are two
        (RD | AD | checking).to_bytes(2, "big") + bytes((0, 1, 0, 0, 0, 0, 0, additional))
        for checking in (0, CD)
    )


_PLAIN, _WITH_OPT = _heads(0), _heads(1)


class Dialect:
    """What one upstream copes with. ``case``, ``cookies``: whether they are wanted at all.

    Times are seconds of the caller's clock.
    """

    def __init__(self, entropy: Entropy, *, case: bool, cookies: bool) -> None:
        self._entropy = entropy
        self._cookies = cookies
        self._host = ""
        self._client_cookie = b""
        self._server_cookie = b""
        self._full_cookie = b""
        self._opts = (b"", b"")  # without and with DO
        self._new_cookie()
        self._case_again = 0.0 if case else inf
        self._case_misses = 0
        self._cookie_misses = 0
        self.edns = Edns()
        self._is_settled = False  # another usual reply would tell nothing new

    def compose(self, question: Question, now: float, *, repeated: str = "") -> bytes:
        """Return a query without its ID, as this upstream should get it at ``now``.

        ``repeated``: the doubt after which the question is asked again. Questions with DO always
        have OPT: without it there are no signatures in the answer.
        """
        section = question.section
        if now >= self._case_again:
            section = question.in_random_case(self._entropy.take_bytes(len(section)))
        if self.edns.is_doubted and not question.do and self.edns.goes_plain(now, repeated):
            return _PLAIN[question.cd] + section
        return _WITH_OPT[question.cd] + section + self._opts[question.do]

    def is_as_usual(self, query: bytes, message: bytes, size: int) -> bool:
        """Say whether a reply gives no reason to look closer: `doubt` would find none.

        That is so for most. ``size``: of the question section, in bytes.
        """
        if not self._is_settled or message[2] & _TC_OCTET or message[3] & RCODE not in _USUAL:
            return False
        if message[HEADER_SIZE : HEADER_SIZE + size] != query[_HEAD : _HEAD + size]:
            return False
        if self._server_cookie:
            return self._full_cookie in message
        return not self._cookies or self._client_cookie not in message

    def doubt(
        self,
        question: Question,
        query: bytes,
        message: bytes,
        now: float,
        *,
        over_stream: bool,
        repeated: str,
    ) -> str:
        """Return why the ``message`` that replied to ``query`` is not the last word, or nothing.

        ``truncated``, ``case``, ``cookie``: ask again over TCP; ``badcookie``, ``formerr``: in the
        same way, once. ``repeated``: the doubt after which ``query`` was sent, if there was one.
        """
        self._is_settled = False
        if not over_stream and message[2] & _TC_OCTET:
            return "truncated"
        if not self._is_in_our_case(question, query, message):
            if not over_stream:
                return "case"
            self.case_unproven(now)
        with_opt = has_opt(query)
        problem = ""
        if with_opt and self._cookies:
            problem = self._cookie_problem(message, over_stream=over_stream, repeated=repeated)
        if problem:
            return problem
        if message[3] & RCODE in _NOT_UNDERSTOOD and message[10:12] == b"\0\0":
            if with_opt and not question.do and not repeated:
                self.edns.is_doubted = True
                return "formerr"
            return ""
        self.edns.answered(now, with_opt=with_opt, repeated=repeated)
        self._is_settled = not self.edns.is_doubted
        return ""

    def case_unproven(self, now: float) -> None:
        """Note that a query repeated for its case has not shown that the upstream can do it."""
        self._case_misses += 1
        if self._case_misses >= CASE_MISSES:
            self._case_misses = 0
            self._case_again = now + MEMORY

    def cookie_unproven(self) -> None:
        """Note that a query repeated for its cookie has brought none."""
        self._cookie_misses += 1
        if self._cookie_misses >= COOKIE_MISSES:
            self._cookie_misses = 0
            self._server_cookie = b""
            self._make_opts()

    def silent(self, query: bytes, asked: float, now: float, repeated: str) -> None:
        """Note that ``query`` of the time ``asked`` was never answered, over TCP either if it was
        ``repeated`` there.
        """
        self._is_settled = False
        if repeated == "case":
            self.case_unproven(now)
        elif repeated == "cookie":
            self.cookie_unproven()
        else:
            self.edns.silent(asked, now, with_opt=has_opt(query))

    def moved(self, host: str) -> None:
        """Take a new cookie if we are at another address, ``host``, now: the old one would tell
        the upstream that we are the same (RFC 9018 section 3).
        """
        if host != self._host:
            if self._host:
                self._new_cookie()
            self._host = host

    def _is_in_our_case(self, question: Question, query: bytes, message: bytes) -> bool:
        section = question.section
        sent = query[_HEAD : _HEAD + len(section)]
        if message[HEADER_SIZE : HEADER_SIZE + len(section)] == sent:
            self._case_misses = 0
            return True
        return sent == section or not message[5]  # nothing to see, or an error without a question

    def _cookie_problem(self, message: bytes, *, over_stream: bool, repeated: str) -> str:
        # Nobody but the upstream can know these octets: there is no need to look for their place.
        place = message.find(self._client_cookie)
        if place < 0:
            if not self._server_cookie:
                return ""
            if not over_stream:
                return "cookie"
            self.cookie_unproven()
            return ""
        self._cookie_misses = 0
        size = int.from_bytes(message[place - 2 : place], "big")
        if size in _WITH_SERVER_COOKIE:
            given = message[place + _CLIENT_COOKIE_SIZE : place + size]
            if given != self._server_cookie:
                self._server_cookie = given
                self._make_opts()
        if message[3] & RCODE == _BADCOOKIE and not over_stream:
            return "cookie" if repeated == "badcookie" else "badcookie"
        return ""

    def _new_cookie(self) -> None:
        if self._cookies:
            self._client_cookie = self._entropy.take_bytes(_CLIENT_COOKIE_SIZE)
        self._server_cookie = b""
        self._make_opts()

    def _make_opts(self) -> None:
        option = b""
        if self._cookies:
            cookie = self._full_cookie = self._client_cookie + self._server_cookie
            option = COOKIE.to_bytes(2, "big") + len(cookie).to_bytes(2, "big") + cookie
        kind = b"\0" + Type.OPT.to_bytes(2, "big") + EDNS_UDP_SIZE.to_bytes(2, "big")
        size = len(option).to_bytes(2, "big")
        self._opts = (
            kind + bytes(4) + size + option,
            kind + EDNS_DO.to_bytes(4, "big") + size + option,
        )
