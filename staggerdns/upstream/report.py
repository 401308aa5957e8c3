"""What is told of one upstream, and of the connections to it: metrics, and lines in the log."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from staggerdns.instruments import Distribution
from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.upstream.health import Health, State
from staggerdns.upstream.latency import Latency
from staggerdns.upstream.reason import Reason, RetryReason
from staggerdns.wire.reply import Mismatch
from staggerdns.wire.verdict import Verdict


class UpstreamReport:
    """Tells what becomes of queries to the upstream ``name``.

    ``distributions``: of the times of outcomes, by verdict and tier; ``skipped`` counts the times
    that the upstream was not asked because of its budget. ``because``: what made it unhealthy or
    degraded, empty while it is healthy.
    """

    def __init__(self, name: str, metrics: Metrics, journal: Journal) -> None:
        self._name = name
        self._metrics = metrics
        self._journal = journal
        self._truncated = metrics.upstream_truncated.cell(name)
        self._local_errors = metrics.upstream_local_errors.cell(name)
        self._changes = {
            state: metrics.upstream_changes.cell(name, state.name.lower()) for state in State
        }
        self.skipped = metrics.staggered_skipped.cell(name)
        self.distributions: list[dict[str, Distribution]] = [{} for _ in Verdict]
        self.because = ""

    def show(
        self,
        clock: IReactorTime,
        health: Health,
        latency: Latency,
        inflight: Callable[[], int],
        rate: Callable[[], float],
    ) -> None:
        """Show the numbers of now whenever somebody looks."""
        name, metrics = self._name, self._metrics
        metrics.upstream_inflight.read_from(inflight, name)
        # Not whether a trial is due, which changes twice a second while nobody answers.
        metrics.upstream_usable.read_from(lambda: float(health.state is not State.UNHEALTHY), name)
        metrics.upstream_state.read_from(lambda: health.state, name)
        metrics.upstream_latency.read_from(lambda: latency.mean(clock.seconds()), name)
        metrics.upstream_rate.read_from(rate, name)

    def distribution(self, verdict: Verdict, tier: str) -> Distribution:
        """Return the distribution of the times of such outcomes."""
        found = self._metrics.upstream_seconds.distribution(self._name, tier, verdict.name.lower())
        return self.distributions[verdict].setdefault(tier, found)

    def outcomes(self) -> list[int]:
        """Return how many queries have ended, by verdict."""
        return [sum([one.count for one in found.values()]) for found in self.distributions]

    def failed(self, reason: Reason) -> None:
        """Count an outcome without an answer."""
        self._metrics.upstream_failures.cell(self._name, reason.label).value += 1
        self._local_errors.value += reason is Reason.LOCAL

    def repeated(self, reason: RetryReason) -> None:
        """Count a query that is sent once more."""
        if reason is RetryReason.TRUNCATED:
            self._truncated.value += 1
        else:
            self._metrics.upstream_repeated.cell(self._name, reason.label).value += 1

    def rejected(self, reason: Mismatch) -> None:
        """Count a message that was not accepted."""
        self._metrics.upstream_rejected.cell(self._name, reason.value).value += 1

    def changed(self, state: State, reason: Reason | None) -> None:
        """Count and log a change of health; ``reason``: of the failure that made it."""
        self._changes[state].value += 1
        if state == State.HEALTHY:
            self.because = ""
        elif reason is not None:
            self.because = str(reason)
        tell = self._journal.info if state == State.HEALTHY else self._journal.warn
        tell(
            "upstream {upstream} is {state}" + ("" if reason is None else " ({reason})"),
            upstream=self._name,
            state=state.name.lower(),
            reason=reason,
        )


class StreamReport:
    """Tells of the connections to the upstream ``name``.

    ``rejected`` is told why a message was not accepted, ``wait`` for how many seconds the upstream
    wants to be left alone.
    """

    def __init__(
        self,
        name: str,
        metrics: Metrics,
        journal: Journal,
        rejected: Callable[[Mismatch], None],
        wait: Callable[[float], None],
    ) -> None:
        self.rejected = rejected
        self.wait = wait
        self._name = name
        self._metrics = metrics
        self._journal = journal
        self._repeated = metrics.upstream_repeated.cell(name, RetryReason.CLOSED.label)
        self._last_refusal = ""

    def count_connections(self, reader: Callable[[], int]) -> None:
        """Show the number of open connections, as ``reader`` says it."""
        self._metrics.upstream_connections.read_from(reader, self._name)

    def connected(self, kind: str) -> None:
        """Note a connection: ``tcp``, or with TLS after a ``full`` handshake or one ``resumed``."""
        self._metrics.upstream_connects.cell(self._name, kind).value += 1
        if self._last_refusal:
            self._last_refusal = ""
            self._journal.info("upstream {upstream}: TLS works", upstream=self._name)

    def failed(self, reason: Reason) -> None:
        """Note an attempt to connect that came to nothing."""
        self._metrics.upstream_connects.cell(self._name, reason.label).value += 1

    def refused(self, reason: Reason, detail: str) -> None:
        """Log why there is no TLS session: once, until there is another cause, or one works."""
        if self._last_refusal == detail:
            return
        self._last_refusal = detail
        of_certificate = reason is Reason.CERTIFICATE
        self._journal.warn(
            "upstream {upstream}: {what}: {detail}",
            upstream=self._name,
            what="certificate not accepted" if of_certificate else "no TLS session",
            detail=detail,
        )

    def repeated(self) -> None:
        """Note a query that is sent once more, on a new connection."""
        self._repeated.value += 1

    def status(self, code: int) -> None:
        """Note an HTTP status other than 200."""
        label = str(code) if code in (429, 503) else f"{code // 100}xx" if code < 600 else "other"
        self._metrics.upstream_http_errors.cell(self._name, label).value += 1
