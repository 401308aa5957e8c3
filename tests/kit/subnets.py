"""A resolver whose answers depend on the client subnet that it is told (RFC 7871)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dns.edns
import dns.message

from tests.kit import behaviours as b
from tests.kit.scripted import Behaviour, Query, Send

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.kit.scripted import Action

OFF = "0.0.0.0/0"
NOTHING = ""
"""What `told` returns for a query with the subnet of no bits, and for one without the option."""


def subnets(message: dns.message.Message) -> list[dns.edns.ECSOption]:
    """The options of a message that tell a client subnet."""
    return [option for option in message.options if isinstance(option, dns.edns.ECSOption)]


def told(message: dns.message.Message) -> str:
    """What a query says of where clients are, such as ``192.0.2.0/24``."""
    found = [f"{one.address}/{one.srclen}" for one in subnets(message)]
    assert len(found) <= 1
    return found[0] if found else NOTHING


def by_subnet(table: Mapping[str, str], *, echo: str | None = None) -> Behaviour:
    """Answer with the address that ``table`` has for the subnet of the query, and say so in the
    reply; ``echo``: name that subnet there, whatever was asked.
    """

    def behave(query: Query) -> list[Action]:
        subnet = told(query.parsed)
        reply = dns.message.from_wire(b.reply(query, [(None, 300, "A", table[subnet])]))
        named = echo or subnet
        if named:
            address, _, length = named.partition("/")
            option = dns.edns.ECSOption(address, int(length), int(length))
            reply.use_edns(0, payload=1232, options=[*reply.options, option])
        return [Send(reply.to_wire())]

    return behave
