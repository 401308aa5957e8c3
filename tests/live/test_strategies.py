"""Strategies, budgets and health of the running program, with real sockets and real errors."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit import behaviours as b
from tests.kit.clients import UdpClient, eventually, parse, question
from tests.kit.scripted import Close, ScriptedUpstream
from tests.kit.testbed import (
    SOON,
    Testbed,
    all_sets,
    most_in_window,
    own_answer,
    own_set,
    unique_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.ports import Endpoint

    from .conftest import BuildTestbed

PATIENT = {"delay": "5s", "min_delay": "5s", "max_delay": "5s"}
"""A race in which nobody but the first is asked, unless something else starts the others."""


def settings(strategy: str, **more: Any) -> dict[str, Any]:
    """The settings of one strategy."""
    return {"upstream": {"strategy": strategy, **more}}


def collections(testbed: Testbed) -> dict[str, float]:
    """How many collections ended well, by strategy."""
    found = testbed.program.metrics().find("staggerdns_collections_total", outcome="positive")
    return {sample.labels["strategy"]: sample.value for sample in found if sample.value}


def states(testbed: Testbed) -> list[float]:
    """What the program says about the health of its upstreams."""
    found = testbed.program.metrics().find("staggerdns_upstream_state")
    return [sample.value for sample in found]


def test_a_quick_upstream_wins_its_race_alone(build: BuildTestbed) -> None:
    """Racing asks one upstream when that is quick, and answers with its records and no others."""
    testbed = build([own_answer(index, 0.001) for index in range(4)], settings("racing"))
    names = [unique_name("race") for _ in range(15)]
    for name in names:
        reply = testbed.ask(name)
        assert set(reply.addresses) in [set(own_set(index)) for index in range(4)]
    # A busy machine may be slow once or twice.
    assert sum(sum(testbed.counts(name)) == 1 for name in names) >= 10
    assert collections(testbed) == {"racing": 15}
    assert testbed.program.metrics().value("staggerdns_early_triggers_total") == 0


def test_a_slow_upstream_loses_its_race(build: BuildTestbed) -> None:
    """After the delay the others are asked, and the answer is one of theirs, whole and alone."""
    testbed = build([b.silent, own_answer(1, 0.01), own_answer(2, 0.3)], settings("racing"))
    name = unique_name("slow")
    reply = testbed.ask(name)
    assert set(reply.addresses) == set(own_set(1))
    assert 0.09 < reply.seconds < SOON
    time.sleep(0.4)
    assert set(testbed.ask(name).addresses) == set(own_set(1)), "a loser joined the pool"
    assert states(testbed) == [0, 0, 0]


@contextlib.contextmanager
def resetting(endpoint: Endpoint) -> Iterator[None]:
    """Accept TCP connections, read the query, and reset them."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(endpoint)
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.recv(4096)
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        assert not thread.is_alive()


@pytest.mark.parametrize("how", ["closed UDP port", "closed TCP port", "close", "reset"])
def test_early_trigger(build: BuildTestbed, how: str) -> None:
    """A network error of the first upstream starts the others at once, five seconds early."""
    first = (lambda query: [Close()]) if how == "close" else None
    testbed = build(
        [first, own_answer(1, 0.05), own_answer(2, 0.2)],
        settings("racing", racing=PATIENT),
        scheme="" if how == "closed UDP port" else "tcp://",
    )
    with contextlib.ExitStack() as stack:
        if how == "reset":
            stack.enter_context(resetting(testbed.endpoints[0]))
        reply = testbed.ask(unique_name("early"))
    assert set(reply.addresses) == set(own_set(1))
    assert reply.seconds < SOON
    metrics = testbed.program.metrics()
    assert metrics.value("staggerdns_early_triggers_total") == 1
    errors = metrics.find("staggerdns_upstream_seconds_count", result="network_error")
    # An ICMP error may be forged: it is a hint, and the reply is still waited for.
    assert [error.value for error in errors] == ([] if how == "closed UDP port" else [1])


def test_no_early_trigger_through_servfail(build: BuildTestbed) -> None:
    """An application error is no trigger; since all that were asked have failed, the next ones go
    at once all the same.
    """
    good = [own_answer(index, 0.05) for index in (1, 2, 3)]
    testbed = build([b.rcode("SERVFAIL"), *good], settings("racing", racing=PATIENT))
    name = unique_name("servfail")
    reply = testbed.ask(name)
    assert set(reply.addresses) in [set(own_set(index)) for index in (1, 2, 3)]
    assert reply.seconds < SOON
    assert testbed.program.metrics().value("staggerdns_early_triggers_total") == 0
    times = sorted(queries[0].at for queries in testbed.asked(name)[1:] if queries)
    assert len(times) == 2 or times[2] - times[1] > 0.005, "all at once, and not a batch of two"


def test_sequential(build: BuildTestbed) -> None:
    """One upstream answers; the next is asked when it fails, and when its time is up."""
    testbed = build(
        [own_answer(0, 0.01), own_answer(1, 0.001), own_answer(2, 0.001)], settings("sequential")
    )
    name = unique_name("well")
    assert set(testbed.ask(name).addresses) == set(own_set(0))
    assert testbed.counts(name) == [1, 0, 0]
    name = testbed.route("fails", b.rcode("REFUSED"), own_answer(1), own_answer(2))
    assert set(testbed.ask(name).addresses) == set(own_set(1))
    assert testbed.counts(name) == [1, 1, 0]
    name = testbed.route("last", b.rcode("REFUSED"), b.rcode("REFUSED"), own_answer(2))
    assert set(testbed.ask(name).addresses) == set(own_set(2))
    name = testbed.route("silent", b.silent)  # to upstreams that have all answered before
    reply = testbed.ask(name, timeout=8)
    assert reply.rcode == "SERVFAIL"
    assert reply.seconds > 1.4, "three tries of half a second at the least"
    assert all(1 <= count <= 3 for count in testbed.counts(name)), "each, and round again"
    assert collections(testbed) == {"sequential": 3}


def test_random(build: BuildTestbed) -> None:
    """Each name goes to one upstream, and each upstream gets its share."""
    testbed = build([own_answer(index, 0.001) for index in range(3)], settings("random"))
    names = [unique_name("random") for _ in range(60)]
    for name in names:
        testbed.ask(name)
    assert all(sum(testbed.counts(name)) == 1 for name in names)
    shares = [len(upstream.queries) for upstream in testbed.upstreams.values()]
    assert min(shares) >= 5


@pytest.mark.parametrize(
    ("count", "strategy"), [(1, "sequential"), (2, "racing"), (3, "racing"), (4, "parallel")]
)
def test_auto(build: BuildTestbed, count: int, strategy: str) -> None:
    """The number of usable upstreams chooses."""
    testbed = build([own_answer(index, 0.001) for index in range(count)], settings("auto"))
    name = unique_name("auto")
    testbed.ask(name)
    eventually(lambda: collections(testbed) == {strategy: 1})
    if strategy == "parallel":
        testbed.pool(name, all_sets(range(count)))


def test_auto_follows_health(build: BuildTestbed) -> None:
    """With one of four dead it is parallel until the circuit opens, and racing from then on."""
    testbed = build([None, *(own_answer(index, 0.001) for index in (1, 2, 3))], settings("auto"))
    for _ in range(5):
        assert testbed.ask(unique_name("auto")).rcode == "NOERROR"
        time.sleep(0.15)  # so that each collection has reached the dead one
    eventually(lambda: max(states(testbed)) == 2)
    before = collections(testbed)
    assert set(before) == {"parallel"}
    for _ in range(3):
        assert testbed.ask(unique_name("auto")).rcode == "NOERROR"
    assert collections(testbed) == {**before, "racing": 3}


def test_two_thousand_names_in_a_second(build: BuildTestbed) -> None:
    """No upstream gets more than its budget in any second, and every client is answered."""
    budget = {"queries_per_second": 300, "burst": 100}
    testbed = build(
        [own_answer(index, 0.005) for index in range(5)],
        {
            "log": {"level": "info"},
            **settings(
                "parallel",
                budget=budget,
                timeout="10s",
                parallel={"total_collect_timeout": "20s"},
            ),
        },
    )
    count = 2000
    queries = []
    for number in range(count):
        query = question(f"burst{number}.example.")
        query.id = number
        queries.append(query.to_wire())
    answered: dict[int, str] = {}

    def take(client: UdpClient, timeout: float) -> bool:
        """Note a reply; return whether one came."""
        wire = client.receive_raw(timeout)
        if wire is not None:
            answered[wire[0] << 8 | wire[1]] = parse(wire).rcode().name
        return wire is not None

    with UdpClient(testbed.program.endpoint) as client:
        client._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        begun = time.monotonic()
        for number, wire in enumerate(queries):
            client.send(wire)
            due = begun + 0.9 * number / count
            while (pause := due - time.monotonic()) > 0 and take(client, pause):
                pass
        sent_in = time.monotonic() - begun
        asked_again = 0
        while len(answered) < count:
            if not take(client, 4.0):
                # A busy system may lose a datagram; who hears nothing asks again, as clients do.
                asked_again += 1
                assert asked_again <= 2, f"{count - len(answered)} clients wait for ever"
                for number in set(range(count)) - set(answered):
                    client.send(queries[number])
        took = time.monotonic() - begun
    assert sent_in < 10.0, "this machine is too busy for this test"
    assert set(answered.values()) == {"NOERROR"}
    assert took < 30.0
    for upstream in testbed.upstreams.values():
        times = [query.at for query in upstream.queries]
        assert most_in_window(times, 1.0) <= 300 + 100 + 8, "more than its budget"
        assert len(times) > 300, "less than was wanted"
    metrics = testbed.program.metrics()
    assert metrics.value("staggerdns_staggered_skipped_total") > 0
    assert metrics.value("staggerdns_shed_queries_total") == 0
    assert states(testbed) == [0] * 5


@pytest.mark.parametrize("how", ["stopped", "silent"])
def test_recovery_after_an_outage(build: BuildTestbed, how: str) -> None:
    """All upstreams fail until every circuit is open; soon after they are back all are healthy,
    and the first question already is answered. How soon is what `tests/resolver` holds.
    """
    testbed = build(
        [own_answer(index, 0.005) for index in range(5)],
        settings("parallel", timeout="300ms", parallel={"total_collect_timeout": "600ms"}),
    )
    testbed.ask(unique_name("before"))
    good = {index: upstream.behaviour for index, upstream in testbed.upstreams.items()}
    for upstream in testbed.upstreams.values():
        if how == "stopped":
            upstream.stop()
        else:
            upstream.behaviour = b.silent

    def fail() -> list[float]:
        assert testbed.ask(unique_name("during")).rcode == "SERVFAIL"
        return states(testbed)

    eventually(fail, lambda found: found == [2] * 5, timeout=12)
    assert testbed.program.health() == 503
    for _ in range(3):
        fail()
    with contextlib.ExitStack() as stack:
        for index, upstream in testbed.upstreams.items():
            if how == "stopped":
                stack.enter_context(ScriptedUpstream(good[index], testbed.endpoints[index]))
            else:
                upstream.behaviour = good[index]
        reply = testbed.ask(unique_name("after"))
        assert reply.rcode == "NOERROR"
        assert reply.seconds < SOON

        def ask() -> list[float]:
            assert testbed.ask(unique_name("after")).rcode == "NOERROR"
            return states(testbed)

        eventually(ask, lambda found: found == [0] * 5, timeout=6.0)
        assert testbed.program.health() == 200
        time.sleep(0.5)  # what was asked during the outage has timed out by now
        assert states(testbed) == [0] * 5
