"""What the sockets of one listener share: rules of clients, and replies that are ready."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, cast

from staggerdns.policy.groups import Groups
from staggerdns.server.listenercontext import MAX_REMEMBERED, CurrentGroups, ListenerContext
from staggerdns.server.ready import ReadyTables
from staggerdns.settings.addresses import Listener, parse_listener
from staggerdns.settings.networks import Network
from staggerdns.settings.policy import GroupSettings

if TYPE_CHECKING:
    from staggerdns.policy.rules import Rules

GUESTS = parse_listener("127.0.0.1:5300")


class CountingGroups(Groups):
    """Groups whose rules are their names, and that count how often they are asked."""

    def __init__(self) -> None:
        rules = cast("dict[str, Rules]", {name: name for name in ("default", "kids", "guests")})
        super().__init__(
            {
                "kids": GroupSettings(clients=(Network("10.0.0.0/8"),)),
                "guests": GroupSettings(listeners=(GUESTS,)),
            },
            rules,
        )
        self.asked = 0

    def find(self, host: str, listener: Listener | None) -> Rules:
        """Count, and find."""
        self.asked += 1
        return super().find(host, listener)


def test_nobody_has_rules() -> None:
    """Without groups there are none."""
    assert ListenerContext(GUESTS, CurrentGroups(None), {}).rules("10.0.0.1") is None


def test_rules_of_clients() -> None:
    """Each is looked for once, at each listener on its own."""
    groups = CountingGroups()
    guests, elsewhere = (ListenerContext(one, CurrentGroups(groups), {}) for one in (GUESTS, None))
    for _ in range(3):
        assert cast("str", guests.rules("192.0.2.1")) == "guests"
        assert cast("str", elsewhere.rules("192.0.2.1")) == "default"
        assert cast("str", guests.rules("10.0.0.1")) == "kids"
    assert groups.asked == 3


def test_memory_limit() -> None:
    """`MAX_REMEMBERED` clients are remembered; one more, and all others are forgotten."""
    groups = CountingGroups()
    context = ListenerContext(None, CurrentGroups(groups), {})
    first = ip_address("10.0.0.0")
    for _ in range(2):
        for number in range(MAX_REMEMBERED):
            context.rules(str(first + number))
    assert groups.asked == MAX_REMEMBERED
    context.rules("192.0.2.1")
    context.rules("192.0.2.1")
    assert groups.asked == MAX_REMEMBERED + 1
    context.rules(str(first))
    assert groups.asked == MAX_REMEMBERED + 2


def test_ready_replies() -> None:
    """There are those of each transport, whose tables all listeners have in common."""
    tables = {"udp": ReadyTables(), "tcp": ReadyTables()}
    one, two = (
        ListenerContext(listener, CurrentGroups(None), tables) for listener in (GUESTS, None)
    )
    assert one.ready.keys() == two.ready.keys() == tables.keys()
    assert one.ready["udp"] is not two.ready["udp"]
