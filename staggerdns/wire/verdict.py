"""The worth of an upstream's reply, in one of four words; `Judge` finds which."""

from __future__ import annotations

from enum import IntEnum


class Verdict(IntEnum):
    """The worth of a reply, best first."""

    POSITIVE = 0
    NEGATIVE = 1
    FAILURE = 2
    NETWORK_ERROR = 3
