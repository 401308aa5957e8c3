"""Drives the real chain, from the forwarder down, with drawn replies in place of sockets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from twisted.internet.task import Clock

from bench.simulate.landscapes import Draws, Kind
from bench.simulate.wire import Wire, connect, record
from staggerdns.chain import Chain
from staggerdns.config import parse_config
from staggerdns.resolver.entry import Entry
from staggerdns.settings.sections import Config
from staggerdns.strategy.alarms import SLACK
from staggerdns.upstream.exchange import Exchange
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.names import from_text
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
                    "upstream": {
                        **self.upstream,
                        "servers": servers,
                        "parallel": parallel,
                        # These upstreams have nothing to learn about: see `connect` for EDNS.
                        "case_randomization": "never",
                    },
                    "ranking": {"enabled": False},
                    # What strategies cost is compared with a cache that does nothing ahead of time.
                    "cache": {"prefetch": {"enabled": False}},
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


class _Drawn(Wire):
    """One upstream, which answers each name as it was drawn for it."""

    def __init__(self, world: _World, number: int) -> None:
        super().__init__(world.clock)
        self._world = world
        self._number = number
        self._records = [record(bytes((203, 0, 113, number + 1)), _TTL)]

    def answer(self, exchange: Exchange) -> tuple[float, int, list[bytes]] | None:
        """Note who is asked when, and return the reply."""
        number = _number(exchange)
        name = self._world.names[number]
        name.launches.append(self._clock.seconds() - name.started)
        name.asked.append(self._number)
        kind, seconds = self._world.draws.samples[number][self._number]
        if kind == Kind.SILENT:
            return None
        return seconds, _RCODES[kind], self._records if kind == Kind.GOOD else []

    def delivered(self, exchange: Exchange) -> None:
        """Note when the latest address came."""
        number = _number(exchange)
        if self._world.draws.samples[number][self._number][0] == Kind.GOOD:
            name = self._world.names[number]
            name.last = self._clock.seconds() - name.started


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
            connect(upstream, _Drawn(self, number))

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
        found = self._chain.forwarder.find(_question(number), name.started)
        found.addCallback(self._note, name)

    def _note(self, entry: Entry, name: Name) -> None:
        name.first = self.clock.seconds() - name.started
        name.good = isinstance(entry.answer, AddressPool)

    def _missing(self, number: int) -> int:
        """Return how many addresses the pool lacks of those that asking all would have found."""
        could = sum(kind == Kind.GOOD for kind, _ in self.draws.samples[number])
        entry = self._chain.cache.lookup(_question(number).key, self.clock.seconds())
        pool = entry.answer if entry is not None else None
        return could - (len(pool.addresses) if isinstance(pool, AddressPool) else 0)


def _number(exchange: Exchange) -> int:
    label = exchange.question.name
    return int(label[1 : 1 + label[0]])


def _question(number: int) -> Question:
    return make_question(from_text(b"%d.example" % number), 1)


def replay(plan: Plan, draws: Draws) -> Replayed:
    """Send all names of ``draws`` through the real code with the numbers of ``plan``."""
    return _World(plan, draws).run()
