"""Why a name is answered as it is, as a person reads it: the queries on one axis of time, then the
answer as it stands (docs/waterfall.rst explains both).
"""

from __future__ import annotations

from typing import Any

from staggerdns.command.tables import duration, outcome, table
from staggerdns.strategy.tiers import SHARED

WIDTH = 40
"""Characters of the axis."""
MARGIN = 1.2
"""How much longer it is than from the begin to the last good answer."""
BEYOND = ">"
"""What ends behind the axis."""
_BARS = {"positive": "█", "negative": "▓", "waiting": "·"}
_NO_ANSWER = "░"
_MOST_SHOWN = 6
"""Addresses of one query in a line; `--json` has all."""


def show_why(result: dict[str, Any]) -> str:
    """Return why a name is answered as it is."""
    question, trace, answer = result["question"], result["trace"], result["answer"]
    flags = "".join(f" {flag.upper()}" for flag in ("do", "cd") if question[flag])
    scope = result["scope"]["route"]
    head = f"{question['name']} {question['type']}{flags}" + (f", route {scope}" if scope else "")
    parts = [head]
    if result["list"]:
        kept = " (what follows is for others)" if trace is not None or answer is not None else ""
        parts.append(f"blocked by the list {result['list']}{kept}")
    local = result["local"]
    if local is not None:
        parts.append(_local(local))
    if trace is not None:
        parts.append(_trace(trace))
    elif answer is not None:
        parts.append(
            "nothing is remembered of how it was collected: too long ago, or traces are off"
        )
    if answer is not None:
        parts.append(_answer(answer))
    elif not result["list"] and (local is None or not local["rcode"]):
        parts.append("nothing is kept: staggerdns why --ask has it asked")
    return "\n\n".join(parts)


def _local(local: dict[str, Any]) -> str:
    lines = [f"leads, by a record of ours, to {target}" for target in local["cnames"]]
    if local["rcode"]:
        lines.append(f"answered here, nobody is asked: {local['rcode']}")
        lines += local["addresses"]
    return "\n".join(lines)


def _trace(trace: dict[str, Any]) -> str:
    asked = trace["asked"]
    # One that was silent for seconds would leave no room for those that were not.
    ends = [one["at_ms"] + (one["took_ms"] or 0.0) for one in asked if one["rcode"]]
    ends += [one["at_ms"] for one in [*asked, *_early(trace)]]
    end = max(1.0, trace["client_ms"] or 0.0, *ends) * MARGIN
    rows: list[tuple[str, ...]] = [("upstream", "tier", _ruler(end), "ms", "result", "addresses")]
    rows += [_query(one, end) for one in asked]
    if trace["client_ms"] is not None:
        rows.append(("the client has its answer", "", *_moment(trace["client_ms"], end), "", ""))
    for sort in _early(trace):
        rows.append(_sort(sort, end))
    if trace["ended_ms"] is not None:
        rows.append(("the collection ends", "", *_moment(trace["ended_ms"], end), "", ""))
    if not trace["strategy"]:
        return "nobody has been asked yet: too much is being asked at once"
    if trace["strategy"] == SHARED:
        lines = ["found in the second level"]
    else:
        lines = [f"asked by the strategy {trace['strategy']}" + (", still" * trace["running"])]
    lines.append(table(rows))
    if trace["spared"]:
        lines.append(f"not asked since they would add nothing (ask: learned): {trace['spared']}")
    lines += [_dropped(one) for one in asked if one["dropped"]]
    later = [sort for sort in trace["sorts"] if sort not in _early(trace)]
    lines += [f"sorted {sort['at_ms'] / 1000:.0f} s later: {sort['trigger']}" for sort in later]
    return "\n".join(lines)


def _early(trace: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sorts that belong on the axis: those that began before a second after its end."""
    ended = trace["ended_ms"]
    return [sort for sort in trace["sorts"] if ended is None or sort["at_ms"] <= ended + 1000]


def _ruler(end: float) -> str:
    label = f"{end:.0f} ms"
    return "0" + label.rjust(WIDTH - 1)


def _place(milliseconds: float, end: float) -> int:
    return min(WIDTH - 1, int(milliseconds / end * WIDTH))


def _bar(begin: float, took: float | None, end: float, mark: str) -> str:
    first = _place(begin, end)
    if took is None or begin + took > end:
        return " " * first + mark * (WIDTH - 1 - first) + BEYOND
    return " " * first + mark * (_place(begin + took, end) - first + 1)


def _moment(milliseconds: float, end: float) -> tuple[str, str]:
    mark = "|" if milliseconds <= end else BEYOND
    return " " * _place(milliseconds, end) + mark, f"{milliseconds:.1f}"


def _query(one: dict[str, Any], end: float) -> tuple[str, ...]:
    took = one["took_ms"]
    result = one["result"].replace("_", " ")
    if one["reason"]:
        result = one["reason"]
    elif one["rcode"] and one["rcode"] != "NOERROR":
        result = one["rcode"]
    elif one["alias"]:
        result = f"CNAME {one['alias']}"
    elif one["result"] == "negative":
        result = "NODATA"
    if one["first"]:
        result += ", first"
    return (
        one["upstream"],
        one["tier"],
        _bar(one["at_ms"], took, end, _BARS.get(one["result"], _NO_ANSWER)),
        "" if took is None else f"{took:.1f}",
        result,
        _addresses(one),
    )


def _addresses(one: dict[str, Any]) -> str:
    count = len(one["addresses"]) + one["more"]
    if not count:
        return ""
    shown = one["addresses"][:_MOST_SHOWN]
    more = f", and {count - len(shown)} more" if count > len(shown) else ""
    return f"{one['new']} new of {count}: {', '.join(shown)}{more}"


def _dropped(one: dict[str, Any]) -> str:
    dropped = [f"{each['address']} ({each['why']})" for each in one["dropped"]]
    more = len(dropped) - _MOST_SHOWN
    shown = ", ".join(dropped[:_MOST_SHOWN]) + (f", and {more} more" if more > 0 else "")
    return f"dropped of {one['upstream']}: {shown}"


def _sort(sort: dict[str, Any], end: float) -> tuple[str, ...]:
    took = sort["took_ms"]
    return (
        f"sort: {sort['trigger'].replace('_', ' ')}",
        "",
        _bar(sort["at_ms"], 0.0 if sort["result"] == "queue_full" else took, end, "~"),
        "" if took is None else f"{took:.1f}",
        sort["result"].replace("_", " "),
        "",
    )


def _answer(answer: dict[str, Any]) -> str:
    lines = [
        f"now: {outcome(answer)}, {answer['phase']}, {duration(answer['age'])} old, "
        f"TTL for clients {answer['ttl']} s"
        + (
            ""
            if answer["sorted_ago"] is None
            else f", sorted {duration(max(0.0, answer['sorted_ago']))} ago"
        )
    ]
    if answer["suppressed"]:
        lines.append("IPv6 is not given: IPv4 is nearer, or IPv6 accepts no connection (families)")
    lines += [f"CNAME {target}" for target in answer["cnames"]]
    if answer["addresses"]:
        rows = [("", "address", "round trip", "brought by", "why here")]
        rows += [
            (
                f"{place}.",
                one["address"],
                "" if one["rtt_ms"] is None else f"{one['rtt_ms']:.1f} ms",
                ", ".join(one["from"]),
                one["why"],
            )
            for place, one in enumerate(answer["addresses"], 1)
        ]
        lines.append(table(rows))
    return "\n".join(lines)
