"""The names in the cache: found by a part of them, in alphabetical order, a page at a time.

The keys are looked through in steps (`staggerdns.policy.domains.in_turns`), so that queries are
answered in between. Each page looks through all of them anew: what comes and goes meanwhile
matters no more than that it is among them or not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Any

from staggerdns.resolver.cache import AnswerCache
from staggerdns.wire.constants import type_text
from staggerdns.wire.key import NAME_END
from staggerdns.wire.names import to_text
from staggerdns.wire.question import Question

MAX_NAMES = 1_000
"""Names of one page at most."""
MAX_LOOKED_AT = 200_000
"""Keys that one search looks at."""
MAX_QUERY = 4 * 255
"""Characters of what is looked for: no name has more, of whose octets each may be written as four.
"""
NAME_WORK = 8
"""As how many keys one counts whose name has to be written out."""
_DOT = b"[\x00-\x3f]"  # the length of the next label, of which the root has none; or a real dot
Steps = Generator[int, None, "dict[str, Any]"]
"""Work in steps, each of which yields how much of it was done."""


def search(cache: AnswerCache, part: str, after: str, limit: int) -> Steps:
    """Return ``limit`` of the names that have ``part`` in them, those behind ``after``.

    ``next``: behind which name the next page begins, `None` if this is the last one. ``complete``:
    whether all keys were looked at.
    """
    part = part.lower()
    may_match = _prefilter(part)
    found: dict[str, bytes] = {}
    looked_at, complete, more = 0, True, False
    for keys in cache.names.walk():
        work = 1
        for name in {key[:NAME_END] for key in keys}:
            if may_match(name) is not None:
                work += NAME_WORK
                text = to_text(name)
                if part in text and text > after:
                    found[text] = name
        if len(found) > 2 * limit:
            found, more = dict(sorted(found.items())[:limit]), True
        yield work + len(keys)
        looked_at += len(keys)
        if looked_at > MAX_LOOKED_AT:
            complete = False
            break
    shown = sorted(found.items())
    more = more or len(shown) > limit
    shown = shown[:limit]
    names = []
    for text, name in shown:
        names.append((yield from _shown(cache, text, name)))
    return {
        "names": names,
        "next": shown[-1][0] if more else None,
        "complete": complete,
    }


def _shown(cache: AnswerCache, text: str, name: bytes) -> Steps:
    """Return what a list of names has to say of one."""
    entries = []
    for key in cache.names.of(name):
        entry = cache.entries.get(key)
        if entry is not None:
            entries.append((Question(key).qtype, entry))
    yield NAME_WORK * (1 + len(entries))
    return {
        "name": text,
        "types": [type_text(qtype) for qtype in sorted({qtype for qtype, _ in entries})],
        "demand": max((entry.demand for _, entry in entries), default=0),
    }


def _prefilter(part: str) -> Callable[[bytes], object]:
    """Return what is `None` for names in wire form that surely do not have ``part`` in them."""
    if not part.isascii() or "\\" in part or part[:1].isdigit():
        return lambda name: name  # it may be of an escaped octet, as in \\027
    labels = part.encode().split(b".")
    return re.compile(_DOT.join(re.escape(label) for label in labels), re.DOTALL).search
