"""``python -m bench.soak SECONDS``: mixed load on the service for so long, and a verdict.

The service runs in this process, as twistd makes it, so that its delayed calls and Deferreds can
be counted; upstreams and clients run in another one. The load comes in `ROUNDS` rounds with a
rest behind each, in which all that was begun ends: what exists then must not grow. Caches
are small, so that they are full after the first rounds. Exit status: 0 when all is flat and
clients were served, 1 when not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from bench.daemons import free_port
from bench.soak.readings import Reading, read, verdicts
from bench.soak.upstreams import KINDS
from staggerdns.server import ready
from staggerdns.tap import Options, makeService

ROUNDS = 12
REST = 2.5
"""Seconds of a rest: more than a collection and the latest answers take."""
ENTRIES = 1_000
LEAST_GOOD = 0.99
"""The share of queries that must get a good reply."""
MOST_LOST = 0.001
"""The share of queries that may get none; packets are lost on a busy machine."""

reactor: Any = _reactor
_CONFIG = """\
server: {{listen: ['{server}'], tcp_idle_timeout: 2s}}
upstream:
  servers: [{upstreams}]
  timeout: 1s
  parallel: {{total_collect_timeout: 1s}}
  health: {{open_for: 2s, max_open_for: 4s}}
cache: {{max_entries: {entries}, max_stale: 10, fast_response_ttl: 1}}
metrics: {{listen: '{metrics}'}}
ranking: {{enabled: false}}
log: {{level: warn}}
"""


class World:
    """The other process."""

    def __init__(self, server: str, upstreams: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.soak.world", server, *upstreams],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def say(self, order: str) -> dict[str, int]:
        """Give an order; return what clients have seen."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        counts: dict[str, int] = json.loads(self._process.stdout.readline())
        return counts

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


async def _pause(seconds: float) -> None:
    await deferLater(reactor, seconds, lambda: None)


async def _rounds(world: World, seconds: float) -> list[Reading]:
    begun = time.monotonic()
    print("   s  memory MiB  descriptors  delayed calls  Deferreds   (at rest)")
    readings = []
    for number in range(1, ROUNDS + 1):
        world.say("load")
        await _pause(max(1.0, begun + seconds * number / ROUNDS - REST - time.monotonic()))
        world.say("rest")
        await _pause(REST)
        one = read(reactor)
        readings.append(one)
        print(
            f"{time.monotonic() - begun:4.0f}  {one.memory / 2**20:10.1f}  {one.descriptors:11}"
            f"  {one.delayed_calls:13}  {one.deferreds:9}",
            flush=True,
        )
    return readings


def _judge(readings: list[Reading], counts: dict[str, int]) -> bool:
    good = True
    for what, before, after, flat in verdicts(readings):
        good &= flat
        print(f"{what:14} {before:>12,} -> {after:>12,}  {'flat' if flat else 'GROWS'}")
    asked = max(1, counts["asked"])
    served = counts["good"] >= LEAST_GOOD * asked and counts["lost"] <= MOST_LOST * asked
    print(
        f"clients: {counts['asked']:,} queries, {counts['good'] / asked:.3%} good, "
        f"{counts['errors']:,} errors, {counts['lost']:,} lost  {'served' if served else 'FAILED'}"
    )
    return good and served


async def _soak(seconds: float) -> bool:
    ready.MAX_READY = ENTRIES
    with tempfile.TemporaryDirectory() as directory:
        hosts = [f"127.0.0.{31 + number}" for number in range(len(KINDS))]
        port = free_port(*hosts)
        upstreams = [f"{host}:{port}" for host in hosts]
        server = f"127.0.0.1:{free_port('127.0.0.1')}"
        path = Path(directory) / "staggerdns.yaml"
        path.write_text(
            _CONFIG.format(
                server=server,
                metrics=f"127.0.0.1:{free_port('127.0.0.1')}",
                upstreams=", ".join(f"'{upstream}'" for upstream in upstreams),
                entries=ENTRIES,
            ),
            encoding="utf-8",
        )
        options = Options()
        options.parseOptions(["--config", str(path)])
        service: Any = makeService(options)
        service.privilegedStartService()
        service.startService()
        world = World(server, upstreams)
        try:
            await _pause(1.0)
            readings = await _rounds(world, seconds)
            return _judge(readings, world.say("end"))
        finally:
            world.close()
            await maybeDeferred(service.stopService)


def main() -> None:
    """Soak for as many seconds as the command line says."""
    seconds = float(sys.argv[1])
    status = 1

    def finished(result: bool | Failure) -> None:
        nonlocal status
        if isinstance(result, Failure):
            result.printTraceback()
        else:
            status = 0 if result else 1
        reactor.stop()

    reactor.callWhenRunning(
        lambda: Deferred.fromCoroutine(_soak(seconds)).addBoth(finished),
    )
    reactor.run()
    sys.exit(status)


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[2])
    main()
