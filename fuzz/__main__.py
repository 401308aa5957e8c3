"""``python -m fuzz TARGET DIRECTORY [-runs=N | -max_total_time=SECONDS] [FLAG...]``.

What it finds it writes to DIRECTORY: inputs that took a new way to TARGET/, one that crashed or
hung to ``TARGET-crash-...`` or ``TARGET-timeout-...``; then the exit status is not 0. Give
such a file in place of a flag to see it again. Flags are libFuzzer's.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import atheris

TARGETS = ("queries", "replies", "settings", "lists", "domains", "control", "proxies")
HANG = 10
"""Seconds after which one input counts as a hang; the dearest takes a hundredth."""
LONGEST = 4096
"""Octets of an input: as much as a datagram may bring."""
_HERE = Path(__file__).parent


def main() -> None:
    """Fuzz the target of the command line; does not return."""
    if len(sys.argv) < 3 or sys.argv[1] not in TARGETS:
        raise SystemExit(__doc__)
    name, directory, *flags = sys.argv[1:]
    found = Path(directory) / name
    found.mkdir(parents=True, exist_ok=True)
    # PyYAML alone takes three quarters of the time of a run for settings when it is instrumented.
    # In its place the corpus has an input for each way through it, and keep_seed keeps these.
    with atheris.instrument_imports(include=["staggerdns"]):
        target = import_module(f"fuzz.{name}")
    arguments = [
        f"-artifact_prefix={found}-",
        f"-timeout={HANG}",
        f"-max_len={LONGEST}",
        f"-dict={_HERE / name}.dict",
        "-keep_seed=1",
        *flags,
    ]
    if all(flag.startswith("-") for flag in flags):
        arguments += [str(found), str(_HERE / "corpus" / name)]
    atheris.Setup([sys.argv[0], *arguments], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
