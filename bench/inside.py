"""The test internet as a place to measure ranking in: no probe ever leaves it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from random import Random

from bench import programs
from bench.daemons import StartError
from tests.kit.internet.hosts import near
from tests.kit.internet.world import NoInternet, World

#: Milliseconds between one address of a pool and the next farther one.
GAP = 8
_NEAREST = 12


def reason_without() -> str | None:
    """Return why there cannot be a test internet on this machine; None when there can."""
    try:
        with _built():
            return None
    except (NoInternet, StartError) as reason:
        return str(reason).splitlines()[-1]


@contextlib.contextmanager
def internet() -> Iterator[World]:
    """Build a test internet and stay in it: sockets and processes made meanwhile belong there.

    Raises NoInternet or StartError where `reason_without` has a reason.
    """
    with _built() as world, world.inside():
        yield world


@contextlib.contextmanager
def _built() -> Iterator[World]:
    cores = os.sched_getaffinity(0)
    with contextlib.ExitStack() as stack:
        # The new process inherits both: it answers from the core of the client and the upstreams,
        # and Ctrl-C is for the benchmark, which then ends it.
        os.sched_setaffinity(0, {programs.cores()[1]})
        signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            world = stack.enter_context(World())
        except AssertionError as error:
            raise StartError(str(error)) from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
            os.sched_setaffinity(0, cores)
        yield world


def pool(size: int, host: int, nearest: int = _NEAREST) -> list[str]:
    """Return ``size`` addresses, up to 15, `GAP` ms apart, in an order that means nothing.

    ``host``, 1 to 254: pools with different numbers have no address in common. ``nearest``: up to
    131 ms.
    """
    steps = Random(host << 8 | nearest).sample(range(size), size)
    return [near(nearest + GAP * step, host) for step in steps]


def pools() -> list[list[str]]:
    """Return as many pools of 15 as there can be, of which no two have an address in common."""
    size = 15
    starts = [*range(4, 4 + GAP), *range(4 + GAP * size, 4 + GAP * (size + 1))]
    return [pool(size, host, nearest) for nearest in starts for host in range(1, 255)]
