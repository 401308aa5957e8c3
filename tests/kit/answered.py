"""Answers as they are told of, and threads that tests can stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from staggerdns.server.answered import Answered
from staggerdns.server.sources import CACHE
from staggerdns.settings.addresses import parse_listener
from tests.kit.messages import ask, client_query, upstream_reply

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENT = "192.0.2.77"
SHOWN: dict[str, Any] = {
    "time": "2027-01-15T08:00:00.250+00:00",
    "client": CLIENT,
    "transport": "udp",
    "name": "www.example.com.",
    "type": "A",
    "rcode": "NOERROR",
    "source": "cache",
    "list": "",
    "ms": 12.5,
    "addresses": ["198.18.0.1"],
}
"""What the query log and watchers show of `answered`, with all of its client."""


def answered(
    name: str = "www.example.com.",
    *,
    client: str = CLIENT,
    source: str = CACHE,
    address: str = "198.18.0.1",
    **more: Any,
) -> Answered:
    """An answer with one address, 12.5 ms after its query came in 2027."""
    values: dict[str, Any] = {
        "time": 1_800_000_000.25,
        "transport": "udp",
        "listener": parse_listener("192.0.2.1:53"),
        "query": client_query(name),
        "reply": upstream_reply(ask(name), [f"{name} 300 A {address}"]),
        "seconds": 0.0125,
        "list": "",
    }
    return Answered(client=client, source=source, **{**values, **more})


class Reactor(Clock):
    """A clock that threads call back by."""

    def callFromThread(self, call: Any, *args: Any) -> None:
        """Call at once."""
        call(*args)


class Hand:
    """Does jobs at once, or those that wait when it is told to; raises what they raise."""

    def __init__(self, *_: object) -> None:
        self.stuck = False
        self.stopped = False
        self._waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def run(self, job: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Do a job, or keep it."""
        if self.stuck:
            done: Deferred[Any] = Deferred(lambda _: None)
            self._waiting.append((done, lambda: job(*args)))
            return done
        return _result(lambda: job(*args))

    def go_on(self) -> None:
        """Do what waits, and be stuck no more."""
        self.stuck = False
        waiting, self._waiting = self._waiting, []
        for done, job in waiting:
            _result(job).chainDeferred(done)

    def stop(self) -> None:
        """Do no more."""
        self.stopped = True


def _result(job: Callable[[], Any]) -> Deferred[Any]:
    try:
        return succeed(job())
    except Exception:  # noqa: BLE001 (it goes to whoever wants the result)
        return fail()
