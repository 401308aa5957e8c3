"""What Prometheus sees (docs/metrics.rst).

Every family of the program is named here. Label values come from fixed sets or from the
configuration, never from a query's name or a client's address.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from staggerdns.instruments import Cell, Counter, Family, Gauge, Histogram
from staggerdns.wire.constants import Rcode, Type

_QTYPES = (
    Type.A,
    Type.NS,
    Type.CNAME,
    Type.SOA,
    Type.PTR,
    Type.MX,
    Type.TXT,
    Type.AAAA,
    Type.SRV,
    Type.NAPTR,
    Type.DS,
    Type.RRSIG,
    Type.DNSKEY,
    Type.TLSA,
    Type.SVCB,
    Type.HTTPS,
    Type.ANY,
    Type.CAA,
)
"""Types that are counted by name; all the others together are ``other``."""
_QTYPE_LABELS = {int(qtype): qtype.name for qtype in _QTYPES}
_RCODE_LABELS = {int(rcode): rcode.name for rcode in Rcode}
_OTHER = "other"


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
        self._add_server()
        self._add_collections()
        self._add_upstreams()
        self._add_connections()
        self._add_cache()
        self._add_lists()

    def _add_server(self) -> None:
        self.dropped = Counter(
            "staggerdns_dropped_queries", "Messages that got no reply", "transport", "reason"
        )
        self.rate_limited = Counter(
            "staggerdns_rate_limited",
            "Queries beyond the rate limit of their client, by what became of them",
            "action",
        )
        self.send_errors = Counter(
            "staggerdns_send_errors", "Replies that the system would not take", "transport"
        )
        self.answer_seconds = Histogram(
            "staggerdns_answer_seconds", "Time from a query to its answer", "source"
        )
        self.tcp_connections = Gauge("staggerdns_tcp_connections", "Open client connections")
        self.tcp_refused = Counter(
            "staggerdns_tcp_refused_connections", "Client connections beyond the limit"
        )
        self.unread_octets = Gauge(
            "staggerdns_unread_octets", "Octets of replies that clients have yet to read"
        )
        self.unread_dropped = Counter(
            "staggerdns_unread_dropped_connections",
            "Connections broken because their clients left too much unread",
        )
        self.metrics_refused = Counter(
            "staggerdns_metrics_refused_connections",
            "Connections to the metrics listener beyond its limits",
        )

    def _add_collections(self) -> None:
        self.active_tier = Counter(
            "staggerdns_active_tier", "Collections by what their active tier did", "outcome"
        )
        self.staggered_starts = Counter(
            "staggerdns_staggered_tier_starts", "Staggered tiers started, by cause", "reason"
        )
        self.rebinding_stripped = Counter(
            "staggerdns_rebinding_stripped",
            "Records of upstreams left out because public names must not have private addresses",
        )
        self.addresses_ignored = Counter(
            "staggerdns_addresses_ignored",
            "Records of upstreams left out because their addresses are ignored",
        )
        self.bogus_nxdomain = Counter(
            "staggerdns_bogus_nxdomain",
            "Answers of upstreams that are NXDOMAIN because of an address in them",
        )
        self.stray_records = Counter(
            "staggerdns_upstream_stray_records",
            "What upstreams sent and clients are not given, as it was malformed or did not belong",
            "kind",
        )
        self.pool_addresses = Counter(
            "staggerdns_pool_addresses", "Addresses that joined a pool", "tier"
        )
        self.pool_upstreams = Counter(
            "staggerdns_pool_upstreams",
            "Upstreams of collected pools, by whether they had answered at the end",
            "outcome",
        )
        self.pool_completeness = Gauge(
            "staggerdns_pool_completeness",
            "Share of the addresses that is found although not everybody is asked, lately",
        )
        self.staggered_spared = Counter(
            "staggerdns_staggered_spared",
            "Queries to upstreams not sent because they would add nothing (ask: learned)",
        )
        self.collections = Gauge("staggerdns_collections_running", "Collections under way")
        self.collection_seconds = Histogram(
            "staggerdns_collection_seconds", "Duration of collections"
        )
        self.collection_outcomes = Counter(
            "staggerdns_collections", "Collections ended, by what they found", "strategy", "outcome"
        )
        self.route_outcomes = Counter(
            "staggerdns_route_collections",
            "Collections of names that have a route, by what its upstreams said",
            "route",
            "outcome",
        )
        self.followers = Counter(
            "staggerdns_followers", "Queries that joined a collection under way"
        )
        self.refreshes = Counter("staggerdns_refreshes", "Collections started behind an answer")
        self.prefetches = Counter("staggerdns_prefetches", "Collections started ahead of expiry")
        self.collections_queued = Gauge(
            "staggerdns_collections_queued", "Collections that wait for their turn to begin"
        )
        self.queries_waiting = Gauge("staggerdns_queries_waiting", "Queries without their answer")
        self.evicted_queries = Counter(
            "staggerdns_shed_queries",
            "Queries answered SERVFAIL because too many were waiting, by the limit",
            "limit",
        )

    def _add_upstreams(self) -> None:
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
        self.upstream_failures = Counter(
            "staggerdns_upstream_failures",
            "Queries that an upstream did not answer well, by what was wrong",
            "upstream",
            "reason",
        )
        self.upstream_truncated = Counter(
            "staggerdns_upstream_truncated", "Replies over UDP asked again over TCP", "upstream"
        )
        self.upstream_repeated = Counter(
            "staggerdns_upstream_repeated",
            "Queries repeated because of what a reply lacked, or of a lost connection",
            "upstream",
            "reason",
        )
        self.upstream_local_errors = Counter(
            "staggerdns_upstream_local_errors",
            "Queries that our own system would not send",
            "upstream",
        )
        self.reload_successful = Gauge(
            "staggerdns_config_reload_successful",
            "1 if the last reload of the configuration has succeeded, or there was none",
        )
        self.reload_time = Gauge(
            "staggerdns_config_last_reload_success_timestamp_seconds",
            "When the configuration that counts was read, in seconds since 1970",
        )
        self.log_lost = Counter("staggerdns_log_lost", "Lines of the log that were not written")
        self.query_log_lost = Counter(
            "staggerdns_query_log_lost",
            "Answers that are missing in the query log, by where they should have been written",
            "output",
        )

    def _add_connections(self) -> None:
        self.upstream_connections = Gauge(
            "staggerdns_upstream_connections", "Open connections to an upstream", "upstream"
        )
        self.upstream_connects = Counter(
            "staggerdns_upstream_connects", "Connections made, or why not", "upstream", "result"
        )
        self.upstream_http_errors = Counter(
            "staggerdns_upstream_http_errors", "HTTP errors", "upstream", "status"
        )
        self.bootstrap_lookups = Counter(
            "staggerdns_bootstrap_lookups", "Lookups of names of upstreams", "outcome"
        )

    def _add_cache(self) -> None:
        self.cache_entries = Gauge("staggerdns_cache_entries", "Answers in the cache")
        self.cache_octets = Gauge(
            "staggerdns_cache_octets", "Memory that the answers in the cache take, about"
        )
        self.cache_evictions = Counter(
            "staggerdns_cache_evictions", "Answers dropped to make room, by limit", "limit"
        )
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
        self.family_changes = Counter(
            "staggerdns_family_changes", "Names whose families are given otherwise now", "to"
        )
        self.families_suppressed = Gauge(
            "staggerdns_families_suppressed", "Names whose IPv6 addresses are left out"
        )

    def _add_lists(self) -> None:
        self.blocked = Counter(
            "staggerdns_blocked",
            "Queries that were not answered because of a list, by the group of their clients",
            "list",
            "group",
        )
        self.list_names = Gauge("staggerdns_list_names", "Names of a list", "list")
        self.list_refreshed = Gauge(
            "staggerdns_list_refresh_timestamp_seconds",
            "When all of a list was right for the last time, in seconds since 1970",
            "list",
        )
        self.list_failures = Counter(
            "staggerdns_list_refresh_failures",
            "Refreshes of a list in which something could not be had or used",
            "list",
        )

    def query(self, transport: str, qtype: int) -> Cell:
        """Return the cell that counts queries of this kind."""
        return _cell(self._queries, (transport, _known(qtype, _QTYPE_LABELS)))

    def response(self, transport: str, rcode: int) -> Cell:
        """Return the cell that counts responses of this kind."""
        return _cell(self._responses, (transport, _known(rcode, _RCODE_LABELS)))

    def hit(self, transport: str, qtype: int, rcode: int) -> HitCell:
        """Return the cell that counts a query and its response from the cache in one go."""
        qtype, rcode = _known(qtype, _QTYPE_LABELS), _known(rcode, _RCODE_LABELS)
        found = self._hits.get((transport, qtype, rcode))
        if found is None:
            labels = (transport, _label(qtype, _QTYPE_LABELS), _label(rcode, _RCODE_LABELS))
            found = self._hits[transport, qtype, rcode] = HitCell(labels)
        return found

    def forget(self, label: str, gone: Collection[str]) -> None:
        """Remove all that stands under these values of a label: what they name is there no more."""
        if gone:
            for family in self._families():
                family.forget(label, gone)

    def collect(self) -> Iterator[Metric]:
        """Yield every family with the values of now."""
        yield from self._traffic()
        for family in self._families():
            yield family.collect()

    def _families(self) -> list[Family]:
        return [family for family in vars(self).values() if isinstance(family, Family)]

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


def _cell(cells: dict[tuple[str, int], Cell], kind: tuple[str, int]) -> Cell:
    found = cells.get(kind)
    if found is None:
        found = cells[kind] = Cell()
    return found


def _known(number: int, labels: dict[int, str]) -> int:
    """Fold the numbers without a label of their own into one, so that cells stay few."""
    return number if number in labels else -1


def _label(number: int, labels: dict[int, str]) -> str:
    return labels.get(number, _OTHER)
