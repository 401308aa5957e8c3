"""What the CNAME chain of one name says about the others: nothing that a client could get.

One upstream alone brings a chain, and might as well say that the way to its own address leads
through the names of sixteen banks (docs/specification.rst, Triggers of a sort). So a name is
answered only by what was said when it was asked itself. What is worth knowing of a chain, how far
its addresses are, is known by address and not by name.
"""

from __future__ import annotations

import random

import pytest
from twisted.internet.task import Clock

from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.names import to_text
from staggerdns.wire.question import Question, make_question
from tests.kit.acts import AAAA, Act, name, own, says, says_own
from tests.kit.effort import amount
from tests.kit.ranked import RankedResolver, SimulatedRankedCache, asks, near, pool, shown
from tests.kit.simulated import Client, SimulatedResolver, addresses

A, B, C = (asks(f"{letter}.example") for letter in "abc")
CHAIN = ("b.example", "c.example")
EVIL = "198.51.100.66"
BANKS = [f"www.bank{number}.example" for number in range(16)]
ATTACKS = amount(200, 3_000)
"""Attacks drawn at random."""
SEED = 20261125


def test_only_the_name_itself_has_an_entry() -> None:
    """For a->b->c there is an entry for a; b and c are unknown, with whatever flags."""
    simulated = SimulatedRankedCache()
    simulated.store(pool(30, 10, cname_chain=CHAIN), A)
    assert len(simulated.cache) == 1
    assert simulated.cache.lookup(A.key, simulated.clock.seconds()) is not None
    assert simulated.cache.lookup(B.key, simulated.clock.seconds()) is None
    assert simulated.cache.lookup(C.key, simulated.clock.seconds()) is None
    assert simulated.ranking.counts() == {"first_answer": 1}


@pytest.mark.parametrize("after", [1, 30, 400])
def test_sixteen_banks(after: float) -> None:
    """One of five upstreams, first or last, answers x.attacker with a chain through the banks: each
    bank is asked for like any new name, and nobody but its own answers is believed.
    """
    attack = says(after, EVIL, cname_chain=BANKS)
    resolver = SimulatedResolver(*[says_own(index, 20) for index in range(4)], attack)
    resolver.ask(resolver.question("x.attacker.example"))
    resolver.run()
    resolver.script(*[says_own(index, 20) for index in range(4)], Act())
    for bank in BANKS:
        asked = len(resolver.launches)
        client = resolver.ask(resolver.question(bank))
        assert len(resolver.launches) > asked
        resolver.run()
        assert set(client.addresses) <= {own(index) for index in range(4)}
        assert EVIL not in resolver.pool(resolver.question(bank))


def test_what_a_chain_is_good_for() -> None:
    """Times that the chain's addresses cost order the first answer to the chain's names."""
    resolver = RankedResolver(says(5, near(30), near(10), cname_chain=CHAIN))
    resolver.ask(A)
    resolver.run()
    probes = len(resolver.ranking.sent)
    client = resolver.ask(C)
    resolver.run()
    assert shown(client.entry) == [10, 30]
    assert len(resolver.ranking.sent) == probes


def test_an_own_answer_is_untouched_by_a_later_chain() -> None:
    """Neither a fresh nor a stale entry of a name changes by another name's chain."""
    simulated = SimulatedRankedCache()
    simulated.store(pool(50, ttl=10), B, generation=1)
    simulated.store(pool(30, cname_chain=CHAIN), A, generation=2)
    assert simulated.hit(B)[0] == [50]
    simulated.at(11)
    simulated.store(pool(30, cname_chain=CHAIN), A, generation=3)
    assert simulated.hit(B) == ([50], 5)
    assert [asked.key for asked in simulated.refreshed] == [B.key]


class Model:
    """What each name may be answered with: what was said to questions for that name.

    It follows the queries, not the code: every upstream says the same to a name for ever.
    """

    def __init__(self, rng: random.Random) -> None:
        self.names = [f"n{number}.example" for number in range(6)]
        self._rng = rng
        self._said: dict[tuple[int, bytes], tuple[list[str], list[str], int]] = {}

    def act(self, index: int, rng: random.Random) -> Act:
        """What that upstream does; the last one is the liar."""

        def answer(question: Question) -> bytes:
            links, found, ttl = self.said(index, question)
            made = says(0, *found, cname_chain=links, ttl=ttl).reply
            assert made is not None
            return made(question)

        return Act(rng.choice([1, 5, 20, 60, 400]), answer)

    def said(self, index: int, question: Question) -> tuple[list[str], list[str], int]:
        """Chain, addresses and TTL that an upstream says to a question."""
        rng = self._rng
        key = index, question.key
        if key not in self._said:
            number = self.names.index(to_text(question.name).rstrip("."))
            links = rng.sample(self.names, rng.randint(0, 4)) if rng.random() < 0.7 else []
            links = [link for link in links if link != self.names[number]]
            ttl = rng.choice([1, 5, 30, 300, 86_400])
            if question.qtype == AAAA:
                found = [f"2001:db8:{index + 1}::{number + 1}:{place}" for place in range(1, 4)]
            else:
                found = [f"203.{index}.{number}.{place}" for place in range(1, 4)]
            self._said[key] = links, found[: rng.randint(1, 3)], ttl
        return self._said[key]

    def allowed(self, question: Question) -> set[str]:
        """Every address that some upstream gives to that question."""
        return {address for index in range(5) for address in self.said(index, question)[1]}


def test_chains_at_random() -> None:
    """Hundreds of times: questions for names that lead through one another, in any order, with
    pauses and refreshes. No client and no entry ever has what was not said to that very question.
    """
    rng = random.Random(SEED)
    clients = 0
    for _ in range(ATTACKS):
        model = Model(rng)
        resolver = SimulatedResolver(
            *[model.act(index, rng) for index in range(5)],
            parallel=ParallelSettings(max_pool_size=rng.choice([4, 32])),
            level="warn",
        )
        asked: list[tuple[Question, Client]] = []
        for _ in range(rng.randint(3, 8)):
            question = make_question(name(rng.choice(model.names)), rng.choice([1, 1, AAAA]))
            asked.append((question, resolver.ask(question)))
            resolver.run_to(resolver.now + rng.choice([0, 2, 30, 500, 4_000, 40_000]))
        resolver.run()
        for question, client in asked:
            assert client.addresses
            assert set(client.addresses) <= model.allowed(question)
            clients += 1
        for key, entry in resolver.cache.entries.items():
            assert set(addresses(entry)) <= model.allowed(Question(key))
            assert isinstance(entry.answer, AddressPool)
            assert Question(key).key in {question.key for question, _ in asked}
        resolver.clock = Clock()
    assert clients >= 3 * ATTACKS
