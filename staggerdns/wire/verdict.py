"""The worth of an upstream's reply, in one of four words; `Judge` finds which."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Verdict(IntEnum):
    """The worth of a reply, best first."""

    POSITIVE = 0
    NEGATIVE = 1
    FAILURE = 2
    NETWORK_ERROR = 3


POSITIVE: Final = Verdict.POSITIVE
NEGATIVE: Final = Verdict.NEGATIVE
FAILURE: Final = Verdict.FAILURE
NETWORK_ERROR: Final = Verdict.NETWORK_ERROR
"""The same, for the way of every reply: Python 3.11 takes long to look a member up in its class."""
