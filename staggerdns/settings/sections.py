"""The settings: every key of the configuration with its default and its limits (SPEC section 7).

They are here and nowhere else: a class that goes by settings takes its section. `staggerdns.config`
fills them from YAML. ``auto`` for a number is `None`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from staggerdns.settings.addresses import (
    Endpoint,
    Listener,
    Network,
    UpstreamAddress,
    parse_upstream,
)
from staggerdns.settings.values import Domain, Octets, Seconds, SecondsOrAuto, Secret

_ALLOWED_BY_DEFAULT = (
    "127.0.0.0/8",
    "::1/128",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
)


Positive = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
CacheSize = Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]
Ttl = Annotated[int, msgspec.Meta(ge=0, le=604_800)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class ClientSettings(_Section, frozen=True, kw_only=True):
    """``server.client``: whose addresses count as one client, and who has no limits."""

    ipv4_prefix: Annotated[int, msgspec.Meta(ge=8, le=32)] = 32
    ipv6_prefix: Annotated[int, msgspec.Meta(ge=16, le=128)] = 56
    exempt: tuple[Network, ...] = (Network("127.0.0.0/8"), Network("::1/128"))


class RateLimitSettings(_Section, frozen=True, kw_only=True):
    """``server.rate_limit``: of each client, over UDP; 0 queries per second: no limit."""

    queries_per_second: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    burst: Positive = 100
    slip: Annotated[int, msgspec.Meta(ge=0, le=10)] = 1


class CookieSettings(_Section, frozen=True, kw_only=True):
    """``server.cookies``: DNS Cookies for clients; no secret: one of our own, which changes."""

    enabled: bool = True
    secret: Secret | None = None


class ServerSettings(_Section, frozen=True, kw_only=True):
    """``server``: where clients come in and who may."""

    listen: tuple[Listener, ...] = (Listener("127.0.0.1", 5300), Listener("::1", 5300))
    allow: tuple[Network, ...] = tuple(Network(text) for text in _ALLOWED_BY_DEFAULT)
    tcp_idle_timeout: Seconds = Seconds(10)
    tcp_max_connections: Positive = 256
    tls_certificate: str | None = None
    tls_key: str | None = None
    tcp_max_per_client: Positive = 64
    max_pending: Positive = 10_000
    max_pending_per_client: Positive = 1_000
    max_udp_size: Annotated[int, msgspec.Meta(ge=512, le=4096)] = 1232
    client: ClientSettings = ClientSettings()
    rate_limit: RateLimitSettings = RateLimitSettings()
    cookies: CookieSettings = CookieSettings()


class ParallelSettings(_Section, frozen=True, kw_only=True):
    """``upstream.parallel``: the numbers of the two tiers and of the pool."""

    active_tier_size: Positive = 2
    fallback_timeout: SecondsOrAuto | None = SecondsOrAuto(0.3)
    batch_size: Positive = 2
    stagger_delay: Seconds = Seconds(0.05)
    total_collect_timeout: Seconds = Seconds(3)
    negative_grace: Seconds = Seconds(0.03)
    max_pool_size: Positive = 32
    merge_private: bool = False


_FIVE = ParallelSettings.__struct_fields__[:5]
PROFILES: dict[str, dict[str, object]] = {
    "balanced": {},
    "latency": dict(zip(_FIVE, (3, "200ms", 2, "30ms", "2s"), strict=True)),
    "completeness": dict(zip(_FIVE, (2, "500ms", 2, "100ms", "5s"), strict=True)),
}
"""Presets for the first five numbers of ``upstream.parallel``; what is given there wins."""


class RacingSettings(_Section, frozen=True, kw_only=True):
    """``upstream.racing``: how long the first upstream has the field to itself."""

    delay: Seconds = Seconds(0.1)
    min_delay: Seconds = Seconds(0.02)
    max_delay: Seconds = Seconds(0.2)
    max_concurrent: Positive = 4


class SequentialSettings(_Section, frozen=True, kw_only=True):
    """``upstream.sequential``: how long one try may take."""

    timeout: Seconds = Seconds(1)
    min_timeout: Seconds = Seconds(0.5)
    max_timeout: Seconds = Seconds(2)


class HealthSettings(_Section, frozen=True, kw_only=True):
    """``upstream.health``: when an upstream rests, and for how long."""

    degraded_after: Positive = 3
    unhealthy_after: Positive = 5
    open_for: Seconds = Seconds(30)
    max_open_for: Seconds = Seconds(600)
    heal_after: Positive = 2


class AdaptiveSettings(_Section, frozen=True, kw_only=True):
    """``upstream.adaptive``: how fast the numbers follow what is measured."""

    ewma_alpha: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.2
    max_step: Seconds = Seconds(0.01)


class BudgetSettings(_Section, frozen=True, kw_only=True):
    """``upstream.budget``: how much each upstream may be asked; 0 queries per second: no limit."""

    max_inflight: Positive = 1000
    queries_per_second: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    burst: Positive = 100


class UpstreamSettings(_Section, frozen=True, kw_only=True):
    """``upstream``: whom to ask and how."""

    servers: tuple[UpstreamAddress, ...]
    bootstrap: tuple[UpstreamAddress, ...] = tuple(map(parse_upstream, ("1.1.1.1", "8.8.8.8")))
    tls_ca: str | None = None
    strategy: str = "parallel"
    profile: str = "balanced"
    timeout: Seconds = Seconds(3)
    case_randomization: str = "auto"
    cookies: bool = True
    parallel: ParallelSettings = ParallelSettings()
    racing: RacingSettings = RacingSettings()
    sequential: SequentialSettings = SequentialSettings()
    health: HealthSettings = HealthSettings()
    adaptive: AdaptiveSettings = AdaptiveSettings()
    budget: BudgetSettings = BudgetSettings()


class LocalSettings(_Section, frozen=True, kw_only=True):
    """``local``: names that are answered here; null for no hosts file."""

    hosts: str | None = "/etc/hosts"
    localhost: bool = True
    invalid: bool = True
    test: bool = True
    mdns: bool = True
    onion: bool = True
    home_arpa: bool = True
    resolver_arpa: bool = True
    private_reverse: bool = True


class RebindingSettings(_Section, frozen=True, kw_only=True):
    """``rebinding``: whether answers lose private addresses, and in which domains they do not."""

    strip: bool = False
    allow_domains: tuple[Domain, ...] = ()


class CacheSettings(_Section, frozen=True, kw_only=True):
    """``cache``: how much is kept and for how long; TTLs in whole seconds, 0 turns one off."""

    max_entries: CacheSize = 50_000
    max_size: Octets = Octets(128 * 1024 * 1024)
    fast_response_ttl: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 5
    user_return_ttl: Ttl = 600
    min_ttl: Ttl = 0
    max_ttl: Ttl = 86_400
    max_negative_ttl: Ttl = 300
    max_stale: Ttl = 3_600


class RankingSettings(_Section, frozen=True, kw_only=True):
    """``ranking``: how the nearest address is found."""

    enabled: bool = True
    probes: tuple[str, ...] = ("icmp", "tcp:443", "tcp:80")
    samples: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
    timeout: Seconds = Seconds(1)
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 16
    queue: Positive = 200
    rtt_cache_ttl: Annotated[int, msgspec.Meta(ge=1, le=604_800)] = 300
    max_probes_per_second: Positive = 200
    probe_private: bool = False


class MetricsSettings(_Section, frozen=True, kw_only=True):
    """``metrics``: where Prometheus comes; null for nowhere."""

    listen: Endpoint | None = Endpoint("127.0.0.1", 9153)


class LogSettings(_Section, frozen=True, kw_only=True):
    """``log``: how much is told."""

    level: str = "info"


class Config(_Section, frozen=True, kw_only=True):
    """The whole configuration."""

    upstream: UpstreamSettings
    server: ServerSettings = ServerSettings()
    local: LocalSettings = LocalSettings()
    rebinding: RebindingSettings = RebindingSettings()
    cache: CacheSettings = CacheSettings()
    ranking: RankingSettings = RankingSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()
