"""How much a run of the tests does of what takes long: `make test EFFORT=100` all of it.

``STAGGERDNS_TEST_EFFORT`` says it, in percent; with 0 tests that are marked as long are left out.
"""

from __future__ import annotations

import os

EFFORT = float(os.environ.get("STAGGERDNS_TEST_EFFORT", "0")) / 100


def amount(least: int, whole: int) -> int:
    """Return how often something is done of which there is a ``whole``, at least so often."""
    return max(least, round(whole * EFFORT))
