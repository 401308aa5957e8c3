"""What becomes of one new name, on the clock: whom a server asks when, and how many addresses its
answers have.
"""

from __future__ import annotations

import bisect
import heapq
import select
import socket
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench import inside, load, programs, servers
from bench.client import question, records
from bench.daemons import Laboratory
from bench.nearest import DELAYS
from bench.report import Curve, Section
from bench.servers import Start
from bench.witness import Witnesses

LAUNCHES, GROWTH = "launches", "pool"
#: New names a second.
_RATE = 5
#: Milliseconds from the first question for a name to the last, and between them.
_END, _STEP = 2_000, 25
_GRID = range(0, _END, _STEP)
#: How finely it is told when upstreams were asked, in milliseconds.
_MOMENT = 5


class _History(NamedTuple):
    """``asked``: when each name was asked for first, in seconds; ``sizes``: how many addresses the
    answers had to each of the questions for it.
    """

    asked: Mapping[str, float]
    sizes: Mapping[str, Sequence[int]]


def measure(laboratory: Laboratory, *, names: int) -> Section:
    """Ask each server for new names, and for each again and again."""
    section = Section(
        f"One new name (upstreams {DELAYS[0]:g} to {DELAYS[-1]:g} ms away with three addresses "
        f"each; {names} names at {_RATE}/s, asked again every {_STEP} ms)"
    )
    world = laboratory.enter(inside.internet())
    starts: list[Start] = [*servers.every_staggerdns(world), servers.dnsmasq, servers.unbound]
    if programs.has("smartdns"):
        starts.append(servers.smartdns)
    at_once, in_all, size = ({}, {}, {})
    for start in starts:
        asked = load.names("shape", names)
        pools = dict(zip(asked, inside.pools(), strict=False))
        with Witnesses(pools, delays=DELAYS) as witnesses:
            daemon = start(laboratory, witnesses.addresses)
            history = _follow(daemon.address, asked)
            daemon.stop()
        first = {key: at for key, at in witnesses.first.items() if key[1] in history.asked}
        launched = launches(history.asked, first)
        grown = [statistics.mean(sizes) for sizes in zip(*history.sizes.values(), strict=True)]
        at_once[daemon.name] = [launched[_STEP // _MOMENT]]
        in_all[daemon.name] = [launched[-1]]
        size[daemon.name] = [grown[-1]]
        section.count(daemon.name, sum(not sizes[-1] for sizes in history.sizes.values()), names)
        section.curves += [
            Curve(LAUNCHES, daemon.name, list(range(0, _END, _MOMENT)), launched),
            Curve(GROWTH, daemon.name, list(_GRID), [round(number, 2) for number in grown]),
        ]
    section.add(f"upstreams asked within {_STEP} ms", at_once, digits=1)
    section.add(f"upstreams asked within {_END:,} ms", in_all, digits=1)
    section.add(f"addresses after {_END:,} ms", size, digits=1)
    return section


def launches(asked: Mapping[str, float], first: Mapping[tuple[int, str], float]) -> list[float]:
    """Return how many upstreams had been asked for a name at each moment, on average.

    ``asked``: when the client asked for each name; ``first``: when each upstream was asked for it.
    """
    after = sorted((moment - asked[name]) * 1000 for (_, name), moment in first.items())
    moments = range(0, _END, _MOMENT)
    return [round(bisect.bisect_right(after, moment) / len(asked), 2) for moment in moments]


def _follow(address: tuple[str, int], names: Sequence[str]) -> _History:
    """Ask for each name at every moment of the grid; nothing is asked twice at once by a client of
    its own, since all questions come from one socket.
    """
    steps = len(_GRID)
    begin = time.perf_counter()
    due = [
        (begin + number / _RATE + moment / 1000, number, step)
        for number in range(len(names))
        for step, moment in enumerate(_GRID)
    ]
    heapq.heapify(due)
    asked: dict[str, float] = {}
    sizes = {name: [0] * steps for name in names}
    end = begin + len(names) / _RATE + _END / 1000 + 1.0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        while (now := time.perf_counter()) < end:
            while due and due[0][0] <= now:
                _, number, step = heapq.heappop(due)
                asked.setdefault(names[number], time.perf_counter())
                sock.send(question(names[number], number * steps + step))
            pause = (due[0][0] if due else end) - time.perf_counter()
            if not select.select([sock], [], [], max(0.0, pause))[0]:
                continue
            reply = sock.recv(4096)
            number, step = divmod(int.from_bytes(reply[:2], "big"), steps)
            # An answer that came late is what the client had from then on.
            late = int((time.perf_counter() - asked[names[number]]) * 1000 / _STEP)
            for place in range(max(step, late), steps):
                sizes[names[number]][place] = len(records(reply)[0])
    return _History(asked, sizes)
