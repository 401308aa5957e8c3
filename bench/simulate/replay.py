"""Drives the real chain, from the forwarder down, with drawn replies in place of sockets."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from bench.simulate.landscapes import Draws, Kind
from staggerdns.config import parse_config
from staggerdns.resolver.entry import Entry
from staggerdns.service import Chain
from staggerdns.settings import Config
from staggerdns.strategy.alarms import SLACK
from staggerdns.upstream.exchange import Exchange
from staggerdns.wire.answer import Pool
from staggerdns.wire.names import from_labels
from staggerdns.wire.question import Question, make_question

_RCODES = {Kind.GOOD: 0, Kind.SERVFAIL: 2, Kind.NXDOMAIN: 3}
_TTL = 86_400
#: Timers that fire early by this much still count as due, so windows are shorter by it.
_EARLY = 1.5 * SLACK


@dataclass(frozen=True)
class Plan:
    """A strategy with its numbers: what stands under ``upstream`` in the configuration."""

    name: str
    upstream: Mapping[str, Any]

    def config(self, upstreams: int) -> Config:
        """Return the whole configuration; a pool has room for every upstream's address."""
        parallel = {"max_pool_size": upstreams, **self.upstream.get("parallel", {})}
        servers = [f"127.0.0.{number + 1}" for number in range(upstreams)]
        return parse_config(
            json.dumps(
                {
                    "upstream": {**self.upstream, "servers": servers, "parallel": parallel},
                    "ranking": {"enabled": False},
                    "log": {"level": "error"},
                }
            )
        )


class Name:
    """What happened to one name; times since it was asked."""

    __slots__ = ("started", "launches", "asked", "first", "good", "last")

    def __init__(self, started: float) -> None:
        self.started = started
        self.launches: list[float] = []
        self.asked: list[int] = []
        self.first = 0.0
        self.good = False
        self.last = 0.0  # the latest answer that joined

    def window(self, length: float) -> int:
        """Return the most queries that started within ``length`` seconds."""
        launches, most, oldest = self.launches, 0, 0
        for newest, launched in enumerate(launches):
            while launched - launches[oldest] > length - _EARLY:
                oldest += 1
            most = max(most, newest - oldest + 1)
        return most


@dataclass(frozen=True)
class Replayed:
    """All measured names, and how much of the pool that could be had each of them got."""

    names: list[Name]
    missing: list[int]


class _Wire:
    """The transport of one upstream: replies come as drawn."""

    def __init__(self, world: _World, number: int) -> None:
        self._world = world
        self._number = number
        self._under_way: dict[Exchange, IDelayedCall] = {}
        address = bytes((203, 0, 113, number + 1))
        self._record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, _TTL, 4) + address

    def send(self, exchange: Exchange) -> None:
        """Take a query."""
        world = self._world
        label = exchange.question.name
        number = int(label[1 : 1 + label[0]])
        name = world.names[number]
        name.launches.append(world.clock.seconds() - name.started)
        name.asked.append(self._number)
        kind, seconds = world.draws.samples[number][self._number]
        if kind == Kind.SILENT:
            return
        exchange.forget = self._forget
        self._under_way[exchange] = world.clock.callLater(
            seconds, self._deliver, exchange, name, kind
        )

    def close(self) -> None:
        """Have nothing open."""

    def _deliver(self, exchange: Exchange, name: Name, kind: Kind) -> None:
        del self._under_way[exchange]
        exchange.forget = None
        good = kind == Kind.GOOD
        if good:
            name.last = self._world.clock.seconds() - name.started
        header = struct.pack("!6H", 0, 0x8180 | _RCODES[kind], 1, good, 0, 0)
        section = exchange.question.section
        exchange.reply(header + section + (self._record if good else b""), final=True)

    def _forget(self, exchange: Exchange, *, timed_out: bool) -> None:
        call = self._under_way.pop(exchange, None)
        if call is not None:
            call.cancel()


class _World:
    """One run through all names."""

    def __init__(self, plan: Plan, draws: Draws) -> None:
        self.draws = draws
        self.clock = Clock()
        self.names: list[Name] = []
        self._chain = Chain(
            plan.config(len(draws.samples[0])), self.clock, rng=Random(draws.seed).randbytes
        )
        for number, upstream in enumerate(self._chain.upstreams):
            wire: Any = _Wire(self, number)
            upstream._transport = upstream._stream = wire  # noqa: SLF001 (no other way in)

    def run(self) -> Replayed:
        """Ask all names, each after its gap, and jump from event to event until all is over."""
        clock, draws = self.clock, self.draws
        clock.callLater(draws.gaps[0], self._ask_next)
        while calls := clock.getDelayedCalls():
            clock.advance(max(0.0, calls[0].getTime() - clock.seconds()))
        missing = [self._missing(number) for number in range(draws.warm, len(self.names))]
        self._chain.close()
        return Replayed(self.names[draws.warm :], missing)

    def _ask_next(self) -> None:
        number = len(self.names)
        if number + 1 < len(self.draws.gaps):
            self.clock.callLater(self.draws.gaps[number + 1], self._ask_next)
        name = Name(self.clock.seconds())
        self.names.append(name)
        self._chain.forwarder.find(_question(number)).addCallback(self._note, name)

    def _note(self, entry: Entry, name: Name) -> None:
        name.first = self.clock.seconds() - name.started
        name.good = isinstance(entry.answer, Pool)

    def _missing(self, number: int) -> int:
        """Return how many addresses the pool lacks of those that asking all would have found."""
        could = sum(kind == Kind.GOOD for kind, _ in self.draws.samples[number])
        entry = self._chain.cache.lookup(_question(number).key)
        pool = entry.answer if entry is not None else None
        return could - (len(pool.addresses) if isinstance(pool, Pool) else 0)


def _question(number: int) -> Question:
    return make_question(from_labels([b"%d" % number, b"example"]), 1)


def replay(plan: Plan, draws: Draws) -> Replayed:
    """Send all names of ``draws`` through the real code with the numbers of ``plan``."""
    return _World(plan, draws).run()
