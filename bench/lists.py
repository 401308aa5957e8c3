"""Lists of a million names: how long they take to load, and how much memory that is at the peak.

``python -m bench.lists [NAMES]``
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Self

from bench.daemons import Laboratory
from bench.report import Section, Target

#: More memory at the peak, of all processes together, and the longest turn of the reactor.
PEAK = Target(64, at_least=False, unit="MiB")
_TURN = Target(5, at_least=False, unit="ms")
#: Seconds from one look at the memory to the next.
_LOOK_EVERY = 0.02
_NAME = "staggerdns"


def write_names(path: Path, count: int) -> None:
    """Write a hosts file of so many names, in no order."""
    with path.open("w", encoding="ascii") as file:
        for number in range(count):
            # An odd factor goes through all numbers of 32 bits.
            mixed = number * 2_654_435_761 % 2**32
            file.write(f"0.0.0.0 h{mixed:08x}.d{mixed % 50_021}.example\n")


class Peak:
    """While it is entered, looks at the memory of a process and of all that it starts: ``before``
    that, and at the ``peak``, in bytes.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.before = self.peak = memory(pid)
        self._over, self._looking = Event(), Event()
        self._watch = Thread(target=self._look)

    def __enter__(self) -> Self:
        self._watch.start()
        # What is short may be over before a busy machine looks for the first time.
        self._looking.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()

    @property
    def more(self) -> float:
        """How much more there was at the peak, in MiB."""
        return (self.peak - self.before) / 2**20

    def _look(self) -> None:
        while not self._over.is_set():
            self.peak = max(self.peak, memory(self._pid))
            self._looking.set()
            self._over.wait(_LOOK_EVERY)


def _one(pid: int, load: Callable[[], str], count: int) -> tuple[float, float, float]:
    """Return the seconds of a load, the longest turn in milliseconds, and how much more memory
    there was at the peak, in MiB.
    """
    with Peak(pid) as peak:
        names, took, turn = load().split()
    assert int(names) == count
    return float(took), float(turn), peak.more


def memory(pid: int) -> int:
    """Return the proportional size of a process and its children, in bytes."""
    process = Path(f"/proc/{pid}")
    total = 0
    with suppress(OSError):  # it may end meanwhile
        for row in (process / "smaps_rollup").read_text(encoding="ascii").splitlines():
            if row.startswith("Pss:"):
                total += int(row.split()[1]) * 1024
        children = (process / "task" / str(pid) / "children").read_text(encoding="ascii")
        total += sum(memory(int(child)) for child in children.split())
    return total


def measure(laboratory: Laboratory, *, count: int, rounds: int) -> Section:
    """Load a list of ``count`` names, and load it again."""
    section = Section(f"Lists with {count:,} names: the first load, and {rounds} more")
    path = laboratory.directory / "names.txt"
    write_names(path, count)
    with subprocess.Popen(
        [sys.executable, "-m", "bench.listload", str(laboratory.directory), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()

        def load() -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("load\n")
            process.stdin.flush()
            return process.stdout.readline()

        loads = [_one(process.pid, load, count) for _ in range(1 + rounds)]
        process.stdin.close()
    for what, results in (("first load", loads[:1]), ("load again", loads[1:])):
        took, turns, more = zip(*results, strict=True)
        section.add(f"{what}, s", {_NAME: list(took)}, digits=1)
        section.add(f"{what}, longest turn, ms", {_NAME: turns}, digits=2, target=_TURN)
        section.add(f"{what}, more at the peak, MiB", {_NAME: more}, digits=1, target=PEAK)
    return section


def main() -> None:
    """Measure, and print what comes of it."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with Laboratory() as laboratory:
        print(measure(laboratory, count=count, rounds=3).text())


if __name__ == "__main__":
    main()
