"""Odd servers behind the whole program, over real sockets; every kind is in tests/upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit import behaviours as b
from tests.kit.scripted import Send
from tests.kit.testbed import own_answer, own_set

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.kit.scripted import Action, Behaviour, Query

    from .conftest import BuildTestbed

NAMES = 8


def echoes_formerr(query: Query) -> Sequence[Action]:
    """Answer FORMERR, with the OPT record of the query, to any EDNS option."""
    if not query.parsed.options:
        return own_answer(0)(query)
    end = query.wire.index(b"\0\0\x29")
    header = query.wire[:2] + b"\x81\x81" + query.wire[4:12]
    return [Send(header + query.wire[12:end] + query.wire[end:])]


def drops_edns(query: Query) -> Sequence[Action]:
    """Answer nothing that has an OPT record."""
    return own_answer(0)(query) if query.parsed.edns < 0 else []


def compares_octets(query: Query) -> Sequence[Action]:
    """Deny names with capitals."""
    name = query.parsed.question[0].name.to_text()
    return (own_answer(0) if name == name.lower() else b.nxdomain())(query)


def lowers(query: Query) -> Sequence[Action]:
    """Write the question in lower case, over UDP; over TCP close at once."""
    if query.transport == "tcp":
        return b.closes_mid_message(own_answer(0))(query)
    (send,) = own_answer(0)(query)
    assert isinstance(send, Send)
    end = send.data.index(b"\0", 12)
    return [Send(send.data[:12] + send.data[12:end].lower() + send.data[end:])]


KINDS = [echoes_formerr, drops_edns, compares_octets, lowers]


@pytest.mark.parametrize("kind", KINDS)
def test_alone(build: BuildTestbed, kind: Behaviour) -> None:
    """The only upstream is odd: each name is answered, from the first on."""
    testbed = build([kind])
    for number in range(NAMES):
        assert set(testbed.ask(f"name{number}.example.").addresses) == set(own_set(0))


@pytest.mark.parametrize("kind", KINDS)
def test_two_of_five(build: BuildTestbed, kind: Behaviour) -> None:
    """Each name is answered, and no upstream is worse than healthy."""
    testbed = build([kind, kind, *(own_answer(index) for index in (2, 3, 4))])
    for number in range(NAMES):
        assert testbed.ask(f"name{number}.example.").addresses
    states = testbed.program.metrics().text.split("\n")
    shown = [line for line in states if line.startswith("staggerdns_upstream_state{")]
    assert len(shown) == 5
    assert all(line.endswith(" 0.0") for line in shown)


def test_keepalive(build: BuildTestbed) -> None:
    """The same over TCP alone, where the first query of a connection has an option."""
    testbed = build([echoes_formerr], scheme="tcp://")
    for number in range(NAMES):
        assert set(testbed.ask(f"name{number}.example.").addresses) == set(own_set(0))
