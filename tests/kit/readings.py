"""What the tests read from metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from staggerdns.instruments import Counter


def by_last_label(counter: Counter) -> dict[str, int]:
    """The values of a counter by the last of its labels, as by reason; those of one upstream."""
    return {values[-1]: value for values, value in counter.values().items()}
