"""How many addresses a reply holds: `ranking.max_addresses` (docs/specification.rst, Order)."""

from __future__ import annotations

import pytest
from twisted.internet.testing import MemoryReactorClock

from staggerdns.chain import Chain
from staggerdns.config import parse_config
from staggerdns.resolver.entry import Entry
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.question import Question
from staggerdns.wire.sections import SectionsAnswer
from tests.kit.acts import name
from tests.kit.ranked import WWW, asks, packed, pool, sections_answer, shown


class Limited:
    """A chain as it is built from a configuration, with this limit."""

    def __init__(self, most: int, *, ranking: str = "probes: ['tcp:443']", cache: str = "") -> None:
        self.clock = MemoryReactorClock()
        text = (
            "upstream: {servers: [192.0.2.1]}\n"
            f"ranking: {{{ranking}, max_addresses: {most}}}\ncache: {{{cache}}}\n"
        )
        self.cache = Chain(parse_config(text), self.clock, clock=self.clock).cache

    def put(self, answer: AddressPool | SectionsAnswer, question: Question = WWW) -> Entry:
        """Commit an answer whose collection ends at once; its entry."""
        now = self.clock.seconds()
        self.cache.commit(question.key, 1, answer, now)
        self.cache.complete(question.key, 1)
        entry = self.cache.lookup(question.key, now)
        assert entry is not None
        return entry

    def given(self, entry: Entry) -> tuple[list[int], int]:
        """What a client gets now: last octets and the TTL."""
        now = self.clock.seconds()
        addresses = self.cache.living(entry, now).addresses
        return [address[-1] for address in addresses], self.cache.reply_ttl(entry, now)


@pytest.mark.parametrize("ranking", ["probes: ['tcp:443']", "enabled: false"])
@pytest.mark.parametrize(("most", "count"), [(0, 4), (1, 1), (3, 3), (4, 4), (5, 4)])
def test_so_many_at_most(ranking: str, most: int, count: int) -> None:
    """The first ones are given, and all of them stay in the pool."""
    limited = Limited(most, ranking=ranking)
    entry = limited.put(pool(10, 20, 30, 40))
    assert limited.given(entry)[0] == [10, 20, 30, 40][:count]
    assert shown(entry) == [10, 20, 30, 40]


def lived() -> AddressPool:
    """A pool whose addresses live for 40, 20 and 30 seconds."""
    lives = dict(zip(packed(1, 2, 3), (40, 20, 30), strict=True))
    return AddressPool((name("alias.example"),), packed(1), 40, ad=False).having(lives)


@pytest.mark.parametrize(
    ("most", "age", "expected"),
    [
        (0, 0, ([1, 2, 3], 20)),
        (1, 0, ([1], 40)),
        (2, 0, ([1, 2], 20)),
        (2, 16, ([1, 3], 14)),  # the second one is too old to be given
        (1, 38, ([1], 2)),
    ],
)
def test_ttl_of_what_is_given(most: int, age: int, expected: tuple[list[int], int]) -> None:
    """Addresses that are not given do not shorten it; others take the place of those too old."""
    limited = Limited(most, ranking="enabled: false")
    entry = limited.put(lived())
    limited.clock.rightNow += age
    assert limited.given(entry) == expected


def test_never_under_do() -> None:
    """One upstream's answer is whole: a signature covers all of its addresses."""
    limited = Limited(1)
    entry = limited.put(sections_answer(asks(do=True), 10, 20, 30), asks(do=True))
    assert limited.given(entry)[0] == [10, 20, 30]
