"""Four instances behind Debian's dnsdist, with its configuration in etc/dnsdist."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import dns.edns
import pytest
import yaml

from staggerdns.command.client import ask as control
from staggerdns.settings.upstreams import ParallelSettings
from tests.kit import behaviours as b
from tests.kit.balancer import ETC, balancer, fronts
from tests.kit.certificates import CertificateAuthority
from tests.kit.clients import UdpClient, ask, ask_many, eventually, exchange, kdig, question
from tests.kit.daemons import balancing_dnsdist
from tests.kit.effort import EFFORT, amount
from tests.kit.ports import free_endpoint
from tests.kit.program import Program
from tests.kit.scripted import ScriptedUpstream
from tests.kit.stub import Stub

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kit.certificates import Certificate
    from tests.kit.clients import Reply
    from tests.kit.ports import Endpoint
    from tests.kit.stub import Outcome

pytestmark = pytest.mark.live
SECRET = "0123456789abcdef0123456789abcdef"
ADDRESSES = ("203.0.113.1", "203.0.113.2", "203.0.113.3")
"""One of each upstream."""
NAMES = [f"name{number}.example." for number in range(40)]
LIMITED = "127.0.1.1"
"""A client that is not exempt from limits."""
LIMITS = {
    "client": {"exempt": ["127.0.0.0/24"]},
    "rate_limit": {"queries_per_second": 1, "burst": 1},
}
BURST, SOCKETS = 400, 8
"""Questions that come at one moment, and from how many sockets: a receive buffer of the size that
Linux gives has room for 277, and for twice as many where the largest is as large as that.
"""
HANDED_ON = 0.2
"""Seconds in which dnsdist, or an instance, is done with that."""
RATE = 500.0
"""Questions a second while instances end and come back."""
KILLS = amount(1, 40)
MAX_REPEATED = 25
"""Questions that are asked again after a kill: those that the instance had, and those that dnsdist
sends there before it notices, of which the bound of the load makes about eight. Without that there
are some forty.
"""


class Instance(NamedTuple):
    """One of the four, and what it was asked."""

    program: Program
    log: Path

    def asked(self, since: int) -> set[str]:
        """Which of our names it was asked for since its log had so many octets."""
        with self.log.open("rb") as file:
            file.seek(since)
            *whole, _ = file.read().split(b"\n")
        names = {f"{json.loads(line)['name'].lower().rstrip('.')}." for line in whole}
        return names & {*NAMES}


class Process(Protocol):
    """What can be told to stand still."""

    def send_signal(self, number: int, /) -> None:
        """Send it."""


class Encrypted(NamedTuple):
    """Where a dnsdist is asked over TLS and over HTTPS."""

    files: Certificate
    tls: Endpoint
    https: Endpoint


class Site(NamedTuple):
    """Two dnsdists, four instances, three upstreams."""

    fronts: list[Endpoint]
    balancers: list[subprocess.Popen[bytes]]
    encrypted: list[Encrypted]
    instances: list[Instance]
    upstreams: list[ScriptedUpstream]

    def launches(self, name: str) -> list[float]:
        """When upstreams were asked for a name."""
        return sorted(query.at for one in self.upstreams for query in one.asked(name, "A"))

    def asked_since(self, marks: list[int]) -> list[set[str]]:
        """The names that each instance was asked for since its log was so large."""
        both = zip(self.instances, marks, strict=True)
        return [instance.asked(mark) for instance, mark in both]

    def asked_by(self, client: str) -> int:
        """How often a client has asked."""
        return sum(one.log.read_text().count(f'"{client}"') for one in self.instances)

    def marks(self) -> list[int]:
        """How large each log is by now."""
        return [instance.log.stat().st_size for instance in self.instances]

    def shares(self) -> list[set[str]]:
        """Ask for each name once; which of them went to which instance."""
        marks = self.marks()
        for name in NAMES:
            assert ask(self.fronts[0], name).rcode == "NOERROR"
        return eventually(
            lambda: self.asked_since(marks), lambda sets: set().union(*sets) == {*NAMES}
        )


def configuration(programs: list[Program], encrypted: Encrypted) -> str:
    """The configuration in etc/, encryption included, with the addresses that there are here."""
    text = "\n".join([*fronts()[2:], balancer([str(program.endpoint) for program in programs])])
    changes = {
        "0.0.0.0:853": str(encrypted.tls),
        "0.0.0.0:443": str(encrypted.https),
        "/etc/dnsdist/certificate.pem": str(encrypted.files.chain),
        "/etc/dnsdist/key.pem": str(encrypted.files.key),
    }
    if not EFFORT:  # for so long what was lost counts as outstanding, and keeps names away
        changes["setUDPTimeout(4)"] = "setUDPTimeout(1)"
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


def server(number: int) -> dict[str, object]:
    """The section of an instance in etc/, but for its address."""
    text = (ETC / "instances.yaml").read_text()
    settings = yaml.safe_load(text.replace("%i", str(number)).replace("REPLACE THIS", SECRET))
    del settings["server"]["listen"]
    return dict(settings["server"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all tests here."""
    directory = tmp_path_factory.mktemp("site")
    with contextlib.ExitStack() as stack:
        upstreams = [
            stack.enter_context(ScriptedUpstream(b.answers(address, ttl=600)))
            for address in ADDRESSES
        ]
        instances = []
        for number in range(1, 5):
            log = directory / f"queries{number}"
            log.touch()
            settings = {
                "server": server(number) | LIMITS,
                "query_log": {"file": str(log)},
                "control": {"socket": str(directory / f"control{number}")},
            }
            where = directory / f"instance{number}"
            program = Program(where, [upstream.endpoint for upstream in upstreams], settings)
            instances.append(Instance(stack.enter_context(program), log))
        files = CertificateAuthority(directory).issue("dns.example")
        fronts = [free_endpoint(), free_endpoint()]
        encrypted = [Encrypted(files, free_endpoint(), free_endpoint()) for _ in fronts]
        balancers = []
        for front, ports in zip(fronts, encrypted, strict=True):
            text = configuration([instance.program for instance in instances], ports)
            running = balancing_dnsdist(directory / f"dnsdist{front.port}", front, text)
            balancers.append(stack.enter_context(running))
        yield Site(fronts, balancers, encrypted, instances, upstreams)


def test_one_name_is_asked_once_for_the_site(site: Site) -> None:
    """Whoever asks, over UDP or TCP, in which letters, by way of which dnsdist, a name is of one
    instance, so that each upstream is asked for it once, at the pace of one program.
    """
    for name in NAMES:
        assert ask_many(site.fronts[0], name, 4)[0].rcode == "NOERROR"
    eventually(lambda: {len(site.launches(name)) for name in NAMES}, lambda counts: counts == {3})
    for name in NAMES:
        for front in site.fronts:
            replies = [
                ask(front, name, source="127.0.0.9"),
                ask(front, name.upper(), source="127.0.0.10"),
                ask(front, name, tcp=True),
            ]
            for reply in replies:
                assert sorted(reply.addresses) == sorted(ADDRESSES)
    parallel = ParallelSettings()
    for name in NAMES:
        times = site.launches(name)
        assert len(times) == len(site.upstreams)
        together = max(parallel.active_tier_size, parallel.batch_size)
        for early, late in zip(times, times[together:], strict=False):
            assert late - early > parallel.stagger_delay / 2
    sets = site.asked_since([0] * 4)
    assert sum(map(len, sets)) == len(NAMES)
    assert all(len(names) >= len(NAMES) // 16 for names in sets)


def test_the_client_counts_behind_dnsdist(site: Site) -> None:
    """Nothing is dropped: headers come where they are wanted, in checks as well."""
    for tcp in (False, True):
        before = site.asked_by("127.0.0.13")
        assert ask(site.fronts[0], NAMES[0], tcp=tcp, source="127.0.0.13").rcode == "NOERROR"
        eventually(partial(site.asked_by, "127.0.0.13"), (before + 1).__eq__)
    for instance in site.instances:
        eventually(instance.log.read_text, lambda text: "ready.staggerdns.invalid" in text)
        assert instance.program.metrics().value("staggerdns_dropped_queries_total") == 0


@contextlib.contextmanager
def paused(process: Process) -> Iterator[None]:
    """Let a process stand still."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def test_a_burst_is_not_lost(site: Site) -> None:
    """Questions that come while dnsdist does something else are answered when it is back, and so
    are those whose answers come then.
    """
    owner = next(n for n, names in enumerate(site.shares()) if NAMES[0] in names)
    balancer = site.balancers[0]
    for instance in (None, site.instances[owner].program.process):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(UdpClient(site.fronts[0])) for _ in range(SOCKETS)]
            with contextlib.nullcontext() if instance is None else paused(instance):
                with paused(balancer):
                    for _ in range(BURST // SOCKETS):
                        for client in clients:
                            client.send(question(NAMES[0]))
                if instance is not None:
                    time.sleep(HANDED_ON)
                    stack.enter_context(paused(balancer))
            if instance is not None:
                time.sleep(HANDED_ON)
                balancer.send_signal(signal.SIGCONT)
            for client in clients:
                for _ in range(BURST // SOCKETS):
                    assert client.receive().rcode == "NOERROR"


def with_cookie(site: Site, name: str, cookie: bytes) -> tuple[Reply, bytes]:
    """Ask as a client that has a limit, with this cookie; the reply and the cookie in it."""
    query = question(name, options=[dns.edns.CookieOption(cookie[:8], cookie[8:])])
    reply = exchange(site.fronts[0], query, source=LIMITED)
    (option,) = reply.message.options
    assert isinstance(option, dns.edns.CookieOption)
    return reply, option.client + option.server


def test_a_cookie_of_one_counts_for_all(site: Site) -> None:
    """What one instance has given out excuses its client from the limit of each other one."""
    first, *others = [min(names) for names in site.shares()]
    _, cookie = with_cookie(site, first, b"8 octets")
    assert len(cookie) == 24
    forged = cookie[:-1] + bytes([cookie[-1] ^ 1])

    def excused() -> float:
        samples = [instance.program.metrics() for instance in site.instances]
        counts = [one.value("staggerdns_rate_limited_total", action="excused") for one in samples]
        return float(sum(counts))

    def excused_now(name: str) -> float:
        reply, given = with_cookie(site, name, cookie)
        assert (reply.rcode, given) == ("NOERROR", cookie)
        assert sorted(reply.addresses) == sorted(ADDRESSES)
        return excused()

    for name in others:
        before = excused()
        forgery = partial(with_cookie, site, name, forged)
        eventually(forgery, lambda found: found[0].rcode == "BADCOOKIE")
        eventually(partial(excused_now, name), before.__lt__)


@pytest.mark.parametrize("transport", ["tls", "https"])
def test_clients_come_encrypted(site: Site, transport: str) -> None:
    """TLS and HTTPS end at dnsdist, which says for whom it asks all the same."""
    for place, source in zip(site.encrypted, ("127.0.0.11", "127.0.0.12"), strict=True):
        server = place.tls if transport == "tls" else place.https
        before = site.asked_by(source)
        assert "203.0.113." in kdig(server, "-b", source, f"+{transport}", NAMES[0])
        eventually(partial(site.asked_by, source), (before + 1).__eq__)


def interrupted(
    site: Site, victim: int, take: Callable[[Program], object], retry: float
) -> Outcome:
    """Have an instance taken away while names are asked for, start it anew when its names are asked
    elsewhere, and stop when they have come back; what clients noticed.
    """
    shares = site.shares()
    program, names = site.instances[victim].program, shares[victim]
    before, enough = site.marks(), threading.Event()

    def elsewhere() -> set[str]:
        asked = site.asked_since(taken)
        return set().union(*asked[:victim], *asked[victim + 1 :])

    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(Stub(site.fronts[0], NAMES, RATE, retry).run, enough)
        try:
            eventually(lambda: site.asked_since(before), all)
            taken = site.marks()
            take(program)
            eventually(elsewhere, names.issubset, timeout=15)
            if program.process.poll() is None:
                program.terminate()
            taken = site.marks()
            program.start()
            eventually(lambda: site.asked_since(taken)[victim], names.issubset, timeout=15)
        finally:
            enough.set()
        outcome = load.result()
    eventually(site.shares, lambda found: found == shares, timeout=15)
    assert (outcome.unanswered, outcome.failed) == ([], [])
    assert outcome.asked > RATE
    return outcome


def test_an_instance_is_killed_under_load(site: Site) -> None:
    """A stub resolver gets every answer, few of them at the second try; the names of the instance
    move to others, and come back with it.
    """
    for number in range(KILLS):
        outcome = interrupted(site, number % len(site.instances), Program.kill, retry=0.5)
        assert outcome.repeated <= MAX_REPEATED


def test_an_instance_is_drained_and_restarted_under_load(site: Site) -> None:
    """The same when it is told to before, and then nothing is asked twice."""

    def drain(program: Program) -> None:
        assert control(program.settings["control"]["socket"], "drain", {"draining": True})

    assert interrupted(site, 1, drain, retry=2).repeated == 0
