"""Another forwarder takes the place of one whose collections are still under way."""

from __future__ import annotations

from staggerdns.journal import Journal
from staggerdns.resolver.forwarder import Forwarder
from staggerdns.settings.upstreams import ParallelSettings
from tests.kit.acts import own, says_own
from tests.kit.simulated import SimulatedResolver


def replaced(resolver: SimulatedResolver) -> Forwarder:
    """Put a new forwarder in front of the same cache and return the old one."""
    old = resolver.forwarder
    resolver.forwarder = Forwarder(
        resolver.strategy,
        resolver.cache,
        ParallelSettings(),
        resolver.clock,
        resolver.metrics,
        Journal(),
    )
    resolver.cache.refresh_with(resolver.forwarder.refresh)
    return old


def test_collections_go_on() -> None:
    """Whoever waits for the old forwarder gets its answer, and the cache keeps it."""
    resolver = SimulatedResolver(says_own(0, 100))
    early = resolver.ask()
    replaced(resolver)
    resolver.run()
    assert early.addresses == resolver.pool() == [own(0)]
    resolver.assert_nothing_left()


def test_the_new_one_collects_later() -> None:
    """What the new forwarder collects takes the place of what the old one does, however late."""
    resolver = SimulatedResolver(says_own(0, 100))
    early = resolver.ask()
    replaced(resolver)
    resolver.script(says_own(1, 20))
    late = resolver.ask()
    resolver.run()
    assert (early.at, late.at) == (100, 20)
    assert early.addresses == late.addresses == resolver.pool() == [own(1)]


def test_the_new_one_refreshes() -> None:
    """An entry of the old forwarder is refreshed by the new one, and its answer stays."""
    resolver = SimulatedResolver(says_own(0, 100, ttl=10))
    for _ in range(3):  # so that the old one has counted further
        resolver.ask(resolver.question("other.example"))
        resolver.run()
        resolver.run_to(resolver.now + 60_000)
    resolver.ask()
    resolver.run()
    old = replaced(resolver)
    old.close()
    resolver.script(says_own(1, 20))
    resolver.run_to(resolver.now + 11_000)
    assert resolver.ask().addresses == [own(0)]
    resolver.run()
    assert resolver.pool() == [own(1)]
