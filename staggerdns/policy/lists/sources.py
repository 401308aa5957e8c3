"""The sources of a list: files of this machine and URLs, each with its last good copy on disk.

A source is asked what it offers for the next compiled set, and told what became of that. Between
the two another version may come; it waits for the set after that.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256

import msgspec
from twisted.internet.defer import Deferred

from staggerdns.policy.lists.compile import Source, SourceReport
from staggerdns.policy.lists.directory import ListDirectory
from staggerdns.policy.lists.fetched import Fetches, FetchProblem, Validators

FIRST_RETRY: float = 5.0
"""Seconds from a failure until a URL is fetched again; they double."""
LONGEST_RETRY: float = 3_600.0
SUFFIXES = (".list", ".new", ".part", ".note")
"""Of the files of sources: copy, candidate, what is not complete yet, and what is known of it."""
UNDER_WAY = math.inf
"""When a URL is due that is being fetched."""
_State = tuple[int, int, int, int, int, int] | None
_NEVER = "never"


class FileSource:
    """The file at ``path`` of this machine, which counts anew when it has changed, for the list of
    this ``number`` and ``name``.

    ``problem``: why what it offered last was refused. ``report``: what was said of it last.
    ``counted``: whether what is in force has it. ``right_at``: when a look has last found it as it
    is in force, by ``wall``, in seconds since 1970; 0 if none has.
    """

    def __init__(
        self,
        number: int,
        name: str,
        path: str,
        directory: ListDirectory,
        wall: Callable[[], float],
    ) -> None:
        self.label = path
        self.stem = _stem(name, path)
        self.problem = ""
        self.report: SourceReport | None = None
        self.counted = False
        self.right_at = 0.0
        self._number = number
        self._wall = wall
        self._copy = directory.path / f"{self.stem}.list"
        self._new = False
        self._used = False  # what was taken was not refused
        self._taken: _State | str = _NEVER
        self._offered: _State | str = _NEVER
        self._seen: _State | str = _NEVER

    def changed(self) -> bool:
        """Return whether the file is another than before, and is not being written any more."""
        state = _state_of(self.label)
        settled, self._seen = state == self._seen or self._taken == _NEVER, state
        self._new = settled and state != self._taken
        if self._used and state == self._taken:
            self.right_at = self._wall()
        return self._new

    @property
    def tried(self) -> bool:
        """Whether the file has been offered already as it is now."""
        return self._seen == self._offered

    def force(self) -> None:
        """Let the file count as changed, though a set is made of it just now."""
        self._taken = self._offered = _NEVER

    def offer(self) -> Source:
        """Return what the next set is made of: the file if it has changed or has no copy, else the
        copy.
        """
        self._new = self._new or not self._copy.exists()
        self._offered = _state_of(self.label) if self._new else _NEVER
        candidate = self.label if self._new else None
        named = self.report is not None and self.report.understood > 0
        return Source(self._number, str(self._copy), candidate, counted=self.counted, named=named)

    def lose(self) -> None:
        """Note that there is no copy any more."""
        self._taken = _NEVER

    def settle(self, report: SourceReport) -> None:
        """Note what became of what was offered."""
        self.report = report
        self.counted = report.counts
        if self._offered != _NEVER:
            self._taken, self._new = self._offered, False
            self.problem = report.problem
            self._used = report.taken
            if report.taken:
                self.right_at = self._wall()

    def note_copy(self, report: SourceReport) -> None:
        """Do nothing: where no set has been made the file is offered again."""


class UrlSource:
    """What is at ``url``, which ``fetcher`` fetches every ``refresh`` seconds for the list of this
    ``number`` and ``name``.

    ``refusal``: why what was fetched last has been refused. ``report``: what was said of it last.
    ``counted``: whether what is in force has it. ``right_at``: when the copy was last what the
    server has, in seconds since 1970 like each ``wall``; 0 if it never was. Times of `due` are a
    monotonic clock's.
    """

    def __init__(
        self,
        number: int,
        name: str,
        url: str,
        directory: ListDirectory,
        fetcher: Fetches,
        refresh: float,
    ) -> None:
        self.label = url
        self.stem = _stem(name, url)
        self.refusal = ""
        self.report: SourceReport | None = None
        self.counted = False
        self.due = 0.0
        self._number = number
        self._directory = directory
        self._fetcher = fetcher
        self._refresh = refresh
        self._copy = directory.path / f"{self.stem}.list"
        self._candidate = directory.path / f"{self.stem}.new"
        self._path = directory.path / f"{self.stem}.note"
        self._failures = 0
        self._failed_at: float | None = None  # nothing is wrong
        self._fetched: Validators | None = None
        self._offered: Validators | None = None
        self._accepted: Validators | None = None
        self._note = self._read_note()
        self.right_at = self._note.fetched

    def schedule(self, clock: float, wall: float) -> None:
        """Let the list be due when the copy on disk has reached its age."""
        age = wall - self._note.fetched
        known = self._note.fetched and 0 <= age < self._refresh  # or the wall clock is wrong
        self.due = clock + (self._refresh - age if known else 0)

    def fetch(self) -> Deferred[bool]:
        """Return a Deferred of whether there is something new; it fails with `FetchProblem`."""
        self._fetched = self._accepted = None
        self.refusal = ""
        with suppress(OSError):  # whoever writes there says so
            self._directory.make()
        if not self._copy.exists():
            self._note = Note()
        known = Validators(self._note.etag, self._note.modified)

        def fetched(found: Validators | None) -> bool:
            if found is None and not self._copy.exists():
                raise FetchProblem("is as it was, but has no copy any more")
            self._fetched = found
            return found is not None

        return self._fetcher.fetch(self.label, self._candidate, known).addCallback(fetched)

    @property
    def accepted(self) -> bool:
        """Whether what was fetched last is the copy by now."""
        return self._accepted is not None

    def succeeded(self, clock: float, wall: float) -> None:
        """Note that the copy is right as of now."""
        if self._accepted is not None:
            self._note = Note(self._accepted.etag, self._accepted.modified)
        self._note.fetched = self.right_at = wall
        self._write_note()
        self._failures = 0
        self._failed_at = None
        self.due = clock + self._refresh

    def failed(self, clock: float) -> None:
        """Try again soon, and later each time."""
        longest = min(self._refresh, LONGEST_RETRY)
        self.due = clock + min(FIRST_RETRY * 2 ** min(self._failures, 16), longest)
        self._failures += 1
        self._failed_at = clock

    def refused(self, clock: float) -> None:
        """Try again when the server may have something else."""
        self.due = clock + min(self._refresh, LONGEST_RETRY)
        self._failed_at = clock

    def hurry(self) -> None:
        """If the last attempt failed, wait no longer for the next one than after a first failure:
        however often this is called, the server is not asked more often.
        """
        if self._failed_at is not None and self.due < UNDER_WAY:
            self.due = min(self.due, self._failed_at + FIRST_RETRY)

    def offer(self) -> Source:
        """Return what the next set is made of: what has been fetched, else the copy."""
        self._offered, self._fetched = self._fetched, None
        candidate = None if self._offered is None else str(self._candidate)
        return Source(self._number, str(self._copy), candidate, ours=True, counted=self.counted)

    def lose(self) -> None:
        """Note that there is no copy any more: all of it is to be fetched, soon at first."""
        if self._note.fetched and self.due < UNDER_WAY:
            self.due = 0.0
        self._note = Note()

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
        return note if self._copy.exists() else Note()

    def _write_note(self) -> None:
        partial = self._path.with_suffix(".part")
        with suppress(OSError):  # the next start fetches the whole list
            partial.write_bytes(msgspec.json.encode(self._note))
            partial.replace(self._path)


class Note(msgspec.Struct):
    """What is known of the copy of a URL: what its server called it, and when it was right."""

    etag: str = ""
    modified: str = ""
    fetched: float = 0.0


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
