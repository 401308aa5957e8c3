"""One real `Upstream`, with the settings that a test wants."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from staggerdns.journal import Journal
from staggerdns.settings.addresses import parse_upstream
from staggerdns.settings.upstreams import UpstreamSettings
from staggerdns.upstream.budget import QueryBudget
from staggerdns.upstream.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Callable

    from staggerdns.metrics import Metrics
    from staggerdns.standstill import StandstillClock
    from staggerdns.upstream.readers import Readers
    from staggerdns.upstream.stream import Resolve
    from staggerdns.upstream.tls import Authorities


def make_upstream(
    where: str,
    clock: StandstillClock,
    metrics: Metrics,
    *,
    reactor: Any = None,
    readers: Readers | None = None,
    rng: Callable[[int], bytes] | None = None,
    resolve: Resolve | None = None,
    authorities: Authorities | None = None,
    **settings: Any,
) -> Upstream:
    """Return the upstream that is written ``where``, with the default settings but for these.

    Over connections it needs a ``reactor``, over UDP ``readers``. Without ``rng`` each run draws
    the same: once in a thousand times chance gives a short name no capitals.
    """
    rules = UpstreamSettings(servers=(), **settings)
    return Upstream(
        parse_upstream(where),
        rules,
        reactor=reactor,
        readers=readers,  # type: ignore[arg-type]
        clock=clock,
        rng=rng if rng is not None else random.Random(1).randbytes,
        metrics=metrics,
        journal=Journal(),
        budget=QueryBudget(rules.budget),
        resolve=resolve,
        authorities=authorities,
    )
