"""What must not follow from bad luck, or from somebody else's fault."""

from __future__ import annotations

import pytest

from tests.kit.acts import SILENT, fails, says_own
from tests.kit.simulated import SimulatedResolver

REFUSED = 5


@pytest.mark.parametrize("strategy", ["sequential", "random"])
def test_circuits_that_open_between_two_tries(strategy: str) -> None:
    """A question whose next upstream has begun to rest goes on with the others, and ends."""
    resolver = SimulatedResolver(*[SILENT] * 5, strategy=strategy)
    clients = []
    for number in range(8):
        clients.append(resolver.ask(resolver.question(f"n{number}.example")))
        resolver.run_to((number + 1) * 1000)
    resolver.run()
    assert all(client.at is not None for client in clients)
    resolver.assert_nothing_left()


@pytest.mark.parametrize("refusing", [1, 3])
def test_a_name_that_is_refused_slows_nobody_down(refusing: int) -> None:
    """One name in twenty, refused by one upstream or by all, says nothing about the load."""
    good = [says_own(index, 5) for index in range(3)]
    bad = [*[fails(5, REFUSED)] * refusing, *good[refusing:]]
    resolver = SimulatedResolver(*good)
    for number in range(400):
        resolver.script(*(good if number % 20 else bad))
        resolver.ask(resolver.question(f"n{number}.example"))
        resolver.run_to((number + 1) * 10)
    resolver.run()
    assert resolver.rates == [0, 0, 0]


@pytest.mark.parametrize("upstreams", [1, 3])
def test_all_refuse_because_we_ask_too_much(upstreams: int) -> None:
    """Refusals of most names slow us down, also when no other upstream answers."""
    resolver = SimulatedResolver(*[fails(5, REFUSED)] * upstreams)
    for number in range(400):
        resolver.ask(resolver.question(f"n{number}.example"))
        resolver.run_to((number + 1) * 10)
    resolver.run()
    assert all(0 < rate < 50 for rate in resolver.rates)


def test_late_failures_of_a_recovered_upstream() -> None:
    """Time-outs of queries older than an answered one say nothing any more."""
    resolver = SimulatedResolver(SILENT, says_own(1, 20))
    for number in range(10):
        if number == 6:
            resolver.script(says_own(0, 10), says_own(1, 20))
        resolver.ask(resolver.question(f"n{number}.example"))
        resolver.run_to((number + 1) * 50)
    resolver.run()
    assert resolver.upstreams[0].usable(resolver.clock.seconds())


def test_outage_with_one_that_fails_at_home() -> None:
    """A router that answers SERVFAIL meanwhile does not make the outage the others' fault."""
    works = [says_own(index, 10) for index in range(4)]
    router = fails(2)
    resolver = SimulatedResolver(*works, router)
    resolver.ask(resolver.question("before.example"))
    resolver.run_to(1000)
    resolver.script(*[SILENT] * 4, router)
    for number in range(30):
        resolver.ask(resolver.question(f"n{number}.example"))
        resolver.run_to(2000 + number * 1000)
    resolver.run_to(40_000)
    resolver.script(*works, router)
    for number in range(20):
        resolver.ask(resolver.question(f"after{number}.example"))
        resolver.run_to(40_100 + number * 100)
    now = resolver.clock.seconds()
    *others, router_itself = resolver.upstreams
    assert all(upstream.usable(now) for upstream in others), "2 s after its return"
    assert not router_itself.usable(now), "others answer what it does not"
    resolver.run()
