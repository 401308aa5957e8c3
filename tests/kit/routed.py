"""A whole program with routes on a clock, and upstreams that do what their acts say."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

import dns.rcode
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from staggerdns.chain import Chain
from staggerdns.config import parse_config
from staggerdns.service import StaggerService
from staggerdns.settings.addresses import parse_listener
from staggerdns.upstream.members import Members
from staggerdns.wire.names import to_text
from tests.kit.acts import SILENT, Act, says
from tests.kit.clients import addresses, parse
from tests.kit.messages import client_query
from tests.kit.probing import established
from tests.kit.simulated import START, Launch, SimulatedUpstream, milliseconds

if TYPE_CHECKING:
    import dns.message

    from staggerdns.server.listenercontext import ListenerContext
    from staggerdns.server.request import Reply
    from staggerdns.settings.addresses import UpstreamAddress
    from staggerdns.settings.upstreams import UpstreamSettings

CLIENT = "10.0.0.7"
"""A client that may ask."""
PUBLIC = "192.0.2.1"
INSIDE = "10.0.0.53"
SECOND_INSIDE = "10.0.0.54"
"""Upstreams."""
NO_RANKING = "ranking: {enabled: false}\nlocal: {hosts: null}\n"


def own_address(host: str) -> str:
    """The address that only the upstream at ``host`` answers with."""
    return f"203.0.{host.split('.')[2]}.{host.split('.')[3]}"


def answers(host: str, after: float = 5, ttl: int = 300) -> Act:
    """Answer with the upstream's own address."""
    return says(after, own_address(host), ttl=ttl)


def _text(routes: str, servers: str, more: str, upstream: str = "") -> str:
    return f"upstream: {{servers: [{servers}]{upstream}}}\nroutes: [{routes}]\n{more}\n"


class RoutedProgram:
    """A service in front of simulated upstreams; times are milliseconds after the start."""

    def __init__(self, routes: str, *, servers: str = PUBLIC, more: str = NO_RANKING) -> None:
        self.clock = MemoryReactorClock()
        self.clock.advance(START)
        self.launched: list[Launch] = []
        self.upstreams: dict[str, SimulatedUpstream] = {}
        self.made: list[str] = []
        self._hosts: dict[int, str] = {}
        self._established = 0
        self._contexts: dict[str, ListenerContext] = {}
        text = _text(routes, servers, more)
        with pytest.MonkeyPatch.context() as patch:
            self._patch(patch)
            patch.setattr(sys.modules[StaggerService.__module__], "Chain", self._compose)
            self.service = StaggerService(parse_config(text), self.clock, bytes)
        for host in self.upstreams:
            self.script(host, answers(host))

    def _patch(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(sys.modules[Members.__module__], "Upstream", self._connect)

    def change(
        self,
        routes: str = "",
        *,
        servers: str = PUBLIC,
        more: str = NO_RANKING,
        upstream: str = "",
    ) -> None:
        """Let another configuration count; ``upstream``: more of that section."""
        known = {*self.upstreams}
        with pytest.MonkeyPatch.context() as patch:
            self._patch(patch)
            config = parse_config(_text(routes, servers, more, upstream))
            changed = Deferred.fromCoroutine(self.service.change(config))
            self.wait(1)
        changed.addErrback(Failure.raiseException)
        assert changed.called
        for host in {*self.upstreams} - known:
            self.script(host, answers(host))

    def _connect(
        self, address: UpstreamAddress, settings: UpstreamSettings, **others: Any
    ) -> object:
        host = address.endpoint.host
        self.made.append(host)
        self._hosts[len(self.made)] = host
        upstream = SimulatedUpstream(
            len(self.made),
            SILENT,
            cast("Any", self.clock),
            self.launched,
            others["metrics"],
            awake=others["clock"],
            health=settings.health,
            budget=settings.budget,
        )
        upstream.name = str(address)
        return self.upstreams.setdefault(host, upstream)

    def _compose(self, *arguments: Any, **more: Any) -> Chain:
        self.chain = Chain(*arguments, **more)
        self.metrics = more["metrics"]
        return self.chain

    def script(self, host: str, act: Act) -> None:
        """Have an upstream do this from now on."""
        self.upstreams[host].script.act = act

    def asked(self, since: int = 0) -> list[str]:
        """Who was asked, from the query with that number on."""
        return [self._hosts[launch.upstream] for launch in self.launched[since:]]

    def names(self, host: str) -> set[str]:
        """Every name that an upstream was asked for."""
        questions = self.upstreams[host].script.questions
        return {to_text(question.name).rstrip(".") for question in questions}

    def ask(
        self,
        qname: str,
        rdtype: str = "A",
        *,
        client: str = CLIENT,
        listener: str = "",
        transport: str = "udp",
        **more: Any,
    ) -> Asked:
        """Have a client ask, by one of the listeners if it is given."""
        context = self._contexts.get(listener)
        if context is None:
            place = parse_listener(listener) if listener else None
            context = self.service.factory.listener_context(place)
            self._contexts[listener] = context
        return Asked(self, client_query(qname + ".", rdtype, **more), client, transport, context)

    @property
    def now(self) -> float:
        """Milliseconds since the start."""
        return milliseconds(self.clock.seconds())

    def wait(self, duration: float) -> None:
        """Let time pass, each call at its own time."""
        end = self.clock.seconds() + duration / 1000
        while self.clock.calls and self.clock.calls[0].getTime() <= end:
            self.clock.rightNow = max(self.clock.calls[0].getTime(), self.clock.rightNow)
            self.clock.advance(0)
        self.clock.rightNow = end

    def establish(self) -> None:
        """Let connections that have been opened to probe addresses succeed."""
        opened = self.clock.tcpClients[self._established :]
        self._established += len(opened)
        for _, _, factory, *_ in opened:
            established(factory)
        self.wait(1)

    def answer(self, qname: str, rdtype: str = "A", **more: Any) -> list[str]:
        """Have a client ask, wait for the reply, and return its addresses or its code."""
        asked = self.ask(qname, rdtype, **more)
        self.wait(100)
        return asked.result

    def close(self) -> None:
        """Stop the program."""
        stopped = self.service.stopService()
        self.wait(2_000)
        assert isinstance(stopped, Deferred)


class Asked:
    """A client's query and its reply, if it has come; ``ready``: there was one for it already."""

    def __init__(
        self,
        program: RoutedProgram,
        query: bytes,
        client: str,
        transport: str,
        listener: ListenerContext,
    ) -> None:
        self._program = program
        self.at: float | None = None
        self._reply: bytes | None = None
        now = program.clock.seconds()
        reply: Reply = listener.ready[transport].reply(query, client, now)
        self.ready = reply is not None
        if reply is None:
            reply = program.service.factory.serve(query, client, transport, now, listener)
        if isinstance(reply, Deferred):
            reply.addCallback(self._take)
        elif reply is not None:
            self._take(reply)

    def _take(self, reply: bytes) -> None:
        self.at = self._program.now
        self._reply = reply

    @property
    def answered(self) -> bool:
        """Whether the reply has come."""
        return self._reply is not None

    @property
    def reply(self) -> dns.message.Message:
        """The reply that must have come."""
        assert self._reply is not None
        return parse(self._reply)

    @property
    def result(self) -> list[str]:
        """Its addresses, or its code if there are none."""
        reply = self.reply
        return addresses(reply) or [dns.rcode.to_text(reply.rcode())]
