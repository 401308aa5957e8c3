"""The directory of the saved state: one file of it, and one program that writes there.

A save is made beside the file and takes its place when it is complete and on the disk, so what is
there is always the whole of one save. The program holds a lock on the directory while it runs, and
whoever finds it locked leaves it alone. What cannot be used is set aside, `KEPT` of these at most.
All this may wait for a disk, so it belongs into a thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path

from staggerdns.errors import StaggerDNSError
from staggerdns.state.file import Unusable

NAME = "cache.state"
"""Of the file in its directory."""
KEPT = 3
"""Files that are kept because they could not be used."""
_NEW = f"{NAME}.new"
_ASIDE = f"{NAME}.unusable"
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
_ENVIRONMENT = "STATE_DIRECTORY"


class Occupied(StaggerDNSError, OSError):
    """Another program has the directory."""


def find_directory(configured: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the directory that is ``configured``, else the one that systemd has made for the
    program (``StateDirectory=``), `None` where there is neither.
    """
    return configured or environ.get(_ENVIRONMENT, "").partition(":")[0] or None


class StateDirectory:
    """The directory at ``path``, which is made when it is not there, for its owner alone."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._directory: int | None = None  # a descriptor, which holds the lock

    @property
    def file(self) -> str:
        """The path of the file."""
        return str(Path(self.path, NAME))

    def open(self) -> None:
        """See that it is there and ours; somebody may have removed it, or put another in its place.

        Raises `OSError`, and of these `Occupied` if another program has it.
        """
        if self._directory is not None:
            with suppress(OSError):
                if os.path.samestat(os.fstat(self._directory), Path(self.path).stat()):
                    return
            self.close()
        with suppress(FileExistsError):
            Path(self.path).mkdir(0o700, parents=True)
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(directory)
            raise Occupied(errno.EBUSY, "another program has it") from None
        except OSError:
            pass  # there are no locks on this file system
        self._directory = directory

    def close(self) -> None:
        """Let others have it."""
        if self._directory is not None:
            os.close(self._directory)
            self._directory = None

    def read(self) -> FileIO | None:
        """Return the file, opened for reading, `None` if there is none.

        Raises `Unusable` for what cannot be a file of ours.
        """
        assert self._directory is not None
        try:
            descriptor = os.open(NAME, os.O_RDONLY | os.O_NONBLOCK | _FLAGS, dir_fd=self._directory)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise Unusable("is a symbolic link") from None
            raise Unusable(f"cannot be read: {error.strerror}") from None
        status = os.fstat(descriptor)
        owners = {os.geteuid(), 0, os.fstat(self._directory).st_uid}
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in owners:
            os.close(descriptor)
            if stat.S_ISREG(status.st_mode):
                raise Unusable("belongs to another user")
            raise Unusable("is no regular file")
        return FileIO(descriptor)

    def create(self) -> FileIO:
        """Return a new file, opened for writing, for its owner alone. Raises `OSError`."""
        assert self._directory is not None
        with suppress(FileNotFoundError):
            os.unlink(_NEW, dir_fd=self._directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS
        return FileIO(os.open(_NEW, flags, 0o600, dir_fd=self._directory), "w")

    def commit(self, new: FileIO) -> None:
        """Put what has been `create`-d, and is on the disk, in the place of the file.

        Raises `OSError`.
        """
        assert self._directory is not None
        new.close()
        os.rename(_NEW, NAME, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        os.fsync(self._directory)

    def discard(self, new: FileIO) -> None:
        """Give up what has been `create`-d."""
        assert self._directory is not None
        with suppress(OSError):
            new.close()
        with suppress(OSError):
            os.unlink(_NEW, dir_fd=self._directory)

    def set_aside(self) -> str:
        """Give the file another name, which is returned; `KEPT` of these are kept, and the oldest
        goes. Raises `OSError`.
        """
        directory = self._directory
        assert directory is not None
        ages = {}
        for number in range(1, KEPT + 1):
            name = f"{_ASIDE}.{number}"
            try:
                ages[name] = os.lstat(name, dir_fd=directory).st_ctime
            except FileNotFoundError:
                ages[name] = 0.0
        chosen = min(ages, key=ages.__getitem__)
        os.rename(NAME, chosen, src_dir_fd=directory, dst_dir_fd=directory)
        return chosen
