"""A trace as it is shown: who was asked when, what each brought, and the sorts of that.

Times are milliseconds since the collection began (docs/control.rst has all fields).
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from staggerdns.ranking.rtt import RttTable
from staggerdns.settings.sections import RankingSettings
from staggerdns.strategy.run import GivenUp
from staggerdns.strategy.tiers import SHARED
from staggerdns.traces.brief import MAX_ADDRESSES, BriefAnswer
from staggerdns.traces.trace import KnownSort, SortTrace, Trace, sort_ends
from staggerdns.upstream.exchange import Exchange, Outcome
from staggerdns.upstream.upstream import Upstream
from staggerdns.wire.constants import rcode_text
from staggerdns.wire.names import to_text
from staggerdns.wire.sections import LoneAliasAnswer

GIVEN_UP = "given_up"
WAITING = "waiting"
NOTHING = "nothing"
"""The second level has nothing that is of use."""


def show_trace(
    trace: Trace,
    under_way: Mapping[Exchange, Upstream],
    table: RttTable | None,
    now: float,
    wall: float,
) -> dict[str, Any]:
    """Return what there is to say of a trace at ``now``, by the clock of its collection.

    ``under_way``: the queries that have not ended. ``table`` has round trips that were not noted.
    ``wall``: the same time in seconds since 1970.
    """
    began = trace.began
    brought: set[bytes] = set()
    asked = [_show_ended(one, trace, brought) for one in trace.history]
    asked += [
        _show_query(upstream.name, exchange.tier, exchange.started - began, None, WAITING)
        for exchange, upstream in under_way.items()
    ]
    asked.sort(key=lambda one: one["at_ms"])
    return {
        "began": round(wall - (now - began), 3),
        "strategy": trace.strategy,
        "generation": trace.generation,
        "running": trace.ended is None,
        "asked": asked,
        "spared": trace.spared,
        "client_ms": _since(began, trace.answered),
        "ended_ms": _since(began, trace.ended),
        "sorts": [_show_sort(sort, began, table) for sort in trace.sorts or ()],
    }


def _show_query(
    upstream: str, tier: str, at: float, took: float | None, result: str
) -> dict[str, Any]:
    return {
        "upstream": upstream,
        "tier": tier,
        "at_ms": _milliseconds(at),
        "took_ms": None if took is None else _milliseconds(took),
        "result": result,
        "reason": "",
        "rcode": "",
        "ttl": None,
        "alias": "",
        "addresses": [],
        "more": 0,
        "new": 0,
        "first": False,
        "dropped": [],
    }


def _show_ended(one: Outcome | GivenUp, trace: Trace, brought: set[bytes]) -> dict[str, Any]:
    """Return what there is to say of a query that has ended, and add to what was ``brought``."""
    at = one.asked - trace.began
    took = one.at - one.asked
    if isinstance(one, GivenUp):
        return _show_query(one.upstream.name, one.tier, at, took, GIVEN_UP)
    shown = _show_query(one.upstream.name, one.tier, at, took, one.verdict.name.lower())
    shown["reason"] = "" if one.reason is None else one.reason.label
    shown["first"] = one is trace.first
    dropped = one.dropped[:MAX_ADDRESSES]
    shown["dropped"] = [{"address": address_text(address), "why": why} for address, why in dropped]
    answer = one.answer
    if answer is None:
        if one.tier == SHARED and one.reason is None:
            shown["result"] = NOTHING
        return shown
    addresses = answer.addresses
    left_out = answer.left_out if isinstance(answer, BriefAnswer) else 0
    joined = set(addresses).difference(brought, [address for address, _ in one.dropped])
    brought |= joined
    shown["rcode"] = rcode_text(answer.rcode)
    shown["ttl"] = answer.ttl
    if isinstance(answer, LoneAliasAnswer | BriefAnswer) and answer.target:
        shown["alias"] = to_text(answer.target)
    shown["addresses"] = list(map(address_text, addresses[:MAX_ADDRESSES]))
    shown["more"] = left_out + max(0, len(addresses) - MAX_ADDRESSES)
    shown["new"] = len(joined)
    return shown


def _show_sort(sort: SortTrace | KnownSort, began: float, table: RttTable | None) -> dict[str, Any]:
    if not isinstance(sort, SortTrace):
        # The round trips were fresh, and are the same as long as they are.
        trigger, at, answer = sort
        sort = SortTrace(trigger, at)
        sort_ends(sort, answer.addresses, table or RttTable(RankingSettings()), at)
    return {
        "trigger": sort.trigger,
        "at_ms": _milliseconds(sort.began - began),
        "took_ms": _since(sort.began, sort.ended),
        "result": sort.result,
        "order": [
            {
                "address": address_text(address),
                "rtt_ms": None if rtt is None else _milliseconds(rtt),
            }
            for address, rtt in zip(sort.order, sort.round_trips, strict=True)
        ],
    }


def address_text(address: bytes) -> str:
    """Return an address as it is shown."""
    return str(ip_address(address))


def _since(began: float, then: float | None) -> float | None:
    return None if then is None else _milliseconds(then - began)


def _milliseconds(seconds: float) -> float:
    """Return seconds as milliseconds, to a hundredth; more is noise."""
    return round(1000 * seconds, 2)
