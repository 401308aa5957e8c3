"""Round-trip times, and what is known of upstreams, as they are saved, and back again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from math import ceil

from staggerdns.ranking.rtt import Rtt, RttTable
from staggerdns.state.blocks import SavedRtt, SavedUpstream, UpstreamsBlock
from staggerdns.upstream.health import State
from staggerdns.upstream.upstream import Upstream

LONG_AGO = 30 * 86_400.0
"""Seconds of age of what is so old that it makes no difference, or of which nobody knows."""
_WIDTHS = (4, 16)


def save_upstreams(upstreams: Iterable[Upstream], now: float) -> UpstreamsBlock:
    """Return what is known of ``upstreams``; ``now``: by their clock."""
    return UpstreamsBlock(
        [
            SavedUpstream(
                upstream.name,
                upstream.latency.saved(now),
                upstream.health.saved(now),
                upstream.negative_trust.contradicted,
            )
            for upstream in upstreams
        ]
    )


def restore_upstreams(
    block: UpstreamsBlock, upstreams: Mapping[str, Upstream], now: float, elapsed: float
) -> None:
    """Have ``upstreams``, by their names, go on from what was known ``elapsed`` seconds ago, unless
    something has been learned of them since.
    """
    for saved in block.upstreams:
        upstream = upstreams.get(saved.name)
        if upstream is None:
            continue
        if saved.latency is not None:
            mean, variance, idle = saved.latency
            if mean >= 0 and variance >= 0:
                upstream.latency.restore(mean, variance, now - elapsed - max(idle, 0.0))
        state, failures, successes, open_for, left, alone = saved.health
        with suppress(ValueError):  # a state that there is not
            upstream.health.restore(
                State(state),
                failures,
                successes,
                open_for,
                max(left - elapsed, 0.0),
                now,
                alone=alone,
            )
        if 0 <= saved.contradicted <= 1:
            upstream.negative_trust.restore(saved.contradicted)


def save_rtt(address: bytes, rtt: Rtt, now: float) -> SavedRtt:
    """Return what is known of an address; ``now``: by the clock of the table."""
    return SavedRtt(
        address,
        ceil(min(now - rtt.measured, LONG_AGO) * 1000),
        rtt.seconds,
        rtt.deviation,
        rtt.loss,
        rtt.best,
        rtt.total,
        rtt.answered,
        rtt.lost,
        rtt.way,
        rtt.older_seconds,
        rtt.older_deviation,
    )


def restore_rtt(saved: SavedRtt, table: RttTable, now: float, elapsed: float) -> bool:
    """Have ``table`` know what was saved ``elapsed`` seconds ago, unless it knows more or is full;
    return whether it does.
    """
    if len(saved.address) not in _WIDTHS:
        return False
    rtt = Rtt()
    rtt.measured = now - max(elapsed + saved.measured / 1000, 0.0)
    rtt.seconds = saved.seconds
    rtt.deviation = saved.deviation
    rtt.loss = saved.loss
    rtt.best = saved.best
    rtt.total = saved.total
    rtt.answered = saved.answered
    rtt.lost = saved.lost
    rtt.way = saved.way
    rtt.older_seconds = saved.older_seconds
    rtt.older_deviation = saved.older_deviation
    return table.restore(saved.address, rtt)
