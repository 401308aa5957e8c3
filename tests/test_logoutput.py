"""The log's way out through standard output, on pipes of our own."""

from __future__ import annotations

import fcntl
import os
import select
import sys
import termios
from typing import TYPE_CHECKING, cast

import pytest
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import eventAsText, textFileLogObserver
from twisted.python.failure import Failure

from staggerdns.instruments import Cell
from staggerdns.logoutput import MAX_HELD, LogOutput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO


class Pipe:
    """A pipe, the lines that go into it, and the reactor that helps."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.stream = os.fdopen(writer, "w", encoding="utf-8")
        self.reactor = MemoryReactorClock()
        self.lost = Cell()
        self.lines = LogOutput(self.stream, self.reactor, self.lost)

    @property
    def waiting(self) -> bool:
        """Whether the reactor is to say when there is room."""
        return self.lines in self.reactor.getWriters()

    def fill(self) -> int:
        """Write until nothing goes into the pipe any more; the octets that went."""
        count = 0
        while not self.waiting:
            self.lines.write("x" * 1000 + "\n")
            count += 1001
        return count

    def unread(self) -> int:
        """The octets that are in the pipe."""
        found = fcntl.ioctl(self.reader, termios.FIONREAD, bytes(4))
        return int.from_bytes(found, sys.byteorder)

    def read(self) -> bytes:
        """Read all that is there."""
        found = b""
        while True:
            try:
                part = os.read(self.reader, 1 << 20)
            except BlockingIOError:
                return found
            if not part:
                return found
            found += part


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe with a reader."""
    made = Pipe()
    yield made
    made.stream.close()
    os.close(made.reader)


def test_lines_that_are_read(pipe: Pipe) -> None:
    """A line is written at once, in the stream's encoding; what it cannot say is escaped."""
    assert pipe.lines.write("größe\n") == 6
    pipe.lines.flush()
    assert pipe.read() == "größe\n".encode()
    pipe.lines.write("\ud800")
    assert pipe.read() == b"\\ud800"
    assert (pipe.lines.encoding, pipe.lines.isatty()) == ("utf-8", False)
    assert not pipe.waiting
    assert pipe.lost.value == 0


def test_text_before_it(tmp_path: Path) -> None:
    """What the stream holds already comes first."""
    path = tmp_path / "file"
    with path.open("w", encoding="ascii") as stream:
        stream.write("one\n")
        lines = LogOutput(stream, MemoryReactorClock(), Cell())
        lines.write("twö\n")
    assert path.read_text() == "one\ntw\\xf6\n"


def test_a_full_pipe(pipe: Pipe) -> None:
    """Lines are held in their order, up to `MAX_HELD` bytes; the next is dropped and counted."""
    written = pipe.fill()
    pipe.lines.write("a" * (MAX_HELD - 10_000))
    held = written + MAX_HELD - 10_000 - pipe.unread()
    pipe.lines.write("b" * (MAX_HELD - held))
    assert pipe.lost.value == 0
    pipe.lines.write("c")
    assert pipe.lost.value == 1
    found = b""
    while pipe.waiting:
        found += pipe.read()
        pipe.lines.doWrite()
    found += pipe.read()
    assert found.replace(b"\n", b"x") == b"x" * written + b"a" * (MAX_HELD - 10_000) + b"b" * (
        MAX_HELD - held
    )
    pipe.lines.write("d")
    assert pipe.read() == b"d"
    assert pipe.lost.value == 1


def test_nothing_waits(pipe: Pipe) -> None:
    """With room for less than a line, that line goes in parts and none of them waits."""
    pipe.fill()
    os.read(pipe.reader, 4 * select.PIPE_BUF)
    pipe.lines.write("y" * 10 * select.PIPE_BUF + "\n")
    pipe.lines.doWrite()
    assert pipe.waiting


def test_no_reader(pipe: Pipe) -> None:
    """Lines for a reader that has gone are counted, those that are held, too."""
    pipe.fill()
    pipe.lines.write("x\n")
    os.close(pipe.reader)
    pipe.lines.doWrite()
    assert pipe.lost.value == 2, "the one for which there was no room, and this one"
    assert not pipe.waiting
    pipe.lines.write("x\n")
    assert pipe.lost.value == 3
    pipe.reader = os.open("/dev/null", os.O_RDONLY)


def test_the_end(pipe: Pipe) -> None:
    """When the reactor ends, what may still be written is, and the rest is given up."""
    pipe.fill()
    pipe.lines.write("last\n")
    pipe.reactor.removeWriter(pipe.lines)
    pipe.lines.connectionLost(Failure(Exception()))
    lost = pipe.lost.value
    assert lost >= 1
    pipe.read()
    pipe.lines.write("after\n")
    assert pipe.read() == b"after\n"
    assert pipe.lost.value == lost


def test_an_observer_of_twisted(pipe: Pipe) -> None:
    """Twisted takes it for a file of text, and writes each event in one piece."""
    observer = textFileLogObserver(cast("TextIO", pipe.lines))
    observer({"log_format": "hä", "log_time": 0.0})
    assert pipe.read().endswith("hä\n".encode())
    assert eventAsText({"log_format": "hä"})


def test_a_full_disk() -> None:
    """A device without room costs lines, and is not waited for."""
    with open("/dev/full", "w", encoding="utf-8") as stream:  # noqa: PTH123
        reactor, lost = MemoryReactorClock(), Cell()
        lines = LogOutput(stream, reactor, lost)
        for _ in range(3):
            lines.write("x\n")
        assert lost.value == 3
        assert reactor.getWriters() == []
