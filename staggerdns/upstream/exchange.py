"""One query to one upstream, from the moment it is asked to its outcome.

An `Exchange` ends exactly once: with a reply, an error, `Exchange.expire` when its time is up,
or its cancellation. All but the last give an `Outcome`; cancelling is our
own wish and says nothing about the upstream (SPEC section 2).

An ICMP error over UDP ends nothing, since anybody can forge one (RFC 5927, RFC 8085 section 5.2):
it is a hint to ask others (`Exchange.hint`), and what an exchange without a reply died of.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import (
    EACCES,
    EADDRINUSE,
    EAGAIN,
    ECONNREFUSED,
    EMFILE,
    ENFILE,
    ENOBUFS,
    ENODEV,
    ENOMEM,
    EPERM,
)
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred

from staggerdns.upstream.blame import MALFORMED, TRUNCATED, explained
from staggerdns.upstream.dialect import NO_EDNS
from staggerdns.upstream.edns import FULL, PLAIN
from staggerdns.upstream.health import State
from staggerdns.wire.answer import Answer
from staggerdns.wire.constants import SOUND, TC, Rcode, WireError
from staggerdns.wire.edns import full_rcode
from staggerdns.wire.judge import Judge
from staggerdns.wire.verdict import Verdict

if TYPE_CHECKING:
    from staggerdns.upstream.sidequeries import SideQueries
    from staggerdns.upstream.upstream import Upstream

LOCAL = "local error"
"""The reason of an error of our own machine, which is no mark against an upstream."""
CLOSED = "closed"
"""The reason of queries whose connection the upstream has closed."""
NO_LINE = "no connection"
"""The reason of queries whose connection is known to fail already: that has its mark."""
UNMARKED = frozenset((LOCAL, NO_EDNS, NO_LINE))
_OUR_OWN = frozenset((EAGAIN, EMFILE, ENFILE, ENOBUFS, ENODEV, ENOMEM, EPERM, EACCES, EADDRINUSE))
_FAILURES: dict[int, str] = {  # RFC 6895 section 2.3; a good code without an answer: a referral
    Rcode.NOERROR: "referral",
    Rcode.FORMERR: "formerr",
    Rcode.SERVFAIL: "servfail",
    Rcode.NOTIMP: "notimp",
    Rcode.REFUSED: "refused",
    6: "yxdomain",
    7: "yxrrset",
    8: "nxrrset",
    9: "notauth",
    10: "notzone",
    11: "dsotypeni",
    Rcode.BADVERS: "badvers",
    17: "badkey",
    18: "badtime",
    19: "badmode",
    20: "badname",
    21: "badalg",
    22: "badtrunc",
    Rcode.BADCOOKIE: "badcookie",
}
_UNNAMED = "rcode "
OTHER_RCODE = "other rcode"
"""What stands in the metrics for a code without a name: they have a fixed set of labels."""


class Outcome:
    """How an exchange ended: ``verdict``, the ``answer`` of a good reply, ``seconds`` that it
    took, ``asked`` and ``at``, the times when it began and ended. ``tier``: as it was asked.

    ``reason`` says in few words what went wrong, empty for a good reply; see `reason_label`.
    """

    __slots__ = ("upstream", "verdict", "answer", "reason", "tier", "asked", "seconds", "at")

    def __init__(
        self,
        upstream: Upstream,
        verdict: Verdict,
        answer: Answer | None,
        reason: str,
        tier: str,
        asked: float,
        seconds: float,
        at: float,
    ) -> None:
        self.upstream = upstream
        self.verdict = verdict
        self.answer = answer
        self.reason = reason
        self.tier = tier
        self.asked = asked
        self.seconds = seconds
        self.at = at


class Exchange(Deferred[Outcome]):
    """A question on its way to one upstream: a Deferred of the `Outcome`.

    ``query``: the message without its ID, ready to send. Cancel it to give up without a mark.
    """

    resent = False
    """Whether the query was sent once more because its connection was lost."""
    hinted = ""
    """The ICMP error that has come, if any: there may be no reply."""
    on_hint: Callable[[Exchange], None] | None = None
    """Called with the exchange when the first such error comes."""
    level = FULL
    """How much EDNS the query may have: see `Edns`."""
    optioned = False
    """Whether its connection has added options of its own."""
    complained = PLAIN
    """The highest level of EDNS at which the question was asked in vain."""
    lowered = False
    """Whether it has been asked once more in lower case."""
    renewed = False
    """Whether it has been asked once more with a new cookie."""
    unsigned = False
    """Whether an answer without signatures is better than none, although DO is set."""
    side_queries: SideQueries | None = None
    """Its side queries; usually none."""

    def __init__(
        self, upstream: Upstream, judge: Judge, query: bytes, tier: str, started: float
    ) -> None:
        super().__init__(_cancelled)
        self.judge = judge
        self.question = judge.question
        self.query = query
        self.tier = tier
        self.started = started
        self.forget: _Forget | None = None  # these two are set by the
        self.message_id = b""  # transport in charge
        self._upstream = upstream
        self._taker: Callable[[Outcome, Exchange], None] | None = None

    def tell(self, taker: Callable[[Outcome, Exchange], None]) -> None:
        """Call ``taker`` with outcome and exchange in place of callbacks; it hears nothing of a
        cancellation.

        Of the many exchanges that only complete a pool, a Deferred's callbacks would cost more
        than everything else about a reply.
        """
        if self.called:
            taker(self.result, self)  # type: ignore[arg-type]  # only `expire` and errors come so early
        else:
            self._taker = taker

    def cancel(self) -> None:
        """Give up without a mark."""
        if self._taker is None:
            super().cancel()
        elif not self.called:
            self.called = True
            self._abandon()

    @property
    def decides_health(self) -> bool:
        """Whether the upstream is on trial, or may heal."""
        return self._upstream.health.state != State.HEALTHY

    def usual_time(self, now: float) -> float:
        """Return the seconds that the upstream takes on average, 0 if it was never measured."""
        latency = self._upstream.latency
        return latency.mean(now) if latency.measured else 0.0

    def reply(self, message: bytes, *, final: bool) -> bool:
        """Take a matching reply; ``final``: it came over a stream, which nobody can forge.

        Return whether another one to the same query is still welcome: this one may be forged.
        """
        if self.called:
            return False
        upstream = self._upstream
        dialect = upstream.dialect
        usual = dialect.is_as_usual(self.query, message, len(self.question.section))
        if final:
            dialect.stream_works = True
        if usual and self._conclude(message, usual=True):
            return False
        if upstream.asks_again(self, message, over_stream=final):
            self.hinted = ""
        else:
            self._conclude(message, usual=False)
        return self.side_queries is not None and self.side_queries.waits

    def believe(self, message: bytes) -> None:
        """Take a reply over UDP that is doubted: there is no way to get a better one."""
        if not self._upstream.asks_again(self, message, over_stream=False, believed=True):
            self._conclude(message, usual=False)

    def flee(self) -> None:
        """Go on over TCP: somebody forges replies."""
        if self.called:
            return
        if self.side_queries is not None:
            self.side_queries.disown()
            if self.side_queries.checks:
                return  # it goes on over TCP already
        self.hinted = ""
        self._upstream.ask_over_stream(self, "flood")

    def release(self, *, timed_out: bool = False) -> None:
        """Have the transport in charge forget the query."""
        forget, self.forget = self.forget, None
        if forget is not None:
            forget(self, timed_out=timed_out)

    def hint(self, reason: str) -> None:
        """Take an error that may be forged; a reply is welcome all the same."""
        if not self.called and not self.hinted:
            self.hinted = reason
            if self.on_hint is not None:
                self.on_hint(self)

    def error(self, reason: str) -> None:
        """Take a network error: ``connection refused``, ``unreachable``, ``closed``, `LOCAL` ..."""
        if not self.called:
            self._end(Verdict.NETWORK_ERROR, None, reason)

    def carried(self) -> None:
        """Take note that the query has gone out on a connection."""
        self._upstream.carried(self)

    def descends(self) -> bool:
        """Ask for less than before, since connections are closed over the query; say whether that
        is possible.
        """
        return self._upstream.descends(self)

    def failure(self, reason: str) -> None:
        """Take a reply that holds no DNS message, like an HTTP error."""
        if not self.called:
            self._end(Verdict.FAILURE, None, reason)

    def expire(self) -> None:
        """End the exchange because its time is up."""
        if not self.called:
            self.release(timed_out=True)
            self._end(Verdict.NETWORK_ERROR, None, self.hinted or "timeout")

    def _conclude(self, message: bytes, *, usual: bool) -> bool:
        """Judge the reply and end with it, or return `False` if it looked ``usual`` and fails."""
        try:
            verdict, answer = self.judge.judge(message)
        except WireError:
            self._end(Verdict.FAILURE, None, MALFORMED)
            return True
        if answer is not None:
            self._end(verdict, answer, "")
        elif usual and full_rcode(message) not in SOUND:
            return False  # there is an error in the OPT record
        else:
            self._end(verdict, None, explained(message) or _failure(message))
        return True

    def _end(self, verdict: Verdict, answer: Answer | None, reason: str) -> None:
        if self.side_queries is not None:
            self._end_beside()
        outcome = self._upstream.finished(self, verdict, answer, reason)
        if self._taker is None:
            self.callback(outcome)
        else:
            self.called = True
            self._taker(outcome, self)

    def _end_beside(self) -> None:
        side_queries, self.side_queries = self.side_queries, None
        if side_queries is not None:
            side_queries.end()

    def _abandon(self) -> None:
        self._end_beside()
        self.release()
        self._upstream.abandoned(self)


def _cancelled(exchange: Deferred[Outcome]) -> None:
    """Be the canceller; a bound method would make a reference cycle of every exchange."""
    assert isinstance(exchange, Exchange)
    exchange._abandon()  # noqa: SLF001 (a part of the class)


class _Forget(Protocol):
    def __call__(self, exchange: Exchange, *, timed_out: bool) -> None: ...


def error_word(error: int | None) -> str:
    """Say in one word what an error number of a socket means for an exchange."""
    if error == ECONNREFUSED:
        return "connection refused"
    return LOCAL if error in _OUR_OWN else "unreachable"


def _failure(message: bytes) -> str:
    """Say in few words what is wrong with a reply that answers nothing."""
    if message[2] << 8 & TC:
        return TRUNCATED
    rcode = full_rcode(message)
    return _FAILURES.get(rcode) or f"{_UNNAMED}{rcode}"


def reason_label(reason: str) -> str:
    """Return the reason of an outcome as metrics show it: one of a fixed set."""
    return OTHER_RCODE if reason.startswith(_UNNAMED) else reason
