"""The query log: who hears of every reply, and has it written as the settings say.

It lives over reloads. What its settings do not change goes on, into the file that is there now:
whoever has moved it has the program reload.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred, gatherResults

from staggerdns.instruments import Cell
from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.querylog.entry import json_line
from staggerdns.querylog.file import FileSink
from staggerdns.querylog.outlet import Outlet, Sink
from staggerdns.server.answered import Answered, AnswerHub
from staggerdns.settings.sections import QueryLogSettings
from staggerdns.worker import Runs, Worker

Encode = Callable[[Answered], bytes]
"""What makes an item of an answer."""
FILE = "file"
DNSTAP = "dnstap"
"""Values of the label ``output``."""


class QueryLog:
    """Writes what ``answers`` tells. `use` begins, `close` ends it; ``make_worker`` makes a thread.

    ``reactor``: the clock, and what threads call back by.
    """

    def __init__(
        self,
        answers: AnswerHub,
        reactor: Any,
        metrics: Metrics,
        journal: Journal,
        make_worker: Callable[..., Runs] = Worker,
    ) -> None:
        self._answers = answers
        self._reactor = reactor
        self._metrics = metrics
        self._journal = journal
        self._make_worker = make_worker
        self._settings: dict[str, QueryLogSettings] = {}
        self._outputs: dict[str, _Output] = {}
        self._leaving: set[Deferred[None]] = set()

    def use(self, settings: QueryLogSettings) -> None:
        """Write as these settings say from now on."""
        for name, make in ((FILE, self._file), (DNSTAP, self._dnstap)):
            wanted = _of_output(settings, name)
            if wanted == self._settings.get(name):
                continue
            before = self._outputs.pop(name, None)
            self._settings[name] = wanted
            if before is not None:
                ended = before.close()
                self._leaving.add(ended)
                ended.addCallback(lambda _, one: self._leaving.discard(one), ended)
            if getattr(wanted, name) is not None:
                self._outputs[name] = make(wanted)

    def reopen(self) -> None:
        """Write into what is there now."""
        for output in self._outputs.values():
            output.reopen()

    def close(self) -> Deferred[None]:
        """Write what there is, for a bounded time, and no more after that."""
        closed = [*self._leaving, *[output.close() for output in self._outputs.values()]]
        self._outputs.clear()
        self._settings.clear()
        return gatherResults(closed).addCallback(lambda _: None)

    def _file(self, settings: QueryLogSettings) -> _Output:
        assert settings.file is not None
        sink = FileSink(settings.file, int(settings.max_size), settings.keep)
        return self._output(FILE, settings.file, sink, partial(json_line, clients=settings.clients))

    def _dnstap(self, settings: QueryLogSettings) -> _Output:
        from staggerdns.querylog.dnstap import dnstap_output  # noqa: PLC0415 (an extra)

        assert settings.dnstap is not None
        sink, encode = dnstap_output(settings)
        return self._output(DNSTAP, settings.dnstap, sink, encode)

    def _output(self, name: str, what: str, sink: Sink, encode: Encode) -> _Output:
        worker = self._make_worker(self._reactor.callFromThread, f"query log ({name})")
        lost: Cell = self._metrics.query_log_lost.cell(name)
        outlet = Outlet(what, sink, worker, self._reactor, lost, self._journal)
        return _Output(self._answers, outlet, worker, encode)


class _Output:
    """One of the two: has what ``answers`` tells written by ``outlet``."""

    def __init__(self, answers: AnswerHub, outlet: Outlet, worker: Runs, encode: Encode) -> None:
        self._outlet = outlet
        self._worker = worker
        self._encode = encode
        self._leave = answers.subscribe(self._hear)
        self.reopen = outlet.reopen

    def _hear(self, answered: Answered) -> None:
        outlet = self._outlet
        if outlet.full:
            outlet.lose()
        else:
            outlet.put(self._encode(answered))

    def close(self) -> Deferred[None]:
        """Hear no more, and write what there is."""
        self._leave()
        closed = self._outlet.close()
        self._worker.stop()
        return closed


def _of_output(settings: QueryLogSettings, name: str) -> QueryLogSettings:
    """Return the settings with nothing in them that concerns the other output alone."""
    return replace(settings, **{one: None for one in (FILE, DNSTAP) if one != name})
