"""The directory of lists: copies of sources, and what they were compiled to.

Somebody may remove it while the program runs; it is made again before anything is written there.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from staggerdns.journal import Journal

SUFFIXES = (".list", ".new", ".part", ".note")
"""Of the files of sources: copy, candidate, what is not complete yet, and what is known of it."""


class ListDirectory:
    """The directory at ``path``; a ``temporary`` one is ours alone, and is removed in the end."""

    def __init__(self, path: Path, *, temporary: bool) -> None:
        self.path = path
        self._temporary = temporary

    def make(self) -> None:
        """See that it is there. Raises `OSError`."""
        if not self._temporary:
            self.path.mkdir(parents=True, exist_ok=True)
            return
        try:
            self.path.mkdir(0o700)
        except FileExistsError:
            status = self.path.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                raise  # where everybody may write, somebody else has made it

    def clean(self, stems: Collection[str], *, unfinished: bool) -> None:
        """Remove the files of sources of which there are none with these ``stems``; ``unfinished``:
        and those that nobody is writing.
        """
        with suppress(OSError):
            for path in self.path.iterdir():
                left = unfinished and path.suffix in (".new", ".part")
                if path.suffix in SUFFIXES and (left or path.stem not in stems):
                    self.remove(path.name)

    def remove(self, name: str) -> None:
        """Remove the file of this name, if that can be."""
        with suppress(OSError):
            (self.path / name).unlink()

    def close(self) -> None:
        """Remove it if it is a temporary one."""
        if self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)


def choose_directory(wanted: str | None, journal: Journal) -> ListDirectory:
    """Return the directory ``lists`` in the one that is ``wanted``, or, with a warning, a temporary
    one where nothing can be written there. Raises `OSError` when there is none at all.
    """
    if wanted is not None:
        chosen = ListDirectory(Path(wanted) / "lists", temporary=False)
        try:
            chosen.make()
            with tempfile.TemporaryFile(dir=chosen.path):
                return chosen
        except OSError as error:
            journal.warn(
                "no copies of lists are kept: {path} cannot be written: {problem}",
                path=str(chosen.path),
                problem=error.strerror,
            )
    return ListDirectory(Path(tempfile.mkdtemp(prefix="staggerdns-")), temporary=True)
