"""Pools that are refreshed before they expire, drawn at random: no client ever sees fewer of an
address set because it is being refreshed (docs/specification.rst, Lives of addresses).

The model is what the cache had when the refresh began, and until when each address of it lives.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from staggerdns.resolver.entry import Entry
from staggerdns.wire.addresspool import AddressPool
from tests.kit.acts import SILENT, Act, fails, negative, own, says, unreachable
from tests.kit.compiled import PURE_ONLY
from tests.kit.effort import amount
from tests.kit.ranked import RankedResolver
from tests.kit.simulated import SimulatedResolver

SHORT = 5
"""Seconds that an address must have left to be given while others have."""
ADDRESSES = [own(index) for index in range(10)]
AFTER = st.sampled_from([1, 15, 60, 110, 400, 1500])
ANSWERS = st.builds(
    lambda after, found, ttl: says(after, *found, ttl=ttl),
    AFTER,
    st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=4, unique=True),
    st.sampled_from([6, 10, 25, 40, 60]),
)
OTHERS = (
    st.just(SILENT)
    | st.builds(fails, AFTER)
    | st.builds(negative, AFTER)
    | st.builds(unreachable, AFTER)
    | st.builds(lambda after, index: says(after, own(index), ttl=0), AFTER, st.integers(0, 9))
)
SCRIPT = st.lists(ANSWERS | ANSWERS | ANSWERS | OTHERS, min_size=3, max_size=3)
PAUSES = st.lists(
    st.sampled_from([3, 40, 130, 700, 1_000, 1_000, 1_000, 3_000, 9_000]), min_size=10, max_size=40
)


class Refreshed:
    """A name that a client asks for, and what it must at least be given."""

    def __init__(self, resolver: SimulatedResolver) -> None:
        self.resolver = resolver
        self._key = resolver.question().key
        self._ends: dict[str, float] = {}  # of the addresses when the refresh began
        self.looks = 0

    def ask(self) -> None:
        """Ask, and look at the answer if there is one at once."""
        resolver = self.resolver
        now = resolver.clock.seconds()
        before, running = resolver.cache.entries.get(self._key), resolver.running
        client = resolver.ask()
        if not running:
            self._ends = {}
            if resolver.running and client.answers and before is not None:
                self._ends = ends(before)
        if client.answers and self._ends and max(self._ends.values()) > now:
            self.looks += 1
            answer = resolver.cache.living(client.entry, now)
            given = {str(ip_address(address)) for address in answer.addresses}
            assert self._living(now) <= given, f"at {resolver.now}"

    def _living(self, now: float) -> set[str]:
        left = {address: int(end - now) for address, end in self._ends.items()}
        long = {address for address, seconds in left.items() if seconds >= SHORT}
        return long or {address for address, seconds in left.items() if seconds > 0}


def ends(entry: Entry) -> dict[str, float]:
    """Until when each address of an entry lives; nothing if there are none."""
    answer = entry.answer
    if not isinstance(answer, AddressPool):
        return {}
    texts = [str(ip_address(address)) for address in answer.addresses]
    return {text: entry.stored + life for text, life in zip(texts, answer.lives, strict=True)}


@PURE_ONLY
@settings(max_examples=amount(20, 300))
@given(
    st.sampled_from([SimulatedResolver, RankedResolver]),
    st.lists(SCRIPT, min_size=2, max_size=4),
    PAUSES,
)
def test_a_pool_never_shrinks_while_it_is_refreshed(
    kind: Callable[..., SimulatedResolver], scripts: list[list[Act]], pauses: list[int]
) -> None:
    """Whatever the upstreams do meanwhile, and whether half of it has died, its order is old or it
    is in demand: until the refresh has ended every address is given as long as it lives.
    """
    refreshed = Refreshed(kind(*scripts[0]))
    resolver = refreshed.resolver
    for number, pause in enumerate(pauses):
        resolver.script(*scripts[number // 3 % len(scripts)])
        refreshed.ask()
        at = resolver.now + pause
        while resolver.running and resolver.next_event < at:
            resolver.run_to(resolver.next_event)
            refreshed.ask()
        resolver.run_to(at)
    resolver.run()
    resolver.assert_nothing_left()


def test_such_refreshes_are_seen() -> None:
    """The test above looks at what it means to."""
    resolver = SimulatedResolver(*[says(10, *ADDRESSES[:3], ttl=60)] * 3)
    refreshed = Refreshed(resolver)
    for at in (0, 1_000, 2_000, 3_000, 54_500):
        resolver.run_to(at)
        refreshed.ask()
    assert refreshed.looks == 1
    resolver.run_to(54_505)
    refreshed.ask()
    assert refreshed.looks == 2
    resolver.run()
