"""The compiled program gives the same replies as the one in pure Python, octet by octet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import zip_longest
from typing import TYPE_CHECKING

import pytest

from staggerdns.compiled import is_compiled
from tests.conftest import COMPILED
from tests.kit.checkout import ROOT

if TYPE_CHECKING:
    from pathlib import Path

QUERIES = 100_000
LEAST = {
    "udp": 80_000,
    "tcp": 9_000,
    "from the cache": 10_000,
    "rcode 0": 50_000,
    "rcode 1": 1_000,
    "rcode 2": 1_000,
    "rcode 3": 1_000,
    "rcode 5": 1_000,
    "truncated": 1_000,
    "signed": 1_000,
    "nothing": 10,
}
"""Of each kind of reply there must be so many, or the test has lost its meaning."""


def _start(first: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.kit.recorded", str(QUERIES)],
        env={**os.environ, "PYTHONPATH": f"{first}:{ROOT}", "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(not is_compiled(), reason="there is no compiled program: make test-compiled")
def test_same_replies() -> None:
    """Hits, misses, negatives, failures, truncation, EDNS, DO, TCP and malformed queries: of
    100,000 replies each thousand is the same, in the same order.
    """
    with _start(ROOT) as pure, _start(COMPILED) as compiled:
        *expected, counts = pure.communicate(timeout=170)[0].splitlines()
        *found, counts_too = compiled.communicate(timeout=170)[0].splitlines()
    assert (pure.returncode, compiled.returncode) == (0, 0)
    for one, other in zip_longest(expected, found):
        assert one == other, "replies differ before this one"
    kinds, kinds_too = json.loads(counts), json.loads(counts_too)
    assert (kinds.pop("compiled"), kinds_too.pop("compiled")) == (False, True)
    assert kinds == kinds_too
    for kind, least in LEAST.items():
        assert kinds[kind] >= least, kind
