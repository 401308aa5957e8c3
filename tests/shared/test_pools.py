"""Pools in a store: what is written is read, as it is by then, and nothing else is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.resolver.secondlevel import INVALID, MISS, Collected, Found
from staggerdns.shared.pools import SharedPool, pool_key, read_pool, write_pool
from staggerdns.shared.scripts import MAX_VALUE
from staggerdns.shared.store import Present
from staggerdns.wire.addresspool import AddressPool, mixed
from staggerdns.wire.contributors import CONTRIBUTORS
from staggerdns.wire.pool import MAX_OTHER_TARGETS
from staggerdns.wire.question import Question, make_question
from tests.kit.acts import AAAA, A, name

WWW = make_question(name("www.example"), A)
KNOWN = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
ONE, OTHER = map(CONTRIBUTORS.bit, KNOWN[:2])


def pool(
    lives: dict[int, int], *, ad: bool = False, chain: tuple[str, ...] = (), numbers: Any = ()
) -> AddressPool:
    """A pool of addresses by their last octet, with their lives."""
    made = AddressPool(tuple(map(name, chain)), (b"\xcb\0\x71\1",), 1, ad, cname_life=30)
    addresses = {bytes((203, 0, 113, last)): life for last, life in lives.items()}
    return made.having(addresses, contributors=numbers)


def facts(pool: AddressPool) -> tuple[Any, ...]:
    """All that is in a pool."""
    lives = dict(zip(pool.addresses, pool.lives, strict=True))
    chain, life = pool.chain_targets(b""), pool.cname_life
    return (lives, pool.contributors, pool.ad, pool.cname_chain, chain, life)


def value_of(collected: Collected, question: Question = WWW) -> tuple[bytes, int]:
    """What is written."""
    made = write_pool(question, collected, 7)
    assert made is not None
    return made


def read(present: Present, flushed: int = 0) -> Found | str:
    """What is read, when all names were flushed at an epoch."""
    return read_pool(WWW, present, KNOWN, lambda name, epoch: epoch < flushed)


@given(
    st.dictionaries(st.integers(1, 200), st.integers(1, 90), min_size=1, max_size=8),
    st.booleans(),
    st.booleans(),
    st.integers(0, 60),
)
def test_there_and_back(lives: dict[int, int], ad: bool, is_mixed: bool, seconds: int) -> None:
    """What lives on comes back, with what is left of its life, and who brought it."""
    masks = [ONE, OTHER, ONE | OTHER]
    numbers = [CONTRIBUTORS.number(masks[last % 3]) for last in lives]
    sent = pool(lives, ad=ad, chain=("b.example",), numbers=numbers)
    if is_mixed:
        sent = mixed(sent, (name("c.example"),))
    value, life = value_of(Collected(sent, 40, KNOWN[:2], whole=ad))
    assert life == max(lives.values()) * 1000
    found = read(Present(value, life - seconds * 1000))
    left = {last: life - seconds for last, life in lives.items() if life > seconds}
    if not left:
        assert found == INVALID
        return
    assert isinstance(found, Found)
    kept = [number for number, last in zip(numbers, lives, strict=True) if last in left]
    wanted = pool(left, ad=ad, chain=("b.example",), numbers=kept)
    wanted.cname_life = max(30 - seconds, 0)
    assert facts(found.pool) == facts(mixed(wanted, (name("c.example"),)) if is_mixed else wanted)
    assert found.due == max(40 - seconds, 0)
    assert found.answered == {*KNOWN[:2]}
    assert found.age == seconds
    assert found.whole == ad


def test_what_was_flushed() -> None:
    """It is as if there was nothing; at the same epoch it stands."""
    value, life = value_of(Collected(pool({1: 2}), 2, KNOWN, whole=True))
    assert read(Present(value, life), 8) == MISS
    assert isinstance(read(Present(value, life), 7), Found)


def test_ages_are_rounded_up() -> None:
    """A millisecond is a second."""
    value, life = value_of(Collected(pool({1: 2, 2: 1}), 2, KNOWN, whole=True))
    found = read(Present(value, life - 1))
    assert isinstance(found, Found)
    assert list(found.pool.lives) == [1]
    assert found.due == 1


def test_keys() -> None:
    """Whatever makes another answer makes another key; people can read it."""
    digest, other = bytes(16), bytes([1] * 16)
    keys = [
        pool_key(digest, WWW),
        pool_key(other, WWW),
        pool_key(digest, make_question(WWW.name, AAAA)),
        pool_key(digest, make_question(WWW.name, A, cd=True)),
        pool_key(digest, make_question(name("xwww.example"), A)),
        pool_key(digest, make_question(b"\7www.exa\4mple\0", A)),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == b"staggerdns:1:pool:" + b"00" * 16 + b":www.example.:A"


GOOD = msgspec.msgpack.decode(
    value_of(Collected(pool({1: 60, 2: 90}), 40, KNOWN[:2], whole=True))[0]
)
FIELDS = {field: place + 1 for place, field in enumerate(SharedPool.__struct_fields__)}


def changed(**fields: Any) -> bytes:
    """A good value, but for these fields."""
    value = [*GOOD]
    for field, other in fields.items():
        value[FIELDS[field]] = other
    return msgspec.msgpack.encode(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"garbage",
        bytes(MAX_VALUE + 1),
        msgspec.msgpack.encode([2, *GOOD[1:]]),
        msgspec.msgpack.encode(GOOD[:-1]),
        changed(question=make_question(name("other.example"), A).key[:-2]),
        changed(life=0),
        changed(life=-1),
        changed(life=89_000),
        changed(due=-1),
        changed(epoch=-1),
        changed(names=["203.0.113.9", *KNOWN[1:2]]),
        changed(answered=[2]),
        changed(answered=[-1]),
        changed(sets=[[-1]]),
        changed(sets=[[0], [1], [0, 1]]),
        changed(addresses=b""),
        changed(addresses=b"abc"),
        changed(addresses=b"abcdabcd"),
        changed(lives=[60]),
        changed(lives=[60, -1]),
        changed(lives=[60, 1 << 32]),
        changed(lives=[0, 0]),
        changed(contributors=[]),
        changed(contributors=[0, 0, 0]),
        changed(cname_chain=[b"\3abc"]),
        changed(cname_chain=[bytes(300)]),
        changed(other_targets=[b"\xc0\x0c"]),
        changed(other_targets=[b"\1a\0"] * (MAX_OTHER_TARGETS + 1)),
        changed(ttl=-1),
        changed(names=["a"] * 1_025),
    ],
)
def test_what_is_none_of_ours(value: bytes) -> None:
    """Garbage, another version, another question, strangers, numbers that cannot be."""
    assert read(Present(changed(), 90_000)) != INVALID
    assert read(Present(value, 90_000)) == INVALID


def test_as_many_targets_as_a_pool_has() -> None:
    """They are believed."""
    value = changed(other_targets=[b"\1a\0"] * MAX_OTHER_TARGETS)
    assert read(Present(value, 90_000)) != INVALID


@pytest.mark.parametrize("left", [-1, 0, 90_001, 10**12])
def test_what_has_no_age(left: int) -> None:
    """A key without an end, or with a later one than it was written with."""
    assert read(Present(changed(), left)) == INVALID


def test_what_is_too_large() -> None:
    """It is not written."""
    numbers = range(MAX_VALUE // 4)
    addresses = tuple(number.to_bytes(4, "big") for number in numbers)
    large = AddressPool((), addresses, 60, ad=False)
    assert write_pool(WWW, Collected(large, 9, (), whole=True), 0) is None
    assert write_pool(
        WWW, Collected(large.only([n < 9_000 for n in numbers]), 9, (), whole=True), 0
    )


@given(
    st.binary(max_size=80)
    | st.builds(msgspec.msgpack.encode, st.lists(st.integers(-9, 9), max_size=20))
)
def test_any_octets(value: bytes) -> None:
    """Nothing comes of them, and no error."""
    assert read(Present(value, 1_000)) == INVALID
