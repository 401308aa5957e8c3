"""Upstreams that follow a script on a `task.Clock`, and a whole forwarder in front of them.

A `SimulatedUpstream` is a real `Upstream`, health and metrics included, whose transport sends
nothing: it does what its `Act` says, at the time that it says. Times are milliseconds here.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, NamedTuple, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.entry import Entry
from staggerdns.resolver.forwarder import Forwarder
from staggerdns.settings.addresses import parse_upstream
from staggerdns.settings.sections import CacheSettings
from staggerdns.settings.upstreams import (
    BudgetSettings,
    HealthSettings,
    ParallelSettings,
    RacingSettings,
    UpstreamSettings,
)
from staggerdns.standstill import StandstillClock
from staggerdns.strategy.adaptive import Adaptive
from staggerdns.strategy.alarms import Alarms
from staggerdns.strategy.parallel import Parallel
from staggerdns.strategy.strategies import Strategies
from staggerdns.strategy.strategy import StrategyContext
from staggerdns.traces.trace import Traces
from staggerdns.upstream.budget import QueryBudget
from staggerdns.upstream.concurrentretries import UNREPORTED
from staggerdns.upstream.datagram import DatagramTransport
from staggerdns.upstream.dialect import Dialect
from staggerdns.upstream.edns import FULL
from staggerdns.upstream.entropy import Entropy
from staggerdns.upstream.exchange import Exchange
from staggerdns.upstream.upstream import Upstream
from staggerdns.upstream.upstreams import Upstreams
from staggerdns.wire.addressfilter import AddressFilter
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.question import Question, make_question
from staggerdns.wire.rebinding import Rebinding
from tests.kit.acts import A, Act, name

START = 1000.0
"""Seconds on the clock when a test begins: never 0, which could hide a missing "now"."""

DEFAULTS = UpstreamSettings(servers=())
HEALTH = HealthSettings()
BUDGET = BudgetSettings()

_ENDLESS = 200_000  # far more calls than any test makes


class Launch(NamedTuple):
    """A query that went to an upstream: milliseconds after the start, whom, in which tier."""

    at: float
    upstream: int
    tier: str


class SimulatedTransport(DatagramTransport):
    """Does what ``act`` says instead of sending."""

    def __init__(self, clock: Clock, index: int, act: Act, launches: list[Launch]) -> None:
        self.act = act
        self.questions: list[Question] = []
        self._clock = clock
        self._index = index
        self._launches = launches

    def send(self, exchange: Exchange) -> None:
        """Note the query and schedule what the script wants; nothing beside an exchange counts."""
        if exchange.tier == UNREPORTED:
            return
        at = milliseconds(self._clock.seconds())
        self._launches.append(Launch(at, self._index, exchange.tier))
        self.questions.append(exchange.question)
        act = self.act
        if act.silent:
            return
        if act.after is None:
            self._deliver(exchange, act)
            return
        calls = [self._clock.callLater(act.after / 1000, self._deliver, exchange, act)]
        if act.later is not None:
            calls.append(self._clock.callLater(act.later / 1000, self._answer, exchange, act))

        def forget(exchange: Exchange, *, timed_out: bool) -> None:
            for call in calls:
                if call.active():
                    call.cancel()

        exchange.forget = forget

    def close(self) -> None:
        """Nothing is open."""

    def _deliver(self, exchange: Exchange, act: Act) -> None:
        if act.error is None:
            self._answer(exchange, act)
        elif act.hint:
            exchange.hint(act.error)
        else:
            exchange.forget = None
            exchange.error(act.error)

    @staticmethod
    def _answer(exchange: Exchange, act: Act) -> None:
        exchange.forget = None
        assert act.reply is not None
        exchange.owner.received(exchange, act.reply(exchange.question), over_stream=True)


class SimulatedUpstream(Upstream):
    """A real upstream but for its transport."""

    def __init__(
        self,
        index: int,
        act: Act,
        clock: Clock,
        launches: list[Launch],
        metrics: Metrics,
        *,
        awake: StandstillClock | None = None,
        health: HealthSettings = HEALTH,
        budget: BudgetSettings = BUDGET,
    ) -> None:
        super().__init__(
            parse_upstream(f"192.0.2.{index + 1}"),
            UpstreamSettings(
                servers=(), case_randomization="never", cookies=False, health=health, budget=budget
            ),
            reactor=cast("Any", None),
            readers=cast("Any", None),
            clock=awake or StandstillClock(clock),
            rng=bytes,
            metrics=metrics,
            journal=Journal(),
            budget=QueryBudget(budget),
        )
        self.script = self._transport = SimulatedTransport(clock, index, act, launches)
        self._stream = cast("Any", self.script)
        self.dialect.edns.proven = FULL  # it has answered before: its errors mean what they say

    @property
    def marks(self) -> int:
        """Failures in a row that count against it."""
        return self.health.failures

    def open_circuit(self) -> None:
        """Note failures until its circuit opens."""
        now = self._clock.seconds()
        for _ in range(HEALTH.unhealthy_after):
            self.health.failed(now, now, alone=True)

    def carry_by(self, datagrams: Any, stream: Any, rng: Callable[[int], bytes]) -> None:
        """Send by these transports; so little is known of the upstream as in the beginning."""
        self._transport, self._stream = datagrams, stream
        self.dialect = Dialect(Entropy(rng), case=True, cookies=True)

    def occupy(self, queries: int) -> None:
        """Have so many more queries under way, fewer when it is negative."""
        self._inflight += queries
        self.budget.inflight += queries

    def spend(self, queries: int) -> None:
        """Let so many queries count as sent now."""
        for _ in range(queries):
            self.budget.spend(self._clock.seconds())


class Client:
    """Somebody who waits for an entry; ``answers`` are (milliseconds, entry)."""

    def __init__(self, clock: Clock, found: Deferred[Entry] | Entry) -> None:
        self._clock = clock
        self.answers: list[tuple[float, Entry]] = []
        self.failures: list[Failure] = []
        if isinstance(found, Entry):
            self._take(found)
        else:
            self.deferred = found
            found.addCallbacks(self._take, self.failures.append)

    @property
    def at(self) -> float:
        """When the one answer came."""
        return self._one[0]

    @property
    def entry(self) -> Entry:
        """The one answer."""
        return self._one[1]

    @property
    def rcode(self) -> int:
        """The code of the one answer."""
        return int(self.entry.answer.rcode)

    @property
    def addresses(self) -> list[str]:
        """The addresses of the one answer."""
        return addresses(self.entry)

    @property
    def _one(self) -> tuple[float, Entry]:
        assert not self.failures, self.failures
        assert len(self.answers) == 1, f"{len(self.answers)} answers"
        return self.answers[0]

    def _take(self, entry: Entry) -> None:
        self.answers.append((milliseconds(self._clock.seconds()), entry))


def addresses(entry: Entry | None) -> list[str]:
    """The addresses of an entry that holds a pool, in their order; none for any other."""
    if entry is None or not isinstance(entry.answer, AddressPool):
        return []
    return [str(ip_address(address)) for address in entry.answer.addresses]


def milliseconds(seconds: float) -> float:
    """A time of the clock as milliseconds after the start, to the microsecond."""
    return round((seconds - START) * 1000, 3)


class SimulatedResolver:
    """A clock, scripted upstreams, and cache and forwarder in front of them."""

    def __init__(
        self,
        *acts: Act,
        parallel: ParallelSettings | None = None,
        timeout: float = DEFAULTS.timeout,
        cache: CacheSettings | None = None,
        level: str = "info",
        strategy: str = DEFAULTS.strategy,
        health: HealthSettings = HEALTH,
        budget: BudgetSettings = BUDGET,
        racing: RacingSettings | None = None,
        rng: Callable[[int], bytes] = bytes,
        rebinding: Rebinding | None = None,
        address_filter: AddressFilter | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.clock = clock or Clock()
        if clock is None:
            self.clock.advance(START)
        self.awake = StandstillClock(self.clock)
        self.metrics = Metrics()
        self.traces = Traces(1_000)
        self.launched: list[Launch] = []
        members = [
            SimulatedUpstream(
                index,
                act,
                self.clock,
                self.launched,
                self.metrics,
                awake=self.awake,
                health=health,
                budget=budget,
            )
            for index, act in enumerate(acts)
        ]
        self.upstreams = members
        self.journal = journal = Journal(level)
        self.peaks = [0] * len(acts)  # queries under way at each upstream, the most so far
        self.peak = 0  # and at all together
        settings = UpstreamSettings(
            servers=(),
            strategy=strategy,
            timeout=timeout,
            parallel=parallel or ParallelSettings(),
            racing=racing or RacingSettings(),
        )
        self.adaptive = Adaptive(settings, rng)
        context = StrategyContext(
            upstreams=Upstreams(members),
            settings=settings,
            adaptive=self.adaptive,
            alarms=Alarms(self.awake, journal),
            clock=self.awake,
            rng=rng,
            metrics=self.metrics,
            journal=journal,
        )
        self.strategies = Strategies(context)
        self.strategy = cast("Parallel", self.strategies.chosen)
        self.cache = AnswerCache(cache or CacheSettings(), self.metrics)
        self.forwarder = Forwarder(
            self.strategies.chosen,
            self.cache,
            settings.parallel,
            self.clock,
            self.metrics,
            journal,
            rebinding,
            address_filter,
            traces=self.traces,
        )
        self.cache.refresh_with(self.forwarder.refresh, self.forwarder.prefetch)

    @property
    def now(self) -> float:
        """Milliseconds since the start."""
        return milliseconds(self.clock.seconds())

    @property
    def next_event(self) -> float:
        """When the next thing happens that is known to, in milliseconds, not before it."""
        due = min(call.getTime() for call in self.clock.getDelayedCalls())
        return milliseconds(due) + 0.002

    @property
    def launches(self) -> list[tuple[float, int]]:
        """Every query that went out: (milliseconds, number of the upstream)."""
        return [(launch.at, launch.upstream) for launch in self.launched]

    @property
    def times(self) -> list[float]:
        """When queries went out."""
        return [launch.at for launch in self.launched]

    @property
    def rates(self) -> list[float]:
        """Queries per second to each upstream, 0 for no limit."""
        return list(self.metrics.upstream_rate.values().values())

    @property
    def running(self) -> int:
        """Collections under way."""
        return int(self.metrics.collections.values()[()])

    def script(self, *acts: Act) -> None:
        """Change what the upstreams do from now on."""
        for upstream, act in zip(self.upstreams, acts, strict=True):
            upstream.script.act = act

    def question(
        self, text: str = "www.example", qtype: int = A, *, do: bool = False, cd: bool = False
    ) -> Question:
        """A question of class IN."""
        return make_question(name(text), qtype, do=do, cd=cd)

    def ask(self, question: Question | None = None) -> Client:
        """Ask as the server does: the cache, and the forwarder behind it."""
        question = question or self.question()
        now = self.clock.seconds()
        entry = self.cache.lookup(question.key, now)
        found = self.forwarder.find(question, now) if entry is None else entry
        return Client(self.clock, found)

    def pool(self, question: Question | None = None) -> list[str]:
        """The addresses that whoever looks finds in the cache now."""
        key = (question or self.question()).key
        entry = self.cache.entries.get(key)
        if entry is not None and not entry.alive:  # there are more, which want a look
            entry = self.cache.lookup(key, self.clock.seconds())
        return addresses(entry)

    def run_to(self, at: float) -> None:
        """Let time pass until ``at`` milliseconds, each call at its own time."""
        self._run(START + at / 1000)
        self.clock.rightNow = START + at / 1000

    def run(self, limit: float = 20_000) -> None:
        """Let time pass until nothing is left to happen; AssertionError after ``limit`` ms."""
        self._run(self.clock.seconds() + limit / 1000)
        assert not self.clock.getDelayedCalls(), "still something to do"

    def _run(self, end: float) -> None:
        clock = self.clock
        steps = 0
        while clock.calls:
            steps += 1
            assert steps < _ENDLESS, "a timer that sets itself for the same moment, again and again"
            due = clock.calls[0].getTime()  # they are in order
            if due > end:
                return
            # `Clock.advance` would show every call the time at the end of the step.
            clock.rightNow = max(due, clock.rightNow)
            clock.advance(0)
            inflight = [upstream.inflight for upstream in self.upstreams]
            self.peaks = list(map(max, self.peaks, inflight))
            self.peak = max(self.peak, sum(inflight))

    def give_up(self) -> None:
        """Cancel the collections under way, as a forwarder that has too many does."""
        for collection in self.forwarder._collections.values():
            collection.cancel()
        self.forwarder._collections.clear()

    def assert_nothing_left(self) -> None:
        """Assert that no timer, query or collection is left."""
        assert self.clock.getDelayedCalls() == []
        assert [upstream.inflight for upstream in self.upstreams] == [0] * len(self.upstreams)
        assert self.running == 0
        assert self.adaptive.waiting == 0
