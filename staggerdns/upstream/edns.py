"""Whether one upstream copes with EDNS (RFC 6891 section 7), and what to do when it does not.

No single reply decides, since one can be forged, or be about one odd name:

* FORMERR or NOTIMP without an OPT record: that question is asked again without one. When such
  repetitions were answered `FORMERRS` times in a row, and nothing with OPT in between, all queries
  go without for `MEMORY` seconds.
* `SILENCES` queries with OPT in a row without a reply, from an upstream that has never replied to
  one: the next goes without. If that is answered, and queries with OPT asked after it are silent
  again, `PROOFS` times, it was not the network but the OPT record.
"""

from __future__ import annotations

from math import inf

MEMORY = 900.0
"""Seconds for which it is remembered that an upstream does not cope."""
FORMERRS = 3
SILENCES = 3
PROOFS = 2


class Edns:
    """What is known of one upstream; times are seconds of the caller's clock.

    ``is_doubted``: not all is well, so `goes_plain` and `answered` have something to say.
    """

    def __init__(self) -> None:
        self.is_doubted = True  # until the first reply
        self._is_answered = False
        self._plain_until = 0.0
        self._formerrs = 0
        self._silences = 0
        self._proofs = 0
        self._plain_answered = inf  # when a query without OPT was answered, after silences

    def is_plain(self, now: float) -> bool:
        """Say whether the upstream is taken for one that does not cope."""
        return now < self._plain_until

    def goes_plain(self, now: float, repeated: str) -> bool:
        """Say whether a query goes without OPT now; ``repeated`` as in `Dialect.compose`."""
        if now < self._plain_until or repeated == "formerr":
            return True
        if self._silences >= SILENCES and self._plain_answered == inf:
            self._silences = 0  # one at a time: it is tried once, then there must be silence again
            return True
        return False

    def answered(self, now: float, *, with_opt: bool, repeated: str) -> None:
        """Note a reply that is neither FORMERR nor NOTIMP."""
        if with_opt:
            self._is_answered = True
            self._formerrs = self._silences = self._proofs = 0
            self._plain_answered = inf
            self.is_doubted = False
        elif now < self._plain_until:
            self.is_doubted = True
        elif repeated == "formerr":
            self._formerrs += 1
            if self._formerrs >= FORMERRS:
                self._go_plain(now)
        elif self._plain_answered == inf:
            self._plain_answered = now

    def silent(self, asked: float, now: float, *, with_opt: bool) -> None:
        """Note a query of the time ``asked`` without a reply."""
        if not with_opt or self._is_answered:
            return
        self.is_doubted = True
        if asked < self._plain_answered < inf:
            return  # it was lost when others may have been lost as well
        if self._plain_answered < inf:
            self._proofs += 1
            if self._proofs >= PROOFS:
                self._go_plain(now)
        else:
            self._silences += 1

    def _go_plain(self, now: float) -> None:
        self._plain_until = now + MEMORY
        self._formerrs = self._silences = self._proofs = 0
        self._plain_answered = inf
        self.is_doubted = True
