"""Work that would take a turn of the reactor for too long, in a process of its own.

The child is this interpreter with one of our modules. It reads an order from standard input, writes
a report to standard output and ends; what is wrong stands in the last line of standard error.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from staggerdns.errors import StaggerDNSError

MAX_REPORT = 16 * 1024 * 1024
"""Bytes that a child may write."""
_SHOWN = 300


class ChildProblem(StaggerDNSError):
    """A child that has not done its work; the text says why."""


def run_child(
    module: str, order: bytes, timeout: float, reactor: Any, clock: IReactorTime
) -> Deferred[bytes]:
    """Return a Deferred of the report of ``module``, which is given ``order``.

    It fails with `ChildProblem`, after ``timeout`` seconds at the latest. When it is cancelled the
    child is killed.
    """
    process = _Process(order)
    # The modules come from where ours do; -P: not from the current directory.
    paths = [path or os.getcwd() for path in sys.path]  # noqa: PTH109 (text is wanted)
    reactor.spawnProcess(
        process,
        sys.executable,
        [sys.executable, "-P", "-m", module],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )

    def too_long(failure: Failure) -> Failure:
        if failure.check(defer.TimeoutError):
            return Failure(ChildProblem(f"takes longer than {timeout:g} s"))
        return failure

    return process.report.addTimeout(timeout, clock).addErrback(too_long)


class _Process(ProcessProtocol):
    def __init__(self, order: bytes) -> None:
        self.report: Deferred[bytes] = Deferred(lambda _: self._kill())
        self._order = order
        self._output: list[bytes] = []
        self._size = 0
        self._errors = b""

    def connectionMade(self) -> None:
        """Send the order; called by Twisted."""
        transport: Any = self.transport
        transport.write(self._order)
        transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """Collect the report; called by Twisted."""
        self._size += len(data)
        if self._size > MAX_REPORT:
            self._kill()
        else:
            self._output.append(data)

    def errReceived(self, data: bytes) -> None:
        """Keep the end of what goes to standard error; called by Twisted."""
        self._errors = (self._errors + data)[-_SHOWN:]

    def processEnded(self, reason: Failure) -> None:
        """Give the report to whoever waits for it; called by Twisted."""
        if self.report.called:
            return
        if self._size > MAX_REPORT:  # it may have ended by itself before it was killed
            problem = f"reports more than {MAX_REPORT:,} octets"
            self.report.errback(Failure(ChildProblem(problem)))
            return
        if reason.check(ProcessDone):
            self.report.callback(b"".join(self._output))
            return
        said = self._errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
        problem = said or f"ended badly: {reason.getErrorMessage()}"
        self.report.errback(Failure(ChildProblem(problem)))

    def _kill(self) -> None:
        transport: Any = self.transport
        with suppress(ProcessExitedAlready):
            transport.signalProcess("KILL")
