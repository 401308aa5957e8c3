"""Which modules are compiled, when the program is: the one list, and whether it was.

The sources are the same. ``STAGGERDNS_COMPILE=1 pip install`` has mypyc (https://mypyc.readthedocs.io)
make an extension module of each of these, which Python then prefers to the ``.py`` beside it.

Here is what runs for each query, up and down. Left out is what runs for a connection or at a start,
where most is done by others' code, and what mypyc cannot compile:

* ``metrics.py`` looks for its families with ``vars(self)``;
* ``upstream/reason.py`` has an enumeration with an ``__init__``;
* ``resolver/adapter.py`` has functions within methods of a class that zope decorates.
"""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec

COMPILED_MODULES = (
    "staggerdns.deferreds",
    "staggerdns.instruments",
    "staggerdns.outages",
    "staggerdns.ranking.budget",
    "staggerdns.ranking.contenders",
    "staggerdns.ranking.measure",
    "staggerdns.ranking.order",
    "staggerdns.ranking.patience",
    "staggerdns.ranking.probes",
    "staggerdns.ranking.rtt",
    "staggerdns.ranking.sample",
    "staggerdns.ranking.sorts",
    "staggerdns.ranking.waiting",
    "staggerdns.resolver.cache",
    "staggerdns.resolver.collecting",
    "staggerdns.resolver.collection",
    "staggerdns.resolver.context",
    "staggerdns.resolver.entry",
    "staggerdns.resolver.failures",
    "staggerdns.resolver.forwarder",
    "staggerdns.resolver.freshness",
    "staggerdns.resolver.gathering",
    "staggerdns.resolver.ranker",
    "staggerdns.server.access",
    "staggerdns.server.clientgroups",
    "staggerdns.server.connections",
    "staggerdns.server.cookies",
    "staggerdns.server.datagram",
    "staggerdns.server.factory",
    "staggerdns.server.listenercontext",
    "staggerdns.server.local",
    "staggerdns.server.pending",
    "staggerdns.server.proxies",
    "staggerdns.server.ratelimit",
    "staggerdns.server.ready",
    "staggerdns.server.received",
    "staggerdns.server.request",
    "staggerdns.standstill",
    "staggerdns.strategy.adaptive",
    "staggerdns.strategy.alarms",
    "staggerdns.strategy.auto",
    "staggerdns.strategy.candidates",
    "staggerdns.strategy.decision",
    "staggerdns.strategy.observer",
    "staggerdns.strategy.one_by_one",
    "staggerdns.strategy.parallel",
    "staggerdns.strategy.racing",
    "staggerdns.strategy.run",
    "staggerdns.strategy.single",
    "staggerdns.strategy.statistics",
    "staggerdns.strategy.strategies",
    "staggerdns.strategy.strategy",
    "staggerdns.strategy.tiers",
    "staggerdns.strategy.unsigned",
    "staggerdns.traces.brief",
    "staggerdns.traces.trace",
    "staggerdns.upstream.blame",
    "staggerdns.upstream.budget",
    "staggerdns.upstream.case",
    "staggerdns.upstream.concurrentretries",
    "staggerdns.upstream.cookies",
    "staggerdns.upstream.datagram",
    "staggerdns.upstream.dialect",
    "staggerdns.upstream.edns",
    "staggerdns.upstream.entropy",
    "staggerdns.upstream.exchange",
    "staggerdns.upstream.health",
    "staggerdns.upstream.latency",
    "staggerdns.upstream.probe",
    "staggerdns.upstream.readers",
    "staggerdns.upstream.refusals",
    "staggerdns.upstream.report",
    "staggerdns.upstream.retries",
    "staggerdns.upstream.upstream",
    "staggerdns.upstream.upstreams",
    "staggerdns.wire.addressfilter",
    "staggerdns.wire.addresskinds",
    "staggerdns.wire.addresspool",
    "staggerdns.wire.age",
    "staggerdns.wire.alias",
    "staggerdns.wire.answer",
    "staggerdns.wire.constants",
    "staggerdns.wire.contributors",
    "staggerdns.wire.dropped",
    "staggerdns.wire.edns",
    "staggerdns.wire.judge",
    "staggerdns.wire.key",
    "staggerdns.wire.lonealias",
    "staggerdns.wire.names",
    "staggerdns.wire.nametable",
    "staggerdns.wire.pool",
    "staggerdns.wire.proxyheader",
    "staggerdns.wire.query",
    "staggerdns.wire.question",
    "staggerdns.wire.reading",
    "staggerdns.wire.rebinding",
    "staggerdns.wire.records",
    "staggerdns.wire.render",
    "staggerdns.wire.reply",
    "staggerdns.wire.rewrite",
    "staggerdns.wire.scrub",
    "staggerdns.wire.sections",
    "staggerdns.wire.verdict",
)


def is_compiled() -> bool:
    """Return whether this is the compiled program, or else pure Python."""
    found = find_spec(COMPILED_MODULES[0])
    return found is not None and str(found.origin).endswith(tuple(EXTENSION_SUFFIXES))
