"""The second level over reloads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from twisted.internet.defer import succeed
from twisted.internet.testing import MemoryReactorClock

from staggerdns.journal import Journal
from staggerdns.settings.addresses import Endpoint
from staggerdns.settings.sections import RankingSettings
from staggerdns.settings.shared import SharedSettings
from staggerdns.settings.stores import StoreAddress
from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.settings.values import Seconds
from staggerdns.shared.flushes import EVERYTHING, Flush, NumberedFlush, Polled
from staggerdns.shared.shared import Shared
from tests.kit.acts import name

if TYPE_CHECKING:
    from staggerdns.shared.flushes import Flushes

WWW = Flush(name("www.example"), below=False)
STORE = SharedSettings(url=StoreAddress(Endpoint("127.0.0.1", 6379)))
ELSEWHERE = SharedSettings(url=StoreAddress(Endpoint("127.0.0.2", 6379)))


def flushes_of(shared: Shared) -> Flushes:
    """What is known of flushes."""
    level = shared.of(bytes(16), frozenset(), ParallelSettings())
    assert level is not None
    return level.access.flushes


@pytest.mark.parametrize("is_same", [True, False])
def test_flushes_over_a_reload(*, is_same: bool) -> None:
    """What is known of a store stays with it: who has missed a flush finds that out. Another store
    does not know what waits to be told.
    """
    reactor = MemoryReactorClock()
    shared = Shared(reactor, reactor, Journal(), lambda _: succeed(()), lambda: None)
    done: list[Flush] = []
    shared.apply_flush = lambda flush, _: done.append(flush)
    shared.use(STORE, RankingSettings())
    flushes_of(shared).heard(Polled(5, 5, [NumberedFlush(5, 0, 5, None)]), 0.0)
    shared.flush(WWW)
    if is_same:
        shared.use(SharedSettings(url=STORE.url, timeout=Seconds(0.1)), RankingSettings())
    else:
        shared.use(ELSEWHERE, RankingSettings())
    assert [*flushes_of(shared).pending] == [WWW]
    assert flushes_of(shared).epoch == (5 if is_same else 0)
    flushes_of(shared).heard(Polled(9, 9, [NumberedFlush(9, 8, 9, WWW)]), 1.0)
    assert done == [EVERYTHING, WWW]
    shared.close()
    assert reactor.getDelayedCalls() == []
