"""What is shown, in its order: who is there, one name asked twice, why its answer is as it is, and
whatever is asked then.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from bench.demo import chart
from bench.demo.client import ask
from bench.demo.picture import Timeline
from bench.demo.program import Broken, Program, settings
from bench.demo.upstreams import CHARACTERS, Asked, Upstream, distance
from staggerdns.command.client import Unanswered, follow
from staggerdns.command.client import ask as ask_program
from staggerdns.command.watch import show_answers
from staggerdns.command.waterfall import show_why

NAME = "www.example.com"
OTHER = "any.other.name.example.com"
#: What a client gets of an answer that may still change (`cache.fast_response_ttl`).
SHORT_TTL = 5
#: Seconds between two looks at what a client would get: while the pool grows, and later.
_LOOK, _LATER_LOOK, _GROWN = 0.004, 0.05, 0.3
#: Seconds that an answer may take to its last word, and a question to its last query.
_PATIENCE, _DRAW_AFTER = 12.0, 0.6


class Show:
    """Runs the upstreams and the program; ``say`` takes each line.

    ``ports``: where the program listens, for DNS and for metrics. ``why_not``: why addresses may
    not be probed; empty if they may.
    """

    def __init__(
        self,
        reactor: Any,
        directory: Path,
        ports: tuple[int, int],
        why_not: str,
        say: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._say = say
        self._why_not = why_not
        self._port = ports[0]
        self._asked: dict[str, list[Asked]] = {}
        self._listening = [
            reactor.listenUDP(0, Upstream(one, reactor, self._notice), interface=one.host)
            for one in CHARACTERS
        ]
        servers = [f"{port.getHost().host}:{port.getHost().port}" for port in self._listening]
        self._socket = directory / "control"
        configuration = settings(ports, self._socket, servers, probes=not why_not)
        parallel = configuration["upstream"]["parallel"]
        self._tiers = chart.tiers(
            len(CHARACTERS), parallel["active_tier_size"], parallel["batch_size"]
        )
        self.program = Program(reactor, directory, configuration)
        self.timeline: Timeline | None = None
        """The first question as it was drawn, when it has been."""

    async def run(self) -> None:
        """Show all but the end; raises `Broken` or TimeoutError when the program fails."""
        self._introduce()
        await self.program.up
        began = self._reactor.seconds()
        queries = self._asked[f"{NAME} A"] = []
        self._say(f"{NAME} for the first time:\n")
        first = await ask(self._reactor, self._port, NAME)
        growth = [(first.seconds, len(first.addresses))]
        settled = await self._watch(began, growth)
        self._draw(queries, began)
        self._say(chart.client_line(*growth[0]))
        self._say(chart.pool_line(growth))
        self._say("")
        self._remark()
        ranked = None if self._why_not else settled
        drawn = list(zip(queries, self._tiers, strict=False))
        self.timeline = Timeline(drawn, began, growth[0], growth, ranked)
        while (self._reactor.seconds() - began) < _PATIENCE:
            before = len(queries)
            await deferLater(self._reactor, _LATER_LOOK)
            reply = await ask(self._reactor, self._port, NAME)
            # The silent upstream may have got one more query just when its time was up.
            if reply.ttl > SHORT_TTL and len(queries) == before:
                break
        before = len(queries)
        again = await ask(self._reactor, self._port, NAME)
        more = len(queries) - before
        del self._asked[f"{NAME} A"]
        self._say(
            f"For the second time: {again.seconds * 1000:.1f} ms, from the cache. "
            f"Upstreams asked: {more or 'none'}. TTL: {again.ttl} s."
        )
        await self._explain()

    def stop(self) -> Deferred[None]:
        """End the program."""
        return self.program.stop()

    def _introduce(self) -> None:
        self._say("StaggerDNS asks five upstreams, all on this machine; nothing leaves it.\n")
        self._say(f"  {'upstream':<12}{'answers':<14}what it knows of {NAME}")
        for one in CHARACTERS:
            when = "never" if one.delay is None else f"after {one.delay * 1000:.0f} ms"
            self._say(f"  {one.host:<12}{when:<14}{'  '.join(one.addresses)}".rstrip())
        self._say("")

    async def _watch(self, began: float, growth: list[tuple[float, int]]) -> float:
        """Ask until the answer is whole, and in order if it will be; return when it was."""
        everything = {address for one in CHARACTERS for address in one.addresses}
        in_order = tuple(sorted(everything, key=distance))
        while True:
            now = self._reactor.seconds() - began
            await deferLater(self._reactor, _LOOK if now < _GROWN else _LATER_LOOK)
            answer = await ask(self._reactor, self._port, NAME)
            now = self._reactor.seconds() - began
            if len(answer.addresses) > growth[-1][1]:
                growth.append((now, len(answer.addresses)))
            whole = set(answer.addresses) == everything
            if whole and (self._why_not or answer.addresses == in_order or now > _PATIENCE):
                return now
            if now > _PATIENCE:
                raise Broken(f"the answer was not complete after {_PATIENCE:g} s")

    def _draw(self, queries: list[Asked], began: float) -> None:
        self._say(chart.scale())
        for asked, tier in zip(queries, self._tiers, strict=False):
            self._say(chart.asked_line(asked, tier, began))

    def _remark(self) -> None:
        note = "The silent upstream held nobody up, and the pool is complete."
        if self._why_not:
            note += (
                " It is not ranked, the order is that of arrival: probes would leave this machine, "
                f"for there is no network namespace that keeps them in ({self._why_not})."
            )
        self._say(textwrap.fill(note, 98) + "\n")

    async def _explain(self) -> None:
        """Show what ``staggerdns why`` prints."""
        self._say("\nWhy is the answer as it is? The program can tell:\n")
        self._say(f"  $ {self._command('why', NAME)}\n")
        # In a thread, for the upstreams are to go on.
        why = await deferToThread(ask_program, str(self._socket), "why", {"name": NAME})
        self._say("\n".join(f"  {line}".rstrip() for line in show_why(why).splitlines()))

    def _command(self, *words: str) -> str:
        """Return what one types to have a command done by the program."""
        python = os.path.relpath(sys.executable)
        return " ".join([python, "-m", "staggerdns", "--socket", str(self._socket), *words])

    def invite(self, port: int, web: int) -> None:
        """Print what to try."""
        self._say("\nNow you:\n")
        self._say(f"  open http://127.0.0.1:{web}/ in a browser")
        self._say(f"  dig @127.0.0.1 -p {port} {NAME}")
        self._say(f"  dig @127.0.0.1 -p {port} {OTHER}")
        self._say(f"  {self._command('why', OTHER)}")
        self._say(f"  curl http://127.0.0.1:{web}/metrics\n")
        self._say("Answers are shown here as they happen, and what goes upstream. Ctrl-C ends.\n")
        # It ends when the program does.
        deferToThread(self._watch_answers).addErrback(lambda failure: failure.trap(Unanswered))

    def _watch_answers(self) -> None:
        """Show what ``staggerdns watch`` prints, for as long as the program goes on."""
        for line in show_answers(follow(str(self._socket), "watch", {})):
            self._reactor.callFromThread(self._say, line)

    def _notice(self, asked: Asked) -> None:
        if asked.question in self._asked:
            self._asked[asked.question].append(asked)
        elif not asked.question.startswith(" "):  # the root is what the program asks by itself
            self._asked[asked.question] = [asked]
            self._reactor.callLater(_DRAW_AFTER, self._draw_later, asked.question)

    def _draw_later(self, question: str) -> None:
        queries = self._asked.pop(question)
        self._say(f"\n{question}:\n")
        self._draw(queries, queries[0].at)
