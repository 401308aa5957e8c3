"""What Prometheus sees (SPEC section 5).

Counting must cost next to nothing, so the rooms hold plain cells and add to them; the families
below turn the cells into samples when somebody asks. Label values come from fixed sets or from
the configuration, never from a query's name or a client's address.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

_QTYPE_LABELS = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    12: "PTR",
    15: "MX",
    16: "TXT",
    28: "AAAA",
    33: "SRV",
    35: "NAPTR",
    43: "DS",
    46: "RRSIG",
    48: "DNSKEY",
    52: "TLSA",
    64: "SVCB",
    65: "HTTPS",
    255: "ANY",
    257: "CAA",
}
_RCODE_LABELS = {
    0: "NOERROR",
    1: "FORMERR",
    2: "SERVFAIL",
    3: "NXDOMAIN",
    4: "NOTIMP",
    5: "REFUSED",
    16: "BADVERS",
}
_SECONDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0)
_OTHER = "other"


class Cell:
    """One number that only grows; add to ``value`` directly."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Counter:
    """A family of cells by label values; bind a cell once and keep it."""

    def __init__(self, name: str, documentation: str, *labels: str) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._cells: dict[tuple[str, ...], Cell] = {}

    def cell(self, *values: str) -> Cell:
        """Return the cell of these label values, the same one at every call."""
        found = self._cells.get(values)
        if found is None:
            found = self._cells[values] = Cell()
        return found

    def collect(self) -> Metric:
        """Return the family with the values of now."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, cell in self._cells.items():
            family.add_metric(values, cell.value)
        return family


class Distribution:
    """The buckets of one histogram, in seconds."""

    __slots__ = ("_counts", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(_SECONDS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count ``times`` observations of ``seconds`` each."""
        self._counts[bisect_left(_SECONDS, seconds)] += times
        self._sum += seconds * times

    def samples(self) -> tuple[list[tuple[str, float]], float]:
        """Return cumulative buckets and the sum, as Prometheus wants them."""
        bounds = [str(bound) for bound in _SECONDS] + ["+Inf"]
        return list(zip(bounds, accumulate(self._counts), strict=True)), self._sum


class Histogram:
    """A family of distributions by label values."""

    def __init__(self, name: str, documentation: str, *labels: str) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._distributions: dict[tuple[str, ...], Distribution] = {}

    def distribution(self, *values: str) -> Distribution:
        """Return the distribution of these label values, the same one at every call."""
        found = self._distributions.get(values)
        if found is None:
            found = self._distributions[values] = Distribution()
        return found

    def collect(self) -> Metric:
        """Return the family with the values of now."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, distribution in self._distributions.items():
            buckets, total = distribution.samples()
            family.add_metric(values, buckets, total)
        return family


class Gauge:
    """A family whose values are read from functions when somebody asks."""

    def __init__(self, name: str, documentation: str, *labels: str) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._readers: dict[tuple[str, ...], Callable[[], float]] = {}

    def read_from(self, reader: Callable[[], float], *values: str) -> None:
        """Take the value of these label values from ``reader``."""
        self._readers[values] = reader

    def collect(self) -> Metric:
        """Return the family with the values of now."""
        family = GaugeMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, reader in self._readers.items():
            family.add_metric(values, reader())
        return family


class Maximum:
    """The largest value of the last `PERIOD` to twice `PERIOD` seconds."""

    PERIOD = 300.0

    __slots__ = ("_before", "_lately", "_since")

    def __init__(self) -> None:
        self._before = 0
        self._lately = 0
        self._since = 0.0

    def see(self, value: int, now: float) -> None:
        """Take in a ``value`` seen at ``now``, in seconds of any clock that goes forward."""
        self._turn(now)
        self._lately = max(self._lately, value)

    def at(self, now: float) -> int:
        """Return the maximum as it stands at ``now``."""
        self._turn(now)
        return max(self._before, self._lately)

    def _turn(self, now: float) -> None:
        passed = now - self._since
        if passed >= self.PERIOD:
            recent = passed < 2 * self.PERIOD
            self._before = self._lately if recent else 0
            self._lately = 0
            self._since = self._since + self.PERIOD if recent else now


class HitCell:
    """Counts the replies of one kind that came ready from the cache, for several families."""

    __slots__ = ("value", "labels")

    def __init__(self, labels: tuple[str, str, str]) -> None:
        self.value = 0
        self.labels = labels  # transport, type, rcode


class Metrics(Collector):
    """All families of the program; each room adds to those that it was given.

    Register it with a `prometheus_client.CollectorRegistry` to serve them.
    """

    def __init__(self) -> None:
        self._queries: dict[tuple[str, int], Cell] = {}
        self._responses: dict[tuple[str, int], Cell] = {}
        self._hits: dict[tuple[str, int, int], HitCell] = {}
        self.dropped = Counter(
            "staggerdns_dropped_queries", "Messages that got no reply", "transport", "reason"
        )
        self.send_errors = Counter(
            "staggerdns_send_errors", "Replies that the system would not take", "transport"
        )
        self.answer_seconds = Histogram(
            "staggerdns_answer_seconds", "Time from a query to its answer", "source"
        )
        self.active_tier = Counter(
            "staggerdns_active_tier", "Collections by what their active tier did", "outcome"
        )
        self.staggered_starts = Counter(
            "staggerdns_staggered_tier_starts", "Staggered tiers started, by cause", "reason"
        )
        self.pool_addresses = Counter(
            "staggerdns_pool_addresses", "Addresses that joined a pool", "tier"
        )
        self.collections = Gauge("staggerdns_collections_running", "Collections under way")
        self.collection_seconds = Histogram(
            "staggerdns_collection_seconds", "Duration of collections"
        )
        self.collection_outcomes = Counter(
            "staggerdns_collections", "Collections ended, by what they found", "strategy", "outcome"
        )
        self.followers = Counter(
            "staggerdns_followers", "Queries that joined a collection under way"
        )
        self.refreshes = Counter(
            "staggerdns_refreshes", "Collections started behind a stale answer"
        )
        self.shed = Counter(
            "staggerdns_shed_queries", "Queries answered SERVFAIL because too many were waiting"
        )
        self.upstream_inflight = Gauge(
            "staggerdns_upstream_inflight", "Queries waiting for an upstream", "upstream"
        )
        self.launches_window_max = Gauge(
            "staggerdns_upstream_launches_window_max",
            "Most upstream queries of one name started within a stagger delay, lately",
        )
        self.upstream_seconds = Histogram(
            "staggerdns_upstream_seconds",
            "Time from asking an upstream to its outcome",
            "upstream",
            "tier",
            "result",
        )
        self.upstream_usable = Gauge(
            "staggerdns_upstream_usable",
            "1 while the upstream is asked, 0 while it rests",
            "upstream",
        )
        self.upstream_state = Gauge(
            "staggerdns_upstream_state", "0 healthy, 1 degraded, 2 unhealthy", "upstream"
        )
        self.upstream_changes = Counter(
            "staggerdns_upstream_changes",
            "Changes of health, by the new state",
            "upstream",
            "state",
        )
        self.upstream_rate = Gauge(
            "staggerdns_upstream_rate_limit", "Queries per second allowed, 0: no limit", "upstream"
        )
        self.staggered_skipped = Counter(
            "staggerdns_staggered_skipped",
            "Upstreams not asked because of their budget",
            "upstream",
        )
        self.average_latency = Gauge(
            "staggerdns_latency_average_seconds", "Moving average of the times of first answers"
        )
        self.racing_delay = Gauge("staggerdns_racing_delay_seconds", "Delay of a race")
        self.racing_deviation = Gauge(
            "staggerdns_latency_deviation_seconds",
            "Standard deviation of the times of first answers",
        )
        self.racing_batch = Gauge("staggerdns_racing_batch_size", "Size of the last racing batch")
        self.early_triggers = Counter(
            "staggerdns_early_triggers", "Races in which a network error started the others"
        )
        self.sequential_timeout = Gauge(
            "staggerdns_sequential_timeout_seconds", "Time that one try may take", "upstream"
        )
        self.fallback_timeout = Gauge(
            "staggerdns_fallback_timeout_seconds", "Time that the active tier has to answer"
        )
        self.upstream_latency = Gauge(
            "staggerdns_upstream_latency_seconds", "Moving average of reply times", "upstream"
        )
        self.upstream_rejected = Counter(
            "staggerdns_upstream_rejected",
            "Messages from an upstream's address that answer nothing that we asked",
            "upstream",
            "reason",
        )
        self.upstream_truncated = Counter(
            "staggerdns_upstream_truncated", "Replies over UDP asked again over TCP", "upstream"
        )
        self.upstream_connections = Gauge(
            "staggerdns_upstream_connections", "Open connections to an upstream", "upstream"
        )
        self.upstream_connects = Counter(
            "staggerdns_upstream_connects", "Connections made, or why not", "upstream", "result"
        )
        self.upstream_repeated = Counter(
            "staggerdns_upstream_repeated", "Queries of lost connections, sent again", "upstream"
        )
        self.upstream_http_errors = Counter(
            "staggerdns_upstream_http_errors", "HTTP errors", "upstream", "status"
        )
        self.bootstrap_lookups = Counter(
            "staggerdns_bootstrap_lookups", "Lookups of names of upstreams", "outcome"
        )
        self.cache_entries = Gauge("staggerdns_cache_entries", "Answers in the cache")
        self.cache_evictions = Counter("staggerdns_cache_evictions", "Answers dropped to make room")
        self.sorts = Counter("staggerdns_sorts", "Sorts started, by cause", "trigger")
        self.sorts_cancelled = Counter(
            "staggerdns_sorts_cancelled", "Sorts whose result was dropped"
        )
        self.sorts_running = Gauge("staggerdns_sorts_running", "Sorts under way")
        self.probes = Counter("staggerdns_probes", "Probes sent", "method")
        self.probe_losses = Counter("staggerdns_probe_losses", "Probes without an answer", "method")
        self.probe_seconds = Histogram(
            "staggerdns_probe_rtt_seconds", "Round-trip times of probes", "method"
        )
        self.addresses_measured = Gauge(
            "staggerdns_addresses_measuring", "Addresses being measured or waiting for it"
        )
        self.addresses_known = Gauge(
            "staggerdns_rtt_addresses", "Addresses in the table of round-trip times"
        )
        self.tcp_connections = Gauge("staggerdns_tcp_connections", "Open client connections")
        self.tcp_refused = Counter(
            "staggerdns_tcp_refused_connections", "Client connections beyond the limit"
        )

    def query(self, transport: str, qtype: int) -> Cell:
        """Return the cell that counts queries of this kind."""
        return self._queries.setdefault((transport, _known(qtype, _QTYPE_LABELS)), Cell())

    def response(self, transport: str, rcode: int) -> Cell:
        """Return the cell that counts responses of this kind."""
        return self._responses.setdefault((transport, _known(rcode, _RCODE_LABELS)), Cell())

    def hit(self, transport: str, qtype: int, rcode: int) -> HitCell:
        """Return the cell that counts a query and its response from the cache in one go."""
        qtype, rcode = _known(qtype, _QTYPE_LABELS), _known(rcode, _RCODE_LABELS)
        found = self._hits.get((transport, qtype, rcode))
        if found is None:
            labels = (transport, _label(qtype, _QTYPE_LABELS), _label(rcode, _RCODE_LABELS))
            found = self._hits[transport, qtype, rcode] = HitCell(labels)
        return found

    def collect(self) -> Iterator[Metric]:
        """Yield every family with the values of now."""
        yield from self._traffic()
        for family in vars(self).values():
            if isinstance(family, Counter | Gauge | Histogram):
                yield family.collect()

    def _traffic(self) -> Iterator[Metric]:
        queries: dict[tuple[str, str], int] = {}
        responses: dict[tuple[str, str], int] = {}
        for (transport, qtype), cell in self._queries.items():
            queries[transport, _label(qtype, _QTYPE_LABELS)] = cell.value
        for (transport, rcode), cell in self._responses.items():
            responses[transport, _label(rcode, _RCODE_LABELS)] = cell.value
        for hit in self._hits.values():
            transport, qtype_label, rcode_label = hit.labels
            for totals, label in ((queries, qtype_label), (responses, rcode_label)):
                totals[transport, label] = totals.get((transport, label), 0) + hit.value
        for name, documentation, label, totals in (
            ("staggerdns_queries", "Queries by transport and type", "type", queries),
            ("staggerdns_responses", "Responses by transport and code", "rcode", responses),
        ):
            family = CounterMetricFamily(name, documentation, labels=("transport", label))
            for values, total in totals.items():
                family.add_metric(values, total)
            yield family


def _known(number: int, labels: dict[int, str]) -> int:
    """Fold the numbers without a label of their own into one, so that cells stay few."""
    return number if number in labels else -1


def _label(number: int, labels: dict[int, str]) -> str:
    return labels.get(number, _OTHER)
