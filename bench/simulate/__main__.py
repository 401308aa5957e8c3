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
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from bench.simulate.figures import MOST_P95, MOST_WINDOW, Figures, baseline, figures, table
from bench.simulate.landscapes import LANDSCAPES, draw
from bench.simulate.replay import Plan
from staggerdns.document import ConfigError
from staggerdns.settings import PROFILES

WARM = 100
_NAMES = {False: 3000, True: 400}
#: Queries per plan and landscape, which bound the names of the largest ones.
_QUERIES = {False: 40_000, True: 10_000}

PLANS = (
    *(
        Plan(f"parallel {profile}", {"strategy": "parallel", "profile": profile})
        for profile in PROFILES
    ),
    *(Plan(name, {"strategy": name}) for name in ("racing", "sequential", "random", "auto")),
)

_LEGEND = f"""\
p50 p95 p99  first answer, ms
p95/all      its p95 over that of asking all at once (target {MOST_P95:g})
best         p95/all of the best fixed order at the same pace, never waiting: a bound
wrong        names denied or failed though some upstream answers well
window       most queries of one name started within stagger_delay (in brackets: when the whole
             active tier failed); of all: its share of the upstreams (target {MOST_WINDOW:.0%})
full         names whose pool has all that asking all would find (target all), and when"""


def _numbers(text: str) -> Plan:
    try:
        plan = Plan(text, {"strategy": "parallel", "parallel": yaml.safe_load(f"{{{text}}}")})
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
    parser.add_argument(
        "--only",
        action="append",
        metavar="LANDSCAPE",
        choices=[landscape.name for landscape in LANDSCAPES],
        help="leave out the others; may be repeated",
    )
    parser.add_argument(
        "--try",
        action="append",
        default=[],
        type=_numbers,
        metavar="NUMBERS",
        dest="tried",
        help="a line with other numbers of upstream.parallel; may be repeated",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Print a table per landscape."""
    options = _arguments(arguments)
    plans = (*PLANS, *options.tried)
    began = time.monotonic()
    results: list[dict[str, Any]] = []
    lines: list[Figures] = []
    print(_LEGEND)
    for landscape in LANDSCAPES:
        if options.only and landscape.name not in options.only:
            continue
        count = len(landscape.characters)
        names = min(_NAMES[options.quick], _QUERIES[options.quick] // count)
        draws = draw(landscape, options.seed, names, WARM)
        everybody = baseline(PLANS[0], draws)
        here = [figures(plan, draws) for plan in plans]
        print(f"\n{landscape.name}: {landscape.what} ({names} names)")
        print(table(here, everybody, count), flush=True)
        lines += here
        results.append(
            {
                "landscape": landscape.name,
                "upstreams": count,
                "names": names,
                "ask_all": asdict(everybody),
                "plans": [asdict(line) for line in here],
            }
        )
    judged = [line for line in lines if line.missed is not None]
    met = sum(not line.missed for line in judged)
    print(f"\n{met} of {len(judged)} lines meet all targets ({time.monotonic() - began:.0f} s)")
    if options.json is not None:
        text = json.dumps({"seed": options.seed, "landscapes": results}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
