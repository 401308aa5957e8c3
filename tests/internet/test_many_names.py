"""Many names whose upstreams each know addresses of their own: how soon the nearest comes first,
and what that costs.
"""

from __future__ import annotations

import contextlib
import random
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.kit import behaviours as b
from tests.kit.clients import question
from tests.kit.internet.hosts import Kind, by_distance, milliseconds, near, special
from tests.kit.internet.testbed import NOISE, InternetTestbed

if TYPE_CHECKING:
    from tests.internet.conftest import BuildTestbed
    from tests.kit.internet.world import World

NAMES = 100
RATE = 25
DELAYS = (0.05, 0.09, 0.12, 0.16, 0.2)
"""Seconds after which the upstreams answer."""
PATIENCE = 4
"""Seconds after the last question until every name has its nearest address first."""
MOST_PROBES = 21
"""Probes for a pool of fifteen addresses."""


class Spread(NamedTuple):
    """A name and its addresses: those that answer, nearest first, and those that do not."""

    name: str
    heard: list[str]
    silent: list[str]


def spread(testbed: InternetTestbed, seed: int, names: int, silent: float) -> list[Spread]:
    """Make names with fifteen addresses of their own each, three from each upstream."""
    chance = random.Random(seed)
    plain = [(distance, host) for distance in range(5, 251) for host in range(110, 240)]
    mute = [(distance, host) for distance in range(256) for host in range(16)]
    chance.shuffle(plain)
    chance.shuffle(mute)
    made = []
    for _ in range(names):
        addresses = []
        for _ in range(15):
            if chance.random() < silent:
                addresses.append(special(Kind.SILENT, *mute.pop()))
            else:
                addresses.append(near(*plain.pop()))
        shares = [
            b.answers(*addresses[3 * index : 3 * index + 3], after=delay)
            for index, delay in enumerate(DELAYS)
        ]
        name = testbed.route("many", *shares)
        heard = [one for one in addresses if one.startswith("198.18.")]
        mute_ones = [one for one in addresses if one not in heard]
        made.append(Spread(name, by_distance(heard), mute_ones))
    return made


def ask_at_rate(testbed: InternetTestbed, names: list[Spread]) -> None:
    """Ask for each name once, so many a second; the replies are not looked at."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(testbed.program.endpoint)
        start = time.monotonic()
        for number, one in enumerate(names):
            time.sleep(max(0.0, start + number / RATE - time.monotonic()))
            client.send(question(one.name, "A").to_wire())


@pytest.mark.parametrize(("silent", "loss"), [(0.0, 0.0), (0.1, 0.05)])
def test_nearest_first_soon(build: BuildTestbed, world: World, silent: float, loss: float) -> None:
    """Four seconds after the last of a hundred names each has its nearest address first.

    No silent address comes first, and no near one last for a lost echo.
    """
    testbed = build()
    names = spread(testbed, 1, NAMES, silent)
    start = len(world.log())
    with world.losing(loss) if loss else contextlib.nullcontext():
        ask_at_rate(testbed, names)
        time.sleep(PATIENCE)
        replies = testbed.at_once([one.name for one in names])
    probes = [probe for probe in world.log(start) if not probe.method.endswith("again")]
    late = []
    for one, reply in zip(names, replies, strict=True):
        assert set(reply.addresses) == {*one.heard, *one.silent}
        first = reply.addresses[0]
        assert first in one.heard
        assert reply.addresses.index(one.heard[0]) < len(one.heard) - 1
        late.append(milliseconds(first) - milliseconds(one.heard[0]))
    assert max(late) < NOISE
    assert late.count(0) >= 0.9 * NAMES, late
    if not silent:
        assert len(probes) <= MOST_PROBES * NAMES * 1.3, "a busy machine has echoes repeated"


def test_from_the_echo_to_the_first_place(build: BuildTestbed, world: World) -> None:
    """As soon as its echo has come the nearest address is the first."""
    testbed = build()
    delays = []
    for one in spread(testbed, 2, 15, 0.0):
        start = len(world.log())
        nearest = one.heard[0]
        end = time.monotonic() + 5
        while testbed.ask(one.name).addresses[0] != nearest:
            assert time.monotonic() < end
        first = time.monotonic()
        sent = next(probe.at for probe in world.log(start) if probe.address == nearest)
        delays.append(first - sent - milliseconds(nearest) / 1000)
    middle = sorted(delays)[len(delays) // 2]
    assert middle < 0.05, "10 ms, and room for a busy machine and for the client itself"
