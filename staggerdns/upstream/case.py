"""Whether one upstream copes with names in random case (0x20): repeats the letters, and finds them.

    unproven          --an answer over UDP in our letters-->                        proven
    unproven, proven  --`CASE_MISSES` doubted replies in a row, none cleared-->     off
    unproven          --`CASE_MISSES` names in a row found in lower case only-->    off
    unproven          --`NEGATIVES` negatives or errors, the same in lower case-->  off
    off               --a probe in random case was answered well-->                 proven

Names go out in random case unless it is ``off``. While it is ``unproven``, a negative, an error and
no reply at all are asked about once more in lower case: there are servers that compare octets.

A doubted reply is cleared when one in our letters comes after all, over UDP or TCP. A probe follows
after `MEMORY` seconds; in the fourth case, which says nothing about letters, with the next answer.
"""

from __future__ import annotations

from math import inf

from staggerdns.upstream.edns import MEMORY

CASE_MISSES = 3
NEGATIVES = 8


class Case:
    """What is known of one upstream; ``wanted``: whether random case is sent at all.

    Times are seconds of the caller's clock. ``is_mixed``: names go out in random case.
    """

    def __init__(self, *, wanted: bool) -> None:
        self.is_mixed = wanted
        self.is_proven = False
        self.probe_at = inf
        self._misses = 0
        self._lower_only = 0  # names that were found in lower case only
        self._lower_only_at = -inf
        self._negatives = 0

    def repeated(self) -> None:
        """Note a reply in our letters."""
        self._misses = 0

    def answered(self) -> None:
        """Note a positive answer in our letters over UDP."""
        self.is_proven = self.is_mixed
        self._lower_only = self._negatives = 0

    def missed(self, now: float) -> None:
        """Note that a doubted reply was not cleared."""
        self._misses += 1
        if self._misses >= CASE_MISSES:
            self._leave(now + MEMORY)

    def in_lower_case(self, asked: float, now: float, *, positive: bool) -> None:
        """Note the reply to what had been asked, at the time ``asked``, in random case before."""
        if not self.is_mixed or self.is_proven:
            return
        if positive:
            if asked > self._lower_only_at:  # not under way together with one that counts
                self._lower_only_at = now
                self._lower_only += 1
                if self._lower_only >= CASE_MISSES:
                    self._leave(now + MEMORY)
        else:
            self._negatives += 1
            if self._negatives >= NEGATIVES:
                self._leave(now)

    def probed(self, now: float, *, good: bool) -> None:
        """Note how a probe in random case ended."""
        self.probe_at = inf if good else now + MEMORY
        self.is_mixed = self.is_proven = good

    @property
    def doubts_negatives(self) -> bool:
        """Whether a negative answer in random case is asked about once more, in lower case."""
        return self.is_mixed and not self.is_proven

    @property
    def is_settled(self) -> bool:
        """Whether another reply in our letters would tell nothing new."""
        return not self._misses and (self.is_proven or not self.is_mixed)

    def _leave(self, probe_at: float) -> None:
        self.is_mixed = self.is_proven = False
        self.probe_at = probe_at
        self._misses = self._lower_only = self._negatives = 0
