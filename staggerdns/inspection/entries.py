"""What is shown of an upstream, and of an entry of the cache."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from staggerdns.chain import Chain
from staggerdns.metrics import Metrics
from staggerdns.resolver.entry import Entry
from staggerdns.resolver.scopechanges import GONE, SAME
from staggerdns.upstream.upstream import Upstream
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer, FailureAnswer
from staggerdns.wire.constants import rcode_text, type_text
from staggerdns.wire.contributors import CONTRIBUTORS
from staggerdns.wire.names import to_text
from staggerdns.wire.question import Question
from staggerdns.wire.sections import SectionsAnswer
from staggerdns.wire.verdict import FAILURE, NEGATIVE, NETWORK_ERROR, POSITIVE

_SECTIONS = ("answer", "authority", "additional")


def show_upstreams(
    upstreams: Collection[Upstream], metrics: Metrics, max_inflight: int, now: float
) -> Iterator[dict[str, Any]]:
    """Yield what there is to say of each upstream; times are seconds.

    ``max_inflight``: how many queries each may have to answer at a time.
    """
    rates = metrics.upstream_rate.values()
    failures: dict[str, dict[str, int]] = {}
    for (name, reason), count in metrics.upstream_failures.values().items():
        failures.setdefault(name, {})[reason] = count
    for upstream in upstreams:
        outcomes = upstream.report.outcomes()
        latency, health = upstream.latency, upstream.health
        yield {
            "name": upstream.name,
            "state": health.state.name.lower(),
            "because": upstream.report.because,
            "failures_in_a_row": health.failures,
            "latency": _rounded(latency.mean(now)) if latency.measured else None,
            "deviation": _rounded(latency.deviation(now)) if latency.measured else None,
            "inflight": upstream.inflight,
            "max_inflight": max_inflight,
            "rate_limit": rates.get((upstream.name,), 0.0),
            "answered": outcomes[POSITIVE] + outcomes[NEGATIVE],
            "failed": outcomes[FAILURE] + outcomes[NETWORK_ERROR],
            "failures": failures.get(upstream.name, {}),
        }


def show_entry(key: bytes, entry: Entry, chain: Chain, now: float) -> dict[str, Any]:
    """Return what there is to say of an entry at ``now``, by the clock of the cache. Nothing is
    refreshed, sorted or merged when it is looked at.
    """
    question = Question(key)
    cache, answer = chain.cache, entry.answer
    sorted_at = entry.sorted_at
    becomes = cache.changes.of_entry(key, entry)  # a look-up does that to it
    stale = becomes != SAME or cache.freshness.is_stale(entry, now)
    return {
        "type": type_text(question.qtype),
        "class": question.qclass,
        "scope": question.scope,
        "route": chain.route_label(question.scope),
        "do": question.do,
        "cd": question.cd,
        "rcode": rcode_text(answer.rcode),
        "negative": answer.negative,
        "error": answer.text.decode(errors="replace") if isinstance(answer, FailureAnswer) else "",
        "cnames": list(map(to_text, answer.cname_chain)) if isinstance(answer, AddressPool) else [],
        "addresses": _show_addresses(entry, chain, now),
        "records": _count_records(answer),
        "age": _rounded(now - entry.stored),
        "seconds_left": _rounded(entry.expires - now),
        "refresh_in": _rounded(max(entry.due, entry.retry_at) - now),
        "ttl": cache.reply_ttl(entry, max(now, entry.expires) if stale else now, question.scope),
        "sorted_ago": None if sorted_at is None else _rounded(now - sorted_at),
        "complete": entry.complete and entry.alive,
        "stale": stale,
        "servable": becomes != GONE and cache.freshness.is_servable(entry, now),
        "octets": entry.octets,
    }


def _show_addresses(entry: Entry, chain: Chain, now: float) -> list[dict[str, Any]]:
    """Return the addresses in order, the nearest first as far as that is known."""
    answer, table = entry.answer, chain.round_trips
    pool = answer if isinstance(answer, AddressPool) else None
    lives = None if pool is None else pool.lives
    sets = None if pool is None else pool.contributor_numbers
    names: dict[int, list[str]] = {}
    shown = []
    for place, address in enumerate(answer.addresses):
        number = 0 if sets is None else sets[place]
        if number not in names:
            names[number] = sorted(CONTRIBUTORS.names(number))
        rtt = None if table is None else table.look_up(address)
        seconds = None if rtt is None else rtt.seconds
        life = answer.ttl if lives is None else lives[place]
        shown.append(
            {
                "address": str(ip_address(address)),
                "round_trip": None if seconds is None else _rounded(seconds),
                "loss": 0.0 if rtt is None else round(rtt.loss, 3),
                "silent": rtt is not None and seconds is None,
                "upstreams": names[number],
                "seconds_left": _rounded(entry.stored + life - now),
            }
        )
    return shown


def _count_records(answer: Answer) -> Mapping[str, int]:
    """Return how many records an answer has in each section that it has as it came."""
    if not isinstance(answer, SectionsAnswer):
        return {}
    counts = answer.counts
    return {
        section: int.from_bytes(counts[2 * place : 2 * place + 2], "big")
        for place, section in enumerate(_SECTIONS)
    }


def _rounded(seconds: float) -> float:
    """Return seconds to a hundredth of a millisecond; more is noise."""
    return round(seconds, 5)
