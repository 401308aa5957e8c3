"""Saved state on a real reactor, run as a program of its own.

``python -m tests.kit.saving kill DIRECTORY``: for each line that it reads it forks a process that
saves again and again, as fast as it can, and writes the pid of that; when that one has ended it
writes how. ``python -m tests.kit.saving measure DIRECTORY ENTRIES``: saves and reads that many
entries, and writes what that took as one JSON object.
"""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import sys
import time
from array import array
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from staggerdns.metrics import Metrics
from staggerdns.process import COLLECTOR_THRESHOLDS
from staggerdns.ranking.rtt import RttTable
from staggerdns.resolver.cache import AnswerCache
from staggerdns.settings.sections import CacheSettings, RankingSettings
from staggerdns.state.directory import StateDirectory
from staggerdns.state.load import Load
from staggerdns.state.save import Save
from staggerdns.state.slices import HURRIED, UNHURRIED, Slices
from staggerdns.upstream.upstream import Upstream
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.contributors import CONTRIBUTORS
from staggerdns.wire.key import make_key
from staggerdns.wire.names import from_text
from staggerdns.worker import Worker

KILLED = 2_000
"""Entries of what is killed."""
_ADDRESSES = 65_000
_A_IN = b"\0\1\0\1"
_POOL = 15


class Kept:
    """A cache with ``entries`` of a digest, and a table; all of one program."""

    def __init__(self, entries: int, clock: Any, digest: bytes = b"measured") -> None:
        settings = CacheSettings(max_entries=entries, max_size=1 << 40)
        self.cache = AnswerCache(settings, Metrics())
        self.round_trips = RttTable(RankingSettings())
        self.members: Iterable[Upstream] = ()
        self.awake = clock
        self.digests = {0: digest}

    def fill(self, entries: int) -> None:
        """Put in that many names, one in four with a pool of fifteen addresses of five upstreams
        behind a CNAME, the others with one address.
        """
        rng = random.Random(1)
        bits = [CONTRIBUTORS.bit(f"192.0.2.{number}") for number in range(5)]
        numbers = [CONTRIBUTORS.number(bits[place % 5]) for place in range(_POOL)]
        everybody = CONTRIBUTORS.number(sum(bits))
        lives = array("I", range(286, 301)).tobytes()
        now = self.awake.seconds()
        for number in range(entries):
            key = make_key(
                from_text(f"host{number}.customer{number % 977}.example"), _A_IN, do=False, cd=False
            )
            if number % 4:
                pool = AddressPool((), (rng.randbytes(4),), 3600, False, brought_by=everybody)
            else:
                pool = AddressPool(
                    (from_text(f"edge{number}.cdn.example"),),
                    tuple([rng.randbytes(4) for _ in range(_POOL)]),
                    300,
                    False,
                    lives=lives,
                    least=286,
                    contributors=array("H", numbers).tobytes(),
                )
            generation = next(self.cache.generations)
            self.cache.commit(key, generation, pool, now - rng.random() * 100)
            self.cache.complete(key, generation, 300, 300)
        for _ in range(min(entries, _ADDRESSES)):
            self.round_trips.begin(rng.randbytes(4), rng.random(), 0, "icmp", now)


def save(kept: Kept, directory: StateDirectory, reactor: Any, pause: float) -> Deferred[int]:
    """Save once; the Deferred fires with the octets of the file."""
    worker = Worker(reactor.callFromThread, "state")
    slices = Slices(reactor, pause)
    done = Deferred.fromCoroutine(Save(kept, directory, worker, slices, reactor, time.time).run())

    def over(result: Any) -> Any:
        worker.stop()
        return result

    return done.addBoth(over)


def serve_kills(directory: str) -> None:
    """Fork whoever is to be killed, as often as it is wanted."""
    for count, _ in enumerate(sys.stdin):
        pid = os.fork()
        if not pid:
            save_for_ever(directory, count)
        report(pid)
        report(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def report(what: object) -> None:
    """Write one line."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def save_for_ever(directory: str, count: int) -> None:
    """Save until somebody ends it, each time with another digest for all that is saved."""
    from twisted.internet import reactor as common  # noqa: PLC0415 (each process its own)

    reactor: Any = common
    kept = Kept(KILLED, reactor)
    kept.fill(KILLED)
    where = StateDirectory(directory)
    rounds = iter(range(1_000_000_000))

    def again(_: object = None) -> None:
        kept.digests = {0: b"%d.%d" % (count, next(rounds))}
        save(kept, where, reactor, 0.0).addCallbacks(again, lambda _: os._exit(3))

    reactor.callWhenRunning(again)
    reactor.run(installSignalHandlers=False)
    os._exit(4)


class Turns:
    """The processor time of each turn of a reactor in which something was due."""

    def __init__(self, reactor: Any) -> None:
        self.seconds: list[float] = []
        self._run = reactor.runUntilCurrent
        reactor.runUntilCurrent = self._timed

    def _timed(self) -> None:
        began = time.thread_time()
        self._run()
        self.seconds.append(time.thread_time() - began)

    def take(self) -> dict[str, float]:
        """Return what the turns since the last time took, in milliseconds; and all together."""
        turns, self.seconds = sorted(self.seconds), []
        return {
            "longest_ms": round(turns[-1] * 1000, 2),
            "99.9%_ms": round(turns[int(len(turns) * 0.999)] * 1000, 2),
            "busy_s": round(sum(turns), 2),
        }


def measure(directory: str, entries: int) -> None:
    """Save and read, and tell what that took; a name is looked up every millisecond meanwhile."""
    from twisted.internet import reactor as common  # noqa: PLC0415 (it is the program's)

    reactor: Any = common
    reactor.seconds = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    kept = Kept(entries, reactor)
    kept.fill(entries)
    gc.collect()
    gc.freeze()
    keys = [key for keys in kept.cache.names.walk() for key in keys]
    where = StateDirectory(directory)
    turns = Turns(reactor)
    shown: dict[str, Any] = {"entries": entries}
    served = [0, 0]

    def look(cache: Callable[[], AnswerCache]) -> None:
        found = cache().lookup(keys[served[0] % len(keys)], reactor.seconds())
        served[0] += 1
        served[1] += found is not None
        reactor.callLater(0.001, look, cache)

    async def run() -> None:
        current = kept
        look(lambda: current.cache)
        for name, pause in (("save", UNHURRIED), ("last_save", HURRIED)):
            turns.take() if turns.seconds else None
            served[:] = 0, 0
            began, memory = time.perf_counter(), _peak()
            octets = await save(kept, where, reactor, pause)
            shown[name] = {
                "seconds": round(time.perf_counter() - began, 2),
                "MiB": round(octets / 2**20, 2),
                "looked_up": served[0],
                "more_memory_MiB": round(_peak() - memory, 1),
                **turns.take(),
            }
        current = Kept(entries, reactor)
        served[:] = 0, 0
        began = time.perf_counter()
        worker = Worker(reactor.callFromThread, "state")
        loaded = await Load(
            current,
            where,
            worker,
            Slices(reactor, HURRIED),
            reactor,
            time.time,
            waits=report,
            settle=gc.freeze,
        ).run()
        worker.stop()
        assert loaded is not None
        shown["load"] = {
            "seconds": round(time.perf_counter() - began, 2),
            "answers": loaded.answers,
            "round_trips": loaded.round_trips,
            "looked_up": served[0],
            "hits": served[1],
            **turns.take(),
        }

    def over(_: object) -> None:
        report(json.dumps(shown))
        reactor.stop()

    def start() -> None:
        Deferred.fromCoroutine(run()).addErrback(lambda failure: failure.printTraceback()).addBoth(
            over
        )

    reactor.callWhenRunning(start)
    reactor.run()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    Path(sys.argv[2]).mkdir(parents=True, exist_ok=True)
    if sys.argv[1] == "kill":
        serve_kills(sys.argv[2])
    else:
        measure(sys.argv[2], int(sys.argv[3]))
