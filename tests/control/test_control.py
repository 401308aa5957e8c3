"""The control socket of a program: opened, moved at a reload, and closed."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from staggerdns.control.port import NoSocket
from staggerdns.settings.sections import ControlSettings
from tests.kit.routed import NO_RANKING, RoutedProgram

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short path."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def end(transport: Any, why: Exception | None) -> None:
    """Do what a reactor does when reading or writing is over."""
    if why:
        transport.connectionLost(Failure(why))


class Client:
    """A client of a program whose reactor is in memory: each step is one look of the reactor."""

    def __init__(self, program: RoutedProgram, path: Path) -> None:
        self._program = program
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(path))
        self.look()

    def look(self) -> None:
        """Let the program read and write what it can."""
        reactor = self._program.clock
        for _ in range(3):
            for reader in list(reactor.readers):
                if getattr(reader, "connected", False):
                    end(reader, reader.doRead())
            for writer in list(reactor.writers):
                end(writer, writer.doWrite())

    def send(self, command: str, **arguments: object) -> None:
        """Send a request."""
        request = {"version": 1, "command": command, **arguments}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        self.look()

    def receive(self) -> dict[str, Any]:
        """Return the reply that has come."""
        self.look()
        reply: dict[str, Any] = json.loads(self.socket.recv(65_536))
        return reply


def connects(path: Path) -> bool:
    """Whether anybody listens there."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def program() -> RoutedProgram:
    """A program without listeners."""
    return RoutedProgram("", more=NO_RANKING)


def test_open_and_close(directory: Path) -> None:
    """There is nothing before, and nothing is left."""
    running, path = program(), directory / "socket"
    control = running.service.control
    control.open(ControlSettings(socket=str(path)))
    client = Client(running, path)
    client.send("status", id=1)
    assert client.receive()["id"] == 1
    control.close()
    running.clock.advance(0)
    assert not path.exists()
    assert not running.clock.readers
    running.chain.close()
    assert not running.clock.getDelayedCalls()
    client.socket.close()


def test_none(directory: Path) -> None:
    """Nothing is opened where none is wanted."""
    running = program()
    running.service.control.open(ControlSettings(socket=None))
    assert not running.clock.readers
    assert not running.clock.getDelayedCalls()
    running.service.control.close()


def test_a_socket_that_moves(directory: Path) -> None:
    """Whoever waits for a reply gets it on the old connection; others are disconnected."""
    running, path, other = program(), directory / "socket", directory / "other"
    control = running.service.control
    control.open(ControlSettings(socket=str(path)))
    waiting: Deferred[tuple[str, ...]] = Deferred()
    running.service.reload = lambda: waiting  # type: ignore[method-assign]
    asks, idles = Client(running, path), Client(running, path)
    asks.send("reload")
    control.open(ControlSettings(socket=str(other)))
    running.clock.advance(0)
    assert not path.exists()
    assert connects(other)
    assert idles.socket.recv(1) == b""
    waiting.callback(())
    assert asks.receive()["ok"]
    running.clock.advance(0)
    assert asks.socket.recv(1) == b""
    control.close()
    running.clock.advance(0)
    assert not other.exists()
    for client in (asks, idles):
        client.socket.close()
    running.chain.close()
    assert not running.clock.getDelayedCalls()


def test_a_socket_that_is_prepared(directory: Path) -> None:
    """It is where it shall be before anything else changes, and answers from then on; one that
    cannot be had is told, and the old one stays.
    """
    running, path, other = program(), directory / "socket", directory / "other"
    control = running.service.control
    control.open(ControlSettings(socket=str(path)))
    with pytest.raises(NoSocket, match=f"control.socket: {directory}/none/x: "):
        control.prepare(ControlSettings(socket=f"{directory}/none/x"))
    assert connects(path)
    for _ in range(2):
        control.prepare(ControlSettings(socket=str(other)))
        assert other.exists()
        control.abandon()
        running.clock.advance(0)
        assert not other.exists()
    control.prepare(ControlSettings(socket=str(other)))
    control.open(ControlSettings(socket=str(other)))
    running.clock.advance(0)
    assert not path.exists()
    client = Client(running, other)
    client.send("status")
    assert client.receive()["ok"]
    client.socket.close()
    control.close()
    running.clock.advance(0)
    assert not other.exists()
    running.chain.close()


def test_one_that_could_not_be_had(directory: Path) -> None:
    """It is tried again when the configuration is read again."""
    running, path = program(), directory / "later" / "socket"
    control = running.service.control
    control.open(ControlSettings(socket=str(path)))
    path.parent.mkdir()
    control.open(ControlSettings(socket=str(path)))
    assert connects(path)
    control.close()
    running.clock.advance(0)
    running.chain.close()


def test_the_same_settings(directory: Path) -> None:
    """A reload that changes nothing about it disconnects nobody."""
    running, path = program(), directory / "socket"
    control = running.service.control
    control.open(ControlSettings(socket=str(path)))
    client = Client(running, path)
    control.open(ControlSettings(socket=str(path)))
    running.clock.advance(0)
    client.send("status")
    assert client.receive()["ok"]
    control.close()
    running.clock.advance(0)
    client.socket.close()


def test_another_group(directory: Path) -> None:
    """The socket is made anew at its place."""
    running, path = program(), directory / "socket"
    control = running.service.control
    control.open(ControlSettings(socket=str(path)))
    client = Client(running, path)
    control.open(ControlSettings(socket=str(path), group="there-is-no-such-group"))
    running.clock.advance(0)
    assert client.socket.recv(1) == b""
    client.socket.close()
    assert connects(path)
    control.close()
    running.clock.advance(0)
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "level", "why"),
    [
        ("nowhere/socket", "warn", "No such file or directory: have that made first"),
        ("file", "warn", "there is something else than a socket"),
    ],
)
def test_no_socket(directory: Path, name: str, level: str, why: str) -> None:
    """The program goes on, and the log has a line."""
    running = program()
    (directory / "file").touch()
    with capturedLogs() as events:
        running.service.control.open(ControlSettings(socket=str(directory / name)))
    (event,) = events
    assert event["log_level"].name == level
    assert formatEvent(event).startswith(f"no control socket at {directory / name}: {why}")
    running.service.control.close()


@pytest.mark.skipif(Path("/run/staggerdns").exists(), reason="there is a server on this machine")
def test_the_default_one() -> None:
    """Nobody has asked for it where its directory is missing, so that it is no warning."""
    running = program()
    with capturedLogs() as events:
        running.service.control.open(ControlSettings())
    assert [event["log_level"].name for event in events] == ["info"]
    running.service.control.close()


def test_a_group_of_others(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log says what its members miss."""

    def forbid(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", forbid)
    running = program()
    with capturedLogs() as events:
        running.service.control.open(
            ControlSettings(socket=str(directory / "socket"), group="daemon")
        )
    texts = [formatEvent(event) for event in events if event["log_namespace"] == "staggerdns"]
    (text,) = texts
    assert text.startswith("control.group: Operation not permitted: the user that runs the ")
    assert text.endswith(" of daemon: members may not use the control socket")
    running.service.control.close()
    running.clock.advance(0)
