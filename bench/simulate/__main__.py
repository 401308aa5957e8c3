"""Try the strategies on drawn reply times: ``python -m bench.simulate [--quick] [--json FILE]``.

Nothing is sent and nothing waits: the real strategy code runs on a clock that jumps from event to
event. ``--try 'active_tier_size: 3, stagger_delay: 20ms'`` adds a line with other numbers of
``upstream.parallel``. Times are milliseconds, but for the JSON file, which has seconds.

Exit status: 0 whether targets are met or not.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from bench import traffic
from bench.simulate import learned, ordinary, pictures
from bench.simulate.figures import MOST_P95, MOST_WINDOW, baseline, figures, table
from bench.simulate.landscapes import LANDSCAPES, Landscape, draw
from bench.simulate.ordinary import (
    TRAFFIC,
    UPSTREAMS,
    Traffic,
    first_reply_alone,
    replay_traffic,
)
from bench.simulate.pictures import FIXED
from bench.simulate.replay import Plan
from staggerdns.settings.document import ConfigError
from staggerdns.settings.upstreams import PROFILES

WARM = 100
_NAMES = {False: 3000, True: 400}
#: That teach who has something to add.
_TEACHING = {False: learned.NAMES, True: 400}
#: Of ordinary traffic.
_SECONDS = {False: 120.0, True: 8.0}
_DAY = {False: learned.DAY, True: learned.DAY / 20}
#: Queries per plan and landscape, which bound the names of the largest ones.
_QUERIES = {False: 40_000, True: 10_000}

PLANS = (
    *(
        Plan(f"parallel {profile}", {"strategy": "parallel", "profile": profile})
        for profile in PROFILES
    ),
    Plan(FIXED, {"strategy": "parallel", "parallel": {"fallback_timeout": "300ms"}}),
    *(Plan(name, {"strategy": name}) for name in ("racing", "sequential", "random", "auto")),
)

_LEGEND = f"""\
p50 p95 p99  first answer, ms
p95/all      its p95 over that of asking all at once (target {MOST_P95:g})
best         p95/all of the best fixed order at the same pace, never waiting: a bound
wrong        names denied or failed though some upstream answers well
window       most queries of one name started within stagger_delay (in brackets: when the whole
             active tier failed); of all: its share of the upstreams (target {MOST_WINDOW:.0%})
full         names whose pool has all that asking all would find (target all), and when

Ordinary traffic: from an empty cache; {traffic.RATE} queries/s by Zipf, TTLs of {traffic.TTL} s
upstream     upstream queries per client query (target: no more than with the first reply alone,
             as `dnsmasq --all-servers` keeps it)
cached       client queries answered from the cache

Whom to ask: all, or as learned from who brought what; new names, then a day of traffic
queries      upstream queries a name, in the day a client query
complete     share of all addresses that the pools have; measured: as the program tells
noticed      new names until an upstream that has changed is asked for good"""


def _numbers(text: str) -> Plan:
    try:
        found = yaml.safe_load(f"{{{text}}}")
        numbers = found.get("racing")
        upstream = {"strategy": "parallel", "parallel": found}
        if numbers is not None:
            upstream = {"strategy": "racing", "racing": numbers}
        plan = Plan(text, upstream)
        plan.config(2)
    except (yaml.YAMLError, ConfigError, TypeError) as error:
        raise argparse.ArgumentTypeError(" ".join(str(error).split())) from None
    return plan


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.simulate", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--quick", action="store_true", help="fewer names")
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--pictures", type=Path, metavar="DOCS", help="draw figures into there")
    parser.add_argument(
        "--only",
        action="append",
        metavar="LANDSCAPE",
        choices=[one.name for one in (*LANDSCAPES, *TRAFFIC, *learned.DIFFERING)],
        help="leave out the others; may be repeated",
    )
    parser.add_argument(
        "--try",
        action="append",
        default=[],
        type=_numbers,
        metavar="NUMBERS",
        dest="tried",
        help="a line with other numbers of upstream.parallel, or of racing with `racing: {...}`; "
        "may be repeated",
    )
    return parser.parse_args(arguments)


def _try_landscape(
    landscape: Landscape, plans: Sequence[Plan], options: argparse.Namespace
) -> tuple[dict[str, Any], list[bool]]:
    """Print a table; return what goes into the JSON file, and which lines meet their targets."""
    count = len(landscape.characters)
    names = min(_NAMES[options.quick], _QUERIES[options.quick] // count)
    draws = draw(landscape, options.seed, names, WARM)
    everybody = baseline(PLANS[0], draws)
    here = [figures(plan, draws) for plan in plans]
    print(f"\n{landscape.name}: {landscape.what} ({names} names)")
    print(table(here, everybody, count), flush=True)
    result = {
        "landscape": landscape.name,
        "upstreams": count,
        "names": names,
        "ask_all": asdict(everybody),
        "plans": [asdict(line) for line in here],
    }
    return result, [not line.missed for line in here if line.missed is not None]


def _try_traffic(
    kind: Traffic, plans: Sequence[Plan], options: argparse.Namespace
) -> tuple[dict[str, Any], list[bool]]:
    """Do the same with ordinary traffic."""
    seconds = _SECONDS[options.quick]
    reference = first_reply_alone(kind, seed=options.seed, seconds=seconds)
    here = [replay_traffic(plan, kind, seed=options.seed, seconds=seconds) for plan in plans]
    print(f"\n{kind.name}: {kind.what} ({seconds:g} s)")
    print(ordinary.table(here, reference), flush=True)
    result = {
        "landscape": kind.name,
        "upstreams": len(UPSTREAMS),
        "seconds": seconds,
        "first_reply_alone": asdict(reference),
        "plans": [asdict(cost) for cost in here],
    }
    judged = [cost.over(reference) for cost in here]
    return result, [over <= 0 for over in judged if over is not None]


def _try_learning(
    kind: learned.Differing, options: argparse.Namespace
) -> tuple[dict[str, Any], list[bool]]:
    """Do the same with ``ask: learned``."""
    names, day = _TEACHING[options.quick], _DAY[options.quick]
    here = [learned.learn(plan, kind, seed=options.seed, names=names) for plan in learned.PLANS]
    print(f"\n{kind.name}: {kind.what} ({names} names, then {day:g} s)")
    print(learned.table(here), flush=True)
    days = [learned.spend_a_day(plan, kind, seed=options.seed, day=day) for plan in learned.PLANS]
    print(learned.day_table(days), flush=True)
    result = {
        "landscape": kind.name,
        "upstreams": len(learned.UPSTREAMS),
        "names": names,
        "plans": [asdict(line) for line in here],
        "day": [asdict(line) for line in days],
    }
    judged = [not line.missed for line in here if line.missed is not None]
    return result, [*judged, learned.is_gentle(days)]


def main(arguments: list[str] | None = None) -> None:
    """Print a table per landscape."""
    options = _arguments(arguments)
    plans = (*PLANS, *options.tried)
    began = time.monotonic()
    print(_LEGEND)
    every = (*LANDSCAPES, *TRAFFIC, *learned.DIFFERING)
    wanted = options.only or [one.name for one in every]
    tried = [
        *(_try_landscape(one, plans, options) for one in LANDSCAPES if one.name in wanted),
        *(_try_traffic(one, plans, options) for one in TRAFFIC if one.name in wanted),
        *(_try_learning(one, options) for one in learned.DIFFERING if one.name in wanted),
    ]
    results = [result for result, _ in tried]
    judged = [met for _, lines in tried for met in lines]
    took = time.monotonic() - began
    print(f"\n{sum(judged)} of {len(judged)} lines meet all targets ({took:.0f} s)")
    if options.pictures is not None:
        pictures.draw(results, options.pictures)
    if options.json is not None:
        text = json.dumps({"seed": options.seed, "landscapes": results}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
