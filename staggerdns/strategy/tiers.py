"""The two tiers in which upstreams are asked; the values label the metrics."""

from __future__ import annotations

ACTIVE = "active"
"""Asked at once (docs/specification.rst, Tiers)."""
STAGGERED = "staggered"
"""Asked later: in batches, once more, or for the sake of their health."""
