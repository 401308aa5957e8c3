"""The process that compiles lists: ``python -m staggerdns.policy.lists.compile``.

An `Order` comes in as JSON, a `Report` goes out as JSON. A source has a candidate, which is new,
and a copy, the last that was good. A candidate that can be used becomes the copy, and one that
cannot is reported; then the copy counts. In the end the compiled file takes its name by one step,
unless names would be missing in it that were there: a copy may have been lost.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

import msgspec

from staggerdns.policy.lists.content import Lines, Refused, read_source
from staggerdns.policy.lists.lines import BELOW, ITSELF, Rule
from staggerdns.policy.lists.table import MAX_NAMES, TableWriter, TooManyNames

NICE = 10
"""How much of its turn this process leaves to others: names are answered meanwhile."""
_BLOCK = 65_536  # bytes of a copy that are read at once


class Source(msgspec.Struct, frozen=True):
    """A source of the list of this ``number``: paths of its ``candidate``, if there is one, and of
    its ``copy``. ``ours``: it was fetched, and may be moved; else it stays where it is.
    ``counted``: it is part of what is in force, and must be of what takes its place, too.
    ``named``: it is known to have names there, whether there is a copy or not. ``former``: where
    the copy is until now; it is copied from there first. ``keep``: a candidate that can be used
    becomes the copy.
    """

    number: int
    copy: str
    candidate: str | None = None
    ours: bool = False
    counted: bool = False
    named: bool = False
    former: str | None = None
    keep: bool = True


class Order(msgspec.Struct, frozen=True):
    """Sets ``target`` up from ``sources`` and the ``domains`` of each list, in wire form.

    ``what`` goes into the file, and which of the sources count.
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
    """What became of an order: the number of ``names`` of each list, and of each source.

    ``lost``: places of sources that counted and do not any more; then nothing has been written.
    """

    names: list[int]
    sources: list[SourceReport]
    lost: list[int] = []


def compile_lists(order: Order, random: Callable[[int], bytes] = os.urandom) -> Report:
    """Carry ``order`` out. Raises `OSError` when the compiled file cannot be written."""
    table = TableWriter(random(16))
    for number, domains in enumerate(order.domains):
        table.add(number, Rule(ITSELF | BELOW, tuple(domains)))
    reports = [_read(source, table) for source in order.sources]
    counts = [report.counts for report in reports]
    lost = [place for place, one in enumerate(order.sources) if one.counted > counts[place]]
    if lost:
        return Report([], reports, lost)
    target = Path(order.target)
    partial = target.with_suffix(".part")
    with partial.open("wb") as file:
        names = table.write(file, len(order.domains), [order.what, counts])
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)
    return Report(names, reports)


def _read(source: Source, table: TableWriter) -> SourceReport:
    report = SourceReport()
    if source.former is not None:
        _bring(Path(source.former), Path(source.copy))
    if source.candidate is not None:
        mark = table.mark()
        try:
            lines = _take(source, source.candidate, table)
        except Refused as refused:
            table.back_to(mark)
            report.problem = str(refused)
            if source.ours:
                with suppress(OSError):
                    Path(source.candidate).unlink()
        else:
            report.counts = report.taken = True
            _note(report, lines)
            return report
    try:
        present = Path(source.copy).exists()
        if present:
            mark = table.mark()
            _note(report, _add(source, source.copy, table, None))
            report.counts = True
    except Refused as refused:
        table.back_to(mark)
        report.problem = report.problem or f"has a copy that {refused}"
    if source.counted and not present:
        report.problem = ", and ".join(filter(None, [report.problem, "has no copy any more"]))
    return report


def _note(report: SourceReport, lines: Lines) -> None:
    report.understood, report.wrong, report.first = lines.understood, lines.wrong, lines.first


def _take(source: Source, candidate: str, table: TableWriter) -> Lines:
    """Read a candidate, and make it the copy if that can be. Raises `Refused`."""
    copy = Path(source.copy)
    if source.ours:
        lines = _add(source, candidate, table, None)
        if not lines.understood and _has_names(copy):
            raise Refused("has no names, and its copy has: it may have moved")
        with suppress(OSError):
            Path(candidate).replace(copy)
        return lines
    if not source.keep:
        return _unless_emptied(source, _add(source, candidate, table, None))
    with _Copying(copy) as copying:
        lines = _unless_emptied(source, _add(source, candidate, table, copying.write))
        copying.finish()
    return lines


def _unless_emptied(source: Source, lines: Lines) -> Lines:
    """Raise `Refused` for what a full disk leaves of a file, or who has begun to write it."""
    if lines.blank and (source.named or _has_names(Path(source.copy))):
        raise Refused("is empty: a line with a comment alone says that this is meant")
    return lines


def _has_names(copy: Path) -> bool:
    try:
        return read_source(str(copy), lambda _: None).understood > 0
    except Refused:
        return False


def _bring(former: Path, copy: Path) -> None:
    """Let ``copy`` be what is in ``former``, or nothing: what was there may be old."""
    try:
        with former.open("rb") as file, _Copying(copy) as copying:
            while octets := file.read(_BLOCK):
                copying.write(octets)
            copying.finish()
    except OSError:
        with suppress(OSError):
            copy.unlink()


class _Copying:
    """Makes ``copy`` of what is written, to be used with ``with``.

    What cannot be kept costs the copy: the file itself is there, and is read in its place. An older
    copy would bring back what is not in the file any more, so it goes.
    """

    def __init__(self, copy: Path) -> None:
        self._copy = copy
        self._partial = copy.with_suffix(".part")
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        with suppress(OSError):
            self._file = self._partial.open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing that is not complete."""
        self._give_up()

    def write(self, octets: bytes) -> None:
        """Keep the next part."""
        if self._file is not None:
            try:
                self._file.write(octets)
            except OSError:
                self._give_up()

    def finish(self) -> None:
        """Let what was written be the copy."""
        try:
            if self._file is not None:
                self._file.close()  # the end of it is written only now
                self._partial.replace(self._copy)
                return
        except OSError:
            pass
        self._give_up()
        with suppress(OSError):
            self._copy.unlink()

    def _give_up(self) -> None:
        file, self._file = self._file, None
        with suppress(OSError):
            if file is not None:
                file.close()
        with suppress(OSError):
            self._partial.unlink()


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
