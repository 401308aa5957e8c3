"""What the collections of one scope have in common (docs/specification.rst, Scopes)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from staggerdns.instruments import Cell
from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.collecting import Merger
from staggerdns.resolver.secondlevel import SecondLevel
from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.strategy.alarms import Alarms
from staggerdns.strategy.strategy import Strategy
from staggerdns.strategy.tiers import ACTIVE, SHARED, STAGGERED
from staggerdns.traces.trace import Traces
from staggerdns.wire.addressfilter import AddressFilter
from staggerdns.wire.judge import Judge
from staggerdns.wire.lonealias import TargetJudge
from staggerdns.wire.question import Question
from staggerdns.wire.rebinding import Rebinding
from staggerdns.wire.reply import STRAYS
from staggerdns.wire.sections import LoneAliasAnswer

POSITIVE = "positive"
NEGATIVE = "negative"
FAILED = "failed"
FALLBACK = "fallback"
"""How collections end, as the metrics say it; the last is for those that others go on with."""
ANSWERED = "answered"
MISSING = "missing"
"""What the metrics say of an upstream at the end of a pool's collection."""


def not_routed(*_: object) -> bool:
    """Return that a name may be asked of any upstream."""
    return False


class CollectionContext:
    """What all collections of a scope work with; made once, and kept by each until it ends.

    ``strategy``: how the upstreams of the scope are asked. ``settings`` say what may join a pool,
    ``rebinding`` whose answers must have no private addresses, `None` for nobody's,
    ``address_filter`` the rules about addresses in all of them. ``failed`` is
    called when a collection fails, with whether we are served: somebody replied, and not that we
    are refused. ``fall_back``, if any, is called before that with the collection, to have
    others asked. ``is_routed`` says of a name and type whether they are for others than the
    upstreams of this scope. ``route`` is what metrics call the routes that lead here, empty in the
    default scope. ``second_level``: what is asked before upstreams are, if anything. The rest are
    the metrics that a collection counts in.
    """

    settings: ParallelSettings

    def __init__(
        self,
        strategy: Strategy,
        cache: AnswerCache,
        settings: ParallelSettings,
        clock: IReactorTime,
        metrics: Metrics,
        journal: Journal,
        rebinding: Rebinding | None,
        address_filter: AddressFilter | None,
        traces: Traces,
        route: str = "",
        second_level: SecondLevel | None = None,
    ) -> None:
        self.strategy = strategy
        self.second_level = second_level
        self.rebinding = rebinding
        self.address_filter = address_filter
        self.traces = traces
        self.fall_back: Callable[[Merger], None] | None = None
        self.is_routed: Callable[[bytes, int], bool] = not_routed
        self.cache = cache
        self.settings = settings
        self.clock = clock
        self.journal = journal
        self.alarms = Alarms(clock, journal)
        self.failed: Callable[[bool], None] = lambda _: None
        self.outcomes = metrics.collection_outcomes
        self.route_outcomes: dict[str, Cell] | None = None
        if route:
            self.route_outcomes = {
                outcome: metrics.route_outcomes.cell(route, outcome)
                for outcome in (POSITIVE, NEGATIVE, FAILED, FALLBACK)
            }
        self.stripped = metrics.rebinding_stripped.cell()
        self.ignored = metrics.addresses_ignored.cell()
        self.bogus = metrics.bogus_nxdomain.cell()
        self.strays = {kind: metrics.stray_records.cell(kind) for kind in STRAYS}
        self.seconds = metrics.collection_seconds.distribution()
        self._everybody = len(strategy.context.upstreams)
        self._answered = metrics.pool_upstreams.cell(ANSWERED)
        self._missing = metrics.pool_upstreams.cell(MISSING)
        self.joined: dict[str, Cell] = {
            tier: metrics.pool_addresses.cell(tier) for tier in (ACTIVE, STAGGERED)
        }
        if second_level is not None:
            self.joined[SHARED] = metrics.pool_addresses.cell(SHARED)

    def judge(self, question: Question, alias: LoneAliasAnswer | None = None) -> Judge:
        """Return who judges the replies to a question of this scope; where an ``alias`` answers it,
        those about its target.
        """
        rebinding = self.rebinding
        screened = rebinding is not None and rebinding.screens(question.name)
        whole = Judge(question, screened=screened, address_filter=self.address_filter)
        return whole if alias is None else TargetJudge(whole, alias)

    def ended(self, strategy: str, outcome: str) -> None:
        """Count a collection that has ended with this ``outcome``."""
        self.outcomes.cell(strategy, outcome).value += 1
        self.ended_by_route(outcome)

    def pool_ended(self, answered: int, spared: int) -> None:
        """Count a pool that has been collected: how many of all upstreams but those ``spared`` have
        ``answered``.

        One that was asked twice, for its reply seemed lost, may have done so twice.
        """
        everybody = self._everybody - spared
        answered = min(answered, everybody)
        self._answered.value += answered
        self._missing.value += everybody - answered

    def ended_by_route(self, outcome: str) -> None:
        """Count what the upstreams of a route have said to a question, if this is one's scope."""
        if self.route_outcomes is not None:
            self.route_outcomes[outcome].value += 1

    def count(self, judge: Judge) -> None:
        """Count what a judge has left out of replies."""
        self.stripped.value += judge.stripped
        self.ignored.value += judge.ignored
        self.bogus.value += judge.bogus
        for kind, count in judge.strays.items():
            self.strays[kind].value += count
