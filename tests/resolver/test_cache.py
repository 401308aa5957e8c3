"""The raw cache on its own: bound, order of use, ageing, stale phase, generations."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from staggerdns.resolver.freshness import FAILURE_TTL
from staggerdns.settings.sections import PrefetchSettings
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer, FailureAnswer
from staggerdns.wire.constants import Ede
from staggerdns.wire.question import Question, make_question
from tests.kit.acts import A, name, own
from tests.kit.cache import START, WWW, SimulatedCache, no_such_name

OTHER = make_question(name("other.example"), A)
FAILURE = FailureAnswer(Ede.OTHER, FAILURE_TTL)


def pool(*indexes: int, ttl: int = 300) -> AddressPool:
    """A pool of some upstreams' own addresses."""
    return AddressPool((), tuple(ip_address(own(index)).packed for index in indexes), ttl, ad=False)


def question(number: int) -> Question:
    """One question of many."""
    return make_question(name(f"n{number}.example"), A)


@pytest.mark.parametrize("limit", [1, 2, 10])
def test_bound(limit: int) -> None:
    """The cache takes exactly ``max_entries``; one more pushes one out, and that is counted."""
    simulated = SimulatedCache(max_entries=limit)
    entries = [
        simulated.cache.commit(question(number).key, number, pool(0), simulated.clock.seconds())
        for number in range(limit)
    ]
    assert len(simulated.cache) == limit
    assert simulated.metrics.cache_evictions.cell("max_entries").value == 0
    simulated.cache.commit(WWW.key, limit, pool(0), simulated.clock.seconds())
    assert len(simulated.cache) == limit
    assert simulated.metrics.cache_evictions.cell("max_entries").value == 1
    assert [entry.alive for entry in entries] == [False] + [True] * (limit - 1)
    assert simulated.cache.lookup(question(0).key, simulated.clock.seconds()) is None
    assert simulated.cache.lookup(WWW.key, simulated.clock.seconds()) is not None


def test_least_recently_used_goes() -> None:
    """A look-up and a commit both count as use."""
    simulated = SimulatedCache(max_entries=3)
    for number in range(3):
        simulated.cache.commit(question(number).key, 1, pool(0), simulated.clock.seconds())
    simulated.cache.lookup(question(0).key, simulated.clock.seconds())
    simulated.cache.commit(question(1).key, 1, pool(0, 1), simulated.clock.seconds())
    simulated.cache.commit(WWW.key, 2, pool(0), simulated.clock.seconds())
    assert simulated.cache.lookup(question(2).key, simulated.clock.seconds()) is None
    simulated.cache.commit(OTHER.key, 2, pool(0), simulated.clock.seconds())
    assert simulated.cache.lookup(question(0).key, simulated.clock.seconds()) is None
    assert simulated.cache.lookup(question(1).key, simulated.clock.seconds()) is not None


def test_no_timers() -> None:
    """Entries cost no timers, however many there are."""
    simulated = SimulatedCache()
    for number in range(100):
        simulated.cache.commit(
            question(number).key, 1, pool(0, ttl=number), simulated.clock.seconds()
        )
    assert simulated.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("age", "ttl"), [(0, 300), (0.999, 300), (1, 299), (10.5, 290), (298.9, 2), (299.9, 1)]
)
def test_ttl_ages(age: float, ttl: int) -> None:
    """The TTL given goes down with every second and never below one before the end."""
    simulated = SimulatedCache()
    simulated.cache.commit(WWW.key, 1, pool(0, ttl=300), simulated.clock.seconds())
    simulated.at(age)
    assert simulated.ttl() == ttl


@pytest.mark.parametrize(
    ("age", "ttl"),
    [(0, 600), (1, 599), (599, 1), (600, 600), (601, 599), (1199, 1), (1200, 600), (3500, 100)],
)
def test_user_return_ttl_steps(age: float, ttl: int) -> None:
    """A long TTL is given in steps: 600 s minus the age modulo 600."""
    simulated = SimulatedCache()
    simulated.cache.commit(WWW.key, 1, pool(0, ttl=3600), simulated.clock.seconds())
    simulated.at(age)
    assert simulated.ttl() == ttl


def test_user_return_ttl_off() -> None:
    """0 turns the steps off: the client gets what remains."""
    simulated = SimulatedCache(user_return_ttl=0)
    simulated.cache.commit(WWW.key, 1, pool(0, ttl=3600), simulated.clock.seconds())
    simulated.at(601)
    assert simulated.ttl() == 2999


@pytest.mark.parametrize("stored", [1023.9, 4095.7, 16383.99, 1.1, 99999.123])
def test_full_ttl_whatever_the_clock_says(stored: float) -> None:
    """A fresh answer has its whole TTL: no second is lost in the arithmetic."""
    for number in range(300):
        simulated = SimulatedCache()
        simulated.clock.rightNow = stored + number * 0.0123
        simulated.cache.commit(WWW.key, 1, pool(0, ttl=300), simulated.clock.seconds())
        assert simulated.ttl() == 300


def test_true_until_the_ttl_changes() -> None:
    """A ready reply is good exactly as long as the TTL in it is; prefetching may end it earlier."""
    simulated = SimulatedCache(prefetch=PrefetchSettings(enabled=False))
    entry = simulated.cache.commit(WWW.key, 1, pool(0, ttl=3), simulated.clock.seconds())
    for age in (0, 0.5, 1.0, 1.75, 2.5):
        simulated.at(age)
        until = simulated.cache.freshness.true_until(entry, simulated.clock.seconds())
        ttl = simulated.ttl()
        simulated.at(until - START - 0.001)
        assert simulated.ttl() == ttl
        simulated.at(until - START + 0.001)
        # At the end the entry turns stale, which is another TTL again.
        assert simulated.ttl() == ttl - 1 or simulated.cache.freshness.is_stale(
            entry, simulated.clock.seconds()
        )
    now = simulated.clock.seconds()
    assert simulated.cache.freshness.true_until(entry, now) > now


def test_stale_phase() -> None:
    """An expired entry is given for ``max_stale`` with the short TTL, then never again."""
    simulated = SimulatedCache(max_stale=100, fast_response_ttl=7)
    entry = simulated.cache.commit(WWW.key, 1, pool(0, ttl=10), simulated.clock.seconds())
    simulated.at(9.999)
    assert not simulated.cache.freshness.is_stale(entry, simulated.clock.seconds())
    assert simulated.refreshed == []
    simulated.at(10)
    assert simulated.cache.freshness.is_stale(entry, simulated.clock.seconds())
    assert simulated.ttl() == 7
    assert simulated.refreshed == [WWW.key]
    simulated.at(109.999)
    assert simulated.ttl() == 7
    simulated.at(110)
    assert simulated.cache.lookup(WWW.key, simulated.clock.seconds()) is None


def test_a_pool_stays_for_the_next_collection() -> None:
    """It is given to nobody, until a later one takes its place; of an answer nothing is left."""
    simulated = SimulatedCache(max_stale=0)
    cache, clock = simulated.cache, simulated.clock
    entry = cache.commit(WWW.key, 2, pool(0, ttl=10), clock.seconds())
    negative = cache.commit(OTHER.key, 2, no_such_name(10), clock.seconds())
    simulated.at(10)
    for _ in range(2):
        assert cache.lookup(WWW.key, clock.seconds()) is None
        assert cache.lookup(OTHER.key, clock.seconds()) is None
    assert cache.held(WWW.key) is entry
    assert cache.held(OTHER.key) is None
    assert not negative.alive
    assert len(cache) == 1
    # An earlier collection that has gone on until now has a younger answer.
    later = cache.commit(WWW.key, 1, pool(1, ttl=10), clock.seconds())
    assert cache.lookup(WWW.key, clock.seconds()) is later
    assert not entry.alive
    assert len(cache) == 1


def test_stale_off() -> None:
    """``max_stale`` 0: what has expired is gone."""
    simulated = SimulatedCache(max_stale=0)
    simulated.cache.commit(WWW.key, 1, pool(0, ttl=10), simulated.clock.seconds())
    simulated.at(10)
    assert simulated.cache.lookup(WWW.key, simulated.clock.seconds()) is None
    assert simulated.refreshed == []


def test_one_refresh_and_its_retry() -> None:
    """A stale entry is refreshed once, and again only after ``fast_response_ttl``."""
    simulated = SimulatedCache(fast_response_ttl=5)
    simulated.cache.commit(WWW.key, 1, pool(0, ttl=10), simulated.clock.seconds())
    for age, refreshes in [(10, 1), (10.1, 1), (14.9, 1), (15, 2), (19.9, 2), (20, 3)]:
        simulated.at(age)
        simulated.cache.lookup(WWW.key, simulated.clock.seconds())
        assert len(simulated.refreshed) == refreshes


def test_failed_refresh_keeps_the_entry() -> None:
    """A failure takes nothing away, and the next try waits for ``fast_response_ttl``."""
    simulated = SimulatedCache(fast_response_ttl=5)
    entry = simulated.cache.commit(WWW.key, 1, pool(0, ttl=10), simulated.clock.seconds())
    simulated.at(10)
    simulated.cache.lookup(WWW.key, simulated.clock.seconds())
    simulated.at(13)
    assert simulated.cache.commit(WWW.key, 2, FAILURE, simulated.clock.seconds()) is entry
    assert entry.alive
    simulated.at(17.9)
    assert simulated.cache.lookup(WWW.key, simulated.clock.seconds()) is entry
    assert len(simulated.refreshed) == 1
    simulated.at(18)
    assert simulated.cache.lookup(WWW.key, simulated.clock.seconds()) is entry
    assert len(simulated.refreshed) == 2


def test_failure_after_the_stale_phase() -> None:
    """What may no longer be given does not come back because a refresh failed."""
    simulated = SimulatedCache(max_stale=5)
    entry = simulated.cache.commit(WWW.key, 1, pool(0, ttl=10), simulated.clock.seconds())
    simulated.at(16)
    failed = simulated.cache.commit(WWW.key, 2, FAILURE, simulated.clock.seconds())
    assert failed.answer is FAILURE
    assert not entry.alive


def test_failure_is_remembered_briefly_and_never_stale() -> None:
    """SERVFAIL is kept for a second and not a moment longer (RFC 9520)."""
    simulated = SimulatedCache()
    entry = simulated.cache.commit(WWW.key, 1, FAILURE, simulated.clock.seconds())
    simulated.at(0.999)
    assert simulated.cache.lookup(WWW.key, simulated.clock.seconds()) is entry
    simulated.at(1)
    assert simulated.cache.lookup(WWW.key, simulated.clock.seconds()) is None
    assert simulated.refreshed == []
    assert not entry.alive


def test_answer_replaces_a_failure() -> None:
    """A remembered failure gives way to whatever is better."""
    simulated = SimulatedCache()
    failed = simulated.cache.commit(WWW.key, 1, FAILURE, simulated.clock.seconds())
    entry = simulated.cache.commit(WWW.key, 2, pool(0), simulated.clock.seconds())
    assert simulated.cache.lookup(WWW.key, simulated.clock.seconds()) is entry
    assert not failed.alive


@pytest.mark.parametrize(
    ("limits", "ttl", "kept"),
    [
        ({}, 86_400, 86_400),
        ({}, 86_401, 86_400),
        ({"max_ttl": 50}, 51, 50),
        ({"max_ttl": 50}, 49, 49),
        ({"max_ttl": 0}, 1_000_000, 1_000_000),
        ({"min_ttl": 20}, 19, 20),
        ({"min_ttl": 20}, 0, 20),
        ({"min_ttl": 20}, 21, 21),
        ({"min_ttl": 30, "max_ttl": 30}, 5, 30),
    ],
)
def test_clamps(limits: dict[str, int], ttl: int, kept: int) -> None:
    """``min_ttl`` and ``max_ttl`` clamp what enters; 0 turns them off."""
    simulated = SimulatedCache(**limits, user_return_ttl=0)
    simulated.cache.commit(
        WWW.key, 1, simulated.cache.freshness.admit(pool(0, ttl=ttl)), simulated.clock.seconds()
    )
    assert simulated.ttl() == kept


@pytest.mark.parametrize(
    ("limits", "ttl", "kept"),
    [
        ({}, 60, 60),
        ({}, 301, 300),
        ({"max_negative_ttl": 0}, 4000, 4000),
        ({"max_negative_ttl": 0, "max_ttl": 1000}, 4000, 1000),
        ({"min_ttl": 100}, 60, 60),
    ],
)
def test_negative_clamps(limits: dict[str, int], ttl: int, kept: int) -> None:
    """Negatives are kept as their SOA says, at most ``max_negative_ttl``."""
    simulated = SimulatedCache(**limits, user_return_ttl=0)
    simulated.cache.commit(
        WWW.key, 1, simulated.cache.freshness.admit(no_such_name(ttl)), simulated.clock.seconds()
    )
    assert simulated.ttl() == kept


def test_negative_without_a_lifetime() -> None:
    """A negative without an SOA is not kept (RFC 2308 section 5)."""
    simulated = SimulatedCache(min_ttl=60)
    simulated.cache.commit(WWW.key, 1, no_such_name(0), simulated.clock.seconds())
    assert len(simulated.cache) == 0


def test_zero_ttl_is_given_but_not_kept() -> None:
    """TTL 0 goes to whoever asked, as 0, and takes the place of what was there."""
    simulated = SimulatedCache()
    old = simulated.cache.commit(WWW.key, 1, pool(0), simulated.clock.seconds())
    entry = simulated.cache.commit(WWW.key, 2, pool(1, ttl=0), simulated.clock.seconds())
    assert simulated.cache.reply_ttl(entry, simulated.clock.seconds()) == 0
    assert not simulated.cache.freshness.is_stale(entry, simulated.clock.seconds())
    assert simulated.cache.lookup(WWW.key, simulated.clock.seconds()) is None
    assert not old.alive


def answers() -> list[Answer]:
    """One answer of each kind."""
    return [pool(1), pool(1, ttl=0), no_such_name(), FAILURE]


@pytest.mark.parametrize("answer", answers(), ids=["pool", "ttl 0", "negative", "failure"])
def test_an_older_generation_changes_nothing(answer: Answer) -> None:
    """A collection that ends after a newer one neither replaces nor removes its answer."""
    simulated = SimulatedCache()
    new = simulated.cache.commit(WWW.key, 7, pool(0), simulated.clock.seconds())
    simulated.at(100)
    assert simulated.cache.commit(WWW.key, 6, answer, simulated.clock.seconds()) is new
    assert simulated.cache.lookup(WWW.key, simulated.clock.seconds()) is new
    assert new.alive
    assert simulated.ttl() == 200


def test_the_same_generation_goes_on() -> None:
    """A collection may commit as often as its pool grows; each commit voids the last entry."""
    simulated = SimulatedCache()
    first = simulated.cache.commit(WWW.key, 7, pool(0), simulated.clock.seconds())
    second = simulated.cache.commit(WWW.key, 7, pool(0, 1), simulated.clock.seconds())
    assert simulated.cache.lookup(WWW.key, simulated.clock.seconds()) is second
    assert (first.alive, second.alive) == (False, True)
    assert len(simulated.cache) == 1


def test_keys_do_not_meet() -> None:
    """Type, class, DO and CD are part of the key; case is not."""
    simulated = SimulatedCache()
    questions = [
        make_question(name("www.example"), A),
        make_question(name("www.example"), 28),
        make_question(name("www.example"), A, 3),
        make_question(name("www.example"), A, do=True),
        make_question(name("www.example"), A, cd=True),
        make_question(name("www.example"), A, do=True, cd=True),
    ]
    entries = [
        simulated.cache.commit(asked.key, 1, pool(0), simulated.clock.seconds())
        for asked in questions
    ]
    assert [
        simulated.cache.lookup(asked.key, simulated.clock.seconds()) for asked in questions
    ] == entries
    assert (
        simulated.cache.lookup(make_question(name("WWW.eXample"), A).key, simulated.clock.seconds())
        is entries[0]
    )


def test_entries_are_read_only() -> None:
    """A look at the entries has no effect: nothing is refreshed or used, nothing can be changed."""
    simulated = SimulatedCache(max_entries=2)
    for number in range(2):
        simulated.cache.commit(question(number).key, number, pool(0), START)
    simulated.at(1_000)
    first, second = simulated.cache.entries
    assert (first, second) == (question(0).key, question(1).key)
    assert simulated.cache.entries[first].generation == 0
    assert simulated.refreshed == []
    assert list(simulated.cache.entries) == [first, second]
    with pytest.raises(TypeError):
        del simulated.cache.entries[first]  # type: ignore[attr-defined]
