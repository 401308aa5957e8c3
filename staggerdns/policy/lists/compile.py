"""The process that compiles lists: ``python -m staggerdns.policy.lists.compile``.

An `Order` comes in as JSON, a `Report` goes out as JSON. A source has a candidate, which is new,
and a copy, the last that was good. A candidate that can be used becomes the copy, and one that
cannot is reported; then the copy counts. In the end the compiled file takes its name by one step.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

import msgspec

from staggerdns.policy.lists.content import Lines, Refused, read_source
from staggerdns.policy.lists.lines import BELOW, ITSELF, Rule
from staggerdns.policy.lists.table import MAX_NAMES, TableWriter, TooManyNames

NICE = 10
"""How much of its turn this process leaves to others: names are answered meanwhile."""


class Source(msgspec.Struct, frozen=True):
    """A source of the list of this ``number``: paths of its ``candidate``, if there is one, and of
    its ``copy``. ``ours``: the candidate may be moved; else it stays where it is.
    """

    number: int
    copy: str
    candidate: str | None = None
    ours: bool = False


class Order(msgspec.Struct, frozen=True):
    """Sets ``target`` up from ``sources`` and the ``domains`` of each list, in wire form.

    ``what`` goes into the file.
    """

    target: str
    sources: list[Source]
    domains: list[list[bytes]]
    what: str


class SourceReport(msgspec.Struct):
    """What became of a source: whether anything of it ``counts``, or has been ``taken`` anew.

    ``problem``: why not, to stand behind its name. The others are those of `Lines`.
    """

    counts: bool = False
    taken: bool = False
    problem: str = ""
    understood: int = 0
    wrong: int = 0
    first: str = ""


class Report(msgspec.Struct, frozen=True):
    """What became of an order: the number of ``names`` of each list, and of each source."""

    names: list[int]
    sources: list[SourceReport]


def compile_lists(order: Order, random: Callable[[int], bytes] = os.urandom) -> Report:
    """Carry ``order`` out. Raises `OSError` when the compiled file cannot be written."""
    table = TableWriter(random(16))
    for number, domains in enumerate(order.domains):
        table.add(number, Rule(ITSELF | BELOW, tuple(domains)))
    reports = [_read(source, table) for source in order.sources]
    target = Path(order.target)
    partial = target.with_suffix(".part")
    with partial.open("wb") as file:
        names = table.write(file, len(order.domains), order.what)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)
    return Report(names, reports)


def _read(source: Source, table: TableWriter) -> SourceReport:
    report = SourceReport()
    if source.candidate is not None:
        mark = table.mark()
        try:
            lines = _take(source, source.candidate, table)
        except Refused as refused:
            table.back_to(mark)
            report.problem = str(refused)
            if source.ours:
                Path(source.candidate).unlink(missing_ok=True)
        else:
            report.counts = report.taken = True
            _note(report, lines)
            return report
    if Path(source.copy).exists():
        mark = table.mark()
        try:
            lines = _add(source, source.copy, table, None)
        except Refused as refused:
            table.back_to(mark)
            report.problem = report.problem or f"has a copy that {refused}"
        else:
            report.counts = True
            _note(report, lines)
    return report


def _note(report: SourceReport, lines: Lines) -> None:
    report.understood, report.wrong, report.first = lines.understood, lines.wrong, lines.first


def _take(source: Source, candidate: str, table: TableWriter) -> Lines:
    """Read a candidate, and make it the copy. Raises `Refused`."""
    copy = Path(source.copy)
    if source.ours:
        lines = _add(source, candidate, table, None)
        Path(candidate).replace(copy)
        return lines
    partial = copy.with_suffix(".part")
    with ExitStack() as stack:
        file: IO[bytes] | None = None
        with suppress(OSError):  # no copy is kept then; the file itself is there
            file = stack.enter_context(partial.open("wb"))
        try:
            lines = _add(source, candidate, table, None if file is None else file.write)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    if file is not None:
        partial.replace(copy)
    return lines


def _add(
    source: Source, path: str, table: TableWriter, keep: Callable[[bytes], object] | None
) -> Lines:
    try:
        return read_source(path, lambda line: table.add(source.number, line), keep)
    except TooManyNames:
        raise Refused(f"has too many names: all lists together have {MAX_NAMES} at most") from None


def main() -> None:
    """Read an order from standard input, carry it out, and write the report."""
    with suppress(OSError):
        os.nice(NICE)
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    try:
        report = compile_lists(order)
    except OSError as error:
        raise SystemExit(f"the compiled lists cannot be written: {error}") from None
    sys.stdout.buffer.write(msgspec.json.encode(report))


if __name__ == "__main__":
    main()
