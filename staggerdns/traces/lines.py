"""What the log says of a collection, at the level ``debug``."""

from __future__ import annotations

from staggerdns.journal import Journal
from staggerdns.traces.trace import Trace
from staggerdns.upstream.exchange import Outcome
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer
from staggerdns.wire.contributors import described
from staggerdns.wire.question import Question
from staggerdns.wire.verdict import NEGATIVE, POSITIVE


def log_first(journal: Journal, question: Question, outcome: Outcome) -> None:
    """Log who answers the clients."""
    journal.debug(
        "{name}: {upstream} answers first, after {seconds:.3f} s",
        name=str(question),
        upstream=outcome.upstream.name,
        seconds=outcome.seconds,
    )


def log_end(journal: Journal, question: Question, trace: Trace, answer: Answer) -> None:
    """Log what a collection has come to: ``answer``."""
    pool = answer if isinstance(answer, AddressPool) else None
    outcomes = [one for one in trace.history if isinstance(one, Outcome)]
    journal.debug(
        "{name}: collection complete, {answers} answers from {asked} upstreams, "
        "{addresses} addresses in the pool{contributors}",
        name=str(question),
        answers=sum(outcome.verdict in (POSITIVE, NEGATIVE) for outcome in outcomes),
        asked=len({one.upstream for one in trace.history}),
        addresses=len(pool.addresses) if pool is not None else 0,
        contributors=described(pool.contributors) if pool is not None else "",
    )
