"""Upstreams that remember: what they answer, when, and what is made of when they were asked."""

from __future__ import annotations

import socket
import time

import pytest

from bench import shape
from bench.client import question, records
from bench.inside import pools
from bench.witness import ADDRESSES, Witnesses

NAME = "name.bench.example"
POOL = [f"192.0.2.{number}" for number in range(15)]


@pytest.mark.live
def test_each_knows_its_share_after_its_delay() -> None:
    """Nobody is before its time, and one that takes long keeps no other from answering."""
    delays = (800.0, 0.0, 20.0, 0.0, 0.0)
    came = {}
    with (
        Witnesses({NAME: POOL}, delays=delays) as witnesses,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.settimeout(30.0)
        begin = time.perf_counter()
        for number, address in enumerate(witnesses.addresses):
            sock.sendto(question(NAME, number), address)
        for _ in ADDRESSES:
            reply = sock.recv(4096)
            number = int.from_bytes(reply[:2], "big")
            came[number] = (time.perf_counter() - begin) * 1000
            assert records(reply)[0] == POOL[number::5]
    assert all(came[number] >= delay for number, delay in enumerate(delays))
    assert list(came)[-1] == 0
    assert {number for number, _ in witnesses.first} == set(range(5))


def test_launches_are_counted_from_the_question() -> None:
    """On average over the names, whenever each was asked for."""
    asked = {"a": 10.0, "b": 20.0}
    first = {(0, "a"): 10.0, (1, "a"): 10.1, (0, "b"): 20.0, (1, "b"): 20.2}
    launched = shape.launches(asked, first)
    moments = dict(zip(range(0, 2_000, 5), launched, strict=True))
    assert (moments[0], moments[95], moments[105], moments[195], moments[205]) == (
        1,
        1,
        1.5,
        1.5,
        2,
    )


def test_pools_share_no_address() -> None:
    """Else a round trip would be known before its address is new."""
    every = pools()
    addresses = [address for pool in every for address in pool]
    assert len(every) > 4_000
    assert {len(pool) for pool in every} == {15}
    assert len(set(addresses)) == len(addresses)


def test_no_place_in_a_pool_is_special() -> None:
    """The nearest address is not always what the same upstream says."""
    places = {min(range(15), key=lambda at: int(pool[at].split(".")[2])) for pool in pools()}
    assert places == set(range(15))
