"""Lists in a process of their own: ``python -m bench.listload DIRECTORY FILE``.

It prints a line when it is ready, and loads ``FILE`` after each line that comes from standard
input. After each time it prints the number of names, the seconds that it took, and the processor
time in milliseconds of the longest turn of the reactor.
"""

from __future__ import annotations

import math
import sys
import time
from itertools import count
from typing import Any, cast

from twisted.internet import reactor as _reactor
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineOnlyReceiver

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.policy.lists.compiler import Compiler
from staggerdns.policy.lists.lists import Lists
from staggerdns.settings.policy import ListSettings

reactor: Any = _reactor


class Turns:
    """Stands before the reactor's poll: what lies between two polls is one turn."""

    def __init__(self, poller: Any) -> None:
        self._poller = poller
        self._began = math.inf  # what comes before the first is no turn
        self.longest = 0.0

    def poll(self, *arguments: Any) -> Any:
        """End a turn, wait, and begin another."""
        self.longest = max(self.longest, time.thread_time() - self._began)
        found = self._poller.poll(*arguments)
        self._began = time.thread_time()
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poller, name)


class Commands(LineOnlyReceiver):
    """Loads at each line, and ends with the input."""

    delimiter = b"\n"

    def __init__(self, loads: Loads) -> None:
        self._loads = loads

    def lineReceived(self, line: bytes) -> None:
        """Load."""
        self._loads.begin()

    def connectionMade(self) -> None:
        """Be ready."""
        print("ready", flush=True)

    def connectionLost(self, reason: Any = None) -> None:
        """Stop."""
        reactor.stop()


class Loads:
    """Loads the lists, and tells of it."""

    def __init__(self, directory: str, file: str) -> None:
        self._turns = Turns(reactor._poller)  # noqa: SLF001 (nobody else knows of turns)
        reactor._poller = self._turns  # noqa: SLF001
        self.lists = Lists(
            {"all": ListSettings(files=(file,))},
            directory,
            cast("Any", None),  # there are no URLs
            Compiler(reactor, reactor),
            clock=reactor,
            metrics=Metrics(),
            journal=Journal("error"),
            number=count(1).__next__,
        )
        self.lists.on_change(self._changed)
        self._began = 0.0

    def begin(self) -> None:
        """Load for the first time, or once more."""
        first = not self._began
        self._turns.longest = 0.0
        self._began = time.monotonic()
        if first:
            self.lists.start()
        else:
            self.lists.reread()

    def _changed(self, found: Any) -> None:
        took = time.monotonic() - self._began
        # The turn in which the sets change places counts, too.
        reactor.callLater(0.1, lambda: self._print(found.names[0], took))

    def _print(self, names: int, took: float) -> None:
        print(names, f"{took:.3f} {1000 * self._turns.longest:.3f}", flush=True)


def main() -> None:
    """Run until the input ends."""
    loads = Loads(sys.argv[1], sys.argv[2])
    reactor.callWhenRunning(StandardIO, Commands(loads))
    reactor.run()
    loads.lists.stop()


if __name__ == "__main__":
    main()
