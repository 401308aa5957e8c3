"""Results of the control socket as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_SIZES = ("octets", "KiB", "MiB", "GiB")
NEVER = "-"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows in columns, of which the last one may be as long as it likes."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def duration(seconds: float | None) -> str:
    """Return a duration in its two largest units."""
    if seconds is None:
        return NEVER
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 1:
        return f"{_figure(1000 * seconds)} ms"
    parts: list[str] = []
    left = int(seconds)
    for size, unit in _UNITS:
        if left >= size or parts:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2])


def _figure(number: float) -> str:
    """Return a number with three digits, or all there are in front of its point."""
    return f"{number:.3g}" if number < 999.5 else f"{number:.0f}"


def milliseconds(seconds: float | None) -> str:
    """Return a time on the network."""
    return NEVER if seconds is None else f"{1000 * seconds:.1f} ms"


def size(octets: float) -> str:
    """Return an amount of memory in the unit that suits it."""
    for unit in _SIZES[:-1]:
        if octets < 1024:
            return f"{_figure(octets)} {unit}" if unit != _SIZES[0] else f"{octets:.0f} {unit}"
        octets /= 1024
    return f"{_figure(octets)} {_SIZES[-1]}"


def show_status(status: dict[str, Any]) -> str:
    """Return how a program is."""
    rates, cache, collections = status["rates"], status["cache"], status["collections"]
    share = rates["cache_share"]
    from_cache = "" if share is None else f", {100 * share:.0f} % of them from the cache"
    rows = [
        ("version", f"{status['version']}, {status['build']}"),
        ("process", f"{status['pid']}, for {duration(status['uptime'])}"),
        ("configuration", status["configuration"] or NEVER),
        ("reloads", _reloads(status["reloads"])),
        ("phase", status["phase"] + ("" if status["ready"] else " (not ready)")),
        ("upstreams", "answer" if status["answering"] else "nobody answers"),
        ("listeners", ", ".join(status["listeners"]) or NEVER),
        ("queries", f"{rates['queries_per_second']:,.1f} a second{from_cache}"),
        ("pending", f"{status['pending']:,} queries, {collections['running']:,} collections"),
        (
            "cache",
            f"{cache['entries']:,} of {cache['max_entries']:,} answers, {_share_of_memory(cache)}",
        ),
        ("memory", size(status["memory"])),
        *(("second level", _shared(shared)) for shared in filter(None, [status["shared"]])),
        *(("blocking", _blocking(group)) for group in status["blocking"]),
    ]
    return table(rows)


def _shared(shared: dict[str, Any]) -> str:
    state = "asked" if shared["asked"] else "not asked"
    problem = f": {shared['problem']}" if shared["problem"] else ""
    return f"{shared['store']}, {state} for {duration(shared['seconds'])}{problem}"


def show_blocking(result: dict[str, Any]) -> str:
    """Return for whom lists block."""
    return "\n".join(map(_blocking, result["blocking"]))


def show_upstreams(result: dict[str, Any]) -> str:
    """Return how upstreams are."""
    rows = [("upstream", "state", "latency", "deviation", "in flight", "answered", "failed", "")]
    for one in result["upstreams"]:
        notes = [f"because: {one['because']}"] if one["because"] else []
        if one["rate_limit"]:
            notes.append(f"at most {one['rate_limit']:.3g} queries/s")
        notes += [f"{count} {reason}" for reason, count in sorted(one["failures"].items())]
        rows.append(
            (
                one["name"],
                one["state"],
                milliseconds(one["latency"]),
                milliseconds(one["deviation"]),
                f"{one['inflight']:,}",
                f"{one['answered']:,}",
                f"{one['failed']:,}",
                ", ".join(notes),
            )
        )
    return table(rows)


def show_cache(result: dict[str, Any]) -> str:
    """Return what is kept of a name."""
    if not result["entries"]:
        return f"{result['name']}: nothing is kept"
    parts = [_entry(result["name"], one) for one in result["entries"]]
    if result["more"]:
        parts.append(f"and {result['more']} more")
    return "\n\n".join(parts)


def outcome(answer: dict[str, Any]) -> str:
    """Return what an answer says: its code, why it failed, and how many records it has."""
    what = answer["rcode"]
    if answer["negative"] and what == "NOERROR":
        what = "NODATA"
    if answer["error"]:
        what += f" ({answer['error']})"
    if answer["records"]:
        counts = [f"{count} {section}" for section, count in answer["records"].items() if count]
        what += f", {', '.join(counts) or 'no'} records"
    return str(what)


def _entry(name: str, entry: dict[str, Any]) -> str:
    flags = [mark.upper() for mark in ("do", "cd") if entry[mark]]
    if entry["scope"]:
        flags.append(f"scope {entry['scope']} (route {entry['route']})")
    life = (
        f"expired {duration(-entry['seconds_left'])} ago"
        if entry["stale"]
        else f"for another {duration(entry['seconds_left'])}"
    )
    rows = [
        f"{name} {entry['type']} {' '.join(flags)}".rstrip() + f": {outcome(entry)}",
        f"  {duration(entry['age'])} old, {life}, TTL for clients {entry['ttl']} s, "
        + ("complete" if entry["complete"] else "being collected")
        + ("" if entry["sorted_ago"] is None else f", sorted {duration(entry['sorted_ago'])} ago"),
    ]
    rows += [f"  CNAME {target}" for target in entry["cnames"]]
    if entry["addresses"]:
        lines = table(
            [
                (
                    f"  {one['address']}",
                    "silent" if one["silent"] else milliseconds(one["round_trip"]),
                    duration(one["seconds_left"]),
                    ", ".join(one["upstreams"]),
                )
                for one in entry["addresses"]
            ]
        )
        rows.append(lines)
    return "\n".join(rows)


def _share_of_memory(cache: dict[str, Any]) -> str:
    return f"{size(cache['octets'])} of {size(cache['max_octets'])}"


def _reloads(reloads: dict[str, Any]) -> str:
    last = reloads["last"]
    if last is None:
        return "none"
    when = f"{duration(last['seconds_ago'])} ago"
    if last["ok"]:
        return f"{reloads['count']}, the last one {when}"
    return f"{reloads['count']}; {when} the file could not be used: {'; '.join(last['problems'])}"


def _blocking(group: dict[str, Any]) -> str:
    what = f"{group['group']}: {', '.join(group['lists'])}"
    if not group["paused"]:
        return what
    left = group["seconds_left"]
    return f"{what}, paused" + ("" if left is None else f" for another {duration(left)}")
