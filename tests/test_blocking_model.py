"""What lists say is what clients get: a program with lists and groups against a model.

The model knows which names are in which list, which lists each group has, and what the upstream has
ever said; it looks everything up slowly. Lists are swapped while queries wait, entries expire, and
refreshes and sorts are under way. Each address tells to which version of the upstream's answer it
belongs, and so by which CNAMEs it was reached.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import dns.edns
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from staggerdns.wire.constants import Ede
from tests.kit.acts import CNAME, SILENT, A, Act, fails, name, record, reply
from tests.kit.effort import amount
from tests.kit.listed import ListedProgram
from tests.kit.routed import PUBLIC, Asked

NAMES = ("www.example", "shop.example", "ads.example", "x.ads.example")
TARGETS = ("ads.example", "y.ads.example", "cdn.example", "deep.cdn.example")
DOMAINS = sorted({*NAMES, *TARGETS, "cdn.example"})
CHAINS: list[tuple[str, ...]] = [
    (),
    ("cdn.example",),
    ("deep.cdn.example", "y.ads.example"),
    ("ads.example", "cdn.example"),
    ("deep.cdn.example",),
]
LISTS = {"ads": "nodata", "games": "nxdomain", "good": "null_address"}
"""Lists, in their order, and how each answers."""
CODES = {"ads": "NOERROR", "games": "NXDOMAIN", "good": "NOERROR"}


class Group(NamedTuple):
    """A client, and the lists that count for it."""

    client: str
    block: tuple[str, ...]
    allow: tuple[str, ...]


GROUPS = (
    Group("10.1.0.1", ("games", "ads"), ("good",)),
    Group("10.2.0.1", ("ads",), ("good",)),
    Group("10.3.0.1", ("games",), ()),
    Group("10.4.0.1", (), ()),
)
SETTINGS = """{
  default: {block: [games, ads], allow: [good]},
  second: {clients: [10.2.0.0/16], block: [ads]},
  third: {clients: [10.3.0.0/16], block: [games], allow: []},
  fourth: {clients: [10.4.0.0/16], block: []},
}"""
LINES = st.sets(st.sampled_from([*DOMAINS, *(f"@@||{one}^" for one in DOMAINS)]), max_size=3)
CONTENT = st.fixed_dictionaries(dict.fromkeys(LISTS, LINES))


def gives(version: int, after: float, ttl: int) -> Act:
    """Answer by one of the chains; the addresses tell which."""

    def answer(question: Any) -> bytes:
        owner, records = b"\xc0\x0c", []
        for target in CHAINS[version]:
            records.append(record(owner, CNAME, ttl, name(target)))
            owner = name(target)
        if question.qtype == A:
            found = [bytes((203, 0, version, last)) for last in (1, 2)]
        else:
            found = [b"\1" + bytes((48 + version,))]
        records += [record(owner, question.qtype, ttl, data) for data in found]
        return reply(question, records)

    return Act(after, answer)


class Waiting(NamedTuple):
    """A query, and what lists said of its name when it came."""

    asked: Asked
    qname: str
    group: Group
    verdict: str


class Lists(RuleBasedStateMachine):
    """Clients ask, lists are swapped, the upstream changes, time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.content: dict[str, set[str]] = {}
        self.versions = {0}
        self.waiting: list[Waiting] = []

    @initialize(content=CONTENT)
    def start(self, content: dict[str, set[str]]) -> None:
        """Begin with some lists."""
        self.program = ListedProgram(
            groups=SETTINGS,
            more="ranking: {probes: ['tcp:443']}\nlocal: {hosts: null}\ncache: {max_stale: 60}\n",
            **{one: f"{{answer: {answer}}}" for one, answer in LISTS.items()},
        )
        self.program.script(PUBLIC, gives(0, 5, 10))
        self.swap(content)

    @rule(content=CONTENT)
    def swap(self, content: dict[str, set[str]]) -> None:
        """Other lists come."""
        self.content = content
        self.program.lists.put(**content)

    @rule(
        qname=st.sampled_from(NAMES),
        group=st.sampled_from(GROUPS),
        rdtype=st.sampled_from(["A", "A", "TXT"]),
        do=st.booleans(),
        transport=st.sampled_from(["udp", "tcp"]),
    )
    def ask(self, qname: str, group: Group, rdtype: str, do: bool, transport: str) -> None:
        """A client asks."""
        asked = self.program.ask(
            qname, rdtype, client=group.client, payload=1232, do=do, transport=transport
        )
        self.waiting.append(Waiting(asked, qname, group, self.verdict(qname, group)))
        self.check()

    @rule(
        version=st.integers(0, len(CHAINS) - 1),
        after=st.sampled_from([1, 20, 90]),
        ttl=st.sampled_from([0, 1, 10, 300]),
    )
    def change(self, version: int, after: float, ttl: int) -> None:
        """The upstream says something else from now on."""
        self.versions.add(version)
        self.program.script(PUBLIC, gives(version, after, ttl))

    @rule(act=st.sampled_from([SILENT, fails(5)]))
    def fail(self, act: Act) -> None:
        """The upstream answers nothing from now on."""
        self.program.script(PUBLIC, act)

    @rule(duration=st.sampled_from([1, 6, 30, 100, 1_000, 4_000, 11_000, 70_000, 400_000]))
    def wait(self, duration: float) -> None:
        """Time passes."""
        self.program.wait(duration)
        self.check()

    @rule()
    def probe(self) -> None:
        """Connections that were opened to probe addresses succeed."""
        self.program.establish()
        self.check()

    def verdict(self, qname: str, group: Group) -> str:
        """The list that blocks a name, ``allowed``, or nothing, by the lists of now."""
        labels = qname.split(".")
        suffixes = [".".join(labels[start:]) for start in range(len(labels))]
        blocking = []
        for one in LISTS:
            has = any(suffix in self.content[one] for suffix in suffixes)
            excepts = any(f"@@||{suffix}^" in self.content[one] for suffix in suffixes)
            counts = one in group.block or one in group.allow
            if (excepts and counts) or (has and one in group.allow):
                return "allowed"
            if has and one in group.block:
                blocking.append(one)
        return blocking[0] if blocking else ""

    def of_chain(self, version: int, qname: str, group: Group) -> str:
        """The list that blocks an answer of the upstream, if any does."""
        if self.verdict(qname, group) == "allowed":
            return ""
        found = [self.verdict(target, group) for target in CHAINS[version]]
        return next((one for one in found if one not in ("", "allowed")), "")

    def check(self) -> None:
        """Each reply that has come is what the lists say."""
        for one in self.waiting:
            if one.asked.answered:
                self.check_reply(one)
        self.waiting = [one for one in self.waiting if not one.asked.answered]

    def check_reply(self, one: Waiting) -> None:
        """A blocked name is answered by its list; all else is blocked only where its way is."""
        message = one.asked.reply
        blocked = [
            str(option.text)
            for option in message.options
            if isinstance(option, dns.edns.EDEOption) and int(option.code) == Ede.BLOCKED
        ]
        if one.verdict not in ("", "allowed"):
            assert blocked == [one.verdict]
            assert one.asked.result == [CODES[one.verdict]]
        elif blocked:
            possible = {self.of_chain(version, one.qname, one.group) for version in self.versions}
            assert set(blocked) <= possible - {""}
            assert one.asked.result == [CODES[blocked[0]]]
        else:
            for rrset in message.answer:
                for data in rrset:
                    if rrset.rdtype == CNAME:
                        continue
                    shown = str(data)
                    version = int(shown.split(".")[2] if "." in shown else shown.strip('"'))
                    assert self.of_chain(version, one.qname, one.group) == ""

    def teardown(self) -> None:
        """Nobody waits for ever, and nothing is left."""
        if hasattr(self, "program"):
            self.program.close()
            assert all(one.asked.answered for one in self.waiting)
            assert self.program.clock.getDelayedCalls() == []


TestLists = Lists.TestCase
TestLists.settings = settings(
    max_examples=amount(20, 200),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
