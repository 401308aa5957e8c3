"""Why a name is answered as it is: its trace, then its answer as it stands (docs/control.rst).

Nothing is asked, refreshed or sorted when somebody wants to know.
"""

from __future__ import annotations

import time
from typing import Any

from staggerdns.chain import Chain
from staggerdns.inspection.entries import show_entry
from staggerdns.inspection.own import Own
from staggerdns.inspection.waterfall import show_trace
from staggerdns.policy.rules import Rules
from staggerdns.policy.scope import NO_SUCH_NAMES
from staggerdns.ranking.rtt import NO_LOSS
from staggerdns.resolver.entry import Entry
from staggerdns.server.local import LocalNames
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.constants import type_text
from staggerdns.wire.key import DEFAULT_SCOPE, NAME_END, scope_of
from staggerdns.wire.names import to_text
from staggerdns.wire.question import Question, make_question

COLLECTING = "collecting"
FRESH = "fresh"
UNRANKED = "unranked"
STALE = "stale"
EXPIRED = "expired"
FAILURE = "failure"
ROUTE_OF_NO_NAMES = "without servers"
"""The route that says of names that there are none."""


def explain(
    chain: Chain, local: LocalNames, rules: Rules | None, name: bytes, qtype: int, now: float
) -> dict[str, Any]:
    """Return why a ``name`` (wire form, lower case) is answered as it is, for clients with these
    ``rules``, `None` where all clients have the same. ``now``: by the clock of the cache.
    """
    own = Own(local, rules, name, qtype, now)
    number = None if rules is None else rules.routes.number(name, qtype)
    if own.answer is None:
        scope = scope_of(own.key)
    else:
        scope = DEFAULT_SCOPE if number is None or number == NO_SUCH_NAMES else number
    block = own.block
    question = _most_telling(chain, own.key[:NAME_END], qtype, scope)
    key = question.key
    # What was kept before a list had the name is told; what is ours never comes from there.
    is_ours = own.answer is not None and block is None
    entry = None if is_ours else chain.cache.held(key)
    trace = None if is_ours else chain.traces.find(key)
    if block is None and entry is not None and rules is not None and rules.blocking is not None:
        block = rules.blocking.of_chain(entry, key)
    return {
        "question": {
            "name": to_text(name),
            "type": type_text(qtype),
            "class": question.qclass,
            "do": question.do,
            "cd": question.cd,
        },
        "scope": {
            "number": question.scope,
            "route": ROUTE_OF_NO_NAMES
            if number == NO_SUCH_NAMES
            else chain.route_label(question.scope),
        },
        "list": "" if block is None else block.list,
        "local": own.shown(),
        "trace": None
        if trace is None
        else show_trace(trace, chain.forwarder.under_way(key), chain.round_trips, now, time.time()),
        "answer": None if entry is None else _show_answer(question, entry, chain, rules, now),
    }


def _most_telling(chain: Chain, name: bytes, qtype: int, scope: int) -> Question:
    """Return the question of that name, type and scope of which most is known: clients may ask for
    signatures, or not to have them checked.
    """
    questions = [
        make_question(name, qtype, do=do, cd=cd, scope=scope)
        for cd in (False, True)
        for do in (False, True)
    ]

    def known(question: Question) -> int:
        key = question.key
        return 2 * (chain.cache.held(key) is not None) + (chain.traces.find(key) is not None)

    return max(questions, key=known)


def _show_answer(
    question: Question, entry: Entry, chain: Chain, rules: Rules | None, now: float
) -> dict[str, Any]:
    shown = show_entry(question.key, entry, chain, now)
    families = chain.caching.families
    reasons = _reasons(entry, chain)
    return {
        "rcode": shown["rcode"],
        "negative": shown["negative"],
        "phase": _phase(entry, stale=shown["stale"], servable=shown["servable"]),
        "error": shown["error"],
        "ttl": shown["ttl"],
        "age": shown["age"],
        "seconds_left": shown["seconds_left"],
        "sorted_ago": shown["sorted_ago"],
        "cnames": shown["cnames"],
        "records": shown["records"],
        "suppressed": families is not None
        and families.suppressed(
            question, entry.answer, None if rules is None else rules.families, now
        ),
        "addresses": [
            {
                "address": one["address"],
                "rtt_ms": None if one["round_trip"] is None else round(1000 * one["round_trip"], 2),
                "loss": one["loss"],
                "from": one["upstreams"],
                "why": why,
                "seconds_left": one["seconds_left"],
            }
            for one, why in zip(shown["addresses"], reasons, strict=True)
        ],
    }


def _phase(entry: Entry, *, stale: bool, servable: bool) -> str:
    if isinstance(entry.answer, FailureAnswer):
        return FAILURE
    if not servable:
        return EXPIRED
    if stale:
        return STALE
    if not entry.complete or not entry.alive:
        return COLLECTING
    return UNRANKED if entry.rankable and entry.sorted_at is None else FRESH


def _reasons(entry: Entry, chain: Chain) -> list[str]:
    """Return of each address why it has its place (docs/specification.rst, Order)."""
    addresses, table = entry.answer.addresses, chain.round_trips
    if len(addresses) == 1:
        return ["the only one"]
    if table is None:
        return ["as it came: nothing is ranked"] * len(addresses)
    reasons: list[str] = []
    nearest = table.cost(addresses[0]) if addresses else None
    before = 0.0
    for place, address in enumerate(addresses):
        rtt = table.look_up(address)
        cost = table.cost(address)
        if rtt is None or cost is None:
            reasons.append("not measured")
        elif rtt.seconds is None:
            reasons.append("answers no probe")
        elif rtt.loss > NO_LOSS:
            reasons.append(f"loses {100 * rtt.loss:.0f} % of probes")
        elif place == 0:
            reasons.append("nearest" if entry.sorted_at is not None else "nearest so far")
        elif cost < before:
            reasons.append("nearer than the one before, but by no more than jitter")
        elif nearest is None or cost <= nearest:
            reasons.append("as near as the first")
        else:
            reasons.append(f"{1000 * (cost - nearest):.1f} ms farther than the first")
        before = cost or 0.0
    return reasons
