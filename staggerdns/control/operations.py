"""What the commands of the control socket do (docs/control.rst has their results).

Nothing here is in the way of a query: what is read is read when somebody asks, and what takes long
is done in slices, one in a turn of the reactor.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator, SchedulerStopped
from twisted.python.failure import Failure

from staggerdns import __version__
from staggerdns.chain import Chain
from staggerdns.compiled import is_compiled
from staggerdns.control.asking import Asking
from staggerdns.control.flushing import forget
from staggerdns.control.peers import Peer
from staggerdns.control.protocol import (
    FAILED,
    REFUSED,
    BlockRequest,
    CacheRequest,
    DrainRequest,
    FlushRequest,
    Refused,
    Request,
    Result,
    WatchRequest,
    WhyRequest,
    parse_client,
    parse_name,
    parse_type,
)
from staggerdns.control.rates import Rates
from staggerdns.control.watch import make_watch
from staggerdns.inspection.entries import show_entry, show_upstreams
from staggerdns.inspection.why import explain
from staggerdns.journal import Journal
from staggerdns.lifecycle import Lifecycle
from staggerdns.metrics import Metrics
from staggerdns.policy.pauses import BlockingPauses
from staggerdns.policy.rules import Rules
from staggerdns.reload import History, Problems
from staggerdns.server.answered import AnswerHub
from staggerdns.server.local import LocalNames
from staggerdns.settings.policy import DEFAULT_GROUP, GroupSettings
from staggerdns.settings.sections import Config
from staggerdns.shared.flushes import EVERYTHING, Flush
from staggerdns.wire.key import NAME_END
from staggerdns.wire.names import to_text

MAX_ENTRIES_SHOWN = 200
"""Entries of one name that are shown."""
UPSTREAMS_A_STEP = 20
"""Upstreams that are looked at in a turn."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_Result = TypeVar("_Result")
Steps = Generator[None, None, _Result]
"""Work that is done in steps, one a turn."""


@dataclass(frozen=True)
class Program:
    """The program that is asked about. What a reload may replace is a function that returns it.

    ``path``: the configuration file, `None` if there is none. ``reload`` reads it again; the
    Deferred's result is what is wrong with it, nothing if it counts now. ``local`` answers in front
    of the ``chain``. ``rules`` are those of the client at an address, or of the default group.
    """

    path: str | None
    config: Callable[[], Config]
    chain: Callable[[], Chain]
    local: Callable[[], LocalNames]
    rules: Callable[[str | None], Rules | None]
    listeners: Callable[[], list[str]]
    answering: Callable[[], bool]
    reloads: Callable[[], History]
    reload: Callable[[], Deferred[Problems]]
    forget_ready: Callable[[], object]
    lifecycle: Lifecycle
    pauses: BlockingPauses
    answers: AnswerHub
    metrics: Metrics
    clock: IReactorTime
    journal: Journal


class Operations:
    """The commands of ``program``; `close` them in the end."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._clock = program.clock
        self._started = program.clock.seconds()
        self._rates = Rates(program.clock, program.metrics)
        self._asking = Asking(program.clock)
        self._cooperator = Cooperator(
            terminationPredicateFactory=lambda: lambda: True,  # one step a turn
            scheduler=partial(program.clock.callLater, 0),
        )
        self._commands: Mapping[str, Callable[[Any, Peer], Any]] = {
            "status": self._status,
            "upstreams": self._upstreams,
            "cache": self._cache,
            "why": self._why,
            "flush": self._flush,
            "reload": self._reload,
            "drain": self._drain,
            "block": self._block,
            "watch": self._watch,
        }

    def start(self) -> None:
        """Count from now on how much there is to do, unless that has begun."""
        self._rates.start()

    def close(self) -> None:
        """Give up what is under way."""
        self._rates.stop()
        self._asking.close()
        self._cooperator.stop()

    def perform(self, request: Request, peer: Peer) -> Deferred[Result]:
        """Do what a request asks for. The Deferred fails with `Refused` where that is not done."""
        done: Deferred[Result] = maybeDeferred(self._commands[request.command], request, peer)
        return done

    def _status(self, request: Request, peer: Peer) -> Result:
        program, metrics, now = self._program, self._program.metrics, self._clock.seconds()
        settings = program.config().cache
        reloads = program.reloads()
        tried_at = reloads.tried_at
        return {
            "version": __version__,
            "build": "compiled" if is_compiled() else "pure Python",
            "pid": os.getpid(),
            "uptime": round(now - self._started, 3),
            "configuration": program.path,
            "phase": program.lifecycle.phase,
            "ready": program.lifecycle.ready,
            "answering": program.answering(),
            "listeners": program.listeners(),
            "rates": self._rates.shown(),
            "cache": {
                "entries": _gauge(metrics.cache_entries.values()),
                "octets": _gauge(metrics.cache_octets.values()),
                "max_entries": settings.max_entries,
                "max_octets": int(settings.max_size),
            },
            "pending": _gauge(metrics.queries_waiting.values()),
            "collections": {
                "running": _gauge(metrics.collections.values()),
                "queued": _gauge(metrics.collections_queued.values()),
                "ended": sum(metrics.collection_outcomes.values().values()),
            },
            "memory": resident_octets(),
            "shared": program.chain().shared.shown(),
            "blocking": self._blocking(),
            "reloads": {
                "count": reloads.tries,
                "last": None
                if tried_at is None
                else {
                    "ok": not reloads.problems,
                    "seconds_ago": round(now - tried_at, 3),
                    "problems": reloads.problems,
                },
            },
        }

    def _upstreams(self, request: Request, peer: Peer) -> Deferred[Result]:
        return self._in_steps(self._show_upstreams())

    def _show_upstreams(self) -> Steps[Result]:
        program = self._program
        shown = []
        for upstream in show_upstreams(
            program.chain().members,
            program.metrics,
            program.config().upstream.budget.max_inflight,
            self._clock.seconds(),
        ):
            shown.append(upstream)
            if len(shown) % UPSTREAMS_A_STEP == 0:
                yield
        return {"upstreams": shown}

    def _cache(self, request: CacheRequest, peer: Peer) -> Deferred[Result]:
        name = parse_name(request.name)
        qtype = None if request.type is None else parse_type(request.type)
        return self._in_steps(self._entries_of(name, qtype))

    def _entries_of(self, name: bytes, qtype: int | None) -> Steps[Result]:
        chain = self._program.chain()
        keys = sorted(chain.cache.names.of(name), key=lambda key: key[NAME_END:])
        if qtype is not None:
            wanted = qtype.to_bytes(2, "big")
            keys = [key for key in keys if key[NAME_END : NAME_END + 2] == wanted]
        shown = []
        for key in keys[:MAX_ENTRIES_SHOWN]:
            entry = chain.cache.entries.get(key)
            if entry is not None:  # it may have gone meanwhile
                shown.append(show_entry(key, entry, chain, self._clock.seconds()))
            yield
        return {
            "name": to_text(name),
            "entries": shown,
            "more": max(0, len(keys) - MAX_ENTRIES_SHOWN),
        }

    def _why(self, request: WhyRequest, peer: Peer) -> Deferred[Result] | Result:
        name, qtype = parse_name(request.name), parse_type(request.type)
        client = None if request.client is None else parse_client(request.client)
        program = self._program

        def explained(_: object = None) -> Result:
            now = self._clock.seconds()
            rules = program.rules(client)
            return explain(program.chain(), program.local(), rules, name, qtype, now)

        if not request.ask:
            return explained()
        rules = program.rules(client)
        asked = self._asking.ask(program.chain(), program.local(), rules, name, qtype)
        return asked.addCallback(explained)

    def _flush(self, request: FlushRequest, peer: Peer) -> Deferred[Result]:
        if request.name is not None:
            flush = Flush(parse_name(request.name), below=False)
            what = to_text(flush.name)
        elif request.below is not None:
            flush = Flush(parse_name(request.below), below=True)
            what = f"{to_text(flush.name)} and below"
        else:
            flush, what = EVERYTHING, "everything"
        done = self._forget(flush, self._clock.seconds())
        self._program.chain().shared.flush(flush)

        def log(result: Result) -> Result:
            self._program.journal.announce(
                "flushed {count} answers for user {uid}: {what}",
                count=result["flushed"],
                uid=peer.uid,
                what=what,
            )
            return result

        return done.addCallback(log)

    def flushed_elsewhere(self, flush: Flush, age: float) -> None:
        """Forget what was flushed on another server ``age`` seconds ago, and stored before."""
        self._forget(flush, self._clock.seconds() - age).addErrback(lambda _: None)  # it ends

    def _forget(self, flush: Flush, before: float) -> Deferred[Result]:
        done = self._in_steps(forget(self._program.chain().cache, flush, before))
        return done.addCallback(self._forget_ready) if flush == EVERYTHING else done

    def _forget_ready(self, result: Result) -> Result:
        # Nothing that is ready stands without its entry, but takes memory.
        self._program.forget_ready()
        return result

    def _reload(self, request: Request, peer: Peer) -> Deferred[Result]:
        began = self._clock.seconds()

        def reloaded(problems: tuple[str, ...]) -> Result:
            if problems:
                raise Refused(
                    REFUSED, "the configuration cannot be used: nothing has changed", problems
                )
            return {"seconds": round(self._clock.seconds() - began, 3)}

        return self._program.reload().addCallback(reloaded)

    def _drain(self, request: DrainRequest, peer: Peer) -> Result:
        lifecycle = self._program.lifecycle
        if request.draining:
            lifecycle.drain()
        else:
            lifecycle.resume()
        return {"phase": lifecycle.phase, "ready": lifecycle.ready}

    def _block(self, request: BlockRequest, peer: Peer) -> Result:
        shown = self._blocking()
        if not shown:
            raise Refused(REFUSED, "no group has lists that block")
        if request.group is not None and all(one["group"] != request.group for one in shown):
            known = ", ".join([one["group"] for one in shown])
            raise Refused(
                REFUSED, f"no group {request.group!r} has lists that block: expected {known}"
            )
        if request.blocking:
            self._program.pauses.end(request.group)
        else:
            self._program.pauses.begin(request.group, request.seconds)
        return {"blocking": self._blocking()}

    def _watch(self, request: WatchRequest, peer: Peer) -> Result:
        return make_watch(request, self._program.answers, self._clock, private=peer.may_change)

    def _blocking(self) -> list[dict[str, Any]]:
        """Return the groups that have lists, and their pauses."""
        config = self._program.config()
        groups = {DEFAULT_GROUP: GroupSettings(), **config.groups}
        default = groups[DEFAULT_GROUP]
        shown = []
        for name, group in groups.items():
            lists = default.block if group.block is None else group.block
            if lists:
                left = self._program.pauses.left(name)
                shown.append(
                    {
                        "group": name,
                        "lists": lists,
                        "paused": left > 0,
                        "seconds_left": round(left, 3) if 0 < left < math.inf else None,
                    }
                )
        return shown

    def _in_steps(self, steps: Steps[Result]) -> Deferred[Result]:
        results: list[Result] = []

        def run() -> Steps[None]:
            results.append((yield from steps))

        done = self._cooperator.cooperate(run()).whenDone()
        return done.addCallbacks(lambda _: results[0], _stopped)


def resident_octets() -> int:
    """Return how much memory the process takes now, 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 (no Path is needed)
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def _gauge(values: Mapping[tuple[str, ...], float]) -> int:
    return int(sum(values.values()))


def _stopped(failure: Failure) -> Result:
    failure.trap(SchedulerStopped)
    raise Refused(FAILED, "the program ends")
