"""A restart with saved state against a cold start: ``python -m bench.restart [ENTRIES]``.

A state of so many names is made, the program is started with it and without it, and from the moment
that it listens on it is asked for these names, in an order of chance, at a steady rate. Upstreams
are silent, so that an answer within the second is a hit. One JSON object is written. How long it
takes to save and read so much, and the longest turn meanwhile, is told by
``python -m tests.kit.saving measure DIRECTORY ENTRIES``.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from staggerdns.chain import Chain
from staggerdns.config import parse_config
from staggerdns.state.directory import StateDirectory
from tests.kit import behaviours
from tests.kit.program import Program
from tests.kit.saving import Kept, save
from tests.kit.scripted import ScriptedUpstream

RATE = 4_000
"""Queries per second."""
_REST = 1.0  # seconds for what is still on its way


def first_second(program: Program, keys: list[bytes]) -> tuple[int, int]:
    """Return how many queries were sent in a second, and how many good answers came."""
    rng = random.Random(2)
    sent = answered = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(tuple(program.endpoint))
        client.setblocking(False)
        begin = time.monotonic()
        while (now := time.monotonic() - begin) < 1 + _REST:
            while now < 1 and sent < now * RATE:
                section = rng.choice(keys)[:-3]
                client.send(rng.randbytes(2) + b"\1\0\0\1\0\0\0\0\0\0" + section)
                sent += 1
            try:
                while True:
                    reply = client.recv(4096)
                    answered += not reply[3] & 15
            except BlockingIOError:
                time.sleep(0.0005)
    return sent, answered


def run(entries: int, directory: Path) -> dict[str, dict[str, int]]:
    """Return what came in the first second after each start."""
    shown = {}
    with ScriptedUpstream(behaviours.silent) as upstream:
        limits = {"max_entries": entries, "max_size": "4GiB"}
        for name in ("saved", "cold"):
            state = directory / "state" if name == "saved" else directory / "empty"
            settings = {"cache": limits, "state": {"directory": str(state)}}
            program = Program(directory / name, [upstream.endpoint], settings)
            if name == "saved":
                config = parse_config(program.configuration.read_text(encoding="utf-8"))
                chain = Chain(config, reactor)
                kept = Kept(entries, reactor, chain.digests[0])
                chain.close()
                kept.fill(entries)
                keys = list(kept.cache.entries)
                _save(kept, StateDirectory(str(state)))
            with program:
                sent, answered = first_second(program, keys)
                shown[name] = {"sent": sent, "answered": answered}
    return shown


def _save(kept: Kept, directory: StateDirectory) -> None:
    def begin() -> None:
        done: Deferred[int] = save(kept, directory, reactor, 0.0)
        done.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    directory.close()


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    with TemporaryDirectory() as place:
        sys.stdout.write(json.dumps({"entries": number, **run(number, Path(place))}) + "\n")
