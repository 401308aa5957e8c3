"""Files that the operator names, read so that nothing waits for them.

A pipe without a writer, a device, or a file that never ends in the place of a certificate must not
keep the program from starting, nor from answering when it is read anew.
"""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Generator
from io import FileIO
from pathlib import Path

from staggerdns.errors import StaggerDNSError

MAX_SIZE = 1_048_576
"""Bytes of a file that is read: nothing is answered meanwhile."""
MAX_SOCKET_PATH = 107
"""Octets of the path of a UNIX socket (unix(7), without the zero at its end)."""
PIPE_WAIT = 5.0
"""Seconds for whatever writes into a pipe to write all of it."""
PIECE = 262_144
"""Octets of a long file that are read at a time."""
CREDENTIAL = "credential:"
"""What the name of a credential begins with in the place of a path."""
_DIRECTORY = "CREDENTIALS_DIRECTORY"
_TOO_MUCH = bytes(MAX_SIZE + 1)
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Unreadable(StaggerDNSError, ValueError):
    """A file that cannot be used; the text goes behind its path."""


def located(path: str) -> str:
    """Return where the file is that the operator calls ``path``.

    ``credential:NAME`` is a credential of that name, which systemd puts into a directory that the
    unit alone can read (systemd.exec(5), ``LoadCredential=``). Raises `Unreadable`.
    """
    if not path.startswith(CREDENTIAL):
        return path
    name = path.removeprefix(CREDENTIAL)
    if "/" in name or name in ("", ".", ".."):
        raise Unreadable(f"cannot be read: expected a name behind {CREDENTIAL}, as in tls-key")
    directory = os.environ.get(_DIRECTORY)
    if not directory:
        raise Unreadable(
            f"cannot be read: {_DIRECTORY} is not set, as systemd does for a unit that has "
            f"LoadCredential={name}:PATH"
        )
    found = Path(directory) / name
    if not found.exists():
        raise Unreadable(
            f"cannot be read: it is not in {directory}: expected LoadCredential={name}:PATH in the "
            "unit"
        )
    return str(found)


def read_file(path: str, *, pipes: bool = False) -> bytes:
    """Return all that is in the file at ``path``, `MAX_SIZE` bytes at most.

    ``pipes``: it may also be a pipe, as ``/dev/stdin`` and a shell's ``<(...)`` are, which ends
    within `PIPE_WAIT`. Raises `Unreadable`.
    """
    try:
        with _open(path) as file:
            status = os.fstat(file.fileno())
            mode = status.st_mode
            if stat.S_ISFIFO(mode) and pipes:
                content = _read_pipe(file)
            elif stat.S_ISREG(mode):
                content = _read_regular(file) if status.st_size <= MAX_SIZE else _TOO_MUCH
            else:
                kind = "a pipe" if stat.S_ISFIFO(mode) else "a device"
                raise Unreadable(f"cannot be read: it is {kind}, not a regular file")
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable("cannot be read: there is a null character in its name") from None
    if len(content) > MAX_SIZE:
        raise Unreadable(f"has more than {MAX_SIZE} bytes")
    return content


def read_pieces(path: str, limit: int) -> Generator[int, None, bytes]:
    """Read the regular file at ``path`` as `read_file` does, and yield the size of each `PIECE`;
    whoever runs this returns to what is more urgent meanwhile.

    ``limit``: the bytes that it may have. Raises `Unreadable`.
    """
    pieces = []
    size = 0
    try:
        with _open(path) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable("cannot be read: it is not a regular file")
            size = status.st_size if status.st_size > limit else 0
            while size <= limit and (piece := file.read(min(PIECE, limit + 1 - size))):
                pieces.append(piece)
                size += len(piece)
                yield len(piece)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    if size > limit:
        raise Unreadable(f"has more than {limit} bytes")
    return b"".join(pieces)


def _open(path: str) -> FileIO:
    descriptor = os.open(path, _OPEN)
    try:
        return FileIO(descriptor)
    except OSError:  # a directory, which would stay open
        os.close(descriptor)
        raise


def _read_regular(file: FileIO) -> bytes:
    """Read to the end or beyond `MAX_SIZE`; files of /proc do not know their size."""
    content = b""
    while len(content) <= MAX_SIZE:
        part = file.read(MAX_SIZE + 1 - len(content))
        if part is None:
            raise Unreadable("cannot be read: there is nothing in it yet")
        if not part:
            break
        content += part
    return content


def _read_pipe(file: FileIO) -> bytes:
    """Read until the writer is done, which it may not even have begun."""
    content = b""
    deadline = time.monotonic() + PIPE_WAIT
    poll = select.poll()
    poll.register(file, select.POLLIN)
    while len(content) <= MAX_SIZE:
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not poll.poll(remaining * 1000):
            raise Unreadable(f"cannot be read: the pipe did not end within {PIPE_WAIT:g} s")
        part = file.read(65_536)
        if not part:
            break
        content += part
    return content
