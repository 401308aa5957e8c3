"""The two tiers in which upstreams are asked, and what stands beside them; the values label the
metrics.
"""

from __future__ import annotations

ACTIVE = "active"
"""Asked at once (docs/specification.rst, Tiers)."""
STAGGERED = "staggered"
"""Asked later: in batches, once more, or for the sake of their health."""
SHARED = "shared"
"""No upstream: the second level of the cache, which several servers share."""
