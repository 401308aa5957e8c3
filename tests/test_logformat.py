"""Lines of the log (docs/operating.rst, The log): as text, as JSON, from which level on."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pytest
from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    Logger,
    LogLevel,
    LogPublisher,
    textFileLogObserver,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from staggerdns.journal import LEVELS, Journal, LogShape
from staggerdns.logformat import Listed, as_json, as_text
from staggerdns.settings.sections import LogSettings

WHEN = 1_700_000_000.25


class Thing:
    """Something whose representation tells nobody anything."""


def event(format: str = "it works {works}", **fields: Any) -> dict[str, Any]:
    """An event of ours, with what `Logger` gives it."""
    ours = {"log_namespace": "staggerdns", "log_level": LogLevel.info, "log_time": WHEN}
    return {**ours, "log_format": format, "log_source": Thing(), "works": "well", **fields}


def failed(text: str = "x") -> Failure:
    """A failure with a traceback."""
    try:
        int(text)
    except ValueError:
        return Failure()
    raise AssertionError(text)


def loaded(logged: dict[str, Any]) -> dict[str, Any]:
    """What the line of an event holds."""
    text = as_json(logged)
    assert text is not None
    assert text.endswith("\n")
    assert text.count("\n") == 1
    found: dict[str, Any] = json.loads(text)
    return found


class Log:
    """A log that has begun as the program's does, and what was written."""

    def __init__(self, level: str = "info", format: str = "text") -> None:
        self.publisher = LogPublisher()
        self.journal = Journal(level, Logger(namespace="staggerdns", observer=self.publisher))
        self.shape = LogShape(self.journal, LogSettings(format=format))
        self.file = io.StringIO()
        self.publisher.addObserver(self.shape.shaped(textFileLogObserver(self.file)))

    @property
    def lines(self) -> list[str]:
        """What was written."""
        return self.file.getvalue().splitlines()

    def legacy(self, text: str, *, is_error: bool = False) -> None:
        """Publish an event as ``twisted.python.log`` does."""
        level = LogLevel.critical if is_error else LogLevel.info
        self.publisher(
            {
                "log_namespace": "log_legacy",
                "log_system": "-",
                "log_level": level,
                "log_format": "{log_text}",
                "log_text": text,
                "log_time": WHEN,
                "message": (text,),
                "isError": int(is_error),
                "system": "-",
                "time": WHEN,
            }
        )


def test_json() -> None:
    """Time, level, who, the message and the fields; nothing that Twisted adds for itself."""
    assert loaded(event(count=3, share=0.5, on=True, why=None)) == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "level": "info",
        "logger": "staggerdns",
        "message": "it works well",
        "works": "well",
        "count": 3,
        "share": 0.5,
        "on": True,
        "why": None,
    }


def test_the_order_of_json() -> None:
    """A person who looks at it sees what matters first."""
    assert [*loaded(event())] == ["time", "level", "logger", "message", "works"]


def test_fields_that_are_more_than_plain() -> None:
    """Lists are lists; others are told in words; what JSON has no numbers for is text."""
    found = loaded(event(all=Listed(["a", 1]), nan=math.nan, inf=-math.inf, thing=Thing()))
    assert (found["all"], found["nan"], found["inf"], found["thing"]) == (
        ["a", "1"],
        *("nan", "-inf", "Thing"),
    )


def test_no_field_takes_the_place_of_ours() -> None:
    """Whatever an event calls its fields."""
    found = loaded(event("{level}", level=9, time="now", logger=1, message="no"))
    assert (found["level"], found["message"], found["logger"]) == ("info", "9", "staggerdns")
    assert found["time"].startswith("2023")


def test_text_that_is_odd() -> None:
    """A line stays a line, and is ASCII, whatever is in it."""
    assert loaded(event(works="ä\n\x1b\ud800"))["message"] == "it works ä\n\x1b\ud800"
    assert (as_json(event(works="ä\n\x1b\ud800")) or "").isascii()


def test_fields_of_others() -> None:
    """Their numbers and words are there; their objects are not, nor what events once had."""
    found = loaded(
        event("{reactor} {what!r}", log_namespace="twisted.x", reactor="epoll", what=Thing())
        | {"message": (), "isError": 0, "system": "-", "time": WHEN, "size": 3}
    )
    assert found.keys() == {"time", "level", "logger", "message", "reactor", "works", "size"}
    assert found["message"] == "epoll Thing"


def test_failures() -> None:
    """The traceback is a field of its own in JSON, and lines below the first in text."""
    broken = event("a defect", log_failure=failed(), log_level=LogLevel.critical)
    found = loaded(broken)
    assert found["message"] == "a defect"
    assert found["traceback"].startswith("Traceback (most recent call last):\n")
    assert found["traceback"].rstrip().endswith("base 10: 'x'")
    first, *others = (as_text(broken) or "").splitlines()
    assert first.endswith("[staggerdns#critical] a defect")
    assert all(line.startswith("\t") for line in others)
    assert any("'x'" in line for line in others)


def test_events_that_say_nothing() -> None:
    """They leave no line; a failure without words leaves its traceback."""
    silent = {"log_time": WHEN, "log_level": LogLevel.info, "log_namespace": "x"}
    assert (as_json(silent), as_text(silent)) == (None, None)
    assert "ValueError" in loaded(silent | {"log_failure": failed()})["traceback"]


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        ("<staggerdns.server.factory.Factory object at 0x7f0aBC>", "Factory"),
        ("<Deferred at 0x7f00>", "Deferred"),
        ("<Deferred at 0x7f00 current result: None>", "<Deferred current result: None>"),
        ("<bound method A.b of <x.A object at 0x7f00>>", "<bound method A.b of A>"),
        ("<function f at 0x7f00>", "<function f>"),
        ("<x.f.<locals>.C object at 0x7f00>", "<x.f.<locals>.C>"),
        ("<class 'twisted.internet.error.ConnectionDone'>", "ConnectionDone"),
        ("<b> at 0x", "<b> at 0x"),
        ("ttl < 5", "ttl < 5"),
    ],
)
def test_no_addresses_in_memory(shown: str, told: str) -> None:
    """In no part of a line: the message, a field, the text of an exception."""
    for line in (as_text(event(works=shown)), as_json(event(works=shown))):
        assert line is not None
        assert "0x7f" not in line
    found = loaded(event(works=shown, log_failure=failed(shown)))
    assert found["message"] == f"it works {told}"
    assert found["works"] == told
    assert found["traceback"].rstrip().strip("\"'").endswith(told)


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize("level", LEVELS)
def test_levels(level: str, format: str) -> None:
    """One level counts for us and for others, for warnings and for tracebacks; what is announced is
    told at every level.
    """
    log = Log(level, format)
    others = Logger(namespace="twisted.x", observer=log.publisher)
    for tell in (log.journal.debug, log.journal.info, log.journal.warn):
        tell("ours")
    for which in LEVELS:
        others.emit(LogLevel.levelWithName(which), "theirs")
    others.failure("both", Failure(ValueError()))
    log.journal.announce("always")
    said = "".join(log.lines)
    count = len(LEVELS) - LEVELS.index(level)
    assert [said.count(word) for word in ("ours", "theirs", "always")] == [count - 1, count, 1]
    assert "both" in said
    assert "ValueError" in said


def test_another_level() -> None:
    """It may change while the program runs, and counts for Twisted's lines as well."""
    log = Log("error")
    log.journal.level = "debug"
    assert (log.journal.level, log.journal.verbose) == ("debug", True)
    Logger(namespace="twisted.x", observer=log.publisher).debug("theirs")
    log.journal.debug("ours")
    assert len(log.lines) == 2
    log.journal.level = "warn"
    assert not log.journal.verbose
    log.journal.info("ours")
    assert len(log.lines) == 2


def test_what_twisted_remarks_on_its_objects() -> None:
    """It is for those who look for defects; what goes wrong is told."""
    for level, count in (("info", 0), ("debug", 1)):
        log = Log(level)
        log.legacy("Factory starting on 53")
        assert len(log.lines) == count
    log = Log("error", "json")
    log.legacy("broken", is_error=True)
    (line,) = log.lines
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "level": "critical",
        "logger": "log_legacy",
        "message": "broken",
    }


@implementer(ILogObserver)
class Heard:
    """An observer that writes no lines, as that of a system log."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, event: Any) -> None:
        """Keep it."""
        self.events.append(event)


def test_observers_that_write_no_lines() -> None:
    """They hear what is left by the level, as it is."""
    heard = Heard()
    observer = LogShape(Journal("warn"), LogSettings(format="json")).shaped(heard)
    info = event(log_namespace="twisted.x")
    warning = info | {"log_level": LogLevel.warn}
    for one in (info, warning):
        observer(one)
    assert heard.events == [warning]


def test_a_file_of_ones_own() -> None:
    """What makes an observer of a file gives it lines of the same form."""
    file = io.StringIO()
    observer = LogShape(Journal(), LogSettings(format="json")).observer(file)
    assert isinstance(observer, FileLogObserver)
    observer(event())
    assert json.loads(file.getvalue())["message"] == "it works well"


def test_several_values() -> None:
    """People read commas."""
    several = Listed(["a", 2])
    assert (f"{several}", str(several), f"{several:>5}") == ("a, 2", "a, 2", " a, 2")
