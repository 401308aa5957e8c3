"""How what is flushed leaves the cache: in steps, one in a turn of the reactor."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from staggerdns.resolver.cache import AnswerCache
from staggerdns.shared.flushes import Flush
from staggerdns.wire.key import NAME_END
from staggerdns.wire.names import is_below

SLICE = 1_000
"""Keys of the cache that are looked at in a turn of the reactor, about a millisecond."""
REMOVAL = 8
"""As how many of them one counts that is removed."""


def forget(
    cache: AnswerCache, flush: Flush, before: float
) -> Generator[None, None, dict[str, Any]]:
    """Forget what was stored ``before`` that time, or at it: what comes meanwhile is new."""
    count = done = 0
    cache.past_flushes.add(flush.covers, before)
    walk = cache.names.walk() if flush.below else [cache.names.of(flush.name)]
    for keys in walk:
        for key in list(keys):
            if is_below(key[:NAME_END], flush.name) and _is_older(cache, key, before):
                count += cache.forget(key)
                done += REMOVAL
                if done >= SLICE and not flush.below:
                    done = 0
                    yield
        done += len(keys) + 1
        if done >= SLICE:
            done = 0
            yield
    return {"flushed": count}


def _is_older(cache: AnswerCache, key: bytes, before: float) -> bool:
    entry = cache.entries.get(key)
    return entry is not None and entry.stored <= before
