"""Upstreams that die, hang, flap, answer late or twice, or break off: clients are answered."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from tests.kit import behaviours as b
from tests.kit.clients import eventually
from tests.kit.program import merged
from tests.kit.scripted import Behaviour, Query, ScriptedUpstream
from tests.kit.testbed import SOON, Testbed, own_answer, own_set, unique_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.kit.scripted import Action

    from .conftest import BuildTestbed

BRIEF = {
    "timeout": "400ms",
    "parallel": {"total_collect_timeout": "600ms", "fallback_timeout": "100ms"},
}
LONGER = merged(BRIEF, {"parallel": {"total_collect_timeout": "4s"}})
"""The same with time enough for a good upstream, when the machine is busy."""
RECOVERY = 6.0
"""Seconds after the return of upstreams by which new names are answered again; a third of it is
what `tests/resolver` holds.
"""


def flapping(period: float, good: Behaviour, bad: Behaviour) -> Behaviour:
    """Be good for ``period`` seconds, bad for the next, and so on."""
    start = time.monotonic()

    def behave(query: Query) -> Sequence[Action]:
        return (bad if int((query.at - start) / period) % 2 else good)(query)

    return behave


def settled(testbed: Testbed) -> None:
    """Wait until nothing is under way any more."""

    def busy() -> float:
        samples = testbed.program.metrics()
        return samples.value("staggerdns_collections_running") + samples.value(
            "staggerdns_upstream_inflight"
        )

    eventually(busy, lambda count: count == 0)


FAULTS: dict[str, Behaviour | None] = {
    "dead": None,
    "hanging": b.silent,
    "late": own_answer(0, after=0.8),
    "twice": b.twice(own_answer(0)),
    "refusing": b.rcode("REFUSED"),
    "cut": b.closes_mid_message(own_answer(0)),
    "garbage": b.garbage(),
}


@pytest.mark.parametrize("scheme", ["", "tcp://"])
def test_every_fault_at_once(build: BuildTestbed, scheme: str) -> None:
    """One good upstream among all kinds of bad ones is enough, for every name."""
    bad = [fault for name, fault in FAULTS.items() if name != "twice" or not scheme]
    testbed = build([*bad, own_answer(9)], {"upstream": LONGER}, scheme=scheme)
    for _ in range(30):
        reply = testbed.ask(unique_name("mixed"))
        assert reply.rcode == "NOERROR"
        assert reply.seconds < SOON
    settled(testbed)
    assert testbed.program.health() == 200


@pytest.mark.long
def test_flapping(build: BuildTestbed) -> None:
    """Upstreams that come and go by turns: every name is answered, and none of them rests for
    long enough to matter.
    """
    flaps = [flapping(0.3, own_answer(i, 0.002), bad) for i, bad in enumerate([b.silent] * 2)]
    flaps += [flapping(0.2, own_answer(2), b.rcode("SERVFAIL")), own_answer(3, 0.02)]
    testbed = build(flaps, {"upstream": LONGER})
    end = time.monotonic() + 3
    while time.monotonic() < end:
        reply = testbed.ask(unique_name("flap"))
        assert reply.rcode == "NOERROR"
        assert reply.seconds < SOON
    settled(testbed)


def test_late_answers_are_nobody_s(build: BuildTestbed) -> None:
    """An answer behind the end of its collection is counted, and taken for nothing else."""
    testbed = build([own_answer(0, after=0.8)], {"upstream": BRIEF}, known=True)
    late = unique_name("late")
    assert testbed.ask(late).rcode == "SERVFAIL"
    new = testbed.route("new", b.answers("203.0.113.7"))
    assert testbed.ask(new).addresses == ["203.0.113.7"]
    rejected = "staggerdns_upstream_rejected_total"
    # The socket may be gone by then, and the late answer with it: nobody hears of that.
    time.sleep(0.6)
    assert testbed.program.metrics().value(rejected) <= 1
    assert testbed.ask(new).addresses == ["203.0.113.7"]
    late = testbed.route("late", own_answer(5), name=late)
    eventually(lambda: set(testbed.ask(late).addresses) == set(own_set(5)))


@pytest.mark.parametrize("scheme", ["", "tcp://"])
def test_one_dies_and_another_takes_over(build: BuildTestbed, scheme: str) -> None:
    """Upstreams die and come back one after the other in the middle of the load: no name is
    lost, and who came back is asked again.
    """
    settings = {"upstream": {**LONGER, "health": {"open_for": "500ms"}}}
    testbed = build([own_answer(index) for index in range(3)], settings, scheme=scheme)

    def answered() -> bool:
        reply = testbed.ask(unique_name("dying"))
        assert reply.rcode == "NOERROR"
        assert reply.seconds < SOON
        return True

    def unhealthy(index: int) -> bool:
        state = "staggerdns_upstream_state"
        upstream = scheme + str(testbed.endpoints[index])
        return answered() and testbed.program.metrics().value(state, upstream=upstream) == 2

    with contextlib.ExitStack() as stack:
        for index, endpoint in enumerate(testbed.endpoints):
            testbed.upstreams[index].stop()
            eventually(lambda: unhealthy(index))  # noqa: B023
            back = stack.enter_context(ScriptedUpstream(own_answer(index), endpoint))
            eventually(lambda: answered() and back.queries)  # noqa: B023


@pytest.mark.parametrize("death", ["closed ports", "silence", "SERVFAIL"])
def test_all_die_and_come_back(build: BuildTestbed, death: str) -> None:
    """With all of them gone new names get SERVFAIL and known ones old answers; within
    `RECOVERY` of their return all is well.
    """
    short = {"upstream": BRIEF, "cache": {"fast_response_ttl": 1}}
    testbed = build([own_answer(index, ttl=1) for index in range(3)], short)
    known = unique_name("known")
    testbed.ask(known)
    for upstream in testbed.upstreams.values():
        if death == "closed ports":
            upstream.stop()
        upstream.behaviour = b.silent if death == "silence" else b.rcode("SERVFAIL")
    time.sleep(1.1)
    for _ in range(6):
        assert testbed.ask(unique_name("gone")).rcode == "SERVFAIL"
        old = testbed.ask(known)
        assert old.rcode == "NOERROR"
        assert old.ttl == 1
    with contextlib.ExitStack() as stack:
        for index, upstream in testbed.upstreams.items():
            upstream.behaviour = own_answer(index + 5)
            if death == "closed ports":
                endpoint = testbed.endpoints[index]
                stack.enter_context(ScriptedUpstream(own_answer(index + 5), endpoint))
        back = time.monotonic()
        eventually(lambda: testbed.ask(unique_name("back")).rcode == "NOERROR", timeout=RECOVERY)
        eventually(lambda: testbed.program.health() == 200, timeout=RECOVERY)
        assert time.monotonic() < back + RECOVERY
        assert testbed.ask(unique_name("again")).rcode == "NOERROR"
        new = {text for index in range(3) for text in own_set(index + 5)}
        eventually(lambda: set(testbed.ask(known).addresses) <= new)
