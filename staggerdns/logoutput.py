"""Standard output as the log writes to it: without waiting for whoever reads it.

A pipe whose reader has stopped fills up, and the next line would stop the whole program until it
is read. Here a line is written when the system takes it, is held when not, and is dropped and
counted when too much is held.
"""

from __future__ import annotations

import os
import select
from collections import deque
from io import TextIOBase
from typing import Any, TextIO

from twisted.internet.interfaces import IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from staggerdns.instruments import Cell

MAX_HELD = 1_048_576
"""Bytes of lines that wait for their reader; what comes beyond them is dropped."""


@implementer(IWriteDescriptor)
class LogOutput(TextIOBase):
    """Writes text to the descriptor of ``stream`` without waiting, with the help of ``reactor``.

    ``lost`` counts the writes, one for each line of the log, that were given up.
    """

    def __init__(self, stream: TextIO, reactor: Any, lost: Cell) -> None:
        stream.flush()
        self._descriptor = stream.fileno()
        self._encoding = stream.encoding
        self._reactor = reactor
        self._lost = lost
        self._held: deque[bytes] = deque()
        self._size = 0
        self._waiting = False
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)

    @property
    def encoding(self) -> str:  # type: ignore[override]  # there it is None
        """How text becomes bytes."""
        return self._encoding

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write ``text``: at once, when there is room for it, or never if too much is held."""
        data = text.encode(self._encoding, "backslashreplace")
        if self._size + len(data) > MAX_HELD:
            self._lost.value += 1
            return len(text)
        self._held.append(data)
        self._size += len(data)
        if not self._waiting:
            self._write_held()
            if self._held:
                self._waiting = True
                self._reactor.addWriter(self)
        return len(text)

    def doWrite(self) -> None:
        """Write more of what is held; the reactor calls this when there is room."""
        self._write_held()
        if not self._held:
            self._waiting = False
            self._reactor.removeWriter(self)

    def connectionLost(self, reason: Failure) -> None:
        """Write what fits and give up the rest: the reader is gone, or the reactor ends."""
        self._write_held()
        self._lost.value += len(self._held)
        self._held.clear()
        self._size = 0
        self._waiting = False

    def logPrefix(self) -> str:
        """Return what Twisted calls it."""
        return "log"

    def _write_held(self) -> None:
        """Write what is held for as long as there is room.

        A pipe that is ready takes `select.PIPE_BUF` bytes at once, whoever else writes into it.
        """
        while self._held and self._poll.poll(0):
            line = self._held.popleft()
            self._size -= len(line)
            try:
                written = os.write(self._descriptor, line[: select.PIPE_BUF])
            except BlockingIOError:
                written = 0
            except OSError:  # nobody will read it, or the disk is full
                self._lost.value += 1
                continue
            if written < len(line):
                self._held.appendleft(line[written:])
                self._size += len(line) - written
            if not written:
                return
