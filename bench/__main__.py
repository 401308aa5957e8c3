"""Run the benchmark: ``python -m bench [--quick] [--only PART ...] [--json FILE]``.

Ranking is measured in a network namespace of its own, which takes root, `ip` and /dev/net/tun;
elsewhere one line says why those parts are left out.

Exit status: 0 when everything else was measured, whether targets are met or not; 1 when a program
is missing, a server did not start or StaggerDNS lost too many queries; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from bench import (
    blocking,
    cores,
    fresh,
    hits,
    inside,
    latency,
    lists,
    loading,
    logged,
    memory,
    nearest,
    ordinary,
    programs,
    ranking,
    report,
    servers,
    shape,
    site,
    sorted_hits,
    streams,
    traces,
    transports,
)
from bench.daemons import Laboratory, StartError
from bench.load import LoadError

#: The share of queries that may stay without a good answer.
TOLERATED = 0.001

_Part = Callable[[Laboratory], report.Section]

FULL: dict[str, _Part] = {
    "hits": lambda lab: hits.measure(lab, rounds=5, seconds=2),
    "steady": lambda lab: hits.steady(lab, rounds=5, seconds=1),
    "streams": lambda lab: streams.measure(lab, rounds=5, seconds=2, requests=5_000),
    "sorted": lambda lab: sorted_hits.measure(lab, rounds=12, seconds=0.8),
    "fresh": lambda lab: fresh.one(lab, rounds=5, count=20_000, fill=50_000),
    "same": lambda lab: fresh.three(lab, rounds=5, count=10_000, fill=50_000),
    "own": lambda lab: fresh.own_addresses(lab, rounds=5, count=5_000, fill=50_000),
    "latency": lambda lab: latency.measure(lab, rounds=5, seconds=6),
    "transports": lambda lab: transports.measure(lab, rounds=3, count=10_000, seconds=6),
    "ordinary": lambda lab: ordinary.measure(lab, seconds=120),
    "probing": lambda lab: ordinary.with_ranking(lab, warm=30, seconds=90),
    "memory": lambda lab: memory.one(lab, total=50_000, rate=5_000),
    "pools": lambda lab: memory.fifteen(lab, total=50_000, rate=2_000),
    "nearest": lambda lab: nearest.measure(lab, rounds=3),
    "losses": lambda lab: nearest.with_losses(lab, rounds=3),
    "echo": lambda lab: nearest.after_echo(lab, names=40),
    "first": lambda lab: nearest.first_answers(lab, rounds=5, names=2_000),
    "shape": lambda lab: shape.measure(lab, names=60),
    "ranking": lambda lab: ranking.measure(lab, rounds=3, shared=200, own=12),
    "groups": lambda lab: blocking.hits(lab, count=1_000_000, rounds=9, seconds=2),
    "listed": lambda lab: blocking.fresh(lab, count=1_000_000, rounds=9, names=5_000, fill=50_000),
    "lists": lambda lab: lists.measure(lab, count=1_000_000, rounds=3),
    "loading": lambda lab: loading.measure(lab, count=1_000_000, rounds=3),
    "traces": lambda _: traces.measure(rounds=400),
    "logged": lambda lab: logged.hits(lab, rounds=9, seconds=2),
    "logged_new": lambda lab: logged.fresh(lab, rounds=9, names=5_000, fill=50_000),
    "cores": lambda lab: cores.measure(lab, rounds=5, seconds=2, count=20_000),
    "site": lambda lab: site.measure(lab, seconds=120, fresh=60, ordered=100),
}
_QUICK: dict[str, _Part] = {
    "hits": lambda lab: hits.measure(lab, rounds=3, seconds=1),
    "steady": lambda lab: hits.steady(lab, rounds=3, seconds=0.4),
    "streams": lambda lab: streams.measure(lab, rounds=2, seconds=1, requests=2_000),
    "sorted": lambda lab: sorted_hits.measure(lab, rounds=4, seconds=0.5),
    "fresh": lambda lab: fresh.one(lab, rounds=3, count=4_000, fill=10_000),
    "same": lambda lab: fresh.three(lab, rounds=3, count=4_000, fill=10_000),
    "own": lambda lab: fresh.own_addresses(lab, rounds=3, count=4_000, fill=10_000),
    "latency": lambda lab: latency.measure(lab, rounds=2, seconds=3),
    "transports": lambda lab: transports.measure(lab, rounds=1, count=4_000, seconds=2),
    "ordinary": lambda lab: ordinary.measure(lab, seconds=20),
    "probing": lambda lab: ordinary.with_ranking(lab, warm=5, seconds=15),
    "memory": lambda lab: memory.one(lab, total=20_000, rate=5_000),
    "pools": lambda lab: memory.fifteen(lab, total=10_000, rate=1_000),
    "nearest": lambda lab: nearest.measure(lab, rounds=1),
    "losses": lambda lab: nearest.with_losses(lab, rounds=1),
    "echo": lambda lab: nearest.after_echo(lab, names=10),
    "first": lambda lab: nearest.first_answers(lab, rounds=3, names=400),
    "shape": lambda lab: shape.measure(lab, names=20),
    "ranking": lambda lab: ranking.measure(lab, rounds=1, shared=200, own=9),
    "groups": lambda lab: blocking.hits(lab, count=100_000, rounds=5, seconds=0.5),
    "listed": lambda lab: blocking.fresh(lab, count=100_000, rounds=5, names=2_000, fill=10_000),
    "lists": lambda lab: lists.measure(lab, count=100_000, rounds=2),
    "loading": lambda lab: loading.measure(lab, count=100_000, rounds=2),
    "traces": lambda _: traces.measure(rounds=100),
    "logged": lambda lab: logged.hits(lab, rounds=5, seconds=0.5),
    "logged_new": lambda lab: logged.fresh(lab, rounds=5, names=2_000, fill=10_000),
    "cores": lambda lab: cores.measure(lab, rounds=3, seconds=0.5, count=5_000),
    "site": lambda lab: site.measure(lab, seconds=12, fresh=6, ordered=40),
}
#: What must not be measured outside a network namespace of its own.
_INSIDE = {
    "sorted",
    "own",
    "probing",
    "pools",
    "nearest",
    "losses",
    "echo",
    "first",
    "shape",
    "ranking",
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--only", nargs="+", choices=list(FULL), help="measure these parts only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    return parser.parse_args()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _possible(wanted: list[str]) -> list[str]:
    """Return what of ``wanted`` this machine lets us measure; say in a line why not all."""
    inner = [name for name in wanted if name in _INSIDE]
    reason = inside.reason_without() if inner else None
    if reason is None:
        return wanted
    print(f"left out: {', '.join(inner)}: {reason}\n", flush=True)
    return [name for name in wanted if name not in _INSIDE]


def _complain_about_losses(sections: list[report.Section]) -> int:
    status = 0
    for section in sections:
        for server, asked in section.asked.items():
            if section.failed[server] > asked * TOLERATED:
                # What others lose is told, and stands below their figures.
                status = status or int(server not in servers.RIVALS)
                print(
                    f"bench: {server} left {section.failed[server]:,} of {asked:,} queries "
                    f"without a good answer: {section.title}",
                    file=sys.stderr,
                )
    return status


def main() -> int:
    """Measure, print as the results come in, and return the exit status."""
    arguments = _arguments()
    # Whoever ends the benchmark, and wherever it was started: the daemons are ended, too.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    parts = _QUICK if arguments.quick else FULL
    sections = []
    try:
        programs.check_installed()
        environment = programs.environment()
        for key, value in environment.items():
            print(f"{key:11s}{value}")
        print(flush=True)
        if servers.COMPILED not in servers.builds():
            print(f"left out: {servers.COMPILED.name}: make compiled\n", flush=True)
        wanted = [name for name in parts if not arguments.only or name in arguments.only]
        for name in _possible(wanted):
            # A directory and daemons of its own: no part profits from another's caches.
            with Laboratory() as laboratory:
                section = parts[name](laboratory)
            section.part = name
            sections.append(section)
            print(section.text(), flush=True)
            if arguments.json:
                report.write_json(arguments.json, environment, sections)
    except (programs.SetupError, StartError, LoadError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return _complain_about_losses(sections)


if __name__ == "__main__":
    sys.exit(main())
