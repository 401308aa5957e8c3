"""A miss on its way through the code: docs/architecture.rst, The hops of a miss, says the truth."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from tests.kit.acts import says_own
from tests.kit.checkout import ROOT
from tests.kit.factory import make_factory
from tests.kit.messages import client_query
from tests.kit.simulated import SimulatedResolver

if TYPE_CHECKING:
    from types import FrameType

ROOMS = ("server", "resolver", "strategy", "upstream")
"""Those that a miss goes down through, and its reply up."""
TRANSPORTS = ("staggerdns/upstream/datagram.py", "staggerdns/server/datagram.py")
"""Where the hops are that a simulation without sockets does without."""


class Walk:
    """What is called in the package while ``step`` runs.

    ``modules``: in the order of their first calls. ``calls``: the module of the caller and the name
    of what it called. ``climbs``: the calls from one of the `ROOMS` to one above it, as that room
    and what it called; a call by way of Twisted is one of whoever called Twisted.
    """

    def __init__(self, step: Callable[[], object]) -> None:
        self.modules: list[str] = []
        self.calls: list[tuple[str | None, str]] = []
        self.climbs: list[tuple[str, str]] = []
        before = sys.getprofile()
        sys.setprofile(self._note)
        try:
            step()
        finally:
            sys.setprofile(before)

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        module = _module(frame)
        if event != "call" or module is None:
            return
        if module not in self.modules:
            self.modules.append(module)
        caller: FrameType | None = frame.f_back
        while caller is not None and _module(caller) is None:
            caller = caller.f_back
        self.calls.append(
            (_module(caller) if caller is not None else None, frame.f_code.co_qualname)
        )
        rooms = [_package(_module(one)) for one in (caller, frame) if one is not None]
        if len(rooms) == 2 and all(room in ROOMS for room in rooms):
            below, above = rooms
            if ROOMS.index(above) < ROOMS.index(below):
                self.climbs.append((below, frame.f_code.co_qualname))


def _module(frame: FrameType) -> str | None:
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(ROOT / "staggerdns"):
        return None
    return str(path.relative_to(ROOT))


def _package(module: str | None) -> str:
    return "" if module is None else module.split("/")[1]


def hops() -> list[str]:
    """Return the module of each numbered hop, as far as the simulation has it."""
    text = (ROOT / "docs" / "architecture.rst").read_text(encoding="utf-8")
    section = text.partition("\nThe hops of a miss\n")[2].partition("\n\n\n")[0]
    found = re.findall(r"^[0-9]+\. ``(staggerdns/[\w/.]+)``", section, re.MULTILINE)
    assert len(found) == 12
    return [module for module in found if module not in TRANSPORTS]


def test_the_hops_of_a_miss() -> None:
    """A query goes down through all rooms, and nothing is called upwards meanwhile. The reply goes
    up: each room calls the one that asked, once, and the modules are those of the page.
    """
    resolver = SimulatedResolver(says_own(0, 20), says_own(1, 30), says_own(2, 30))
    clock = resolver.clock
    factory = make_factory(resolver.cache, resolver.forwarder, clock, resolver.metrics)
    replies: list[bytes] = []

    def ask() -> None:
        waiting = factory.serve(client_query(), "127.0.0.1", "udp", clock.seconds())
        assert isinstance(waiting, Deferred)
        waiting.addCallback(replies.append)

    down = Walk(ask)
    assert down.climbs == []
    called = [name for _, name in down.calls]
    assert ("staggerdns/resolver/context.py", "Judge.__init__") in down.calls
    assert ("staggerdns/resolver/collection.py", "Parallel.ask") in down.calls
    assert called.index("Run.launch") < called.index("Pending.add")
    assert [launch.at for launch in resolver.launched] == [0, 0]
    up = Walk(lambda: resolver.run_to(20))
    assert replies
    assert up.climbs == [
        ("upstream", "Run._take"),
        ("strategy", "Collection.first"),
        ("resolver", "StaggerServerFactory._got_entry"),
    ]
    places = [down.modules.index(module) for module in hops()[:5]]
    assert places == sorted(places)
    places = [up.modules.index(module) for module in hops()[5:]]
    assert places == sorted(places)
    later = Walk(lambda: resolver.run_to(30))
    assert later.climbs == [("upstream", "Run._take"), ("strategy", "Collection.more")]
    last = Walk(resolver.run)
    assert last.climbs == [
        ("upstream", "Run._take"),
        ("strategy", "Collection.more"),
        ("strategy", "Collection.ended"),
    ]
