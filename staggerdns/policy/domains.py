"""Files of domains: one a line, ``#`` begins a comment (docs/configuration.rst).

A name that is routed may be one that nobody else must see. So a file counts as a whole: one wrong
line, and none of it does; nor does a file that is being written, which two looks at it tell, or one
with nothing in it at all, which is what programs begin with that write into it.

A file may be long. What reads it is a generator that yields after some lines how many these were,
so that whoever runs it can do other things in between.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from staggerdns.files import Unreadable, read_pieces
from staggerdns.settings.document import one_line
from staggerdns.settings.values import DomainPattern, read_value
from staggerdns.wire.constants import MAX_NAME
from staggerdns.wire.names import from_text

MAX_FILE_SIZE = 8_388_608
"""Bytes of a file of domains."""

_Result = TypeVar("_Result")
Steps = Generator[int, None, _Result]
"""Work that is done in steps: yields how much was done since, in lines or what takes as long."""

TURN = 1_000
"""Lines or domains in one turn of the reactor."""
STEP = 200
"""Lines or domains from one yield to the next."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors begin UTF-8 with it
_SHOWN = 300  # octets of a wrong line that are told, more than a name has
_SLICE = 65_536  # octets that are made lines at a time
_AS_A_LINE = 1_000  # bytes whose reading takes as long as a line
_LABEL = rb"[0-9a-z_][0-9a-z_-]{0,62}"
_PLAIN = re.compile(rb"(?:" + _LABEL + rb"\.)*" + _LABEL)
_NEVER = "never"


def finish(steps: Steps[_Result]) -> _Result:
    """Do all steps at once and return what comes of them."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _Result = end.value
            return result


def in_turns(steps: Steps[_Result], clock: IReactorTime) -> Deferred[_Result]:
    """Do a few steps in each turn of the reactor; return a Deferred of what comes of all."""

    async def run() -> _Result:
        done = 0
        while True:
            try:
                done += next(steps)
            except StopIteration as end:
                result: _Result = end.value
                return result
            if done >= TURN:
                done = 0
                await deferLater(clock, 0)

    return Deferred.fromCoroutine(run())


class DomainFile:
    """The file at ``path``; ``domains`` are those in it when it was good last.

    ``due``: whether it is to be read, since at the last look it was another than before, or since
    that is ``forced``. ``settled``: whether it was the same then as at the look before.
    ``problem``: what is wrong with it, empty if nothing is.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.domains: list[bytes] = []
        self.problem = ""
        self.due = True
        self.settled = True
        self.forced = False
        self._read: object = _NEVER
        self._seen: object = _NEVER

    def look(self) -> None:
        """Find out whether the file has changed, and whether it is still being written."""
        state = self._state()
        self.settled, self._seen = state == self._seen, state
        self.due = self.forced or state != self._read

    def is_current(self) -> bool:
        """Return whether the file is still the one that was read last."""
        return self._state() == self._read

    def load(self) -> Steps[None]:
        """Read the file, unless it has been read. Raises `Unreadable`."""
        if self._read == _NEVER:
            found = yield from self.read()
            if found is None:
                raise Unreadable(self.problem or "cannot be used: it is being written")

    def read(self) -> Steps[list[bytes] | None]:
        """Read the file; return the domains that it had before, `None` if these stay. Then
        ``problem`` says why, unless the file has changed meanwhile.
        """
        self.forced = False
        state = self._seen = self._state()
        problem, domains = "", self.domains
        try:
            domains = yield from self._domains()
        except Unreadable as error:
            problem = str(error)
        if self._state() != state:
            return None
        self._read, self.problem = state, problem
        if problem:
            return None
        before, self.domains = self.domains, domains
        return before

    def _domains(self) -> Steps[list[bytes]]:
        content = yield from _read(self.path)
        if self.domains and not content.strip():
            raise Unreadable("is empty: a line with a comment alone says that this is meant")
        return (yield from _parse(content))

    def _state(self) -> object:
        try:
            status = Path(self.path).stat()
        except (OSError, ValueError):
            return None
        times = status.st_mtime_ns, status.st_ctime_ns
        return (*times, status.st_size, status.st_ino, status.st_dev)


def _read(path: str) -> Steps[bytes]:
    with closing(read_pieces(path, MAX_FILE_SIZE)) as pieces:
        while True:
            try:
                size = next(pieces)
            except StopIteration as end:
                content: bytes = end.value
                return content
            yield size // _AS_A_LINE + 1


def _parse(content: bytes) -> Steps[list[bytes]]:
    if b"\0" in content:
        raise Unreadable("is no text: there are null characters in it")
    found: list[bytes] = []
    start = len(_BYTE_ORDER_MARK) if content.startswith(_BYTE_ORDER_MARK) else 0
    number = 0
    while start < len(content):
        end = content.find(b"\n", start + _SLICE) + 1 or len(content)
        for line in content[start:end].splitlines():
            number += 1
            found += _read_line(number, line)
            if number % STEP == 0:
                yield STEP
        start = end
    return found


def _read_line(number: int, line: bytes) -> tuple[bytes, ...]:
    """Return the domain in a line, if there is one. Raises `Unreadable`."""
    text = line.partition(b"#")[0].strip()
    if not text:
        return ()
    plain = text.lower()
    if _PLAIN.fullmatch(plain) and len(plain) <= MAX_NAME - 2:
        return (from_text(plain),)
    try:
        shown = text[:_SHOWN].decode("utf-8", "backslashreplace")
        domain = read_value(DomainPattern, shown)
    except ValueError as error:
        told = one_line(str(error))
        raise Unreadable(f"line {number}: {told[: 2 * _SHOWN]}") from None
    assert isinstance(domain, bytes)
    return (domain,)
