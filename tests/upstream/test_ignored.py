"""A reply whose addresses are all ignored counts as none: over UDP the right one may follow."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest_twisted

from staggerdns.upstream.reason import Reason
from staggerdns.wire.addressfilter import AddressFilter
from staggerdns.wire.judge import Judge
from staggerdns.wire.question import make_question
from staggerdns.wire.verdict import Verdict
from tests.kit import behaviours as b
from tests.kit.acts import A, name
from tests.kit.loopback import LoopbackUpstream, addresses, loopback_upstream, no_connections, until
from tests.kit.scripted import ScriptedUpstream

if TYPE_CHECKING:
    from staggerdns.upstream.exchange import Exchange

GOOD = b.answers("203.0.113.1")
POISON = b.answers("203.0.113.66")


def start(asked: LoopbackUpstream) -> Exchange:
    """Ask, with the poison ignored."""
    rules = AddressFilter([ip_network("203.0.113.66")], [])
    judge = Judge(make_question(name("www.example"), A), address_filter=rules)
    return asked.upstream.ask(judge, "active", asked.clock.seconds())


@pytest_twisted.ensureDeferred
async def test_the_right_reply_behind_a_forged_one() -> None:
    """Somebody on the way is faster than the server: what he says is passed over, the reply of the
    server is the answer. Others are asked meanwhile.
    """
    with (
        ScriptedUpstream(b.preceded_by(POISON, GOOD)) as server,
        loopback_upstream(server.endpoint) as asked,
    ):
        exchange = start(asked)
        hints: list[Exchange] = []
        exchange.on_hint = hints.append
        outcome = await exchange.deferred()
        assert addresses(outcome) == ["203.0.113.1"]
        assert hints == [exchange]
        assert asked.marks == 0


@pytest_twisted.ensureDeferred
async def test_nothing_follows() -> None:
    """When the time is up the reason is known, and it is no mark."""
    with ScriptedUpstream(POISON) as server, loopback_upstream(server.endpoint) as asked:
        exchange = start(asked)
        await until(lambda: exchange.hinted is not None)
        assert not exchange.over
        exchange.expire()
        outcome = await exchange.deferred()
        assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, Reason.IGNORED)
        assert asked.marks == 0
        assert asked.upstream.inflight == 0


@pytest_twisted.ensureDeferred
async def test_over_a_stream() -> None:
    """There nobody forges, and no other reply follows: it ends at once."""
    with ScriptedUpstream(POISON) as server, loopback_upstream(server.endpoint, "tcp://") as asked:
        outcome = await start(asked).deferred()
        assert (outcome.verdict, outcome.reason) == (Verdict.NETWORK_ERROR, Reason.IGNORED)
        assert asked.marks == 0
    await no_connections()
