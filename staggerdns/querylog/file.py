"""Files that are written to the end, and renamed when they are long.

The standard library renames them (`logging.handlers.RotatingFileHandler`). What it writes with is
not used: it would write one line after the other, go on behind a line that a full disk has cut, and
wait for the reader of a pipe for ever.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Sequence
from contextlib import suppress
from errno import ENXIO, EPIPE
from io import FileIO
from logging.handlers import RotatingFileHandler
from threading import Event
from typing import Any

from staggerdns.querylog.outlet import TOO_SLOW, Unwritten

MODE = 0o640
"""Of a file that is made: whoever may read it learns who asks for what."""
LOOK_EVERY = 0.1
"""Seconds between two looks, while a pipe is full, whether anybody still wants it to be written."""
NOBODY_READS = "nobody reads it"
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_REASONS = {ENXIO: NOBODY_READS, EPIPE: NOBODY_READS}


class FileSink:
    """Writes into the file at ``path``, which has ``max_size`` octets at most, ``header`` first and
    ``trailer`` last; ``keep`` older ones are kept. A pipe is as good.
    """

    def __init__(
        self, path: str, max_size: int, keep: int, *, header: bytes = b"", trailer: bytes = b""
    ) -> None:
        self._max_size = max_size
        self._header = header
        self._trailer = trailer
        self._files = _Files(path, keep)
        self._given_up = Event()

    def write(self, items: list[bytes]) -> None:
        """Write these, whole ones alone. Raises `Unwritten`."""
        data = memoryview(b"".join(items))
        written, problem = 0, ""
        try:
            self._prepare(len(data))
            while written < len(data) and not problem:
                try:
                    written += os.write(self._files.descriptor, data[written:])
                except BlockingIOError:
                    problem = "" if self._wait() else TOO_SLOW
        except OSError as error:
            problem = _reason(error)
        if problem:
            raise Unwritten(self._cut(items, written), problem)

    def close(self) -> None:
        """Close the file; what is written next opens what is there then."""
        if self._files.is_open:
            with suppress(OSError):
                os.write(self._files.descriptor, self._trailer)
            self._files.close_stream()

    def give_up(self) -> None:
        """Wait for the reader of a pipe no more."""
        self._given_up.set()

    def _prepare(self, size: int) -> None:
        """Have a file that has room for so many octets. Raises `OSError`."""
        files = self._files
        if not files.is_open:
            files.open_stream()
            if files.size and self._header:  # it could not be read beyond its trailer
                files.rename()
            os.write(files.descriptor, self._header)
        if files.size > len(self._header) and files.size + size > self._max_size:
            os.write(files.descriptor, self._trailer)
            files.rename()
            os.write(files.descriptor, self._header)

    def _wait(self) -> bool:
        """Wait until a pipe takes more; return whether it does."""
        poll = select.poll()
        poll.register(self._files.descriptor, select.POLLOUT)
        while not self._given_up.is_set():
            if poll.poll(1000 * LOOK_EVERY):
                return True
        return False

    def _cut(self, items: Sequence[bytes], written: int) -> int:
        """Remove the part of an item that was written; return how many items are missing."""
        whole = count = 0
        for item in items:
            if whole + len(item) > written:
                break
            whole += len(item)
            count += 1
        if whole < written:
            files = self._files
            if not files.is_regular:
                files.close_stream()  # its reader sees an end
            else:
                with suppress(OSError):
                    os.ftruncate(files.descriptor, files.size - (written - whole))
        return len(items) - count


class _Files(RotatingFileHandler):
    """The file that is written into, and the older ones."""

    stream: Any  # octets, where the class has text

    def __init__(self, path: str, keep: int) -> None:
        super().__init__(path, backupCount=keep, delay=True)

    @property
    def is_open(self) -> bool:
        return self.stream is not None

    @property
    def descriptor(self) -> int:
        number: int = self.stream.fileno()
        return number

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(os.fstat(self.descriptor).st_mode)

    @property
    def size(self) -> int:
        """Octets of a file; 0 of what has no size."""
        found = os.fstat(self.descriptor)
        return found.st_size if stat.S_ISREG(found.st_mode) else 0

    def open_stream(self) -> None:
        self.stream = self._open()

    def rename(self) -> None:
        """Make this one and all others older, and begin a new one. Raises `OSError`."""
        self.doRollover()
        self.open_stream()

    def close_stream(self) -> None:
        stream, self.stream = self.stream, None
        with suppress(OSError):
            stream.close()

    def _open(self) -> FileIO:  # type: ignore[override]  # octets, at once
        descriptor = os.open(self.baseFilename, _FLAGS, MODE)
        try:
            return FileIO(descriptor, "a")
        except OSError:  # a directory
            os.close(descriptor)
            raise


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0) or error.strerror or str(error)
