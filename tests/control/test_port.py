"""The file of the control socket: who may use it, what it may take the place of, when it goes."""

from __future__ import annotations

import fcntl
import grp
import os
import socket
import stat
import time
from typing import TYPE_CHECKING, Any, cast

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from staggerdns.control.connection import ControlFactory
from staggerdns.control.port import ACCEPT_COST, BACKLOG, ControlPort, NoSocket
from staggerdns.journal import Journal
from staggerdns.server.status import BURST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOST = Failure(ConnectionDone())


class Ports:
    """Ports that end with the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = MemoryReactorClock()
        self._made: list[ControlPort] = []

    def open(self, group: str | None = None) -> ControlPort:
        """Open one more at the path."""
        factory = ControlFactory(cast("Any", None), self.clock, Journal("error"))
        made = ControlPort(str(self.path), group, factory, self.clock)
        made.startListening()
        self._made.append(made)
        return made

    def problem(self) -> NoSocket:
        """Return why there can be none more."""
        with pytest.raises(NoSocket) as caught:
            self.open()
        return caught.value

    def close(self, made: ControlPort) -> None:
        """Close one."""
        self._made.remove(made)
        made.connectionLost(LOST)

    def kill(self, made: ControlPort) -> None:
        """Close one as a program that is killed does."""
        self._made.remove(made)
        made.socket.close()

    def close_all(self) -> None:
        """Close what is open."""
        while self._made:
            self.close(self._made[-1])


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    """Where the tests have their socket."""
    made = Ports(tmp_path / "control.sock")
    yield made
    made.close_all()


def connects(path: Path) -> bool:
    """Whether anybody answers there."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_mode(ports: Ports, umask: int) -> None:
    """It is for the user and the group, whatever the umask."""
    before = os.umask(umask)
    try:
        ports.open()
    finally:
        os.umask(before)
    status = ports.path.stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o660
    assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
    assert connects(ports.path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may choose any group")
def test_a_group_of_choice(ports: Ports) -> None:
    """Its members may use the socket."""
    made = ports.open("daemon")
    assert made.problem == ""
    assert ports.path.stat().st_gid == grp.getgrnam("daemon").gr_gid
    assert stat.S_IMODE(ports.path.stat().st_mode) == 0o660


def test_a_group_that_cannot_be_had(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket is there for the others, and it is said what is missing."""
    assert ports.open("there-is-no-such-group").problem == ""
    ports.close_all()

    def forbid(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", forbid)
    assert ports.open("daemon").problem == (
        "Operation not permitted: the user that runs the program must be a member of daemon"
    )


def test_a_stale_socket(ports: Ports) -> None:
    """It is what a program leaves that was killed: the next one takes its place."""
    ports.kill(ports.open())
    assert ports.path.exists()
    assert not connects(ports.path)
    ports.open()
    assert connects(ports.path)


def test_a_socket_where_somebody_answers(ports: Ports) -> None:
    """It stays, and so does what it is for."""
    ports.open()
    inode = ports.path.stat().st_ino
    assert str(ports.problem()) == "another program answers there"
    assert ports.path.stat().st_ino == inode
    assert connects(ports.path)


def test_a_socket_whose_backlog_is_full(ports: Ports) -> None:
    """Somebody is there who does not come to answer."""
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(ports.path))
        busy.listen(0)
        clients = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)]
        while clients[-1].connect_ex(str(ports.path)) == 0:
            clients.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        assert str(ports.problem()) == "another program answers there"
        for client in clients:
            client.close()
    assert ports.path.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "link", "pipe"])
def test_what_is_no_socket_stays(ports: Ports, kind: str) -> None:
    """Be it empty, or a link that leads to a stale socket."""
    path = ports.path
    if kind == "file":
        path.touch()
    elif kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(path.with_name("stale")))
        path.symlink_to(path.with_name("stale"))
    before = path.lstat()
    assert str(ports.problem()) == "there is something else than a socket"
    assert path.lstat() == before


def test_no_directory(ports: Ports) -> None:
    """That is told apart: nobody may have asked for the default one."""
    ports.path = ports.path.parent / "nowhere" / "control.sock"
    problem = ports.problem()
    assert (str(problem), problem.missing) == ("No such file or directory", True)
    ports.path.parent.touch()
    problem = ports.problem()
    assert (str(problem), problem.missing) == ("Not a directory", False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_may_not_be_written(ports: Ports) -> None:
    """It is said."""
    ports.path.parent.chmod(0o500)
    assert str(ports.problem()) == "Permission denied"


def test_two_that_start_at_once(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one looks and makes its socket the other one waits, and gives up in the end."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    directory = os.open(ports.path.parent, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    assert str(ports.problem()) == "another program holds a lock on its directory"
    assert 0.05 < sum(pauses) < 0.2
    monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(directory, fcntl.LOCK_UN))
    ports.open()
    os.close(directory)


def test_the_end_removes_the_own_socket(ports: Ports) -> None:
    """And no other: a program that has started since goes on to be reached."""
    made = ports.open()
    ports.close(made)
    assert not ports.path.exists()
    made = ports.open()
    ports.path.unlink()
    other = Ports(ports.path)
    other.open()
    ports.close(made)
    assert connects(ports.path)
    other.close_all()
    assert not ports.path.exists()


def test_the_end_without_a_socket(ports: Ports) -> None:
    """If somebody has removed it, there is nothing to do."""
    made = ports.open()
    ports.path.unlink()
    ports.close(made)


def test_few_are_accepted_at_a_time(ports: Ports) -> None:
    """One at a look, and so many a second; the others wait in the backlog."""
    made = ports.open()
    clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    for client in clients:
        client.connect(str(ports.path))
    made.doRead()
    assert len(made.factory.open[True]) + len(made.factory.open[False]) == 1
    free = int(BURST / ACCEPT_COST)
    for _ in range(free - 1):
        made.doRead()
    assert made in ports.clock.readers
    made.doRead()
    assert made not in ports.clock.readers
    ports.clock.advance(ACCEPT_COST)
    assert made in ports.clock.readers
    for client in clients:
        client.close()
    assert BACKLOG == 64
