"""Where replies come from, as metrics, the query log and watchers call it."""

from __future__ import annotations

CACHE = "cache"
STALE = "stale"
UPSTREAM = "upstream"
SHARED = "shared"
LOCAL = "local"
BLOCKED = "blocked"
REFUSED = "refused"
FROM_CACHE = (CACHE, STALE)
"""Nobody was waited for."""
SOURCES = (CACHE, STALE, UPSTREAM, SHARED, LOCAL, BLOCKED, REFUSED)
"""An answer that lives, or has expired; upstreams that were waited for, or the second level alone;
names and rules of ours; a list; or it is an error of ours.
"""
