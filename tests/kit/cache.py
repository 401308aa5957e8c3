"""A cache alone, on a `task.Clock`."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from staggerdns.metrics import Metrics
from staggerdns.resolver.cache import AnswerCache
from staggerdns.settings.sections import CacheSettings
from staggerdns.wire.question import make_question
from staggerdns.wire.reply import index_reply
from staggerdns.wire.sections import SectionsAnswer
from tests.kit.acts import A, name, negative

START = 5000.25
"""Seconds on the clock when a test begins."""
WWW = make_question(name("www.example"), A)


class SimulatedCache:
    """A cache, its clock, and the refreshes that it asked for."""

    def __init__(self, **limits: Any) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.metrics = Metrics()
        self.cache = AnswerCache(CacheSettings(**limits), self.metrics)
        self.refreshed: list[bytes] = []
        self.cache.refresh_with(lambda question, now: self.refreshed.append(question.key))

    def at(self, age: float) -> None:
        """Go to ``age`` seconds after the start."""
        self.clock.rightNow = START + age

    def ttl(self) -> int:
        """The TTL that a client gets for WWW now."""
        entry = self.cache.lookup(WWW.key, self.clock.seconds())
        assert entry is not None
        return self.cache.reply_ttl(entry, self.clock.seconds())


def no_such_name(ttl: int = 60) -> SectionsAnswer:
    """An NXDOMAIN that may be kept for ``ttl`` seconds."""
    act = negative(0, ttl=ttl, minimum=ttl)
    assert act.reply is not None
    return SectionsAnswer.of(index_reply(act.reply(WWW), WWW), WWW, ttl, negative=True)
