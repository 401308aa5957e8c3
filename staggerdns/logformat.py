"""How an event of the log becomes a line: text for people or JSON for programs (docs/operating.rst,
The log).

JSON is one object a line: when, how bad, by whom, the message, and whatever the event says in
fields of its own. Neither shows objects of the program by their addresses in memory: those tell
nobody anything, and are other ones after each start.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Self

from twisted.logger import LogEvent, LogLevel, formatEvent, formatEventAsClassicLogText
from twisted.python.failure import Failure

NAMESPACE = "staggerdns"
"""Whose events are ours."""

_ADDRESS = re.compile(r"<(?:[\w.]+\.)?(\w+)(?: object)? at 0x[0-9a-fA-F]+>")
_REST_OF_ADDRESS = re.compile(r"(?: object)? at 0x[0-9a-fA-F]+")
_CLASS = re.compile(r"<class '(?:[\w.]+\.)?(\w+)'>")
_OLD_STYLE = frozenset(("message", "time", "system", "isError", "format", "failure", "why"))
"""Keys that events of ``twisted.python.log`` have; what they say is in the message."""


class Listed(tuple[str, ...]):
    """Several values of an event: a list for programs, with commas between them for people."""

    __slots__ = ()

    def __new__(cls, values: Iterable[object]) -> Self:
        """Make it of whatever can be shown as text."""
        return super().__new__(cls, map(str, values))

    def __str__(self) -> str:
        return ", ".join(self)

    def __format__(self, specification: str) -> str:
        return format(str(self), specification)


def level_of(event: LogEvent) -> LogLevel:
    """Return how bad an event is. What Twisted remarks about its own objects, in the style that its
    log once had, is for whoever looks for defects.
    """
    level: LogLevel = event.get("log_level") or LogLevel.info
    return LogLevel.debug if level is LogLevel.info and _is_old_style(event) else level


def as_text(event: LogEvent) -> str | None:
    """Return an event as people read it, a traceback in indented lines below it; `None` if it says
    nothing.
    """
    text = formatEventAsClassicLogText(event)
    return text and _without_addresses(text)


def as_json(event: LogEvent) -> str | None:
    """Return an event as one line with one JSON object; `None` if it says nothing."""
    message = formatEvent(event)
    failure = event.get("log_failure")
    if not message and failure is None:
        return None
    line: dict[str, object] = {
        "time": datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds"),
        "level": level_of(event).name,
        "logger": event.get("log_namespace", ""),
        "message": _without_addresses(message),
    }
    if isinstance(failure, Failure):
        line["traceback"] = _without_addresses(failure.getTraceback())
    return json.dumps(line | {key: one for key, one in _fields(event) if key not in line}) + "\n"


FORMATS = {"text": as_text, "json": as_json}
"""What makes a line of an event, by the values of ``log.format``."""


def _fields(event: LogEvent) -> Iterator[tuple[str, object]]:
    """Yield what an event says beside its message: all of one of ours, plain values of others."""
    ours = event.get("log_namespace") == NAMESPACE
    for key, value in event.items():
        if key.startswith("log_") or (key in _OLD_STYLE and not ours):
            continue
        if ours or isinstance(value, str | int | float | None):
            yield key, _plain(value)


def _plain(value: Any) -> object:
    """Return a value as JSON can have it."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, tuple | list):
        return [*map(_plain, value)]
    return _without_addresses(str(value))


def _is_old_style(event: LogEvent) -> bool:
    return event.get("log_namespace") == "log_legacy"


def _without_addresses(text: str) -> str:
    if "<" not in text and "0x" not in text:
        return text
    return _REST_OF_ADDRESS.sub("", _ADDRESS.sub(r"\1", _CLASS.sub(r"\1", text)))
