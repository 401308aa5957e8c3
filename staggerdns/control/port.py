"""The file of the control socket: made, found stale, and removed.

A socket stays behind where a program was killed. It is removed when nobody answers on it, and only
then; and what is no socket is never removed. Between the look and the new socket the directory is
locked (flock(2)), so that of two programs that start at the same moment one cannot remove what the
other one has just made. In the end a program removes its own socket alone, which it tells by its
inode.

The socket has its mode before anybody can connect, and its group: who may connect is decided by the
system, and what he may do by `peer_of`.
"""

from __future__ import annotations

import fcntl
import grp
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EAGAIN, ECONNREFUSED, ENOENT
from pathlib import Path
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from staggerdns.control.connection import ControlFactory
from staggerdns.errors import StaggerDNSError
from staggerdns.server.status import Throttle

MODE = 0o660
"""Who may connect: the user that runs the program, and the group."""
BACKLOG = 64
"""Connections that wait to be accepted."""
ACCEPT_COST = 1 / 256
"""Seconds of the time there is that a new connection takes: so many a second."""
LOCK_TRIES = 20
LOCK_PAUSE = 0.005
"""How often, and after how many seconds each, a directory that is locked is tried again."""


class NoSocket(StaggerDNSError, ValueError):
    """The control socket cannot be had; the text says why, ``missing`` that its directory is not
    there.
    """

    def __init__(self, why: str, *, missing: bool = False) -> None:
        super().__init__(why)
        self.missing = missing


class ControlPort(unix.Port):
    """Listens for ``factory`` on the UNIX socket at ``path``, for the members of ``group`` (`None`:
    of the process's own).

    ``problem``: why the socket has another group than that, empty if it has it.
    """

    factory: ControlFactory

    def __init__(self, path: str, group: str | None, factory: ControlFactory, reactor: Any) -> None:
        super().__init__(os.fsencode(path), factory, BACKLOG, MODE, reactor)
        self.path = Path(path)
        self._group = group
        self.problem = ""
        self._inode: tuple[int, int] | None = None
        self._accepted = Throttle(factory.clock)
        self._pause: IDelayedCall | None = None

    def startListening(self) -> None:
        """Make the socket, in the place of a stale one. Raises `NoSocket`."""
        try:
            with _locked(self.path.parent):
                _remove_stale(self.path)
                super().startListening()
        except CannotListenError as error:
            raise NoSocket(_reason(error.socketError)) from None
        except OSError as error:
            raise NoSocket(_reason(error), missing=error.errno == ENOENT) from None

    def startReading(self) -> None:
        """Accept connections, now that the socket is bound."""
        if self._inode is None:
            found = self.path.stat()
            self._inode = found.st_dev, found.st_ino
            self.problem = _give(self.path, self._group)
        super().startReading()

    def doRead(self) -> None:
        """Accept one connection, and pause if there were many."""
        self.numberAccepts = 1
        super().doRead()
        wait = self._accepted.wait(ACCEPT_COST)
        if wait:
            self.stopReading()
            self._pause = self.factory.clock.callLater(wait, self._resume)

    def connectionLost(self, reason: Failure) -> None:
        """Close the socket, and remove its file if that is still this one's. Connections stay."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        with suppress(OSError):  # the user that runs the program may have no right to do so
            found = self.path.lstat()
            if (found.st_dev, found.st_ino) == self._inode:
                self.path.unlink()
        tcp.Port.connectionLost(self, reason)  # unix.Port would remove whatever is there

    def _resume(self) -> None:
        self._pause = None
        self.startReading()


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lock a directory against other programs that do the same. Raises `OSError`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for tries_left in reversed(range(LOCK_TRIES)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not tries_left:
                    raise NoSocket("another program holds a lock on its directory") from None
                time.sleep(LOCK_PAUSE)
            else:
                break
        yield
    finally:
        os.close(descriptor)


def _remove_stale(path: Path) -> None:
    """Remove the socket at ``path`` if nobody answers there. Raises `NoSocket` if anybody does, or
    something else is there.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise NoSocket("there is something else than a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        number = probe.connect_ex(os.fsencode(path))
    if number == ECONNREFUSED:
        path.unlink()
    elif number in (0, EAGAIN):
        raise NoSocket("another program answers there")
    else:
        raise NoSocket(os.strerror(number))


def _give(path: Path, group: str | None) -> str:
    """Give the socket to a group; return why that cannot be, empty if it is done."""
    if group is None:
        return ""
    try:
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
    except KeyError:  # that is one of the warnings about the configuration
        return ""
    except OSError as error:
        return f"{_reason(error)}: the user that runs the program must be a member of {group}"
    return ""


def _reason(error: Any) -> str:
    return getattr(error, "strerror", None) or str(error)
