"""Two servers, clocks an hour apart, and one store, in any order of events.

What is checked of every answer, against all that upstreams have ever said: each address was brought
by somebody, in this scope, and nobody allowed it to be given for longer than it is; and a server
that has flushed a name, or has heard that another one has, gives nothing that was collected before.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.task import Clock

from staggerdns.settings.sections import CacheSettings
from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.shared.flushes import Flush
from staggerdns.wire.addresspool import AddressPool
from tests.kit.acts import SILENT, Act, fails, negative, says
from tests.kit.effort import amount
from tests.kit.ranked import near, packed
from tests.kit.sharedstore import MemoryStore, SharingResolver
from tests.kit.simulated import START

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall

NAMES = ("a.example", "b.example")
NODES = st.integers(0, 1)
HOUR = 3_600.0
QUICK = ParallelSettings(stagger_delay=0.001, total_collect_timeout=0.2, fallback_timeout=0.01)
MOSTLY = st.sampled_from([True, True, True, False])
TTLS = st.sampled_from([0, 1, 3, 10, 60])


class Shifted(Clock):
    """A clock that shows another time than the one that it goes by."""

    def __init__(self, base: Clock, shift: float) -> None:
        super().__init__()
        self._base = base
        self._shift = shift

    def seconds(self) -> float:
        """The time of this server."""
        return self._base.seconds() + self._shift

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> IDelayedCall:
        """Have something called by the clock of all."""
        return self._base.callLater(delay, callable, *args, **kw)


class SharedModel(RuleBasedStateMachine):
    """Whatever happens, no answer says what nobody has said, or for longer."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.clock.advance(START)
        self.store = MemoryStore(self.clock)
        self.allowed: dict[tuple[str, bytes], float] = defaultdict(float)
        """Until when somebody has allowed an address of a name to be given, by the true time."""
        self.brought: dict[tuple[str, bytes], float] = {}
        """When an address was brought last."""
        self.flushed: dict[tuple[int, str], float] = {}
        """When a name was flushed last on a server."""
        self.told: dict[str, float] = {}
        """When a name was flushed last on a server of which all have heard since."""
        self.nodes = [self.make_node(shift) for shift in (0.0, HOUR)]
        self.next_address = 1
        for node in (0, 1):
            for upstream in (0, 1):
                self.begin_serving(node, upstream, ttl=60, count=1, late=False)
        self.advance(2.5)  # each has polled, and knows the epoch

    def make_node(self, shift: float) -> SharingResolver:
        """A server whose clock is so many seconds ahead."""
        node = SharingResolver(
            *(SILENT, SILENT),
            store=self.store,
            clock=Shifted(self.clock, shift),
            parallel=QUICK,
            cache=CacheSettings(fast_response_ttl=1, max_stale=0),
        )
        node.poll.start()
        return node

    def hear(self) -> None:
        """Note of what all know that it was flushed."""
        first, second = (node.flushes for node in self.nodes)
        if first.epoch == second.epoch and not first.pending and not second.pending:
            for (_, name), at in self.flushed.items():
                self.told[name] = max(at, self.told.get(name, 0.0))

    def advance(self, seconds: float) -> None:
        """Let time pass, each call at its own time."""
        end = self.clock.seconds() + seconds
        while self.clock.calls and self.clock.calls[0].getTime() <= end:
            self.clock.rightNow = max(self.clock.calls[0].getTime(), self.clock.rightNow)
            self.clock.advance(0)
        self.clock.rightNow = end

    @rule(
        node=NODES,
        upstream=st.integers(0, 1),
        ttl=TTLS,
        count=st.integers(1, 2),
        late=st.booleans(),
    )
    def serve(self, node: int, upstream: int, ttl: int, count: int, late: bool) -> None:
        """An upstream has new addresses, as this server sees it."""
        self.begin_serving(node, upstream, ttl, count, late=late)

    def begin_serving(self, node: int, upstream: int, ttl: int, count: int, *, late: bool) -> None:
        """Have an upstream give a server new addresses."""
        numbers = range(self.next_address, self.next_address + count)
        self.next_address = (self.next_address + count) % 200 + 1
        texts = [near(number) for number in numbers]
        act = says(30 if late else 2, *texts, ttl=ttl)
        self.script(node, upstream, self.noted(act, packed(*texts), ttl))

    def noted(self, act: Act, addresses: tuple[bytes, ...], ttl: int) -> Act:
        """An act of which it is noted what it allows, when it is asked."""
        reply = act.reply
        assert reply is not None

        def answer(question: Any) -> bytes:
            now = self.clock.seconds()
            for address in addresses:
                key = (str(question).partition(" ")[0].rstrip("."), address)
                self.brought[key] = now
                # A TTL of 0 is for those who wait; the first answer has a short one.
                self.allowed[key] = max(self.allowed[key], now + max(ttl, 1))
            return bytes(reply(question))

        return Act(act.after, answer)

    @rule(node=NODES, upstream=st.integers(0, 1), what=st.sampled_from(["no", "fails", "silent"]))
    def do_not_serve(self, node: int, upstream: int, what: str) -> None:
        """An upstream denies, fails, or is silent."""
        acts = {"no": negative(3), "fails": fails(3), "silent": SILENT}
        self.script(node, upstream, acts[what])

    def script(self, node: int, upstream: int, act: Act) -> None:
        """Change what an upstream does for a server."""
        self.nodes[node].upstreams[upstream].script.act = act

    @rule(node=NODES, name=st.sampled_from(NAMES))
    def ask(self, node: int, name: str) -> None:
        """A client asks, and looks at what it gets when that comes."""
        resolver = self.nodes[node]
        client = resolver.ask(resolver.question(name))
        self.advance(0.3)
        for _, entry in client.answers:
            assert entry is not None
        self.look(resolver, name)

    @rule(node=NODES, name=st.sampled_from(NAMES))
    def refresh(self, node: int, name: str) -> None:
        """A pool is asked for anew."""
        resolver = self.nodes[node]
        resolver.forwarder.refresh(resolver.question(name), resolver.clock.seconds())

    @rule(seconds=st.sampled_from([0.001, 0.004, 0.03, 1.0, 5.0, 40.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.advance(seconds)

    @rule(node=NODES, name=st.sampled_from([*NAMES, "example"]))
    def flush(self, node: int, name: str) -> None:
        """A name is flushed on one server; the other has done it when it has polled."""
        resolver = self.nodes[node]
        question = resolver.question(name)
        flush = Flush(question.name, below=name == "example")
        resolver.flush(flush)
        for one in NAMES:
            if flush.covers(resolver.question(one).name):
                self.flushed[node, one] = self.clock.seconds()

    @rule(how=st.sampled_from(["", "", "", "ERR"]), replies=MOSTLY, slow=st.booleans())
    def disturb(self, how: str, replies: bool, slow: bool) -> None:
        """The store fails, hangs, or is slow; or all is well."""
        self.store.broken = how
        self.store.replies = replies
        self.store.delay = 0.02 if slow else 0.001
        for node in self.nodes:
            node.breaker.recovered()

    @rule()
    def forget(self) -> None:
        """The store is another one, and empty."""
        self.store.clear()

    @rule(place=st.integers(0, 5), value=st.binary(max_size=30))
    def lie(self, place: int, value: bytes) -> None:
        """Somebody writes garbage."""
        keys = sorted(self.store.values)
        if keys:
            self.store.put(keys[place % len(keys)], value, 60_000)

    def look(self, resolver: SharingResolver, name: str) -> None:
        """Look at what a client gets now, if it is fresh."""
        now = resolver.clock.seconds()
        entry = resolver.cache.held(resolver.question(name).key)
        if entry is None or now >= entry.expires or not isinstance(entry.answer, AddressPool):
            return
        truly = self.clock.seconds()
        living = resolver.cache.living(entry, now)
        for address in living.addresses:
            assert (name, address) in self.allowed, "an address that nobody brought"
            # What was under way when it was flushed is kept.
            flushed = self.flushed.get((self.nodes.index(resolver), name), 0.0) - 0.3
            assert self.brought[name, address] >= flushed, "it was flushed here"
            told = self.told.get(name, 0.0) - 0.3
            assert self.brought[name, address] >= told, "it was flushed elsewhere"
        age = now - entry.stored
        for address, life in zip(entry.answer.addresses, entry.answer.lives, strict=True):
            left = life - age
            if left > 0:
                # Replies take 30 ms at most from the moment at which it is noted.
                assert truly + left <= self.allowed[name, address] + 0.04, "longer than allowed"

    @invariant()
    def every_cache_is_right(self) -> None:
        """All that is in both caches may be given."""
        self.hear()
        for node in self.nodes:
            for name in NAMES:
                self.look(node, name)

    def teardown(self) -> None:
        """Nothing is left."""
        self.store.replies = True
        self.store.broken = ""
        for node in self.nodes:
            node.poll.stop()
            node.forwarder.close()
        self.advance(10)
        assert self.clock.getDelayedCalls() == []


TestSharedModel = SharedModel.TestCase
TestSharedModel.settings = settings(
    max_examples=amount(100, 2_000), stateful_step_count=amount(30, 60)
)
