"""The JSON below ``/api/`` (docs/page.rst): what the page shows, and nothing that changes anything.

What the control socket tells as well is asked of it, so that both say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from staggerdns.control.operations import Program
from staggerdns.control.peers import Peer, Perform
from staggerdns.control.protocol import (
    BAD_REQUEST,
    BUSY,
    NOT_ALLOWED,
    VERSION,
    Refused,
    Result,
    StatusRequest,
    UpstreamsRequest,
    WhyRequest,
)
from staggerdns.page.history import History
from staggerdns.page.names import MAX_NAMES, MAX_QUERY, search
from staggerdns.page.shares import look_at
from staggerdns.page.shows import Shows
from staggerdns.policy.domains import in_turns

PAGE_SIZE = 100
"""Names of one page where a request does not say how many."""
DEFAULT_TYPE = "A"
"""The type that a name is explained for where a request does not say which."""
MAX_SEARCHES = 4
"""Searches under way at once."""
READER = Peer(pid=0, uid=-1, may_change=False)
"""Who the page is to the control socket: somebody who may read."""
_OF_STATUS = (
    "version",
    "build",
    "uptime",
    "phase",
    "ready",
    "answering",
    "listeners",
    "cache",
    "pending",
    "collections",
    "memory",
)
"""What of ``status`` the overview has as it is; paths and what is wrong in files are left out."""

Arguments = Mapping[str, str]
"""The query of a URL: each name with its first value."""
Answer = Callable[[Arguments, Shows], "Deferred[Result]"]


class Api:
    """Answers by path what is asked about ``program``; ``perform`` does it for what the control
    socket has as well. Each may raise `Refused`, or return a Deferred that fails with it.
    """

    def __init__(self, program: Program, perform: Perform, history: History) -> None:
        self._program = program
        self._perform = perform
        self._history = history
        self._searches = 0
        self.answers: Mapping[bytes, Answer] = {
            b"/api/overview": self._overview,
            b"/api/upstreams": self._upstreams,
            b"/api/names": self._names,
            b"/api/why": self._why,
        }

    def _overview(self, arguments: Arguments, shows: Shows) -> Deferred[Result]:
        def show(status: Result) -> Result:
            reload = status["reloads"]["last"]
            return {
                **{key: status[key] for key in _OF_STATUS},
                "reload": None
                if reload is None
                else {"ok": reload["ok"], "seconds_ago": reload["seconds_ago"]},
                "blocking": [
                    {"group": one["group"], "paused": one["paused"]} for one in status["blocking"]
                ],
                **self._history.shown(),
                "shows": shows._asdict(),
            }

        request = StatusRequest(version=VERSION, command="status")
        return self._perform(request, READER).addCallback(show)

    def _upstreams(self, arguments: Arguments, shows: Shows) -> Deferred[Result]:
        async def show() -> Result:
            request = UpstreamsRequest(version=VERSION, command="upstreams")
            upstreams = (await self._perform(request, READER))["upstreams"]
            looks = look_at(self._program.chain().traces)
            shares = await in_turns(looks, self._program.clock)
            return {
                "upstreams": [{**one, **shares.of(one["name"])} for one in upstreams],
                "collections": shares.collections,
            }

        return Deferred.fromCoroutine(show())

    def _names(self, arguments: Arguments, shows: Shows) -> Deferred[Result]:
        _need_names(shows)
        part, after = arguments.get("q", "").strip(), arguments.get("after", "")
        if len(part) > MAX_QUERY:
            raise Refused(BAD_REQUEST, f"expected at most {MAX_QUERY} characters to look for")
        limit = _number(arguments, "limit", PAGE_SIZE, MAX_NAMES)
        if self._searches >= MAX_SEARCHES:
            raise Refused(BUSY, "others are looking for names at the moment")
        self._searches += 1

        def end(result: Any) -> Any:
            self._searches -= 1
            return result

        steps = search(self._program.chain().cache, part, after, limit)
        return in_turns(steps, self._program.clock).addBoth(end)

    def _why(self, arguments: Arguments, shows: Shows) -> Deferred[Result]:
        _need_names(shows)
        request = WhyRequest(
            version=VERSION,
            command="why",
            name=arguments.get("name", ""),
            type=arguments.get("type", DEFAULT_TYPE),
        )
        return self._perform(request, READER)


def _need_names(shows: Shows) -> None:
    if not shows.names:
        raise Refused(NOT_ALLOWED, "names are not shown here: page.names can have them shown")


def _number(arguments: Arguments, key: str, default: int, most: int) -> int:
    """Return the number that an argument is, from 1 to ``most``."""
    text = arguments.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and 1 <= int(text) <= most):
        raise Refused(BAD_REQUEST, f"{key}: expected a number from 1 to {most}")
    return int(text)
