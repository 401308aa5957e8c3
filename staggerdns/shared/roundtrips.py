"""Round-trip times that servers of one site share: each address is measured by one of them.

A time is true where it was measured, in the way in which it was, so that a key names the site and
the ways of probing. What this server has measured itself is written about once a second, and lives
for ``ranking.rtt_cache_ttl``. It is read for the addresses of a pool that comes from the store, so
that its first answer has the nearest address first. What was measured here, and is fresh, is never
replaced by it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from ipaddress import ip_address
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from staggerdns.ranking.rtt import NO_LOSS, Rtt, RttTable
from staggerdns.settings.sections import RankingSettings
from staggerdns.shared.scripts import PREFIX
from staggerdns.shared.store import Present, Store, StoreError

MAX_READ = 64
"""Addresses of one pool that are looked for."""
MAX_WRITTEN = 1_024
"""Addresses that are written at a time, the latest of them: more than two seconds of probes with
the default ``ranking.max_probes_per_second``.
"""
_DIGEST_OCTETS = 8
_Microseconds = Annotated[int, Meta(ge=1, le=60_000_000)]


class SharedRtt(Struct, array_like=True, frozen=True, gc=False):
    """What is known of an address: see `Rtt`. ``life``: milliseconds for which it was written."""

    life: Annotated[int, Meta(ge=1)]
    microseconds: _Microseconds
    deviation: Annotated[int, Meta(ge=0, le=60_000_000)]
    answered: Annotated[int, Meta(ge=1, le=1_000_000)]
    way: Annotated[str, Meta(max_length=16)]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SharedRtt).decode


class RoundTrips:
    """The round trips of a ``site`` in ``store``; ``table`` returns those that are known here, if
    anything is measured, by ``ranking``. ``now`` and all times are seconds of the table's clock.
    """

    def __init__(
        self,
        store: Store,
        site: str,
        ranking: RankingSettings,
        table: Callable[[], RttTable | None],
        now: float,
    ) -> None:
        self._store = store
        self._table = table
        self._life = ranking.rtt_cache_ttl * 1000
        self._timeout = ranking.timeout
        self._ways = frozenset(ranking.probes)
        content = json.dumps([*ranking.probes]).encode()
        digest = blake2b(content, digest_size=_DIGEST_OCTETS).hexdigest()
        self._prefix = PREFIX + f"rtt:{site}:{digest}:".encode()
        self._written_at = now  # what was known before may be old
        self._writing = False

    def key(self, address: bytes) -> bytes:
        """Return the key of an address."""
        return self._prefix + str(ip_address(address)).encode()

    def missing(self, addresses: Iterable[bytes], now: float) -> list[bytes]:
        """Return for which of these nothing fresh is known here."""
        table = self._table()
        if table is None:
            return []
        return [one for one in addresses if not table.fresh(one, now)][:MAX_READ]

    def read(self, addresses: Sequence[bytes], now: float) -> Deferred[None]:
        """Have the table know what the site knows of these addresses. Fails with `StoreError`."""
        found = self._store.read([self.key(address) for address in addresses])
        return found.addCallback(self._adopt, addresses, now)

    def write(self, now: float) -> None:
        """Let the site know what was measured here since the last time."""
        table = self._table()
        if table is None or self._writing:
            return
        since, self._written_at = self._written_at, now
        values = []
        for address, rtt in table.measured_since(since, MAX_WRITTEN):
            value = self._value(rtt)
            if value is not None:
                values.append((self.key(address), value))
        if values:
            self._writing = True
            self._store.write(values, self._life).addBoth(self._written)

    def _written(self, result: object) -> None:
        self._writing = False
        if isinstance(result, Failure):
            result.trap(StoreError)

    def _value(self, rtt: Rtt) -> bytes | None:
        """Return what others may know of an address, `None` where that is nothing good."""
        if rtt.seconds is None or rtt.loss > NO_LOSS or not rtt.answered:
            return None
        microseconds = max(round(rtt.seconds * 1e6), 1)
        deviation = round(rtt.deviation * 1e6)
        return _encode(SharedRtt(self._life, microseconds, deviation, rtt.answered, rtt.way))

    def _adopt(
        self, values: Sequence[Present | None], addresses: Sequence[bytes], now: float
    ) -> None:
        table = self._table()
        if table is None:
            return
        for address, present in zip(addresses, values, strict=True):
            if present is None:
                continue
            try:
                shared = _decode(present.value)
            except msgspec.MsgspecError:
                continue
            seconds = shared.microseconds / 1e6
            if (
                0 < present.left <= shared.life <= self._life
                and seconds <= self._timeout
                and shared.way in self._ways
                and not table.fresh(address, now)
            ):
                rtt = Rtt()
                rtt.seconds = rtt.best = seconds
                rtt.deviation = shared.deviation / 1e6
                rtt.answered = shared.answered
                rtt.total = seconds * shared.answered
                rtt.way = shared.way
                rtt.measured = now - (shared.life - present.left) / 1000
                table.adopt(address, rtt)
