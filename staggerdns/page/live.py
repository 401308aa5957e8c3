"""Answers as they happen, for browsers that watch (server-sent events, WHATWG HTML section 9.2).

All that is done for an answer is to remember it: the latest `ROWS` of them are kept, however many
watch, while anybody does. Four times a second each viewer is sent what has come since; the text is
made once for all that are shown the same. One who does not read, or cannot be sent as much as
there is, misses rows, and is told how many. Nobody waits for a viewer: what is written to one is
bounded, and one that has not read for the idle time of his connection is dropped.

Viewers have connections of their own (`Connections`), so that they take none from Prometheus.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from staggerdns.instruments import Cell
from staggerdns.page.shows import Shows
from staggerdns.server.answered import Answered, AnswerHub
from staggerdns.server.clientgroups import ClientGroups
from staggerdns.server.connections import Connections
from staggerdns.server.http1 import Http1Request
from staggerdns.server.status import MAX_VIEWERS, StatusConnection
from staggerdns.settings.sections import ClientSettings, ServerSettings

ROWS = 200
"""Rows that a viewer is sent at once, the latest."""
SEND_EVERY = 0.25
"""Seconds from one sending to the next."""
QUIET = 15.0
"""Seconds without a row after which a viewer is sent a comment, which shows that he is there."""
MAX_ADDRESSES = 8
"""Addresses of a row; how many more there are is said."""
LIMITS = ServerSettings(
    tcp_idle_timeout=30.0, tcp_max_connections=MAX_VIEWERS, tcp_max_per_client=MAX_VIEWERS
)
"""Limits of viewers, whether they are of one client or of several."""
MEDIA_TYPE = b"text/event-stream"
_COMMENT = b":\n\n"


class Viewer:
    """One who watches: ``request`` has come by ``visitor`` and gets what ``shows`` says.

    ``seen``: how many answers there had been at the last sending; ``lost``: how many of them he
    missed; ``sent_at``: when he was sent something.
    """

    __slots__ = ("request", "visitor", "shows", "seen", "lost", "sent_at")

    def __init__(
        self,
        request: Http1Request,
        visitor: StatusConnection,
        shows: Shows,
        seen: int,
        now: float,
    ) -> None:
        self.request = request
        self.visitor = visitor
        self.shows = shows
        self.seen = seen
        self.lost = 0
        self.sent_at = now


class Viewers:
    """All who watch what ``hub`` tells; ``refused`` and ``dropped`` count as for `Connections`."""

    def __init__(
        self, hub: AnswerHub, clock: IReactorTime, *, refused: Cell, dropped: Cell
    ) -> None:
        self.open: list[Viewer] = []
        self._hub = hub
        self._clock = clock
        self._connections = Connections(
            LIMITS, clock, ClientGroups(ClientSettings(exempt=())), refused=refused, dropped=dropped
        )
        self._latest: deque[Answered] = deque(maxlen=ROWS)
        self._heard = 0
        self._unsubscribe: Callable[[], object] | None = None
        self._loop = LoopingCall(self._send)
        self._loop.clock = clock

    def admit(
        self,
        request: Http1Request,
        visitor: StatusConnection,
        shows: Shows,
        fields: list[tuple[bytes, bytes]],
    ) -> bool:
        """Let somebody watch, if there is room; return whether there is. ``fields``: the header of
        the response.
        """
        if not visitor.move_to(self._connections):
            return False
        viewer = Viewer(request, visitor, shows, self._heard, self._clock.seconds())
        self.open.append(viewer)
        request.notifyFinish().addBoth(lambda _: self._remove(viewer))
        request.begin(fields)
        request.write(_COMMENT)
        if self._unsubscribe is None:
            self._unsubscribe = self._hub.subscribe(self._hear)
            self._loop.start(SEND_EVERY, now=False)
        return True

    def close(self) -> None:
        """End what all of them watch; they may come again."""
        for viewer in [*self.open]:
            viewer.request.end()

    def abort(self) -> None:
        """Drop all of them."""
        self._connections.abort()
        for viewer in [*self.open]:
            self._remove(viewer)

    def _hear(self, answered: Answered) -> None:
        self._latest.append(answered)
        self._heard += 1

    def _remove(self, viewer: Viewer) -> None:
        if viewer in self.open:
            self.open.remove(viewer)
        if not self.open and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
            self._loop.stop()
            self._latest.clear()

    def _send(self) -> None:
        now = self._clock.seconds()
        latest = list(self._latest)
        texts: dict[tuple[Shows, int], bytes] = {}
        for viewer in [*self.open]:
            if viewer.visitor.blocked:
                continue
            fresh = self._heard - viewer.seen
            if fresh:
                shown = min(fresh, len(latest))
                key = viewer.shows, shown
                text = texts.get(key)
                if text is None:
                    text = texts[key] = _rows(latest[len(latest) - shown :], viewer.shows)
                viewer.seen = self._heard
                if fresh > shown:
                    viewer.lost += fresh - shown
                    text += _event("lost", {"lost": viewer.lost})
            elif now - viewer.sent_at >= QUIET:
                text = _COMMENT
            else:
                continue
            viewer.sent_at = now
            viewer.visitor.query_began()  # his connection is in use
            viewer.request.write(text)


def row(answered: Answered, shows: Shows) -> dict[str, Any]:
    """Return what is shown of an answer."""
    addresses = answered.addresses if shows.names else []
    return {
        "time": round(answered.time, 3),
        "client": answered.client if shows.clients else None,
        "transport": answered.transport,
        "name": answered.name_text if shows.names else None,
        "type": answered.type_text,
        "source": answered.source,
        "ms": round(1000 * answered.seconds, 3),
        "rcode": answered.rcode_text,
        "addresses": addresses[:MAX_ADDRESSES],
        "more": max(0, len(addresses) - MAX_ADDRESSES),
        "list": answered.list,
    }


def _rows(answers: Sequence[Answered], shows: Shows) -> bytes:
    return _event("rows", [row(answered, shows) for answered in answers])


def _event(name: str, data: object) -> bytes:
    """Return an event; JSON has no line feeds, which would end its data."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))
