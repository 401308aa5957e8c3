"""Names with addresses of both families, and TCP handshakes that follow a script."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any

from staggerdns.ranking.handshakes import Handshakes
from staggerdns.ranking.measure import Measurer
from staggerdns.ranking.rtt import RttTable
from staggerdns.resolver.families import Families, Verdict
from staggerdns.settings.policy import FamiliesSettings
from staggerdns.settings.sections import RankingSettings
from staggerdns.wire.question import Question
from tests.kit.acts import A
from tests.kit.probing import FakeProbe, Script, written
from tests.kit.ranked import SimulatedRankedCache, asks, near, pool
from tests.kit.simulated import START

AAAA = 28
SHORT_TTL = 5
FOUR, SIX = asks(qtype=A), asks(qtype=AAAA)


def near6(number: int) -> str:
    """An IPv6 address that answers after ``number`` milliseconds."""
    return str(IPv6Address(f"2606:4700::{number:x}"))


class SimulatedHandshakes:
    """Handshakes by two ports that follow scripts, beside a ranked cache."""

    def __init__(self, ranked: SimulatedRankedCache, *scripts: Script, **changes: Any) -> None:
        settings = RankingSettings(**changes)
        self.clock = ranked.clock
        self.probes = [
            FakeProbe(self.clock, name, script)
            for name, script in zip(
                ("tcp:443", "tcp:80"), (scripts or (written,)) * 2, strict=False
            )
        ]
        for probe in self.probes:
            probe.cheap = True
        self.table = RttTable(settings)
        self.measurer = Measurer(
            self.probes,
            self.table,
            ranked.ranking.budget,
            self.clock,
            self.clock,
            ranked.metrics,
            settings,
            ranked.ranking.at_port,
        )
        self.handshakes = Handshakes(self.table, self.measurer, settings.samples)

    @property
    def connected_to(self) -> list[bytes]:
        """Every address that was connected to, once, in the order of the first times."""
        every = [sample for probe in self.probes for sample in probe.samples]
        return [*dict.fromkeys(sample.address for sample in sorted(every))]


class SimulatedFamilies:
    """What becomes of IPv6 addresses, with a cache and handshakes of its own."""

    def __init__(
        self,
        *scripts: Script,
        prefer: str = "auto",
        margin: float = 0.02,
        echoes: Script = written,
        probe_private: bool = False,
    ) -> None:
        self.ranked = SimulatedRankedCache(echoes, probe_private=probe_private)
        self.cache = self.ranked.cache
        self.clock = self.ranked.clock
        self.simulated = SimulatedHandshakes(self.ranked, *(scripts or (written,)))
        self.families = Families(self.cache, self.clock, self.ranked.metrics)
        self.settings = FamiliesSettings(prefer=prefer, margin=margin)
        self.use({0: self.settings})

    def use(self, by_scope: dict[int, FamiliesSettings]) -> None:
        """Go by these settings."""
        self.families.use(by_scope, self.simulated.handshakes, short_ttl=SHORT_TTL)

    def put(self, question: Question, *addresses: int | str, ttl: int = 86_000) -> None:
        """Have a collection find addresses, and end."""
        generation = next(self.cache.generations)
        answer = pool(*addresses, ttl=ttl)
        self.cache.commit(question.key, generation, answer, self.clock.seconds())
        self.cache.complete(question.key, generation, ttl, ttl)

    def put_both(self, four: int | str, six: int | str) -> None:
        """Have both families, each with one address; numbers are milliseconds."""
        self.put(FOUR, near(four) if isinstance(four, int) else four)
        self.put(SIX, near6(six) if isinstance(six, int) else six)

    def verdict(self) -> Verdict:
        """What becomes of the IPv6 addresses now."""
        now = self.clock.seconds()
        return self.families.verdict(SIX.key, self.settings.margin, now)

    def settled(self, seconds: float = 5.0) -> Verdict:
        """What becomes of them after a while, when everything that was begun is over."""
        self.verdict()
        self.wait(seconds)
        return self.verdict()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.ranked.at(self.clock.seconds() - START + seconds)

    def changes(self) -> dict[str, int]:
        """How often it was decided anew, by what was decided."""
        metric = self.ranked.metrics.family_changes
        cells = {to: metric.cell(to).value for to in ("ipv4_nearer", "ipv6_unreachable", "both")}
        return {to: value for to, value in cells.items() if value}
