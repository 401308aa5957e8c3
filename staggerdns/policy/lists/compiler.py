"""Starts the process that compiles lists, and waits for its report."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from staggerdns.childprocess import ChildProblem, run_child
from staggerdns.errors import StaggerDNSError
from staggerdns.policy.lists import compile as compile_module
from staggerdns.policy.lists.compile import Order, Report

COMPILE_TIMEOUT = 900.0
"""Seconds that the process may take; a million names take a few."""


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
        encoded = msgspec.json.encode(order)
        report = run_child(
            compile_module.__name__, encoded, COMPILE_TIMEOUT, self._reactor, self._clock
        )
        return report.addCallbacks(_read_report, _give_problem)


def _read_report(content: bytes) -> Report:
    try:
        return msgspec.json.decode(content, type=Report)
    except msgspec.MsgspecError as problem:
        raise CompileProblem(str(problem)) from None


def _give_problem(failure: Failure) -> Failure:
    if failure.check(ChildProblem):
        return Failure(CompileProblem(failure.getErrorMessage()))
    return failure
