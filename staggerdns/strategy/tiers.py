"""The two tiers in which upstreams are asked; the values label the metrics."""

from __future__ import annotations

ACTIVE = "active"
"""Asked at once (SPEC section 2)."""
STAGGERED = "staggered"
"""Asked later: in batches, once more, or for the sake of their health."""
