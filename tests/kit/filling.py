"""Fills a cache with answers of one kind and writes by how much memory really grew, and what the
cache thinks: run as a program of its own, ``python -m tests.kit.filling KIND``.
"""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable
from pathlib import Path

from twisted.internet.task import Clock

from staggerdns.metrics import Metrics
from staggerdns.resolver.cache import AnswerCache
from staggerdns.settings.sections import CacheSettings
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer
from staggerdns.wire.contributors import CONTRIBUTORS
from staggerdns.wire.judge import Judge
from staggerdns.wire.question import Question, make_question
from tests.kit.acts import A, name, negative, record, reply, says
from tests.kit.pools import merge

Make = Callable[[random.Random, int], tuple[Question, Answer]]


def _read(message: bytes, question: Question) -> Answer:
    answer = Judge(question).verdict(message)[1]
    assert answer is not None
    return answer


def tiny(rng: random.Random, number: int) -> tuple[Question, Answer]:
    """NXDOMAIN with a small SOA."""
    question = make_question(name(f"n{number}.example"), A)
    made = negative(0).reply
    assert made is not None
    return question, _read(made(question), question)


def single(rng: random.Random, number: int) -> tuple[Question, Answer]:
    """One address."""
    question = make_question(name(f"www{number}.example"), A)
    made = says(0, f"203.0.{number % 200}.1").reply
    assert made is not None
    return question, _read(made(question), question)


def pools(rng: random.Random, number: int, qtype: int = A) -> tuple[Question, Answer]:
    """Fifteen addresses, three of each upstream, with lives of their own, half behind a chain."""
    question = make_question(name(f"www{number}.customer.example"), qtype)
    chain = [f"edge{number}.cdn.example", f"e{number}.a.akadns.example"] if number % 2 else []
    pool: AddressPool | None = None
    for upstream in range(5):
        size = 4 if qtype == A else 16
        records, owner = [], b"\xc0\x0c"
        for target in chain:
            records.append(record(owner, 5, 300, name(target)))
            owner = name(target)
        ttl = rng.randint(1, 300)
        records += [record(owner, qtype, ttl, b"\x5d" + rng.randbytes(size - 1)) for _ in range(3)]
        brought = _read(reply(question, records), question)
        assert isinstance(brought, AddressPool)
        bit = CONTRIBUTORS.bit(f"192.0.2.{upstream}")
        if pool is None:
            pool = brought
            pool.brought_by = CONTRIBUTORS.number(bit)
        else:
            pool = merge(pool, brought, 32, private=True, contributor=bit)
    assert pool is not None
    return question, pool


def pools6(rng: random.Random, number: int) -> tuple[Question, Answer]:
    """The same of IPv6."""
    return pools(rng, number, 28)


def text(rng: random.Random, number: int) -> tuple[Question, Answer]:
    """A TXT answer of ordinary size."""
    question = make_question(name(f"_dmarc.mail{number}.example"), 16)
    return question, _read(
        reply(question, [record(b"\xc0\x0c", 16, 300, b"\xc8" + rng.randbytes(200))]), question
    )


def giant(rng: random.Random, number: int) -> tuple[Question, Answer]:
    """64 KiB of TXT records."""
    question = make_question(name(f"big{number}.example"), 16)
    records = [record(b"\xc0\x0c", 16, 300, b"\xc8" + rng.randbytes(200)) for _ in range(300)]
    return question, _read(reply(question, records), question)


def signed(rng: random.Random, number: int) -> tuple[Question, Answer]:
    """A thousand addresses asked for with DO."""
    question = make_question(name(f"many{number}.example"), A, do=True)
    records = [record(b"\xc0\x0c", A, 300, b"\x5d" + rng.randbytes(3)) for _ in range(1_000)]
    return question, _read(reply(question, records), question)


KINDS: dict[str, tuple[Make, int]] = {
    "tiny": (tiny, 10_000),
    "single": (single, 10_000),
    "pools": (pools, 6_000),
    "pools6": (pools6, 5_000),
    "text": (text, 8_000),
    "giant": (giant, 150),
    "signed": (signed, 150),
}


def resident() -> int:
    """The octets of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def main(kind: str) -> None:
    """Fill, and write both figures."""
    make, count = KINDS[kind]
    rng = random.Random(1)
    # What is there once, and what takes the free places of the allocator, which are many.
    first = _filled(make, count // 2, rng)
    gc.collect()
    before = resident()
    cache = _filled(make, count, rng)
    gc.collect()
    sys.stdout.write(f"{resident() - before} {cache.octets}\n")
    assert len(first)


def _filled(make: Make, count: int, rng: random.Random) -> AnswerCache:
    """Return a cache with so many answers."""
    clock = Clock()
    cache = AnswerCache(CacheSettings(max_size=1 << 40), Metrics())
    for number in range(count):
        question, answer = make(rng, number)
        cache.commit(question.key, number, answer, clock.seconds(), clock.seconds() + number / 7)
        cache.complete(question.key, number)
    return cache


if __name__ == "__main__":
    main(sys.argv[1])
