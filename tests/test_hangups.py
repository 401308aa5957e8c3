"""SIGHUPs of this process are kept until somebody wants to hear of them."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from staggerdns.hangups import Hangups

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def hangups() -> Iterator[Hangups]:
    """One that takes them; afterwards they are taken as before."""
    before = signal.getsignal(signal.SIGHUP)
    hangups = Hangups()
    hangups.take()
    yield hangups
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("early", [0, 1, 3])
def test_early_ones_are_told_once(hangups: Hangups, early: int) -> None:
    """However many come early, one call says so; later ones are told one by one."""
    heard: list[int] = []
    for _ in range(early):
        signal.raise_signal(signal.SIGHUP)
    hangups.forward_to(lambda: heard.append(1))
    assert len(heard) == min(early, 1)
    for number in range(2):
        signal.raise_signal(signal.SIGHUP)
        assert len(heard) == min(early, 1) + number + 1
