"""What the connections to one upstream tell: its metrics and its lines in the log."""

from __future__ import annotations

from collections.abc import Callable

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics


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
        rejected: Callable[[str], None],
        wait: Callable[[float], None],
    ) -> None:
        self.rejected = rejected
        self.wait = wait
        self._name = name
        self._metrics = metrics
        self._journal = journal
        self._repeated = metrics.upstream_repeated.cell(name, "closed")
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

    def failed(self, reason: str) -> None:
        """Note an attempt to connect that came to nothing; ``reason`` is of a fixed set."""
        self._metrics.upstream_connects.cell(self._name, reason).value += 1

    def refused(self, reason: str, detail: str) -> None:
        """Say why there is no TLS session: once, until there is another cause, or one works."""
        if self._last_refusal == detail:
            return
        self._last_refusal = detail
        what = "certificate not accepted" if reason == "certificate" else "no TLS session"
        self._journal.warn(
            "upstream {upstream}: {what}: {detail}", upstream=self._name, what=what, detail=detail
        )

    def repeated(self) -> None:
        """Note a query that is sent once more, on a new connection."""
        self._repeated.value += 1

    def status(self, code: int) -> None:
        """Note an HTTP status other than 200."""
        label = str(code) if code in (429, 503) else f"{code // 100}xx" if code < 600 else "other"
        self._metrics.upstream_http_errors.cell(self._name, label).value += 1
