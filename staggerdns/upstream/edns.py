"""How much of EDNS (RFC 6891) one upstream copes with, and how that is found out.

Queries go out at one of three levels: `FULL`, an OPT record with options (a cookie over UDP;
keepalive and padding over connections), `BARE`, one without options, or `PLAIN`, none at all and no
AD flag either (RFC 6840 section 5.7), so that it is a query as RFC 1035 has it.

    reply to a query at a level above PLAIN        what is done
    FORMERR, NOTIMP, BADVERS, BADCOOKIE            asked again one level lower (RFC 6891 section 7)
    another error, silence, or the connection      the same, unless the level is proven: a good
    closed, twice                                  reply has come at it, or at a higher one
    another error at a proven level                the same, if `PATIENCE` came in a row before
    NOERROR or NXDOMAIN                            the level is proven

    FULL, BARE  --`DESCENTS` questions in a row were answered at a lower level only-->  that level
    BARE, PLAIN --a probe one level higher was answered-->                    the level of the probe

Whether the error has an OPT record, ours or the server's, makes no difference (RFC 8906 section 8).

A question that needs a lower level is asked at it at once: that takes time and costs no answer.
What level other questions get changes only after `DESCENTS` such questions, each asked after the
one before had been answered. So one odd name changes nothing, nor does the end of an outage, where
many questions are under way together.

An upstream that answers with errors at all levels has another problem than EDNS. After `PATIENCE`
such questions in a row none is asked at lower levels for a while, each time twice as long: an
upstream that refuses everything is not asked three times for every question.
"""

from __future__ import annotations

from math import inf

from staggerdns.wire.constants import SOUND, Rcode

PLAIN, BARE, FULL = range(3)
MEMORY = 900.0
"""Seconds for which it is remembered what an upstream does not cope with, before it is probed."""
DESCENTS = 3
PATIENCE = 3
FIRST_PAUSE = 1.0
"""Seconds without descents after `PATIENCE` in vain; they double up to `MEMORY`."""
_EXPLICIT = frozenset(
    (int(Rcode.FORMERR), int(Rcode.NOTIMP), int(Rcode.BADVERS), int(Rcode.BADCOOKIE))
)


class Edns:
    """What is known of one upstream; times are seconds of the caller's clock.

    ``level``: at which queries go out; ``proven``: the highest at which a good reply has come.
    """

    def __init__(self) -> None:
        self.level = FULL
        self.proven = PLAIN
        self.probe_at = inf
        self._descended_to = PLAIN  # the level at which the last descents ended,
        self._descents = 0  # and how many did in a row
        self._counted_at = -inf
        self._errors = 0  # in a row, at a level that is proven
        self._all_failed = 0
        self._all_failed_at = -inf
        self._paused_until = -inf

    def complains(self, rcode: int, sent: int, now: float) -> bool:
        """Return whether a reply to a query at the level ``sent`` is a reason to ask one lower."""
        if sent == PLAIN or rcode in SOUND or now < self._paused_until:
            return False
        if rcode in _EXPLICIT or sent > self.proven:
            return True
        if sent == self.level:
            self._errors += 1
        return self._errors > PATIENCE

    def good(self, sent: int, complained: int, asked: float, now: float) -> None:
        """Note a good reply at the level ``sent`` to a question of the time ``asked``.

        ``complained``: the highest level at which the question was sent in vain before, or `PLAIN`.
        """
        self.proven = max(self.proven, sent)
        if sent >= complained:
            if sent > self._descended_to:
                self._descents = 0
            if sent == self.level:
                self._errors = self._all_failed = 0
            return
        self._all_failed, self._paused_until = 0, -inf
        if sent >= self.level or asked <= self._counted_at:
            return  # it was under way together with one that counts
        if sent != self._descended_to:
            self._descended_to, self._descents = sent, 0
        self._counted_at = now
        self._descents += 1
        if self._descents >= DESCENTS:
            self.level = self.proven = sent
            self._descents = 0
            self.probe_at = now + MEMORY

    def failed_at_all_levels(self, asked: float, now: float) -> None:
        """Note that a question of the time ``asked`` failed at all levels."""
        if asked <= self._all_failed_at:
            return
        self._all_failed_at = now
        self._all_failed += 1
        if self._all_failed >= PATIENCE:
            doubled = FIRST_PAUSE * 2.0 ** min(self._all_failed - PATIENCE, 16)
            self._paused_until = now + min(doubled, MEMORY)

    def probed(self, level: int, now: float, *, good: bool) -> None:
        """Note how a probe at that level ended."""
        if good and level > self.level:
            self.level = self.proven = level
            self._descended_to = PLAIN
        self.probe_at = inf if self.level == FULL else now + MEMORY

    def forget_proof(self) -> None:
        """Let silence be a reason to ask lower again: the upstream may have changed."""
        self.proven = PLAIN

    @property
    def is_settled(self) -> bool:
        """Whether another good reply would tell nothing new."""
        return not self._descents and not self._errors
