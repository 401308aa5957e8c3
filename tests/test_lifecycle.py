"""The phases of the server, as balancers see them."""

from __future__ import annotations

from twisted.logger import LogLevel, capturedLogs, formatEvent

from staggerdns.journal import Journal
from staggerdns.lifecycle import DRAINING, SERVING, STARTING, STOPPING, Lifecycle


def test_only_serving_is_ready() -> None:
    """From the start to the end, with a drain in between."""
    lifecycle = Lifecycle(Journal())
    seen = [(lifecycle.phase, lifecycle.ready)]
    for step in (lifecycle.serve, lifecycle.drain, lifecycle.resume, lifecycle.stop):
        step()
        seen.append((lifecycle.phase, lifecycle.ready))
    assert seen == [
        (STARTING, False),
        (SERVING, True),
        (DRAINING, False),
        (SERVING, True),
        (STOPPING, False),
    ]


def test_a_drain_outlives_the_start() -> None:
    """Who was drained while it started must not get queries when it has."""
    lifecycle = Lifecycle(Journal())
    lifecycle.drain()
    lifecycle.serve()
    assert (lifecycle.phase, lifecycle.ready) == (DRAINING, False)


def test_nothing_brings_back_what_is_being_stopped() -> None:
    """An operator's command may come while the last queries are answered."""
    lifecycle = Lifecycle(Journal())
    lifecycle.serve()
    lifecycle.drain()
    lifecycle.stop()
    lifecycle.resume()
    lifecycle.serve()
    assert (lifecycle.phase, lifecycle.ready) == (STOPPING, False)


def test_each_change_by_an_operator_is_logged_once() -> None:
    """At every level of the log; what repeats itself changes nothing."""
    lifecycle = Lifecycle(Journal("error"))
    with capturedLogs() as events:
        lifecycle.serve()
        for step in (lifecycle.drain, lifecycle.drain, lifecycle.resume, lifecycle.resume):
            step()
        lifecycle.stop()
    assert [(event["log_level"], formatEvent(event)) for event in events] == [
        (LogLevel.info, "draining: balancers are told to send queries elsewhere"),
        (LogLevel.info, "draining is over: balancers are told to send queries again"),
    ]
