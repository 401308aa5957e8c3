"""TTL attacks drawn at random: one of five upstreams says what it likes about the time that
addresses live, the others' and its own, against a model of what may be given
(docs/specification.rst, Lives of addresses).

The model knows what each upstream said and when, and nothing of how pools are kept.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from ipaddress import ip_address

from staggerdns.resolver.entry import Entry
from staggerdns.settings.sections import CacheSettings
from staggerdns.wire.question import Question
from tests.kit.acts import Act, says
from tests.kit.effort import amount
from tests.kit.ranked import RankedResolver
from tests.kit.simulated import START, SimulatedResolver

ATTACKS = amount(200, 3_000)
SEED = 20261126
UPSTREAMS, LIAR = 5, 4
HONEST_TTL, MAX_TTL, SHORT = 60, 3_600, 5
LIES = [0, 1, 1, 2, 4, 5, 6, 59, 3_599, 3_601, 2**31 - 1, 2**31]
SECOND = 1.0
"""TTLs are whole seconds: what is left of one is given rounded up."""


class LyingUpstream:
    """Five upstreams for one name, the last of them lies; what they said, and a client."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.limits = CacheSettings(max_ttl=MAX_TTL, max_stale=rng.choice([0, 30, 3_600]))
        self._chain = ["edge.example"] if rng.random() < 0.3 else []
        self._phases = [rng.randrange(HONEST_TTL) for _ in range(UPSTREAMS)]
        self._shared = rng.random() < 0.5
        self.until: dict[str, float] = {}  # by address: the end of the longest allowance
        self.last: dict[int, float] = {}  # the same of each upstream's last answer
        acts = [Act(rng.choice([3, 15, 40, 300]), self._speaker(i)) for i in range(UPSTREAMS)]
        self.resolver: SimulatedResolver
        if rng.random() < 0.2:
            self.resolver = RankedResolver(*acts, cache=self.limits)
        else:
            self.resolver = SimulatedResolver(*acts, cache=self.limits, level="warn")
        self.fresh = self.stale = 0

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return self.resolver.clock.seconds() - START

    def own(self, index: int) -> str:
        """The address that an honest upstream gives."""
        return "203.0.113.7" if self._shared else f"203.0.113.{20 + index}"

    def _speaker(self, index: int) -> Callable[[Question], bytes]:
        def answer(question: Question) -> bytes:
            ttl = HONEST_TTL - int(self.now + self._phases[index]) % HONEST_TTL
            found = [self.own(index)]
            if index == LIAR:
                ttl = self._rng.choice(LIES)
                everything = [self.own(0), self.own(1), "198.51.100.1", "198.51.100.2"]
                found = self._rng.sample(everything, self._rng.randint(1, 4))
            allowed = 0 if ttl >= 2**31 else min(ttl, MAX_TTL)  # RFC 2181 section 8
            self.last[index] = self.now + allowed
            for address in found:
                self.until[address] = max(self.until.get(address, 0.0), self.now + allowed)
            made = says(0, *found, ttl=ttl, cname_chain=self._chain).reply
            assert made is not None
            return made(question)

        return answer

    def look(self, entry: Entry) -> None:
        """Check what a client would get of an entry now."""
        cache = self.resolver.cache
        now = self.resolver.clock.seconds()
        ttl = cache.reply_ttl(entry, now)
        shown = [str(ip_address(address)) for address in cache.living(entry, now).addresses]
        assert shown
        ends = [self.until[address] for address in shown]
        if cache.freshness.is_stale(entry, now):
            assert ttl <= SHORT
            assert self.now < min(ends) + self.limits.max_stale + SECOND
            self.stale += 1
            return
        assert self.now + ttl <= min(ends) + SECOND
        self.fresh += 1
        if entry.complete and not self.resolver.running:
            for index in range(LIAR):
                if self.last[index] - self.now >= SHORT + SECOND:
                    assert self.own(index) in shown

    def ask(self) -> None:
        """Ask, look at the answer and, a little later, at what is cached."""
        client = self.resolver.ask()
        if not client.answers:
            self.resolver.run_to(self.resolver.now + 1)
            while not client.answers:
                self.resolver.run_to(self.resolver.now + 1)
        self.look(client.entry)
        self.resolver.run_to(self.resolver.now + self._rng.choice([0, 10, 50, 500]))
        entry = self.resolver.cache.entries.get(self.resolver.question().key)
        if not self.resolver.running:
            assert entry is not None, "the honest ones allow it"
        now = self.resolver.clock.seconds()
        if entry is not None and self.resolver.cache.reply_ttl(entry, now):
            self.look(entry)


def test_ttl_attacks() -> None:
    """A thousand times a name is asked for, for minutes to hours. No address is ever given as fresh
    for longer than somebody who brought it allowed, nor as stale for longer than that and
    ``max_stale``; and what an honest upstream brought last is given as long as it lives.
    """
    rng = random.Random(SEED)
    fresh = stale = 0
    for _ in range(ATTACKS):
        lying = LyingUpstream(rng)
        for _ in range(rng.randint(3, 12)):
            lying.ask()
            pause = rng.choice([0, 100, 1_000, 5_000, 20_000, 59_000, 100_000, 3_000_000])
            lying.resolver.run_to(lying.resolver.now + pause)
        fresh += lying.fresh
        stale += lying.stale
    assert fresh > 5 * ATTACKS
    assert stale > ATTACKS // 2
