"""Health as the program sees it: verdicts, the log, the metrics, the order, and outages."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.logger import LogLevel, capturedLogs, formatEvent

from staggerdns.upstream.exchange import LOCAL
from staggerdns.upstream.health import State
from staggerdns.upstream.upstreams import Upstreams
from tests.kit.acts import NOERROR, SILENT, Act, fails, negative, says_own, unreachable
from tests.kit.simulated import HEALTH, Client, Stage

HEALTHY, DEGRADED, UNHEALTHY = State
RACES = ("parallel", "racing", "sequential", "random", "auto")


def ask_one(stage: Stage, label: str) -> Client:
    """Ask one new name and let everything happen."""
    client = stage.ask(stage.question(f"{label}.example"))
    stage.run()
    return client


def states(stage: Stage) -> list[State]:
    """The states of all upstreams."""
    return [upstream.health.state for upstream in stage.upstreams]


def changes(stage: Stage) -> dict[tuple[str, str], int]:
    """What ``staggerdns_upstream_changes_total`` shows, without zeros."""
    cells = stage.metrics.upstream_changes._cells
    return {(name, state): cell.value for (name, state), cell in cells.items() if cell.value}


def shown(stage: Stage) -> list[float]:
    """What ``staggerdns_upstream_state`` shows."""
    return [read() for read in stage.metrics.upstream_state._readers.values()]


def open_circuit(stage: Stage, index: int) -> None:
    """Open the circuit of one upstream now."""
    now = stage.clock.seconds()
    for _ in range(5):
        stage.upstreams[index].health.failed(now, now, alone=True)


def test_every_transition_is_told() -> None:
    """A whole life, down and up again: each change once in the log and in the metrics."""
    stage = Stage(unreachable(5), says_own(1, 20))
    name = stage.upstreams[0].name
    with capturedLogs() as events:
        for number in range(8):
            ask_one(stage, f"down{number}")
        assert states(stage) == [UNHEALTHY, HEALTHY]
        assert shown(stage) == [2, 0]
        stage.script(says_own(0, 5), says_own(1, 20))
        stage.run_to(stage.now + 30_000)
        ask_one(stage, "trial")
        assert shown(stage) == [1, 0]
        ask_one(stage, "good")
        ask_one(stage, "better")
        assert shown(stage) == [0, 0]
    told = [(event["log_level"], formatEvent(event)) for event in events if "state" in event]
    assert told == [
        (LogLevel.warn, f"upstream {name} is degraded (connection refused)"),
        (LogLevel.warn, f"upstream {name} is unhealthy (connection refused)"),
        (LogLevel.warn, f"upstream {name} is degraded"),
        (LogLevel.info, f"upstream {name} is healthy"),
    ]
    assert changes(stage) == {
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
    stage = Stage(fails(5), says_own(1, 20), health=rules)
    for number in range(1, unhealthy_after + 1):
        ask_one(stage, f"n{number}")
        expected = DEGRADED if number >= degraded_after else HEALTHY
        assert states(stage)[0] == (UNHEALTHY if number >= unhealthy_after else expected)


@pytest.mark.parametrize("strategy", RACES)
@pytest.mark.parametrize(
    "act", [negative(5), negative(5, NOERROR), unreachable(5, LOCAL), unreachable(None, LOCAL)]
)
def test_what_is_no_mark(strategy: str, act: Act) -> None:
    """NXDOMAIN, NODATA and errors of our own machine never change a state."""
    stage = Stage(act, says_own(1, 15), strategy=strategy)
    for number in range(12):
        ask_one(stage, f"n{number}")
    assert states(stage) == [HEALTHY, HEALTHY]
    assert changes(stage) == {}


@pytest.mark.parametrize("strategy", RACES)
@pytest.mark.parametrize("bad", [fails(5), fails(5, 5), fails(5, 1)])
def test_failures_common_to_all_are_no_marks(strategy: str, bad: Act) -> None:
    """A name that nobody can answer is nobody's fault, in any strategy."""
    stage = Stage(*[bad] * 5, strategy=strategy)
    for number in range(12):
        ask_one(stage, f"n{number}")
    assert states(stage) == [HEALTHY] * 5


@pytest.mark.parametrize("strategy", ["racing", "auto"])
def test_losers_of_a_race_get_no_mark(strategy: str) -> None:
    """Being slower, a hundred times over, is no failure (trap 1)."""
    stage = Stage(says_own(0, 130), says_own(1, 140), says_own(2, 400), strategy=strategy)
    for number in range(100):
        ask_one(stage, f"n{number}")
    assert states(stage) == [HEALTHY] * 3
    assert [upstream.inflight for upstream in stage.upstreams] == [0, 0, 0]


@pytest.mark.parametrize("strategy", RACES)
def test_a_collection_that_is_given_up(strategy: str) -> None:
    """Queries that we cancel say nothing, also when they were the trial."""
    stage = Stage(SILENT, SILENT, strategy=strategy)
    open_circuit(stage, 0)
    stage.run_to(30_000)
    for _ in range(12):
        stage.ask(stage.question("www.example"))
        stage.run_to(stage.now + 60)
        for collection in list(stage.forwarder._collections.values()):
            collection.cancel()
        stage.forwarder._collections.clear()
        assert stage.upstreams[0].usable(stage.clock.seconds())
    assert states(stage) == [UNHEALTHY, HEALTHY]
    assert [upstream.inflight for upstream in stage.upstreams] == [0, 0]


@pytest.mark.parametrize(("act", "asked"), [(SILENT, 1), (unreachable(1000), 1)])
def test_one_trial_for_many_questions(act: Act, asked: int) -> None:
    """Questions that come while the trial is under way do without the upstream."""
    stage = Stage(act, says_own(1, 5), says_own(2, 5))
    open_circuit(stage, 0)
    stage.run_to(30_000)
    for number in range(40):
        stage.ask(stage.question(f"n{number}.example"))
        stage.run_to(stage.now + 20 if number else stage.now + 60)
    assert sum(upstream == 0 for _, upstream in stage.launches) == asked
    stage.run()


def test_one_trial_for_questions_of_one_instant() -> None:
    """Questions that begin together look again before they ask: one of them has the trial."""
    stage = Stage(SILENT, says_own(1, 5), says_own(2, 5))
    open_circuit(stage, 0)
    stage.run_to(30_000)
    for number in range(40):
        stage.ask(stage.question(f"n{number}.example"))
    stage.run()
    assert sum(upstream == 0 for _, upstream in stage.launches) == 1


def test_one_trial_that_fails_with_a_reply() -> None:
    """A trial answered SERVFAIL stays the only one until the others have shown what it is worth."""
    stage = Stage(fails(5), says_own(1, 5), SILENT)
    open_circuit(stage, 0)
    stage.run_to(30_000)
    for number in range(40):
        stage.ask(stage.question(f"n{number}.example"))
        stage.run_to(stage.now + 50)
    assert sum(upstream == 0 for _, upstream in stage.launches) == 1
    stage.run()
    assert not stage.upstreams[0].usable(stage.clock.seconds())


def test_a_trial_that_everybody_fails_is_repeated() -> None:
    """SERVFAIL from all says nothing about the one on trial: the next question tries again."""
    stage = Stage(fails(5), fails(5), fails(5))
    open_circuit(stage, 0)
    stage.run_to(30_000)
    for number in range(3):
        ask_one(stage, f"n{number}")
        assert stage.upstreams[0].usable(stage.clock.seconds())
    assert sum(upstream == 0 for _, upstream in stage.launches) == 3


def test_a_trial_of_a_collection_that_is_given_up() -> None:
    """A failing reply in a collection that we cancel does not hold up the next trial."""
    stage = Stage(fails(5), SILENT, SILENT)
    open_circuit(stage, 0)
    stage.run_to(30_000)
    stage.ask(stage.question("www.example"))
    stage.run_to(stage.now + 500)
    for collection in list(stage.forwarder._collections.values()):
        collection.cancel()
    stage.forwarder._collections.clear()
    assert [upstream for _, upstream in stage.launches].count(0) == 1
    assert stage.upstreams[0].usable(stage.clock.seconds())


def test_a_failed_trial_reopens() -> None:
    """The trial fails, so the next 60 s nobody asks; then there is another, and so on (trap 5)."""
    stage = Stage(unreachable(5), says_own(1, 5))
    open_circuit(stage, 0)
    asked: list[float] = []
    for second in range(0, 500, 2):
        stage.run_to(second * 1000)
        before = len(stage.launches)
        ask_one(stage, f"n{second}")
        asked += [at / 1000 for at, upstream in stage.launches[before:] if upstream == 0]
    rests = [after - before for before, after in zip([0.0, *asked], asked, strict=False)]
    assert len(rests) == 4
    for rest, expected in zip(rests, (30, 60, 120, 240), strict=True):
        assert expected <= rest <= expected + 4


# The order.


def test_order() -> None:
    """Healthy ones by their average, equal ones as configured; then degraded ones, then trials;
    one whose circuit is open is left out, and all are tried when it is open everywhere.
    """
    stage = Stage(*[says_own(index, 5) for index in range(4)])
    first, second, third, fourth = stage.upstreams
    now = stage.clock.seconds()

    def arranged(at: float = now) -> list[Any]:
        return Upstreams(stage.upstreams).arranged(at)

    assert arranged() == [first, second, third, fourth]
    third.latency.add(0.01, now)
    first.latency.add(0.3, now)
    assert arranged() == [third, second, fourth, first]
    for _ in range(3):
        third.health.failed(now, now, alone=True)
    assert arranged() == [second, fourth, first, third]
    open_circuit(stage, 1)
    assert arranged() == [fourth, first, third]
    later = arranged(now + 30)
    assert later[-1] is second, "the trial comes last"
    assert len(later) == 4
    for index in (0, 2, 3):
        open_circuit(stage, index)
    assert arranged() == [third, second, fourth, first]
    assert len(arranged(now + 30)) == 4


@pytest.mark.parametrize("strategy", RACES)
def test_all_are_tried_when_none_is_usable(strategy: str) -> None:
    """With every circuit open, a question still reaches them, and the answer closes one."""
    stage = Stage(*[unreachable(5)] * 3, says_own(3, 5), strategy=strategy)
    for index in range(4):
        open_circuit(stage, index)
    assert ask_one(stage, "www").rcode == NOERROR
    assert stage.upstreams[3].health.state == DEGRADED


# Our own uplink.

OUTAGES = [
    pytest.param(SILENT, id="silence"),
    pytest.param(unreachable(1, "unreachable"), id="unreachable"),
    pytest.param(unreachable(None, "unreachable"), id="at once"),
    pytest.param(unreachable(3), id="refused"),
]


def outage(stage: Stage, act: Act, seconds: int, every: int = 500) -> None:
    """Let all upstreams fail alike for a time, asked a new name every so many milliseconds."""
    stage.script(*[act] * len(stage.upstreams))
    begun = stage.now
    while stage.now < begun + seconds * 1000:
        stage.ask(stage.question(f"out{stage.now}.example"))
        stage.run_to(stage.now + every)


@pytest.mark.parametrize("length", [20, 45, 200])
@pytest.mark.parametrize("act", OUTAGES)
def test_circuits_after_an_outage(act: Act, length: int) -> None:
    """Two seconds after the uplink is back, with a name every 100 ms, all circuits are closed and
    stay so, although queries of the outage still fail.
    """
    stage = Stage(*[says_own(index, 20 + 10 * index) for index in range(5)])
    ask_one(stage, "before")
    outage(stage, act, length)
    assert states(stage) == [UNHEALTHY] * 5
    stage.script(*[says_own(index, 20 + 10 * index) for index in range(5)])
    back = stage.now
    recovered = None
    while stage.now < back + 6_000:
        stage.ask(stage.question(f"back{stage.now}.example"))
        stage.run_to(stage.now + 100)
        if states(stage) == [HEALTHY] * 5 and recovered is None:
            recovered = stage.now - back
        assert recovered is None or states(stage) == [HEALTHY] * 5, "open once more"
    assert recovered is not None
    assert recovered < 2_000
    stage.run()


@pytest.mark.parametrize("strategy", RACES)
def test_answers_after_an_outage(strategy: str) -> None:
    """Whatever the strategy, the first question after it is answered, and all are usable then."""
    stage = Stage(*[says_own(index, 20) for index in range(3)], strategy=strategy)
    ask_one(stage, "before")
    outage(stage, unreachable(1, "unreachable"), 100)
    assert states(stage) == [UNHEALTHY] * 3
    stage.script(*[says_own(index, 20) for index in range(3)])
    asked = stage.now
    client = stage.ask(stage.question("after.example"))
    stage.run_to(asked + 1000)
    assert client.rcode == NOERROR
    assert client.at - asked < 500
    now = stage.clock.seconds()
    assert [upstream.usable(now) for upstream in stage.upstreams] == [True] * 3
    stage.run()


def test_an_outage_doubles_nothing() -> None:
    """Twenty minutes without uplink: the trials fail, and no rest gets longer."""
    stage = Stage(*[says_own(index, 20) for index in range(3)])
    outage(stage, unreachable(1, "unreachable"), 1200, every=2000)
    assert states(stage) == [UNHEALTHY] * 3
    assert [upstream.health._open_for for upstream in stage.upstreams] == [30.0] * 3


def test_one_that_stays_dead_after_an_outage() -> None:
    """It gets its trial, fails it while others answer, and rests as any other does."""
    stage = Stage(*[says_own(index, 20) for index in range(3)])
    outage(stage, unreachable(1, "unreachable"), 60)
    stage.script(unreachable(1), says_own(1, 20), says_own(2, 20))
    for number in range(10):
        ask_one(stage, f"back{number}")
    assert states(stage) == [UNHEALTHY, HEALTHY, HEALTHY]
    assert not stage.upstreams[0].usable(stage.clock.seconds())


def test_what_was_asked_in_an_outage_and_fails_after_it() -> None:
    """Twenty time-outs that come after the first good answers open no circuit again."""
    stage = Stage(*[says_own(index, 20) for index in range(5)])
    outage(stage, SILENT, 30)
    for number in range(20):
        stage.ask(stage.question(f"late{number}.example"))
    stage.run_to(stage.now + 1000)
    stage.script(*[says_own(index, 20) for index in range(5)])
    for number in range(2):
        stage.ask(stage.question(f"back{number}.example"))
        stage.run_to(stage.now + 500)
    assert states(stage) == [HEALTHY] * 5
    stage.run()
    assert states(stage) == [HEALTHY] * 5
    assert [upstream.marks for upstream in stage.upstreams] == [0] * 5
