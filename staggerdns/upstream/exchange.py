"""One query to one upstream, from the moment it is asked to its outcome.

An `Exchange` ends exactly once: with a reply, an error, `Exchange.expire` when its time is up,
or its cancellation. All but the last give an `Outcome`; cancelling is our own wish and says nothing
about the upstream (docs/specification.rst, Health).

A transport hands what comes to whoever asked, the `ExchangeOwner`: an `Upstream`, or something of
its own that asks beside an exchange. What a reply is worth is for that to decide.

An ICMP error over UDP ends nothing, since anybody can forge one (RFC 5927, RFC 8085 section 5.2):
it is a hint to ask others (`Exchange.hint`), and the reason of an exchange that gets no reply.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from staggerdns.upstream.edns import FULL, PLAIN
from staggerdns.upstream.health import NegativeTrust
from staggerdns.upstream.reason import Reason
from staggerdns.wire.answer import Answer
from staggerdns.wire.dropped import Dropped
from staggerdns.wire.judge import Judge
from staggerdns.wire.question import Question
from staggerdns.wire.verdict import FAILURE, NETWORK_ERROR, Verdict


class Outcome:
    """How an exchange ended: ``verdict``, the ``answer`` of a good reply, ``seconds`` that it
    took, ``asked`` and ``at``, the times when it began and ended. ``tier``: as it was asked.

    ``reason``: what went wrong, `None` for a good reply. ``dropped``: addresses that came and no
    client is given, each with the reason why.
    """

    __slots__ = (
        "upstream",
        "verdict",
        "answer",
        "reason",
        "tier",
        "asked",
        "seconds",
        "at",
        "dropped",
    )

    def __init__(
        self,
        upstream: AskedUpstream,
        verdict: Verdict,
        answer: Answer | None,
        reason: Reason | None,
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
        self.dropped: Sequence[Dropped] = ()

    def drop_all_but(self, kept: Collection[bytes], why: str) -> None:
        """Note that of the addresses of its answer only those ``kept`` are given to anybody."""
        assert self.answer is not None
        addresses = self.answer.addresses
        if len(addresses) > len(kept):
            left = set(addresses).difference(kept, [address for address, _ in self.dropped])
            self.dropped = (*self.dropped, *[(one, why) for one in addresses if one in left])


class ExchangeOwner:
    """Whoever has sent the query of an exchange, and is told what becomes of it.

    A class and no `typing.Protocol`: every reply comes this way. Abstract without ABCMeta, whose
    checks of instances are slow.
    """

    __slots__ = ()

    @abstractmethod
    def received(
        self,
        exchange: Exchange,
        message: bytes,
        *,
        over_stream: bool,
        repeated: bool = False,
    ) -> bool:
        """Use a reply that matches the query; over a stream nobody can forge one.

        ``repeated``: its question is known to be the one that was sent, letter by letter.
        Return whether another reply to the same query is still welcome: this one may be forged.
        """

    @abstractmethod
    def ended(self, exchange: Exchange, verdict: Verdict, reason: Reason) -> None:
        """End the exchange, to which there will be no reply with a DNS message."""

    @abstractmethod
    def retry_over_tcp(self, exchange: Exchange) -> None:
        """Go on over TCP: somebody forges replies."""

    def believe(self, exchange: Exchange, message: bytes) -> None:
        """Use a reply that is doubted, since there is no way to check it any more."""

    def abandoned(self, exchange: Exchange) -> None:
        """Note that the exchange was cancelled."""

    def carried(self, exchange: Exchange) -> None:
        """Note that the query has gone out on a connection."""

    def asks_for_less(self, exchange: Exchange) -> bool:
        """Phrase the query with less EDNS, since connections are closed over it. Return whether
        that was possible.
        """
        return False


class AskedUpstream(ExchangeOwner):
    """The upstream that an outcome is about, as it is known to those who hear the outcome."""

    __slots__ = ()

    name: str
    negative_trust: NegativeTrust

    @abstractmethod
    def blame(self, outcome: Outcome, question: Question) -> None:
        """Mark a failing reply to ``question``, which others answered well."""

    @abstractmethod
    def pardon(self, outcome: Outcome) -> None:
        """Let a failing reply be none of the upstream's own fault: nobody answered well."""


class Exchange:
    """A question on its way to one upstream.

    ``owner``: who asked; ``judge``: of the replies to the ``question``; ``query``: the message
    without its ID, ready to send. Whoever wants the `Outcome` says so once, by `deferred` or by
    `on_outcome`.
    """

    over = False
    """Whether it has ended."""
    resent = False
    """Whether the query was sent once more because its connection was lost."""
    hinted: Reason | None = None
    """The ICMP error, or the reply that counts as none, that has come: there may be no other."""
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
    dropped: Sequence[Dropped] = ()
    """What of its replies is given to nobody."""
    unsigned = False
    """Whether an answer without signatures is better than none, although DO is set."""
    message_id = b""
    """The transport in charge sets it, as it does ``forget``."""
    _call: Callable[[Outcome, Exchange], None] | None = None
    _deferred: Deferred[Outcome] | None = None
    _outcome: Outcome | None = None  # until somebody wants it

    def __init__(
        self, owner: ExchangeOwner, judge: Judge, query: bytes, tier: str, started: float
    ) -> None:
        self.owner = owner
        self.judge = judge
        self.question = judge.question
        self.query = query
        self.tier = tier
        self.started = started
        # Not above: compiled, a protocol or None has no default there.
        self.forget: _Forget | None = None

    def deferred(self) -> Deferred[Outcome]:
        """Return a Deferred of the outcome; to cancel one is to cancel the other."""
        made: Deferred[Outcome] = Deferred(self._give_up)
        if self._outcome is not None:
            made.callback(self._outcome)
        else:
            self._deferred = made
        return made

    def on_outcome(self, call: Callable[[Outcome, Exchange], None]) -> None:
        """Call ``call`` with outcome and exchange, but not when cancelled.

        Most exchanges only complete a pool. For these a Deferred would cost more than everything
        else about a reply.
        """
        if self._outcome is not None:
            call(self._outcome, self)
        else:
            self._call = call

    def conclude(self, outcome: Outcome) -> None:
        """End with this outcome; called by whoever asked."""
        self.over = True
        outcome.dropped = self.dropped
        deferred = self._deferred
        if self._call is not None:
            self._call(outcome, self)
        elif deferred is not None:
            self._deferred = None  # they hold each other
            deferred.callback(outcome)
        else:
            self._outcome = outcome

    def cancel(self) -> None:
        """Give up without a mark."""
        if self._deferred is not None:
            self._deferred.cancel()
        elif not self.over:
            self._give_up()

    def _give_up(self, _: object = None) -> None:
        self.over = True
        self._deferred = None
        self.release()
        self.owner.abandoned(self)

    def drop(self) -> None:
        """End without an outcome, for one that nobody but its owner knows."""
        if not self.over:
            self.over = True
            self.release()

    def release(self, *, timed_out: bool = False) -> None:
        """Make the transport in charge forget the query."""
        forget, self.forget = self.forget, None
        if forget is not None:
            forget(self, timed_out=timed_out)

    def hint(self, reason: Reason) -> None:
        """Note an error that may be forged; a reply is welcome all the same."""
        if not self.over and self.hinted is None:
            self.hinted = reason
            if self.on_hint is not None:
                self.on_hint(self)

    def error(self, reason: Reason) -> None:
        """End with a network error."""
        if not self.over:
            self.owner.ended(self, NETWORK_ERROR, reason)

    def failure(self, reason: Reason) -> None:
        """End with a reply that holds no DNS message, like an HTTP error."""
        if not self.over:
            self.owner.ended(self, FAILURE, reason)

    def expire(self) -> None:
        """End because the time is up."""
        if not self.over:
            self.release(timed_out=True)
            self.owner.ended(self, NETWORK_ERROR, self.hinted or Reason.TIMEOUT)

    def retry_over_tcp(self) -> None:
        """Go on over TCP: somebody forges replies."""
        if not self.over:
            self.owner.retry_over_tcp(self)


class _Forget(Protocol):
    def __call__(self, exchange: Exchange, *, timed_out: bool) -> None: ...
