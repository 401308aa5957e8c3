"""One reload at a time (docs/operating.rst, Another configuration)."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from staggerdns.errors import StaggerDNSError
from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.reload import NO_RELOADS, History, Problems, Reloads
from staggerdns.settings.document import ConfigError
from tests.conftest import CriticalEvents

PATH = "/etc/dns.yaml"


class Reloading:
    """Reloads that end when the test wants."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.now = 1_000.0
        self.running: list[Deferred[None]] = []
        self.cancelled = 0
        self.clock = Clock()
        self.reloads = Reloads(
            PATH, self._reload, self.clock, self.metrics, Journal(), lambda: self.now
        )

    def _reload(self) -> Deferred[None]:
        started: Deferred[None] = Deferred(lambda _: self._cancel())
        self.running.append(started)
        return started

    def _cancel(self) -> None:
        self.cancelled += 1

    def want(self) -> list[Problems]:
        """Want a reload; what came of it, when that is known."""
        found: list[Problems] = []
        self.reloads.want().addCallback(found.append)
        return found

    def shown(self) -> list[float]:
        """What the metrics show: whether the last one has succeeded, and when one did."""
        gauges = self.metrics.reload_successful, self.metrics.reload_time
        return [gauge.values()[()] for gauge in gauges]


def test_a_good_file() -> None:
    """It counts, and the log says so."""
    reloading = Reloading()
    assert reloading.shown() == [1, 1_000]
    reloading.now = 2_000.0
    found = reloading.want()
    assert (found, reloading.shown()) == ([], [0, 1_000])
    with capturedLogs() as events:
        reloading.running[0].callback(None)
    assert (found, reloading.shown()) == ([()], [1, 2_000])
    assert reloading.reloads.history == History(1, 0, ())
    assert [formatEvent(event) for event in events] == [f"reloaded {PATH}"]


def test_a_wrong_file() -> None:
    """All that is wrong is in one line, and given to whoever wants to know."""
    reloading = Reloading()
    found, later = reloading.want(), reloading.want()
    assert reloading.reloads.history == NO_RELOADS
    reloading.clock.advance(7)
    with capturedLogs() as events:
        reloading.running[0].errback(ConfigError("cache: expected x", "log: expected y"))
        reloading.running[1].errback(StaggerDNSError("server.listen[0]: cannot listen"))
    assert found == [("cache: expected x", "log: expected y")]
    assert later == [("server.listen[0]: cannot listen",)]
    assert reloading.reloads.history == History(2, 7, ("server.listen[0]: cannot listen",))
    assert reloading.shown() == [0, 1_000]
    assert [formatEvent(event) for event in events] == [
        f"{PATH} is not used, all stays as it was: cache: expected x; log: expected y",
        f"{PATH} is not used, all stays as it was: server.listen[0]: cannot listen",
    ]
    assert {event["log_level"].name for event in events} == {"error"}


def test_whoever_comes_meanwhile() -> None:
    """The file may have changed since it was read, so it is read once more, for all of them."""
    reloading = Reloading()
    first = reloading.want()
    others = [reloading.want() for _ in range(3)]
    assert len(reloading.running) == 1
    reloading.running[0].errback(ConfigError("wrong"))
    assert (first, len(reloading.running)) == ([("wrong",)], 2)
    assert others == [[], [], []]
    reloading.running[1].callback(None)
    assert others == [[()]] * 3
    assert reloading.want() == []


def test_a_defect(critical_events: CriticalEvents) -> None:
    """It costs one reload, and is in the log with its traceback."""
    reloading = Reloading()
    found = reloading.want()
    reloading.running[0].errback(ZeroDivisionError("a defect"))
    assert found == [("a defect of ours: see the log",)]
    (event,) = critical_events.flush()
    assert "ZeroDivisionError" in event["log_failure"].getTraceback()
    reloading.want()
    assert len(reloading.running) == 2


def test_the_end() -> None:
    """What is under way is given up, and nothing begins any more."""
    reloading = Reloading()
    found, later = reloading.want(), reloading.want()
    with capturedLogs() as events:
        reloading.reloads.close()
    assert (reloading.cancelled, len(reloading.running)) == (1, 1)
    assert (found, later, events) == ([], [], [])
    assert reloading.want() == [("the program is about to end",)]
    assert len(reloading.running) == 1
