"""The configuration file, read again while the program runs.

To read and check a long file takes a second, files of domains included, in which nobody would get
an answer. So another process does it.
"""

from __future__ import annotations

import pickle
import sys
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from staggerdns.childprocess import ChildProblem, run_child
from staggerdns.config import load_config
from staggerdns.settings.document import ConfigError
from staggerdns.settings.sections import Config

READ_TIMEOUT = 60.0
"""Seconds that it may take."""


def read_config(path: str, reactor: Any, clock: IReactorTime) -> Deferred[Config]:
    """Return a Deferred of what is in the file at ``path``; it fails with `ConfigError`."""
    try:
        report = run_child(__name__, path.encode(), READ_TIMEOUT, reactor, clock)
    except OSError as error:  # there is no room for a process
        return fail(ConfigError(f"{path}: cannot be checked: {error.strerror}"))
    return report.addCallbacks(_result, _problem, errbackArgs=(path,))


def _result(report: bytes) -> Config:
    found = pickle.loads(report)  # noqa: S301 (it comes from our own process)
    if isinstance(found, Config):
        return found
    raise ConfigError(*[str(problem) for problem in found])


def _problem(failure: Failure, path: str) -> Failure:
    if failure.check(ChildProblem):
        return Failure(ConfigError(f"{path}: cannot be checked: {failure.getErrorMessage()}"))
    return failure


def main() -> None:
    """Read the file whose path comes by standard input; write what is in it, or what is wrong."""
    path = sys.stdin.buffer.read().decode()
    try:
        found: object = load_config(path)
    except ConfigError as error:
        found = error.problems
    sys.stdout.buffer.write(pickle.dumps(found))


if __name__ == "__main__":
    main()
