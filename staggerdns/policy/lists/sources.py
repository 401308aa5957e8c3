"""The sources of a list: files of this machine and URLs, each with its last good copy on disk.

A source is asked what it offers for the next compiled set, and told what became of that. Between
the two another version may come; it waits for the set after that.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256

import msgspec
from twisted.internet.defer import Deferred

from staggerdns.policy.lists.compile import Source, SourceReport
from staggerdns.policy.lists.directory import ListDirectory
from staggerdns.policy.lists.fetched import Fetches, FetchProblem, Validators

FIRST_RETRY: float = 5.0
"""Seconds from a failure until a URL is fetched again; they double."""
LONGEST_RETRY: float = 3_600.0
UNDER_WAY = math.inf
"""When a URL is due that is being fetched."""
_State = tuple[int, int, int, int, int, int] | None
_NEVER = "never"


@dataclass
class FileLooks:
    """How a file was when it was ``seen`` last, ``offered``, and ``taken``; whether what was taken
    is ``used``, or was refused.
    """

    taken: _State | str = _NEVER
    offered: _State | str = _NEVER
    seen: _State | str = _NEVER
    used: bool = False


class FileSource:
    """The file at ``path`` of this machine, which counts anew when it has changed, for the list of
    this ``name``.

    ``problem``: why what it offered last was refused. ``report``: what was said of it last.
    ``counted``: whether what is in force has it. ``right_at``: when a look has last found it as it
    is in force, by ``wall``, in seconds since 1970; 0 if none has. ``copy``: where the last one
    that was good is.
    """

    def __init__(
        self, name: str, path: str, directory: ListDirectory, wall: Callable[[], float]
    ) -> None:
        self.label = path
        self.stem = _stem(name, path)
        self.problem = ""
        self.report: SourceReport | None = None
        self.counted = False
        self.right_at = 0.0
        self._wall = wall
        self.copy = directory.path / f"{self.stem}.list"
        self.looks = FileLooks()
        self._new = False

    def changed(self) -> bool:
        """Return whether the file is another than before, and is not being written any more."""
        state = _state_of(self.label)
        settled, self.looks.seen = state == self.looks.seen or self.looks.taken == _NEVER, state
        self._new = settled and state != self.looks.taken
        if self.looks.used and state == self.looks.taken:
            self.right_at = self._wall()
        return self._new

    @property
    def tried(self) -> bool:
        """Whether the file has been offered already as it is now."""
        return self.looks.seen == self.looks.offered

    def force(self) -> None:
        """Let the file count as changed, though a set is made of it just now."""
        self.looks.taken = self.looks.offered = _NEVER

    def offer(self, number: int) -> Source:
        """Return what the next set is made of, for the list of this number: the file if it has
        changed or has no copy, else the copy.
        """
        self._new = self._new or not self.copy.exists()
        self.looks.offered = _state_of(self.label) if self._new else _NEVER
        candidate = self.label if self._new else None
        return Source(
            number, str(self.copy), candidate, counted=self.counted, named=_has_names(self.report)
        )

    def offer_first(self, number: int) -> Source:
        """Return what the first set is made of that has it: the file, if it is there."""
        self.changed()
        return self.offer(number)

    def offer_as(self, former: FileSource, number: int) -> Source:
        """Return what is in force of the same file, for a set made beside that. Nothing changes:
        whether ``former``, which may be this one, has changed meanwhile is seen later.
        """
        is_kept = former.copy.exists()
        return Source(
            number,
            str(self.copy),
            None if is_kept else self.label,
            counted=former.counted,
            named=_has_names(former.report),
            former=None if self.copy == former.copy else str(former.copy),
            keep=False,
        )

    def take_on(self, former: FileSource) -> None:
        """Go on with what another one knows of the same file."""
        self.report, self.counted = former.report, former.counted
        self.right_at = former.right_at
        self.looks = replace(former.looks)

    def note(self, report: SourceReport) -> None:
        """Note what became of what `offer_as` gave."""
        self.report = report
        self.counted = report.counts

    def lose(self) -> None:
        """Note that there is no copy any more."""
        self.looks.taken = _NEVER

    def settle(self, report: SourceReport) -> None:
        """Note what became of what was offered."""
        self.report = report
        self.counted = report.counts
        if self.looks.offered != _NEVER:
            self.looks.taken, self._new = self.looks.offered, False
            self.problem = report.problem
            self.looks.used = report.taken
            if report.taken:
                self.right_at = self._wall()

    def note_copy(self, report: SourceReport) -> None:
        """Do nothing: where no set has been made the file is offered again."""


class UrlSource:
    """What is at ``url``, which is fetched every ``refresh`` seconds for the list of this ``name``.

    ``refusal``: why what was fetched last has been refused. ``report``: what was said of it last.
    ``counted``: whether what is in force has it. ``right_at``: when the copy was last what the
    server has, in seconds since 1970 like each ``wall``; 0 if it never was. ``copy``: where it is;
    ``known``: what is known of it. ``failures``: attempts in a row. Times of ``due`` and
    ``failed_at``, which is `None` while nothing is wrong, are a monotonic clock's.
    """

    def __init__(self, name: str, url: str, directory: ListDirectory, refresh: float) -> None:
        self.label = url
        self.stem = _stem(name, url)
        self.refusal = ""
        self.report: SourceReport | None = None
        self.counted = False
        self.due = 0.0
        self._directory = directory
        self._refresh = refresh
        self.copy = directory.path / f"{self.stem}.list"
        self._candidate = directory.path / f"{self.stem}.new"
        self._path = directory.path / f"{self.stem}.note"
        self.failures = 0
        self.failed_at: float | None = None  # nothing is wrong
        self._fetched: Validators | None = None
        self._offered: Validators | None = None
        self._accepted: Validators | None = None
        self.known = self._read_note()
        self.right_at = self.known.fetched

    def schedule(self, clock: float, wall: float) -> None:
        """Let the list be due when the copy on disk has reached its age, or after a failure as it
        was, if that is sooner.
        """
        if self.failed_at is not None:
            self.due = min(self.due, clock + min(self._refresh, LONGEST_RETRY))
            return
        age = wall - self.known.fetched
        known = self.known.fetched and 0 <= age < self._refresh  # or the wall clock is wrong
        self.due = clock + (self._refresh - age if known else 0)

    def fetch(self, fetcher: Fetches) -> Deferred[bool]:
        """Return a Deferred of whether there is something new; it fails with `FetchProblem`."""
        self._fetched = self._accepted = None
        self.refusal = ""
        with suppress(OSError):  # whoever writes there says so
            self._directory.make()
        if not self.copy.exists():
            self.known = Note()
        known = Validators(self.known.etag, self.known.modified)

        def fetched(found: Validators | None) -> bool:
            if found is None and not self.copy.exists():
                raise FetchProblem("is as it was, but has no copy any more")
            self._fetched = found
            return found is not None

        return fetcher.fetch(self.label, self._candidate, known).addCallback(fetched)

    @property
    def accepted(self) -> bool:
        """Whether what was fetched last is the copy by now."""
        return self._accepted is not None

    def succeeded(self, clock: float, wall: float) -> None:
        """Note that the copy is right as of now."""
        if self._accepted is not None:
            self.known = Note(self._accepted.etag, self._accepted.modified)
        self.known.fetched = self.right_at = wall
        self._write_note()
        self.failures = 0
        self.failed_at = None
        self.due = clock + self._refresh

    def failed(self, clock: float) -> None:
        """Try again soon, and later each time."""
        longest = min(self._refresh, LONGEST_RETRY)
        self.due = clock + min(FIRST_RETRY * 2 ** min(self.failures, 16), longest)
        self.failures += 1
        self.failed_at = clock

    def refused(self, clock: float) -> None:
        """Try again when the server may have something else."""
        self.due = clock + min(self._refresh, LONGEST_RETRY)
        self.failed_at = clock

    def hurry(self) -> None:
        """If the last attempt failed, wait no longer for the next one than after a first failure:
        however often this is called, the server is not asked more often.
        """
        if self.failed_at is not None and self.due < UNDER_WAY:
            self.due = min(self.due, self.failed_at + FIRST_RETRY)

    def offer(self, number: int) -> Source:
        """Return what the next set is made of, for the list of this number: what has been
        fetched, else the copy.
        """
        self._offered, self._fetched = self._fetched, None
        candidate = None if self._offered is None else str(self._candidate)
        return Source(number, str(self.copy), candidate, ours=True, counted=self.counted)

    offer_first = offer

    def offer_as(self, former: UrlSource, number: int) -> Source:
        """Return what is in force of the same URL, for a set made beside that. Nothing changes."""
        return Source(
            number,
            str(self.copy),
            ours=True,
            counted=former.counted,
            former=None if self.copy == former.copy else str(former.copy),
        )

    def take_on(self, former: UrlSource) -> None:
        """Go on with what another one knows of the same URL, whose fetch has been given up."""
        self.report, self.counted, self.refusal = former.report, former.counted, former.refusal
        self.right_at = former.right_at
        self.known = msgspec.structs.replace(former.known)
        self.failures, self.failed_at = former.failures, former.failed_at
        self.due = former.due if former.due < UNDER_WAY else 0.0
        if self.copy != former.copy:
            self._write_note()

    def note(self, report: SourceReport) -> None:
        """Note what became of what `offer_as` gave."""
        self.report = report
        self.counted = report.counts
        if not report.counts:
            self.lose()

    def lose(self) -> None:
        """Note that there is no copy any more: all of it is to be fetched, soon at first."""
        if self.known.fetched and self.due < UNDER_WAY:
            self.due = 0.0
        self.known = Note()

    def settle(self, report: SourceReport) -> None:
        """Note what became of what was offered."""
        self.report = report
        self.counted = report.counts
        self.note_copy(report)
        if not report.counts:
            self.lose()  # a copy that is there is damaged

    def note_copy(self, report: SourceReport) -> None:
        """Note whether what was offered is the copy by now, though no set has been made."""
        if self._offered is not None:
            self._accepted = self._offered if report.taken else None
            self.refusal = report.problem

    def _read_note(self) -> Note:
        try:
            note = msgspec.json.decode(self._path.read_bytes(), type=Note)
        except (OSError, msgspec.MsgspecError):
            return Note()
        return note if self.copy.exists() else Note()

    def _write_note(self) -> None:
        partial = self._path.with_suffix(".part")
        with suppress(OSError):  # the next start fetches the whole list
            partial.write_bytes(msgspec.json.encode(self.known))
            partial.replace(self._path)


class Note(msgspec.Struct):
    """What is known of the copy of a URL: what its server called it, and when it was right."""

    etag: str = ""
    modified: str = ""
    fetched: float = 0.0


def _has_names(report: SourceReport | None) -> bool:
    return report is not None and report.understood > 0


def _stem(name: str, label: str) -> str:
    """Return the stem of a source's files: lists that have a source in common share none of them,
    since each writes there when it likes.
    """
    return sha256(f"{name} {label}".encode()).hexdigest()[:32]


def _state_of(path: str) -> _State:
    """Return what changes when a file does, or who may read it; `None` when it is not there."""
    try:
        status = os.stat(path)  # noqa: PTH116 (no Path is made each time)
    except (OSError, ValueError):
        return None
    return (
        status.st_mode,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_size,
        status.st_ino,
        status.st_dev,
    )
