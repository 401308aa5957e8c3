"""The program as its users start it: ``twistd -n staggerdns --config FILE``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from bench.demo.place import ROOT

#: Seconds until it must listen, and until it must have gone.
START_TIME = 20.0
STOP_TIME = 5.0
_UP = b"listening on"
#: What it said last is enough to see why it did not start.
_KEPT = 2_000


class Broken(Exception):
    """The program did not start, or ended; the message has its last words."""


def settings(
    ports: tuple[int, int], control: Path, upstreams: Sequence[str], *, probes: bool
) -> dict[str, Any]:
    """Return etc/staggerdns.yaml with other servers, other ``ports``, for DNS and for the page and
    metrics, and another control socket; without probing if told so.
    """
    port, web = ports
    shipped: dict[str, Any] = yaml.safe_load((ROOT / "etc" / "staggerdns.yaml").read_text("utf-8"))
    shipped["server"]["listen"] = [f"127.0.0.1:{port}"]
    shipped["metrics"]["listen"] = f"127.0.0.1:{web}"
    shipped["control"]["socket"] = str(control)
    shipped["upstream"]["servers"] = list(upstreams)
    if not probes:
        shipped["ranking"]["enabled"] = False
    return shipped


class Program(ProcessProtocol):
    """The process; ``up`` fires when it listens, and fails with `Broken` when it ends before."""

    def __init__(self, reactor: Any, directory: Path, configuration: dict[str, Any]) -> None:
        self.up: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self._reactor = reactor
        self._said = b""
        path = directory / "staggerdns.yaml"
        path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
        command = ["setsid", str(Path(sys.executable).with_name("twistd"))]
        command += ["-n", "--pidfile=", "staggerdns", "--config", str(path)]
        # A session of its own: Ctrl-C is for us, who then end it.
        self._process = reactor.spawnProcess(
            self, command[0], command, env=dict(os.environ), path=str(directory), usePTY=False
        )
        self.up.addTimeout(START_TIME, reactor, lambda _, __: self._broken("does not listen"))

    def outReceived(self, data: bytes) -> None:
        """Look for the line that says that it listens."""
        self._said = (self._said + data)[-_KEPT:]
        if _UP in self._said and not self.up.called:
            self.up.callback(None)

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        """Let whoever waits know."""
        if not self.up.called:
            self.up.errback(self._broken("has ended"))
        self.ended.callback(None)

    def stop(self) -> Deferred[None]:
        """End it, as a supervisor would; what comes back fires when it has gone."""
        if self.ended.called:
            return succeed(None)
        self._process.signalProcess(signal.SIGTERM)
        kill = self._reactor.callLater(STOP_TIME, self._process.signalProcess, signal.SIGKILL)
        return self.ended.addCallback(lambda _: kill.cancel() if kill.active() else None)

    def _broken(self, what: str) -> Failure:
        last = self._said.decode("utf-8", "replace").strip()
        return Failure(Broken(f"the program {what}:\n{last}"))
