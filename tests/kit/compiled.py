"""Tests that pure Python alone can have."""

from __future__ import annotations

import pytest

from staggerdns.compiled import is_compiled

PURE_ONLY = pytest.mark.skipif(is_compiled(), reason="compiled code takes no doubles of its own")
"""For a test with a double where a compiled class is expected, or a look at how one is made."""
