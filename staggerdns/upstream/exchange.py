"""One query to one upstream, from the moment it is asked to its outcome.

An `Exchange` ends exactly once: with a reply, an error, `Exchange.expire` when its time is up,
or its cancellation. All but the last give an `Outcome`; cancelling is our
own wish and says nothing about the upstream (SPEC section 2).
"""

from __future__ import annotations

from errno import (
    EACCES,
    EADDRINUSE,
    EAGAIN,
    ECONNREFUSED,
    EMFILE,
    ENFILE,
    ENOBUFS,
    ENOMEM,
    EPERM,
)
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred

from staggerdns.upstream.health import State
from staggerdns.wire.answer import Answer
from staggerdns.wire.constants import OPCODE, QR, RCODE, TC, Rcode, WireError
from staggerdns.wire.question import Question
from staggerdns.wire.verdict import Verdict, judge

if TYPE_CHECKING:
    from staggerdns.upstream.upstream import Upstream

LOCAL = "local error"
"""The reason of an error of our own machine, which is no mark against an upstream."""
_OUR_OWN = frozenset((EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM, EACCES, EADDRINUSE))
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

    ``query``: the message without its ID, ready to send. Cancel it to give up without a mark.
    """

    repeated = False
    """Whether the query was sent once more because its connection was lost."""

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
        self._upstream = upstream

    @property
    def decides_health(self) -> bool:
        """Whether the upstream is on trial, or may heal."""
        return self._upstream.health.state != State.HEALTHY

    def reply(self, message: bytes, *, final: bool) -> None:
        """Take a matching reply; a truncated one counts only when it is ``final`` (TCP)."""
        if self.called:
            return
        if message[2] << 8 & TC and not final:
            self._upstream.ask_again_over_stream(self)
            return
        try:
            verdict, answer = judge(message, self.question)
        except WireError:
            self._end(Verdict.FAILURE, None, "malformed")
            return
        self._end(
            verdict,
            answer,
            "" if answer is not None else _failure(message),
        )

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
            self._end(Verdict.NETWORK_ERROR, None, "timeout")

    def _end(self, verdict: Verdict, answer: Answer | None, reason: str) -> None:
        self.callback(self._upstream.finished(self, verdict, answer, reason))

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
        return "truncated"
    return _FAILURES.get(message[3] & RCODE, "rcode")


def mismatch(message: bytes, question: Question) -> str:
    """Say in one word why ``message`` cannot be the reply to ``question``, or an empty string.

    ID and source are the transport's to check. An error reply may lack the question, as
    servers that could not parse a query send it.
    """
    if len(message) < 12:
        return "short"
    flags = message[2] << 8 | message[3]
    if not flags & QR or flags & OPCODE:
        return "flags"
    section = question.section
    end = 12 + len(section)
    if message[4:6] == b"\0\1":
        if message[12:end] == section:
            return ""
        if (
            message[12 : end - 4].lower() == question.name
            and message[end - 4 : end] == section[-4:]
        ):
            return ""
    elif message[4:6] == b"\0\0" and flags & RCODE in _ERRORS_WITHOUT_QUESTION:
        return ""
    return "question"
