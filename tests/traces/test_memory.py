"""What traces take, and what stays of them with a cached name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from staggerdns.wire.addresspool import AddressPool
from tests.kit.checkout import ROOT
from tests.kit.effort import amount
from tests.kit.tracing import EACH, UPSTREAMS, collect, questions, resolver

NAMES = amount(3_000, 50_000)
FEW = 1_000
KIB = 1_024
MOST = 4 * KIB
"""Octets of a trace of five upstreams with three addresses of their own: docs/configuration.rst has
about 3.5 KiB.
"""
OF_A_NAME = KIB
"""Octets of a cached name with these fifteen addresses, whatever is known of its collection."""
BRINGERS = 200
"""Octets of a cached name for who brought its addresses."""


@pytest.mark.live
def test_names_with_traces() -> None:
    """Memory grows by what a trace takes for each that is kept, and those that are not take
    nothing: the resident memory of a process of its own.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.kit.tracing", str(NAMES), str(FEW), str(NAMES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    few, every = (tuple(map(int, line.split())) for line in done.stdout.splitlines())
    assert (few[1], every[1]) == (FEW, NAMES)
    assert KIB < (every[0] - few[0]) / (NAMES - FEW) < MOST
    assert few[0] < NAMES * OF_A_NAME + FEW * MOST


def test_a_name_without_its_trace() -> None:
    """Who brought each address, and their order, are known all the same, and take little."""
    asked = resolver(0, 100)
    collect(asked, questions(asked, "n"))
    assert len(asked.traces) == 0
    for entry in asked.cache.entries.values():
        pool = entry.answer
        assert isinstance(pool, AddressPool)
        assert len(pool.addresses) == UPSTREAMS * EACH
        assert entry.sorted_at is not None
        assert sys.getsizeof(pool.packed_contributors) <= BRINGERS
        assert {*pool.contributors} == {frozenset([one.name]) for one in asked.upstreams}
