"""Why addresses that upstreams sent are given to no client."""

from __future__ import annotations

from typing import Final

Dropped = tuple[bytes, str]
"""An address, and why it was dropped."""

IGNORED: Final = "ignored"
"""By ``addresses.ignore``."""
BOGUS: Final = "bogus"
"""By ``addresses.bogus_nxdomain``, with all of the answer."""
REBINDING: Final = "rebinding"
"""It is private, and the name is not."""
UNRELATED: Final = "unrelated"
"""Its record is of a name that the question does not lead to."""
PRIVATE: Final = "private"
"""It is private, and came later than others (``merge_private``)."""
LIMIT: Final = "limit"
"""The pool was full (``max_pool_size``)."""
MANY_ALIASES: Final = "aliases"
"""Its answer leads through more names than a pool may have."""
NOT_KEPT: Final = "ttl 0"
"""Its answer may not be kept, those of others may."""
DENIED: Final = "denied"
"""All of the active tier say that there is none."""
