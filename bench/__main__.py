"""Run the benchmark: ``python -m bench [--quick] [--only PART ...] [--json FILE]``.

Exit status: 0 when everything was measured, whether targets are met or not; 1 when a program
is missing, a server did not start or too many queries were lost; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from bench import fresh, hits, latency, memory, programs, report
from bench.daemons import Laboratory, StartError
from bench.load import LoadError

#: The share of queries that may stay without a good answer.
TOLERATED = 0.001

_Part = Callable[[Laboratory], report.Section]

_FULL: dict[str, _Part] = {
    "hits": lambda lab: hits.measure(lab, rounds=5, seconds=2),
    "fresh": lambda lab: fresh.measure(lab, rounds=5, count=20_000),
    "latency": lambda lab: latency.measure(lab, rounds=3, seconds=6),
    "memory": lambda lab: memory.measure(lab, rate=5_000),
}
_QUICK: dict[str, _Part] = {
    "hits": lambda lab: hits.measure(lab, rounds=3, seconds=1),
    "fresh": lambda lab: fresh.measure(lab, rounds=2, count=10_000),
    "latency": lambda lab: latency.measure(lab, rounds=1, seconds=3),
    "memory": lambda lab: memory.measure(lab, rate=20_000),
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--only", nargs="+", choices=list(_FULL), help="measure these parts only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    return parser.parse_args()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _complain_about_losses(sections: list[report.Section]) -> int:
    status = 0
    for section in sections:
        for server, asked in section.asked.items():
            if section.failed[server] > asked * TOLERATED:
                status = 1
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
    parts = _QUICK if arguments.quick else _FULL
    sections = []
    try:
        programs.check_installed()
        environment = programs.environment()
        for key, value in environment.items():
            print(f"{key:11s}{value}")
        print(flush=True)
        for name, measure in parts.items():
            if arguments.only and name not in arguments.only:
                continue
            # A directory and daemons of its own: no part profits from another's caches.
            with Laboratory() as laboratory:
                section = measure(laboratory)
            sections.append(section)
            print(section.text(), flush=True)
    except (programs.SetupError, StartError, LoadError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        report.write_json(arguments.json, environment, sections)
    return _complain_about_losses(sections)


if __name__ == "__main__":
    sys.exit(main())
