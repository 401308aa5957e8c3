"""Health as the program sees it: verdicts, the log, the metrics, the order, and outages."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.logger import LogLevel, capturedLogs, formatEvent

from staggerdns.upstream.health import State
from staggerdns.upstream.reason import Reason
from staggerdns.upstream.upstreams import Upstreams
from tests.kit.acts import NOERROR, SILENT, Act, fails, negative, says_own, unreachable
from tests.kit.simulated import HEALTH, Client, SimulatedResolver

HEALTHY, DEGRADED, UNHEALTHY = State
RACES = ("parallel", "racing", "sequential", "random", "auto")


def ask_one(resolver: SimulatedResolver, label: str) -> Client:
    """Ask one new name and let everything happen."""
    client = resolver.ask(resolver.question(f"{label}.example"))
    resolver.run()
    return client


def states(resolver: SimulatedResolver) -> list[State]:
    """The states of all upstreams."""
    return [upstream.health.state for upstream in resolver.upstreams]


def changes(resolver: SimulatedResolver) -> dict[tuple[str, str], int]:
    """What ``staggerdns_upstream_changes_total`` shows, without zeros."""
    found = resolver.metrics.upstream_changes.values().items()
    return {(name, state): value for (name, state), value in found if value}


def shown(resolver: SimulatedResolver) -> list[float]:
    """What ``staggerdns_upstream_state`` shows."""
    return list(resolver.metrics.upstream_state.values().values())


def open_circuit(resolver: SimulatedResolver, index: int) -> None:
    """Open the circuit of one upstream now."""
    now = resolver.clock.seconds()
    for _ in range(5):
        resolver.upstreams[index].health.failed(now, now, alone=True)


def test_every_transition_is_told() -> None:
    """A whole life, down and up again: each change once in the log and in the metrics."""
    resolver = SimulatedResolver(unreachable(5), says_own(1, 20))
    name = resolver.upstreams[0].name
    with capturedLogs() as events:
        for number in range(8):
            ask_one(resolver, f"down{number}")
        assert states(resolver) == [UNHEALTHY, HEALTHY]
        assert shown(resolver) == [2, 0]
        resolver.script(says_own(0, 5), says_own(1, 20))
        resolver.run_to(resolver.now + 30_000)
        ask_one(resolver, "trial")
        assert shown(resolver) == [1, 0]
        ask_one(resolver, "good")
        ask_one(resolver, "better")
        assert shown(resolver) == [0, 0]
    told = [(event["log_level"], formatEvent(event)) for event in events if "state" in event]
    assert told == [
        (LogLevel.warn, f"upstream {name} is degraded (connection refused)"),
        (LogLevel.warn, f"upstream {name} is unhealthy (connection refused)"),
        (LogLevel.warn, f"upstream {name} is degraded"),
        (LogLevel.info, f"upstream {name} is healthy"),
    ]
    assert changes(resolver) == {
        (name, "degraded"): 2,
        (name, "unhealthy"): 1,
        (name, "healthy"): 1,
    }


@pytest.mark.parametrize("degraded_after", [1, 3, 4])
@pytest.mark.parametrize("unhealthy_after", [4, 5, 7])
def test_thresholds_come_from_the_rules(degraded_after: int, unhealthy_after: int) -> None:
    """One question below a threshold nothing has changed, at it everything has."""
    rules = msgspec.structs.replace(
        HEALTH, degraded_after=degraded_after, unhealthy_after=unhealthy_after
    )
    resolver = SimulatedResolver(fails(5), says_own(1, 20), health=rules)
    for number in range(1, unhealthy_after + 1):
        ask_one(resolver, f"n{number}")
        expected = DEGRADED if number >= degraded_after else HEALTHY
        assert states(resolver)[0] == (UNHEALTHY if number >= unhealthy_after else expected)


@pytest.mark.parametrize("strategy", RACES)
@pytest.mark.parametrize(
    "act",
    [
        negative(5),
        negative(5, NOERROR),
        unreachable(5, Reason.LOCAL),
        unreachable(None, Reason.LOCAL),
    ],
)
def test_what_is_no_mark(strategy: str, act: Act) -> None:
    """NXDOMAIN, NODATA and errors of our own machine never change a state."""
    resolver = SimulatedResolver(act, says_own(1, 15), strategy=strategy)
    for number in range(12):
        ask_one(resolver, f"n{number}")
    assert states(resolver) == [HEALTHY, HEALTHY]
    assert changes(resolver) == {}


@pytest.mark.parametrize("strategy", RACES)
@pytest.mark.parametrize("bad", [fails(5), fails(5, 5), fails(5, 1)])
def test_failures_common_to_all_are_no_marks(strategy: str, bad: Act) -> None:
    """A name that nobody can answer is nobody's fault, in any strategy."""
    resolver = SimulatedResolver(*[bad] * 5, strategy=strategy)
    for number in range(12):
        ask_one(resolver, f"n{number}")
    assert states(resolver) == [HEALTHY] * 5


@pytest.mark.parametrize("strategy", ["racing", "auto"])
def test_losers_of_a_race_get_no_mark(strategy: str) -> None:
    """Being slower, a hundred times over, is no failure (trap 1)."""
    resolver = SimulatedResolver(
        says_own(0, 130), says_own(1, 140), says_own(2, 400), strategy=strategy
    )
    for number in range(100):
        ask_one(resolver, f"n{number}")
    assert states(resolver) == [HEALTHY] * 3
    assert [upstream.inflight for upstream in resolver.upstreams] == [0, 0, 0]


@pytest.mark.parametrize("strategy", RACES)
def test_a_collection_that_is_given_up(strategy: str) -> None:
    """Queries that we cancel say nothing, also when they were the trial."""
    resolver = SimulatedResolver(SILENT, SILENT, strategy=strategy)
    open_circuit(resolver, 0)
    resolver.run_to(30_000)
    for _ in range(12):
        resolver.ask(resolver.question("www.example"))
        resolver.run_to(resolver.now + 60)
        resolver.give_up()
        assert resolver.upstreams[0].usable(resolver.clock.seconds())
    assert states(resolver) == [UNHEALTHY, HEALTHY]
    assert [upstream.inflight for upstream in resolver.upstreams] == [0, 0]


@pytest.mark.parametrize(("act", "asked"), [(SILENT, 1), (unreachable(1000), 1)])
def test_one_trial_for_many_questions(act: Act, asked: int) -> None:
    """Questions that come while the trial is under way do without the upstream."""
    resolver = SimulatedResolver(act, says_own(1, 5), says_own(2, 5))
    open_circuit(resolver, 0)
    resolver.run_to(30_000)
    for number in range(40):
        resolver.ask(resolver.question(f"n{number}.example"))
        resolver.run_to(resolver.now + 20 if number else resolver.now + 60)
    assert sum(upstream == 0 for _, upstream in resolver.launches) == asked
    resolver.run()


def test_one_trial_for_questions_of_one_instant() -> None:
    """Questions that begin together look again before they ask: one of them has the trial."""
    resolver = SimulatedResolver(SILENT, says_own(1, 5), says_own(2, 5))
    open_circuit(resolver, 0)
    resolver.run_to(30_000)
    for number in range(40):
        resolver.ask(resolver.question(f"n{number}.example"))
    resolver.run()
    assert sum(upstream == 0 for _, upstream in resolver.launches) == 1


def test_one_trial_that_fails_with_a_reply() -> None:
    """A trial answered SERVFAIL stays the only one until the others have shown what it is worth."""
    resolver = SimulatedResolver(fails(5), says_own(1, 5), SILENT)
    open_circuit(resolver, 0)
    resolver.run_to(30_000)
    for number in range(40):
        resolver.ask(resolver.question(f"n{number}.example"))
        resolver.run_to(resolver.now + 50)
    assert sum(upstream == 0 for _, upstream in resolver.launches) == 1
    resolver.run()
    assert not resolver.upstreams[0].usable(resolver.clock.seconds())


def test_a_trial_that_everybody_fails_is_repeated() -> None:
    """SERVFAIL from all says nothing about the one on trial: the next question tries again."""
    resolver = SimulatedResolver(fails(5), fails(5), fails(5))
    open_circuit(resolver, 0)
    resolver.run_to(30_000)
    for number in range(3):
        ask_one(resolver, f"n{number}")
        assert resolver.upstreams[0].usable(resolver.clock.seconds())
    assert sum(upstream == 0 for _, upstream in resolver.launches) == 3


def test_a_trial_of_a_collection_that_is_given_up() -> None:
    """A failing reply in a collection that we cancel does not hold up the next trial."""
    resolver = SimulatedResolver(fails(5), SILENT, SILENT)
    open_circuit(resolver, 0)
    resolver.run_to(30_000)
    resolver.ask(resolver.question("www.example"))
    resolver.run_to(resolver.now + 500)
    resolver.give_up()
    assert [upstream for _, upstream in resolver.launches].count(0) == 1
    assert resolver.upstreams[0].usable(resolver.clock.seconds())


def test_a_failed_trial_reopens() -> None:
    """The trial fails, so the next 60 s nobody asks; then there is another, and so on (trap 5)."""
    resolver = SimulatedResolver(unreachable(5), says_own(1, 5))
    open_circuit(resolver, 0)
    asked: list[float] = []
    for second in range(0, 500, 2):
        resolver.run_to(second * 1000)
        before = len(resolver.launches)
        ask_one(resolver, f"n{second}")
        asked += [at / 1000 for at, upstream in resolver.launches[before:] if upstream == 0]
    waits = [after - before for before, after in zip([0.0, *asked], asked, strict=False)]
    assert len(waits) == 4
    for wait, expected in zip(waits, (30, 60, 120, 240), strict=True):
        assert expected <= wait <= expected + 4


# The order.


def test_order() -> None:
    """Healthy ones by their average, equal ones as configured; then degraded ones, then trials;
    one whose circuit is open is left out, and all are tried when it is open everywhere.
    """
    resolver = SimulatedResolver(*[says_own(index, 5) for index in range(4)])
    first, second, third, fourth = resolver.upstreams
    now = resolver.clock.seconds()

    def arranged(at: float = now) -> list[Any]:
        return Upstreams(resolver.upstreams).arranged(at)

    assert arranged() == [first, second, third, fourth]
    third.latency.add(0.01, now)
    first.latency.add(0.3, now)
    assert arranged() == [third, second, fourth, first]
    for _ in range(3):
        third.health.failed(now, now, alone=True)
    assert arranged() == [second, fourth, first, third]
    open_circuit(resolver, 1)
    assert arranged() == [fourth, first, third]
    later = arranged(now + 30)
    assert later[-1] is second, "the trial comes last"
    assert len(later) == 4
    for index in (0, 2, 3):
        open_circuit(resolver, index)
    assert arranged() == [third, second, fourth, first]
    assert len(arranged(now + 30)) == 4


@pytest.mark.parametrize("strategy", RACES)
def test_all_are_tried_when_none_is_usable(strategy: str) -> None:
    """With every circuit open, a question still reaches them, and the answer closes one."""
    resolver = SimulatedResolver(*[unreachable(5)] * 3, says_own(3, 5), strategy=strategy)
    for index in range(4):
        open_circuit(resolver, index)
    assert ask_one(resolver, "www").rcode == NOERROR
    assert resolver.upstreams[3].health.state == DEGRADED


# Our own uplink.

OUTAGES = [
    pytest.param(SILENT, id="silence"),
    pytest.param(unreachable(1, Reason.UNREACHABLE), id="unreachable"),
    pytest.param(unreachable(None, Reason.UNREACHABLE), id="at once"),
    pytest.param(unreachable(3), id="refused"),
]


def outage(resolver: SimulatedResolver, act: Act, seconds: int, every: int = 500) -> None:
    """Let all upstreams fail alike for a time, asked a new name every so many milliseconds."""
    resolver.script(*[act] * len(resolver.upstreams))
    begun = resolver.now
    while resolver.now < begun + seconds * 1000:
        resolver.ask(resolver.question(f"out{resolver.now}.example"))
        resolver.run_to(resolver.now + every)


@pytest.mark.parametrize("length", [20, 45, 200])
@pytest.mark.parametrize("act", OUTAGES)
def test_circuits_after_an_outage(act: Act, length: int) -> None:
    """Two seconds after the uplink is back, with a name every 100 ms, all circuits are closed and
    stay so, although queries of the outage still fail.
    """
    resolver = SimulatedResolver(*[says_own(index, 20 + 10 * index) for index in range(5)])
    ask_one(resolver, "before")
    outage(resolver, act, length)
    assert states(resolver) == [UNHEALTHY] * 5
    resolver.script(*[says_own(index, 20 + 10 * index) for index in range(5)])
    back = resolver.now
    recovered = None
    while resolver.now < back + 6_000:
        resolver.ask(resolver.question(f"back{resolver.now}.example"))
        resolver.run_to(resolver.now + 100)
        if states(resolver) == [HEALTHY] * 5 and recovered is None:
            recovered = resolver.now - back
        assert recovered is None or states(resolver) == [HEALTHY] * 5, "open once more"
    assert recovered is not None
    assert recovered < 2_000
    resolver.run()


@pytest.mark.parametrize("strategy", RACES)
def test_answers_after_an_outage(strategy: str) -> None:
    """Whatever the strategy, the first question after it is answered, and all are usable then."""
    resolver = SimulatedResolver(*[says_own(index, 20) for index in range(3)], strategy=strategy)
    ask_one(resolver, "before")
    outage(resolver, unreachable(1, Reason.UNREACHABLE), 100)
    assert states(resolver) == [UNHEALTHY] * 3
    resolver.script(*[says_own(index, 20) for index in range(3)])
    asked = resolver.now
    client = resolver.ask(resolver.question("after.example"))
    resolver.run_to(asked + 1000)
    assert client.rcode == NOERROR
    assert client.at - asked < 500
    now = resolver.clock.seconds()
    assert [upstream.usable(now) for upstream in resolver.upstreams] == [True] * 3
    resolver.run()


def test_an_outage_doubles_nothing() -> None:
    """Twenty minutes without uplink: the trials fail, and no wait gets longer."""
    resolver = SimulatedResolver(*[says_own(index, 20) for index in range(3)])
    outage(resolver, unreachable(1, Reason.UNREACHABLE), 1200, every=2000)
    assert states(resolver) == [UNHEALTHY] * 3
    assert [upstream.health._open_for for upstream in resolver.upstreams] == [30.0] * 3


def test_one_that_stays_dead_after_an_outage() -> None:
    """It gets its trial, fails it while others answer, and waits as any other does."""
    resolver = SimulatedResolver(*[says_own(index, 20) for index in range(3)])
    outage(resolver, unreachable(1, Reason.UNREACHABLE), 60)
    resolver.script(unreachable(1), says_own(1, 20), says_own(2, 20))
    for number in range(10):
        ask_one(resolver, f"back{number}")
    assert states(resolver) == [UNHEALTHY, HEALTHY, HEALTHY]
    assert not resolver.upstreams[0].usable(resolver.clock.seconds())


def test_what_was_asked_in_an_outage_and_fails_after_it() -> None:
    """Twenty time-outs that come after the first good answers open no circuit again."""
    resolver = SimulatedResolver(*[says_own(index, 20) for index in range(5)])
    outage(resolver, SILENT, 30)
    for number in range(20):
        resolver.ask(resolver.question(f"late{number}.example"))
    resolver.run_to(resolver.now + 1000)
    resolver.script(*[says_own(index, 20) for index in range(5)])
    for number in range(2):
        resolver.ask(resolver.question(f"back{number}.example"))
        resolver.run_to(resolver.now + 500)
    assert states(resolver) == [HEALTHY] * 5
    resolver.run()
    assert states(resolver) == [HEALTHY] * 5
    assert [upstream.marks for upstream in resolver.upstreams] == [0] * 5
