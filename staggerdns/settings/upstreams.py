"""The settings of the section ``upstream``: whom to ask, and how (docs/configuration.rst).

``auto`` for a number is `None`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from staggerdns.settings.addresses import UpstreamAddress, parse_upstream
from staggerdns.settings.section import Positive, Section
from staggerdns.settings.values import Seconds, SecondsOrAuto

ASK = ALL, LEARNED = "all", "learned"
"""Whom the staggered tier asks: values of ``upstream.parallel.ask``."""


class ParallelSettings(Section, frozen=True, kw_only=True):
    """``upstream.parallel``: the numbers of the two tiers and of the pool."""

    active_tier_size: Positive = 2
    """Upstreams asked at once: the usable ones with the lowest latency."""
    fallback_timeout: SecondsOrAuto | None = None
    """Without a good answer until then, the others are asked too. ``auto`` learns it from the
    active tier, within 50ms and ``max_fallback_timeout``.
    """
    max_fallback_timeout: Seconds = Seconds(0.3)
    """Upper bound of what is learnt, and how long it is before anything is."""
    batch_size: Positive = 2
    """How many of the others are asked at a time."""
    stagger_delay: Seconds = Seconds(0.05)
    """Time between two batches."""
    total_collect_timeout: Seconds = Seconds(3)
    """When a collection ends, whatever is missing."""
    negative_grace: Seconds = Seconds(0.03)
    """How long a first NXDOMAIN or NODATA waits for something better from the active tier."""
    ask: str = ALL
    """Whom the others are: ``all``, or ``learned``: those without whom addresses would be missing,
    as far as earlier answers tell. See :ref:`learned`.
    """
    max_pool_size: Positive = 32
    """Most addresses kept for one name and type."""
    merge_private: bool = False
    """Whether private, loopback, link-local, multicast and unspecified addresses join a pool when
    they come from an upstream other than the one that answered first.
    """


_FIVE = (
    "active_tier_size",
    "max_fallback_timeout",
    "batch_size",
    "stagger_delay",
    "total_collect_timeout",
)
PROFILES: dict[str, dict[str, object]] = {
    "balanced": {},
    "latency": dict(zip(_FIVE, (3, "200ms", 2, "30ms", "2s"), strict=True)),
    "completeness": dict(zip(_FIVE, (2, "500ms", 2, "100ms", "5s"), strict=True)),
    "gentle": {"ask": LEARNED},
}
"""Presets for ``upstream.parallel``; what is given there wins."""
PRESET = frozenset(key for preset in PROFILES.values() for key in preset)
"""All that profiles set."""


class RacingSettings(Section, frozen=True, kw_only=True):
    """``upstream.racing``: how long the first upstream has the field to itself."""

    delay: Seconds = Seconds(0.1)
    """How long the first upstream has the field to itself, before anything is measured."""
    min_delay: Seconds = Seconds(0.02)
    """Lower bound of that delay, which follows the reply times."""
    max_delay: Seconds = Seconds(0.2)
    """Upper bound of that delay."""
    max_concurrent: Positive = 4
    """Most queries of one race under way."""


class SequentialSettings(Section, frozen=True, kw_only=True):
    """``upstream.sequential``: how long one try may take."""

    timeout: Seconds = Seconds(1)
    """How long a try may take, before anything is measured; then 1.5 times the average."""
    min_timeout: Seconds = Seconds(0.5)
    """Lower bound of that timeout."""
    max_timeout: Seconds = Seconds(2)
    """Upper bound of that timeout."""


class HealthSettings(Section, frozen=True, kw_only=True):
    """``upstream.health``: when the circuit of an upstream opens, and for how long."""

    degraded_after: Positive = 3
    """Failures in a row after which an upstream comes behind the healthy ones."""
    unhealthy_after: Positive = 5
    """Failures in a row after which it is not asked any more: its circuit is open."""
    open_for: Seconds = Seconds(30)
    """How long its circuit is open before one trial query; twice as long after each failed trial.
    """
    max_open_for: Seconds = Seconds(600)
    """Upper bound of that time."""
    heal_after: Positive = 2
    """Successes in a row that make it healthy again."""


class AdaptiveSettings(Section, frozen=True, kw_only=True):
    """``upstream.adaptive``: how fast the numbers follow what is measured."""

    ewma_alpha: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.2
    """Weight of a new measurement in the moving averages."""
    max_step: Seconds = Seconds(0.01)
    """Most that one measurement moves the racing delay."""


class BudgetSettings(Section, frozen=True, kw_only=True):
    """``upstream.budget``: how much each upstream may be asked; 0 queries per second: no limit.
    Upstreams that differ in the client subnet alone have one budget.
    """

    max_inflight: Positive = 1000
    """Most queries that wait for one upstream."""
    queries_per_second: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    """Most queries per second to one upstream; 0 is no limit. The staggered tier yields to first
    answers. An upstream that refuses under load is asked less for a while in any case.
    """
    burst: Positive = 100
    """How many of these may go at once."""


class UpstreamSettings(Section, frozen=True, kw_only=True):
    """``upstream``: whom to ask and how."""

    servers: tuple[UpstreamAddress, ...]
    """Whom to ask, in one of the forms of :ref:`upstream-addresses`; the only key that must be
    given. Nothing falls back to plain text.
    """
    bootstrap: tuple[UpstreamAddress, ...] = tuple(map(parse_upstream, ("1.1.1.1", "8.8.8.8")))
    """Resolvers, given by address, that find the addresses of those ``servers`` that are given by
    name. One that is dead delays nobody; the last good addresses are kept.
    """
    tls_ca: str | None = None
    """PEM file with the certification authorities that count for ``tls`` and ``https``; null is
    those of the system.
    """
    strategy: str = "parallel"
    """How upstreams are asked: ``parallel`` in two tiers; ``racing``: the best first, the others
    after an adaptive delay; ``sequential`` or ``random``: one at a time; ``auto``: by the number of
    usable upstreams, 1 sequential, 2 or 3 racing, more parallel.
    """
    profile: str = "balanced"
    """``balanced``, ``latency``, ``completeness`` or ``gentle``: presets for
    ``upstream.parallel``; what is given there wins. The first three differ in five numbers;
    ``gentle`` is ``ask: learned``.
    """
    timeout: Seconds = Seconds(3)
    """How long one upstream may take for one query."""
    case_randomization: str = "auto"
    """Whether queries over UDP have the letters of the name in random case, against forged replies;
    ``auto`` leaves it alone for upstreams that do not repeat it, ``never`` for all.
    """
    cookies: bool = True
    """Whether queries over UDP carry DNS Cookies (RFC 7873), against forged replies."""
    parallel: ParallelSettings = ParallelSettings()
    racing: RacingSettings = RacingSettings()
    sequential: SequentialSettings = SequentialSettings()
    health: HealthSettings = HealthSettings()
    adaptive: AdaptiveSettings = AdaptiveSettings()
    budget: BudgetSettings = BudgetSettings()
