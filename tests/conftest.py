"""What holds for every test: nothing is left on the reactor, nothing critical is logged, and only
a test that is marked as live starts a process.
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import hypothesis
import pytest
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.kit.effort import EFFORT

if TYPE_CHECKING:
    from collections.abc import Iterator

# The shared and slow machines that run this are no judges of a single example's time.
hypothesis.settings.register_profile(
    "staggerdns",
    deadline=None,
    max_examples=100,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("staggerdns")

# pytest asks for the version of Twisted around each test, which took longer than most tests do.
importlib.metadata.version = cache(importlib.metadata.version)

_HERE = Path(__file__).parent
COMPILED = _HERE.parent / "build" / "compiled"
"""Where `make compiled` builds. ``STAGGERDNS_TEST_COMPILED=1``: that is what is tested."""
if os.environ.get("STAGGERDNS_TEST_COMPILED", "0") not in ("", "0"):
    if not (COMPILED / "staggerdns").exists():
        raise pytest.UsageError("there is no compiled program: make compiled")
    sys.path.insert(0, str(COMPILED))
_LIVE = [_HERE / name for name in ("browser", "conformance", "internet", "live", "packaging")]
"""The directories whose tests all start processes; elsewhere single tests are marked."""


@cache
def _is_live(path: Path) -> bool:
    return any(path.is_relative_to(directory) for directory in _LIVE)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the live tests, and give one that fails a second look: machines are shared.

    A test of logic does the same on any machine, and is never run again. Those that are marked as
    long are left out unless they are asked for.
    """
    if not EFFORT:
        left_out = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if not item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
    for item in items:
        if _is_live(item.path):
            item.add_marker(pytest.mark.live)
        if item.get_closest_marker("live"):
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report which live tests had to be run again, and why: it should be rare, and seen."""
    again = terminalreporter.stats.get("rerun", [])
    if not again:
        return
    terminalreporter.section(f"live tests that were run again: {len(again)}")
    for report in again:
        terminalreporter.write_line(report.nodeid, bold=True)
        report.toterminal(terminalreporter._tw)


_started: list[str] = []
"""The programs that the running test has started."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen":
        _started.append(str(arguments[0]))


sys.addaudithook(_audit)


@pytest.fixture(autouse=True)
def live_is_marked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that starts a process without being marked as live."""
    yield
    started = _started.copy()
    _started.clear()
    if started and request.node.get_closest_marker("live") is None:
        pytest.fail(f"not marked as live, and starts {', '.join(started)}", pytrace=False)


@implementer(ILogObserver)
class CriticalEvents:
    """The critical log events of one test; a test that provokes some takes them with `flush`."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        """Note ``event`` when it is critical."""
        if event.get("log_level") is LogLevel.critical:
            self.events.append(event)

    def flush(self) -> list[LogEvent]:
        """Return the events so far and forget them."""
        # A Deferred with an unhandled failure reports it when it is collected.
        gc.collect()
        events, self.events = self.events, []
        return events


def pytest_collection_finish() -> None:
    """Hide all that the imports made from the collector.

    Each collection is then quick enough to run one after every test.
    """
    _started.clear()
    gc.collect()
    gc.freeze()


def _left_on_reactor(reactor: Any) -> set[Any]:
    internal: set[Any] = getattr(reactor, "_internalReaders", set())
    return {
        *(call for call in reactor.getDelayedCalls() if call.active()),
        *(reader for reader in reactor.getReaders() if reader not in internal),
        *reactor.getWriters(),
    }


@pytest.fixture(autouse=True)
def critical_events(request: pytest.FixtureRequest) -> Iterator[CriticalEvents]:
    """Fail a test that logs a critical event, unhandled failures of Deferreds included."""
    seen = CriticalEvents()
    globalLogPublisher.addObserver(seen)
    try:
        yield seen
        if isinstance(request.instance, SynchronousTestCase):
            seen.events.clear()  # trial has looked at these itself, and knows what was expected
        left = seen.flush()
        gc.freeze()  # what is still there stays: the next collection need not look at it
    finally:
        globalLogPublisher.removeObserver(seen)
    if left:
        texts = [_describe(event) for event in left]
        pytest.fail("critical log events:\n" + "\n".join(texts), pytrace=False)


def _describe(event: LogEvent) -> str:
    failure = event.get("log_failure")
    text = formatEvent(event)
    return text if failure is None else f"{text}\n{failure.getTraceback()}"


@pytest.fixture(autouse=True)
def clean_reactor() -> Iterator[None]:
    """Fail a test that leaves a delayed call, a reader or a writer on the global reactor.

    Most tests run on a `task.Clock`; a reactor that nobody has imported is not imported here.
    """
    name = "twisted.internet.reactor"
    before = _left_on_reactor(sys.modules[name]) if name in sys.modules else set()
    yield
    if name not in sys.modules:
        return
    reactor = cast("Any", sys.modules[name])
    left = _left_on_reactor(reactor) - before
    for item in left:
        # Clear up, so that the next test does not suffer for this one.
        if hasattr(item, "cancel"):
            item.cancel()
        else:
            reactor.removeReader(item)
            reactor.removeWriter(item)
    if left:
        listing = "\n".join(str(item) for item in left)
        pytest.fail(f"left on the reactor:\n{listing}", pytrace=False)
