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
from staggerdns.upstream.health import State
from staggerdns.wire.answer import Answer
from staggerdns.wire.constants import HEADER_SIZE, OPCODE, QR, RCODE, TC, Rcode, WireError
from staggerdns.wire.question import Question
from staggerdns.wire.verdict import Verdict, judge

if TYPE_CHECKING:
    from staggerdns.upstream.upstream import Upstream

LOCAL = "local error"
"""The reason of an error of our own machine, which is no mark against an upstream."""
NO_EDNS = "no edns"
"""The reason of a question with DO to an upstream that does not cope with EDNS; no mark, either."""
NO_LINE = "no connection"
"""The reason of queries whose connection is known to fail already: that has its mark."""
UNMARKED = frozenset((LOCAL, NO_EDNS, NO_LINE))
_OUR_OWN = frozenset((EAGAIN, EMFILE, ENFILE, ENOBUFS, ENODEV, ENOMEM, EPERM, EACCES, EADDRINUSE))
_FAILURES: dict[int, str] = {
    Rcode.NOERROR: "referral",
    Rcode.FORMERR: "formerr",
    Rcode.SERVFAIL: "servfail",
    Rcode.REFUSED: "refused",
}
_ERRORS_WITHOUT_QUESTION = frozenset((Rcode.FORMERR, Rcode.SERVFAIL, Rcode.NOTIMP, Rcode.REFUSED))


class Outcome:
    """How an exchange ended: ``verdict``, the ``answer`` of a good reply, and ``seconds``.

    ``reason`` is one word for what went wrong, from a fixed set; empty for a good reply.
    """

    __slots__ = ("upstream", "verdict", "answer", "reason", "seconds")

    def __init__(
        self,
        upstream: Upstream,
        verdict: Verdict,
        answer: Answer | None,
        reason: str,
        seconds: float,
    ) -> None:
        self.upstream = upstream
        self.verdict = verdict
        self.answer = answer
        self.reason = reason
        self.seconds = seconds


class Exchange(Deferred[Outcome]):
    """A question on its way to one upstream: a Deferred of the `Outcome`.

    ``query``: the message without its ID, ready to send; ``repeated``: why it has been sent
    again, an empty string while it has not (that a connection was lost is no reason here).
    Cancel it to give up without a mark.
    """

    resent = False
    """Whether the query was sent once more because its connection was lost."""
    hinted = ""
    """The ICMP error that has come, if any: there may be no reply."""
    on_hint: Callable[[Exchange], None] | None = None
    """Called with the exchange when the first such error comes."""

    def __init__(
        self, upstream: Upstream, question: Question, query: bytes, tier: str, started: float
    ) -> None:
        super().__init__(_cancelled)
        self.question = question
        self.query = query
        self.tier = tier
        self.started = started
        self.forget: _Forget | None = None  # these two are set by the
        self.message_id = b""  # transport in charge
        self.repeated = ""
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

    def reply(self, message: bytes, *, final: bool) -> None:
        """Take a matching reply; ``final``: it came over a stream, which nobody can forge."""
        if self.called:
            return
        upstream = self._upstream
        if not upstream.dialect.is_as_usual(self.query, message, len(self.question.section)) and (
            upstream.asks_again(self, message, over_stream=final)
        ):
            self.hinted = ""
            return
        try:
            verdict, answer = judge(message, self.question)
        except WireError:
            self._end(Verdict.FAILURE, None, MALFORMED)
            return
        self._end(
            verdict,
            answer,
            "" if answer is not None else explained(message) or _failure(message),
        )

    def flee(self) -> None:
        """Go on over TCP: somebody forges replies."""
        if not self.called:
            self.hinted = ""
            self._upstream.ask_over_stream(self, "flood")

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

    def failure(self, reason: str) -> None:
        """Take a reply that holds no DNS message, like an HTTP error."""
        if not self.called:
            self._end(Verdict.FAILURE, None, reason)

    def expire(self) -> None:
        """End the exchange because its time is up."""
        if not self.called:
            self._leave(timed_out=True)
            self._end(Verdict.NETWORK_ERROR, None, self.hinted or "timeout")

    def _end(self, verdict: Verdict, answer: Answer | None, reason: str) -> None:
        outcome = self._upstream.finished(self, verdict, answer, reason)
        if self._taker is None:
            self.callback(outcome)
        else:
            self.called = True
            self._taker(outcome, self)

    def _leave(self, *, timed_out: bool) -> None:
        if self.forget is not None:
            self.forget(self, timed_out=timed_out)

    def _abandon(self) -> None:
        self._leave(timed_out=False)
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
    """Say in one word what is wrong with a reply that answers nothing."""
    if message[2] << 8 & TC:
        return TRUNCATED
    return _FAILURES.get(message[3] & RCODE, "rcode")


def mismatch(message: bytes, question: Question) -> str:
    """Say in one word why ``message`` cannot be the reply to ``question``, or an empty string.

    ID and source are the transport's to check. An error reply may lack the question, as
    servers that could not parse a query send it.
    """
    if len(message) < HEADER_SIZE:
        return "short"
    flags = message[2] << 8 | message[3]
    if not flags & QR or flags & OPCODE:
        return "flags"
    section = question.section
    end = HEADER_SIZE + len(section)
    if message[4:6] == b"\0\1":
        name = message[HEADER_SIZE : end - 4]
        if message[end - 4 : end] == section[-4:] and name.lower() == question.name:
            return ""
    elif message[4:6] == b"\0\0" and flags & RCODE in _ERRORS_WITHOUT_QUESTION:
        return ""
    return "question"
