"""The ranked cache with probes that follow a script, on its own and in front of a forwarder."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.entry import Entry
from staggerdns.resolver.forwarder import Forwarder
from staggerdns.resolver.ranker import Ranker
from staggerdns.settings.sections import CacheSettings, RankingSettings
from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.question import Question, make_question
from staggerdns.wire.reply import index_reply
from staggerdns.wire.sections import SectionsAnswer
from tests.kit.acts import A, Act, name, record, reply
from tests.kit.probing import (
    LIFETIME,
    FakeProbe,
    Script,
    SimulatedRanking,
    elapse,
    make_clock,
    written,
)
from tests.kit.simulated import SimulatedResolver


def asks(text: str = "www.example", qtype: int = A, *, do: bool = False) -> Question:
    """A question of class IN."""
    return make_question(name(text), qtype, do=do)


WWW = asks()


def near(number: int) -> str:
    """An address that answers after ``number`` milliseconds."""
    return f"203.0.113.{number}"


def packed(*addresses: int | str) -> tuple[bytes, ...]:
    """Addresses in wire form; a number stands for the one that is so many milliseconds away."""
    texts = [near(one) if isinstance(one, int) else one for one in addresses]
    return tuple(ip_address(text).packed for text in texts)


def shown(entry: Entry | None) -> list[int | str]:
    """The addresses of an entry: milliseconds for those that `near` makes, text for others."""
    assert entry is not None
    texts = [str(ip_address(address)) for address in entry.answer.addresses]
    prefix = near(0)[:-1]
    return [int(text[len(prefix) :]) if text.startswith(prefix) else text for text in texts]


def pool(*addresses: int | str, ttl: int = 3600, cname_chain: Sequence[str] = ()) -> AddressPool:
    """A pool of these addresses at the end of a chain."""
    return AddressPool(tuple(map(name, cname_chain)), packed(*addresses), ttl, ad=False)


def sections_answer(question: Question, *addresses: int | str, ttl: int = 3600) -> SectionsAnswer:
    """One upstream's answer, kept as it came."""
    rtype = question.qtype
    records = [record(b"\xc0\x0c", rtype, ttl, data) for data in packed(*addresses)]
    message = reply(question, records)
    indexed = index_reply(message, question)
    return SectionsAnswer.of(indexed, question, ttl, negative=False, choice=indexed.answers)


def dead_below(limit: int) -> Script:
    """A script: addresses with less than ``limit`` in the last octet are silent."""
    return lambda address, _: None if address[-1] < limit else address[-1] / 1000


class SimulatedRankedCache:
    """A ranked cache alone; its forwarder is a list of the questions that it was to refresh."""

    def __init__(
        self,
        *scripts: Script,
        queue: int = 200,
        rtt_cache_ttl: int = LIFETIME,
        probe_private: bool = False,
        names: Sequence[str] = ("icmp",),
        max_probes_per_second: int = 10_000,
        **limits: Any,
    ) -> None:
        self.clock = make_clock()
        self.metrics = Metrics()
        self.ranking = SimulatedRanking(
            *(scripts or (written,)),
            names=names,
            queue=queue,
            rtt_cache_ttl=rtt_cache_ttl,
            max_probes_per_second=max_probes_per_second,
            clock=self.clock,
            metrics=self.metrics,
        )
        settings = RankingSettings(rtt_cache_ttl=rtt_cache_ttl, probe_private=probe_private)
        ranker = Ranker(settings, self.ranking.sorts, Journal("debug"))
        self.cache = AnswerCache(CacheSettings(**limits), self.metrics, ranker)
        self.refreshed: list[Question] = []
        self.cache.refresh_with(lambda question, now: self.refreshed.append(question))

    @property
    def probe(self) -> FakeProbe:
        """The way of probing."""
        return self.ranking.probes[0]

    @property
    def probed(self) -> set[bytes]:
        """Every address to which a probe went."""
        return {sample.address for sample in self.ranking.sent}

    def at(self, seconds: float) -> None:
        """Let time pass until so many seconds after the start."""
        elapse(self.clock, seconds)

    def put(self, *addresses: int | str, generation: int = 1, ttl: int = 3600) -> Entry:
        """Commit a pool for WWW."""
        return self.cache.commit(
            WWW.key, generation, pool(*addresses, ttl=ttl), self.clock.seconds()
        )

    def store(
        self, answer: AddressPool | SectionsAnswer, question: Question = WWW, generation: int = 1
    ) -> Entry:
        """Commit an answer whose collection ends at once."""
        entry = self.cache.commit(question.key, generation, answer, self.clock.seconds())
        self.cache.complete(question.key, generation)
        return entry

    def hit(self, question: Question = WWW) -> tuple[list[int | str], int]:
        """What a client gets now: addresses and TTL."""
        entry = self.cache.lookup(question.key, self.clock.seconds())
        assert entry is not None
        return shown(entry), self.cache.reply_ttl(entry, self.clock.seconds())

    def peek(self, question: Question = WWW) -> Entry | None:
        """The entry as it is, without the effects of asking for it."""
        return self.cache.entries.get(question.key)


class RankedResolver(SimulatedResolver):
    """A `SimulatedResolver` whose cache is a ranked one."""

    def __init__(
        self,
        *acts: Act,
        script: Script = written,
        queue: int = 200,
        parallel: ParallelSettings | None = None,
        cache: CacheSettings | None = None,
        level: str = "debug",
    ) -> None:
        super().__init__(*acts, parallel=parallel, cache=cache)
        self.ranking = SimulatedRanking(
            script, names=["icmp"], queue=queue, clock=self.clock, metrics=self.metrics
        )
        journal = Journal(level)
        settings = RankingSettings(rtt_cache_ttl=LIFETIME, probe_private=False)
        ranker = Ranker(settings, self.ranking.sorts, journal, self.traces)
        self.cache = AnswerCache(cache or CacheSettings(), self.metrics, ranker)
        self.forwarder = Forwarder(
            self.strategy,
            self.cache,
            parallel or ParallelSettings(),
            self.clock,
            self.metrics,
            journal,
            traces=self.traces,
        )
        self.cache.refresh_with(self.forwarder.refresh, self.forwarder.prefetch)

    def ttl(self, question: Question | None = None) -> int:
        """The TTL that a client gets now."""
        entry = self.cache.lookup((question or self.question()).key, self.clock.seconds())
        assert entry is not None
        return self.cache.reply_ttl(entry, self.clock.seconds())
