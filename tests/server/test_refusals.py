"""The UDP listener when the system does not take what it sends, or cannot read."""

from __future__ import annotations

import errno
import os
from typing import cast

import pytest
from twisted.internet.testing import MemoryReactor

from staggerdns.server.datagram import BATCH, DatagramPort
from tests.kit.factory import FRIEND, MemoryServer, pool
from tests.kit.messages import ask, client_query

CLIENT = (FRIEND, 5353)
FULL = [errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ENETUNREACH, errno.EPERM, errno.EMSGSIZE]


def problem(number: int) -> OSError:
    """The error of a system call; Python makes the fitting class of it."""
    return OSError(number, os.strerror(number))


class Socket:
    """Gives what has come, and takes replies unless an error is due."""

    def __init__(self) -> None:
        self.come: list[bytes | OSError] = []
        self.due: list[OSError] = []
        self.sent: list[bytes] = []

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        """Give the next datagram, or raise the next error."""
        if not self.come:
            raise problem(errno.EAGAIN)
        one = self.come.pop(0)
        if isinstance(one, OSError):
            raise one
        return one[:size], CLIENT

    def sendto(self, data: bytes, address: tuple[str, int]) -> int:
        """Note a reply, or raise the next error."""
        assert address == CLIENT
        if self.due:
            raise self.due.pop(0)
        self.sent.append(data)
        return len(data)


class FakeListener:
    """A listener of a server, and its socket."""

    def __init__(self) -> None:
        self.server = MemoryServer()
        self.socket = Socket()
        self.port = DatagramPort(0, "192.0.2.1", MemoryReactor(), self.server.factory)
        self.port.socket = cast("object", self.socket)  # type: ignore[assignment]

    def comes(self, *datagrams: bytes | OSError) -> list[int]:
        """Let this come; the IDs of the replies to it."""
        self.socket.come += datagrams
        before = len(self.socket.sent)
        self.port.doRead()
        return [int.from_bytes(reply[:2], "big") for reply in self.socket.sent[before:]]

    @property
    def errors(self) -> int:
        """The replies that could not be sent."""
        return self.server.metrics.send_errors.cell("udp").value


@pytest.fixture
def listener() -> FakeListener:
    """A listener with an answer in its cache."""
    made = FakeListener()
    made.server.commit(ask(), pool())
    return made


@pytest.mark.parametrize("number", FULL)
def test_a_reply_that_cannot_be_sent(listener: FakeListener, number: int) -> None:
    """It is counted and costs nobody else theirs, whether made now or ready; the next is sent."""
    for _ in range(2):
        listener.socket.due = [problem(number)]
        assert listener.comes(*(client_query(id=one) for one in range(3))) == [1, 2]
    assert listener.errors == 2
    assert listener.comes(client_query(id=7)) == [7]
    assert listener.errors == 2


@pytest.mark.parametrize("number", FULL)
def test_a_late_reply_that_cannot_be_sent(listener: FakeListener, number: int) -> None:
    """The same for what had to be asked first."""
    assert listener.comes(client_query("a.example.", id=1), client_query("b.example.", id=2)) == []
    listener.socket.due = [problem(number)]
    for found in listener.server.forwarder.waiting:
        found.callback(listener.server.entry(pool()))
    assert [reply[:2] for reply in listener.socket.sent] == [b"\0\2"]
    assert listener.errors == 1


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.ENOBUFS, errno.ENOMEM, errno.EINTR])
def test_a_read_that_fails(listener: FakeListener, number: int) -> None:
    """What had come before it is answered at once, what comes after it at the next wake-up."""
    first, second = client_query(id=1), client_query(id=2)
    assert listener.comes(first, problem(number), second) == [1]
    assert listener.comes() == [2]


@pytest.mark.parametrize("count", [BATCH - 1, BATCH, BATCH + 1])
def test_a_wake_up_has_an_end(listener: FakeListener, count: int) -> None:
    """No more than `BATCH` datagrams are read before others get their turn."""
    ids = list(range(count))
    assert listener.comes(*(client_query(id=one) for one in ids)) == ids[:BATCH]
    assert listener.comes() == ids[BATCH:]
