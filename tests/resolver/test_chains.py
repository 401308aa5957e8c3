"""Entries for the names of a CNAME chain (SPEC section 3, trigger `cname_chain`)."""

from __future__ import annotations

import dns.message
import pytest

from staggerdns.resolver.entry import Entry
from staggerdns.wire.answer import Failed, Pool
from staggerdns.wire.constants import Ede
from staggerdns.wire.question import Question, make_question
from staggerdns.wire.rebinding import Rebinding
from tests.ranking.fakes import silent
from tests.resolver.ranks import RankedStage, Shelf, asks, near, packed, pool, shown
from tests.strategy.fakes import AAAA, addresses, name, says
from tests.wire.messages import replied, scanned, texts

A, B, C = (asks(f"{letter}.example") for letter in "abc")
CHAIN = ("b.example", "c.example")


def chained(*numbers: int | str, ttl: int = 3600) -> Pool:
    """The pool of a.example: a is b, b is c, c has these addresses."""
    return pool(*numbers, ttl=ttl, links=CHAIN)


def reply_for(entry: Entry | None, text: str, rdtype: str = "A") -> dns.message.Message:
    """Our reply to a client that asks for ``text``, as dnspython reads it."""
    assert entry is not None
    return replied(scanned(text, rdtype), entry.answer, ttl=60)


def test_each_name_has_its_entry() -> None:
    """For b of a->b->c: b CNAME c and c's addresses, under b's own question."""
    shelf = Shelf()
    shelf.store(chained(30, 10), A)
    shelf.at(1)
    expected = [f"c.example. 60 A {near(10)}", f"c.example. 60 A {near(30)}"]
    for text, records in (
        ("a.example.", ["a.example. 60 CNAME b.example.", "b.example. 60 CNAME c.example."]),
        ("b.example.", ["b.example. 60 CNAME c.example."]),
        ("c.example.", []),
    ):
        reply = reply_for(shelf.cache.lookup(asks(text.rstrip(".")).key), text)
        assert texts(reply.answer) == records + expected
        assert [rrset.to_text() for rrset in reply.question] == [f"{text} IN A"]


def test_counted_and_ranked() -> None:
    """Each name of the chain has its sort; the addresses are probed once."""
    shelf = Shelf()
    shelf.store(chained(30, 10), A)
    assert shelf.room.counts() == {"first_answer": 1, "cname_chain": 2}
    shelf.at(1)
    assert [shelf.hit(one) for one in (A, B, C)] == [([10, 30], 599)] * 3
    assert len(shelf.room.sent) == 6


def test_ipv6() -> None:
    """AAAA as A, and the families keep apart."""
    shelf = Shelf(lambda address, _: address[-1] / 1000)
    six = asks("a.example", AAAA)
    shelf.store(chained("2001:db8::30", "2001:db8::10"), six)
    shelf.at(1)
    entry = shelf.cache.lookup(asks("b.example", AAAA).key)
    assert texts(reply_for(entry, "b.example.", "AAAA").answer) == [
        "b.example. 60 CNAME c.example.",
        "c.example. 60 AAAA 2001:db8::10",
        "c.example. 60 AAAA 2001:db8::30",
    ]
    assert shelf.cache.lookup(B.key) is None


def test_case_of_a_link() -> None:
    """The entry of a link is found whatever its case, the answer keeps the case that came."""
    shelf = Shelf()
    shelf.store(pool(10, links=("B.eXample", "C.Example")), A)
    entry = shelf.cache.lookup(B.key)
    assert texts(reply_for(entry, "b.example.").answer) == [
        "b.example. 60 CNAME C.Example.",
        f"C.Example. 60 A {near(10)}",
    ]


def test_checking_disabled_is_handed_down() -> None:
    """What was asked with CD says nothing about questions without it."""
    shelf = Shelf()
    asked = make_question(name("a.example"), 1, cd=True)
    shelf.store(chained(10), asked)
    assert shelf.cache.lookup(B.key) is None
    assert shelf.cache.lookup(make_question(name("b.example"), 1, cd=True).key) is not None


def test_age_and_ttl() -> None:
    """The entries of a chain expire together, with the least TTL of all."""
    shelf = Shelf()
    shelf.store(chained(30, 10, ttl=100), A)
    shelf.at(40)
    assert [shelf.hit(one)[1] for one in (A, B, C)] == [60] * 3
    shelf.at(100)
    assert shelf.hit(B) == ([10, 30], 5)
    assert [asked.key for asked in shelf.refreshed] == [B.key]


def test_what_is_not_kept_makes_no_entries() -> None:
    """TTL 0 is not kept, under whatever name."""
    shelf = Shelf()
    shelf.store(chained(10, ttl=0), A)
    assert len(shelf.cache) == 0


def test_growth_and_end() -> None:
    """The names of the chain grow with the pool, and have the long TTL at its end."""
    shelf = Shelf()
    shelf.cache.commit(A.key, 1, chained(30, 10))
    shelf.at(1)
    assert shelf.hit(B) == ([10, 30], 5)
    grown = chained(30, 10, 5)
    shelf.cache.commit(A.key, 1, grown)
    shelf.at(2)
    assert [shelf.hit(one) for one in (A, B, C)] == [([5, 10, 30], 5)] * 3
    shelf.cache.complete(A.key, 1, grown)
    assert [shelf.hit(one)[1] for one in (A, B, C)] == [599] * 3
    assert shelf.room.counts()["cname_chain"] == 4


def test_the_end_when_the_origin_is_gone() -> None:
    """The names of the chain are complete although the first one had to make room."""
    shelf = Shelf(max_entries=2)
    answer = chained(30)
    shelf.cache.commit(A.key, 1, answer)
    assert shelf.peek(A) is None
    shelf.cache.complete(A.key, 1, answer)
    assert shelf.hit(C)[1] == 600


def test_own_entries_stay() -> None:
    """What was asked of upstreams for a name itself is not overwritten by another's chain."""
    shelf = Shelf()
    shelf.store(pool(50), B, generation=1)
    shelf.cache.commit(C.key, 2, Failed(Ede.OTHER, 1))
    shelf.store(chained(30, 10), A, generation=3)
    assert shelf.hit(B)[0] == [50]
    found = shelf.peek(C)
    assert found is not None
    assert isinstance(found.answer, Failed)
    assert shelf.room.counts() == {"first_answer": 1}


def test_own_entries_that_expired_stay_until_their_refresh() -> None:
    """A stale entry of the name's own is for its own refresh to replace."""
    shelf = Shelf()
    shelf.store(pool(50, ttl=10), B, generation=1)
    shelf.at(11)
    shelf.store(chained(30, 10), A, generation=2)
    assert shelf.hit(B) == ([50], 5)
    assert [asked.key for asked in shelf.refreshed] == [B.key]


@pytest.mark.parametrize("generation", [2, 8])
def test_own_answers_replace_derived_ones(generation: int) -> None:
    """A name's own answer wins, even when its collection began before the other's."""
    shelf = Shelf()
    shelf.store(chained(30, 10), A, generation=5)
    shelf.store(pool(50, 40), B, generation=generation)
    shelf.at(1)
    assert shelf.hit(B)[0] == [40, 50]
    shelf.store(chained(9, 8), A, generation=9)
    assert shelf.hit(B)[0] == [40, 50]
    assert shelf.room.counts()["first_answer"] == 2


def test_an_older_chain_changes_nothing() -> None:
    """Of two chains through one name the later collection wins, whichever commits last."""
    shelf = Shelf()
    other = asks("other.example")
    shelf.cache.commit(other.key, 7, pool(5, 4, links=("c.example",)))
    shelf.cache.commit(A.key, 6, chained(30, 10))
    shelf.at(1)
    assert shelf.hit(C)[0] == [4, 5]
    assert shelf.hit(B)[0] == [10, 30]
    shelf.cache.complete(A.key, 6, chained(30, 10))
    assert shelf.hit(C)[1] == 5  # its own collection runs on
    shelf.cache.complete(other.key, 7, pool(5, 4, links=("c.example",)))
    assert shelf.hit(C)[1] == 599


def test_a_finished_pool_stays() -> None:
    """The first answer of another name does not take a finished pool away."""
    shelf = Shelf()
    shelf.store(chained(30, 10, 20, 5, ttl=100), A, generation=1)
    shelf.at(1)
    other = asks("other.example")
    shelf.cache.commit(other.key, 2, pool(9, links=("c.example",)))
    assert shelf.hit(C) == ([5, 10, 20, 30], 99)
    shelf.at(101)
    shelf.cache.commit(other.key, 3, pool(9, links=("c.example",)))
    assert shelf.hit(C)[0] == [9]


def test_more_of_the_same_chain_wins() -> None:
    """A refresh of the chain's own name, when the old one has expired, brings the new pool."""
    shelf = Shelf()
    shelf.store(chained(30, 10, ttl=50), A, generation=1)
    shelf.at(51)
    shelf.store(chained(8, 7, ttl=50), A, generation=2)
    shelf.at(52)
    assert [shelf.hit(one)[0] for one in (A, B, C)] == [[7, 8]] * 3


def test_through_the_forwarder() -> None:
    """After a collection for a the names b and c are answered without asking anybody."""
    stage = RankedStage(
        says(5, near(30), near(10), chain=CHAIN),
        says(9, near(20), chain=CHAIN),
        says(30, near(5), chain=["elsewhere.example"]),
    )
    stage.ask(A)
    stage.run()
    assert len(stage.launches) == 3
    for asked in (A, B, C):
        client = stage.ask(asked)
        assert shown(client.entry) == [5, 10, 20, 30]
        assert stage.ttl(asked) == 300
    assert len(stage.launches) == 3
    assert stage.cache.lookup(asks("elsewhere.example").key) is None
    assert stage.room.counts()["cname_chain"] == 6
    assert len(stage.room.sent) == 12


def test_a_derived_entry_is_refreshed_by_its_own_name() -> None:
    """When b expires, b is asked, and what comes is b's own."""
    stage = RankedStage(says(5, near(30), near(10), chain=["b.example"], ttl=50))
    stage.ask(A)
    stage.run_to(51_000)
    stage.script(says(5, near(8), near(7), ttl=50))
    assert addresses(stage.ask(B).entry) == [near(10), near(30)]
    stage.run()
    assert addresses(stage.cache.lookup(B.key)) == [near(7), near(8)]
    found = stage.cache.lookup(B.key)
    assert found is not None
    assert not found.derived


def test_a_question_with_do_makes_no_entries() -> None:
    """What is kept whole is not taken apart."""
    stage = RankedStage(says(5, near(30), near(10), chain=CHAIN))
    asked: Question = make_question(name("a.example"), 1, do=True)
    stage.ask(asked)
    stage.run()
    assert len(stage.cache) == 1
    assert stage.room.counts() == {"first_answer": 1}


def test_sorts_of_a_chain_can_be_too_many() -> None:
    """With a full queue the names of the chain are ordered by what is known."""
    shelf = Shelf(queue=1)
    shelf.store(chained(30, 10), A)
    assert shelf.room.counts() == {"first_answer": 1, "queue_full": 2}
    shelf.at(1)
    assert shelf.hit(B)[0] == [10, 30]


def test_silent_chain() -> None:
    """Nobody answers: every name of the chain keeps the order as received."""
    shelf = Shelf(silent)
    shelf.store(chained(30, 10), A)
    shelf.at(5)
    assert [shelf.hit(one)[0] for one in (A, B, C)] == [[30, 10]] * 3
    assert shelf.probed == set(packed(30, 10))


def test_an_excepted_chain_does_not_lead_around_the_protection() -> None:
    """A name that must not have private addresses gets none from the chain of one that may."""
    shelf = Shelf()
    shelf.cache._rebinding = Rebinding([name("a.example"), name("c.example")])
    shelf.store(chained("192.168.1.1"), A)
    assert [shelf.peek(one) is not None for one in (A, B, C)] == [True, False, True]
    shelf = Shelf()
    shelf.cache._rebinding = Rebinding([name("a.example")])
    shelf.store(chained(30, 10), A)
    assert all(shelf.peek(one) for one in (A, B, C))
