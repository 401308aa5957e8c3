"""Starts the process that compiles lists, and waits for its report."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

import msgspec
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from staggerdns.errors import StaggerDNSError
from staggerdns.policy.lists import compile as compile_module
from staggerdns.policy.lists.compile import Order, Report

COMPILE_TIMEOUT = 900.0
"""Seconds that the process may take; a million names take a few."""
MAX_REPORT = 16 * 1024 * 1024
"""Bytes that it may write."""
_SHOWN = 300


class CompileProblem(StaggerDNSError):
    """Lists that could not be compiled; the text says why."""


class Compiler:
    """Compiles lists in processes of their own, started by ``reactor``."""

    def __init__(self, reactor: Any, clock: IReactorTime) -> None:
        self._reactor = reactor
        self._clock = clock

    def compile(self, order: Order) -> Deferred[Report]:
        """Return a Deferred of the report; it fails with `CompileProblem`.

        When it is cancelled the process is killed.
        """
        process = _Process(msgspec.json.encode(order))
        # The modules come from where ours do; -P: not from the current directory.
        paths = [path or os.getcwd() for path in sys.path]  # noqa: PTH109 (text is wanted)
        self._reactor.spawnProcess(
            process,
            sys.executable,
            [sys.executable, "-P", "-m", compile_module.__name__],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        return process.report.addTimeout(COMPILE_TIMEOUT, self._clock).addErrback(_too_long)


def _too_long(failure: Failure) -> Failure:
    if failure.check(defer.TimeoutError):
        return Failure(CompileProblem(f"takes longer than {COMPILE_TIMEOUT:g} s"))
    return failure


class _Process(ProcessProtocol):
    def __init__(self, order: bytes) -> None:
        self.report: Deferred[Report] = Deferred(lambda _: self._kill())
        self._order = order
        self._output = b""
        self._errors = b""

    def connectionMade(self) -> None:
        """Send the order; called by Twisted."""
        transport: Any = self.transport
        transport.write(self._order)
        transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """Collect the report; called by Twisted."""
        self._output += data
        if len(self._output) > MAX_REPORT:
            self._kill()

    def errReceived(self, data: bytes) -> None:
        """Keep the end of what goes to standard error; called by Twisted."""
        self._errors = (self._errors + data)[-_SHOWN:]

    def processEnded(self, reason: Failure) -> None:
        """Give the report to whoever waits for it; called by Twisted."""
        if self.report.called:
            return
        try:
            if not reason.check(ProcessDone):
                said = self._errors.decode("ascii", "replace").strip().rpartition("\n")[2]
                raise CompileProblem(said or f"ended badly: {reason.getErrorMessage()}")  # noqa: TRY301
            report = msgspec.json.decode(self._output, type=Report)
        except (CompileProblem, msgspec.MsgspecError) as problem:
            self.report.errback(Failure(CompileProblem(str(problem))))
        else:
            self.report.callback(report)

    def _kill(self) -> None:
        transport: Any = self.transport
        with suppress(ProcessExitedAlready):
            transport.signalProcess("KILL")
