"""ICMP echo: on loopback with the sockets that the system allows, and byte by byte without any."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from staggerdns.ranking import icmp as icmp_module
from staggerdns.ranking.icmp import IcmpUnavailable, Pinger
from tests.kit.checkout import ROOT
from tests.kit.loopback import DEADLINE, reactor, until
from tests.kit.probing import IDENTIFIER, FakeSocket, make_clock, rng

FAMILIES = [socket.AF_INET, socket.AF_INET6]
LOOPBACK = {
    socket.AF_INET: socket.inet_pton(socket.AF_INET, "127.0.0.1"),
    socket.AF_INET6: socket.inet_pton(socket.AF_INET6, "::1"),
}
SEQUENCE, PAYLOAD = 0x4243, b"P" * 16
REPLY = {socket.AF_INET: 0, socket.AF_INET6: 129}


class NoReactor:
    """Notes which readers it has; `Pinger.doRead` is called by the test."""

    def __init__(self) -> None:
        self.readers: list[Any] = []
        self.addReader = self.readers.append
        self.removeReader = self.readers.remove


class SpyPinger(Pinger):
    """Notes each packet that it reads, without the IP header, and those that it takes."""

    def __init__(self, family: socket.AddressFamily, reactor: Any, clock: Any) -> None:
        self.seen: list[tuple[bytes, str]] = []
        self.taken: list[tuple[bytes, str]] = []
        super().__init__(family, reactor, clock, rng)

    def _match(self, packet: bytes, host: str, waited: float) -> None:
        waiting = len(self._waiting)
        super()._match(packet, host, waited)
        if self._version_4 and self.raw:
            packet = packet[20:]
        self.seen.append((packet, host))
        if len(self._waiting) < waiting:
            self.taken.append((packet, host))


@pytest.fixture(params=FAMILIES, ids=["IPv4", "IPv6"])
def family(request: pytest.FixtureRequest) -> socket.AddressFamily:
    """Both families, one after the other."""
    found: socket.AddressFamily = request.param
    return found


@pytest.fixture
def pinger(family: socket.AddressFamily) -> Iterator[Pinger]:
    """A pinger on the real reactor."""
    made = make(lambda: Pinger(family, reactor, reactor, os.urandom))
    yield made
    made.close()
    assert made not in reactor.getReaders()


def make(factory: Callable[[], Any]) -> Any:
    """Make a pinger, or skip the test where the system has no socket for it."""
    try:
        return factory()
    except IcmpUnavailable:
        pytest.skip("neither a raw nor a ping socket is allowed here")


async def within_deadline(result: Deferred[Any]) -> Any:
    """Wait for ``result``; it is cancelled at the deadline."""
    late = reactor.callLater(DEADLINE, result.cancel)
    try:
        return await result
    finally:
        if late.active():
            late.cancel()


@pytest_twisted.ensureDeferred
async def test_echo(pinger: Pinger, family: socket.AddressFamily) -> None:
    """A host that is there answers, and the time is that of the round trip."""
    seconds = await within_deadline(pinger.ping(LOOPBACK[family]))
    assert 0 <= seconds < DEADLINE
    assert pinger.waiting == 0


@pytest_twisted.ensureDeferred
async def test_many_at_once(pinger: Pinger, family: socket.AddressFamily) -> None:
    """Echoes under way at the same time each get their own answer."""
    echoes = [pinger.ping(LOOPBACK[family]) for _ in range(50)]
    assert pinger.waiting == 50
    assert len(await within_deadline(gatherResults(echoes))) == 50
    assert pinger.waiting == 0


@pytest_twisted.ensureDeferred
async def test_cancel(pinger: Pinger, family: socket.AddressFamily) -> None:
    """An echo that was given up is forgotten; its answer disturbs the next one no more."""
    given_up = pinger.ping(LOOPBACK[family])
    given_up.cancel()
    assert pinger.waiting == 0
    with pytest.raises(CancelledError):
        await given_up
    await within_deadline(pinger.ping(LOOPBACK[family]))


@pytest_twisted.ensureDeferred
async def test_close(family: socket.AddressFamily) -> None:
    """The end gives up every echo and leaves neither reader nor socket."""
    pinger = make(lambda: Pinger(family, reactor, reactor, os.urandom))
    assert pinger in reactor.getReaders()
    failures: list[Failure] = []
    for _ in range(3):
        pinger.ping(LOOPBACK[family]).addErrback(failures.append)
    pinger.close()
    assert [failure.check(CancelledError) for failure in failures] == [CancelledError] * 3
    assert pinger not in reactor.getReaders()
    assert pinger.fileno() == -1


@pytest_twisted.ensureDeferred
async def test_ping_after_close(family: socket.AddressFamily) -> None:
    """Whoever pings after the end hears of it through the Deferred."""
    pinger = make(lambda: Pinger(family, reactor, reactor, os.urandom))
    pinger.close()
    with pytest.raises(OSError, match="descriptor"):
        await pinger.ping(LOOPBACK[family])
    assert pinger.waiting == 0


def echo_reply(
    family: socket.AddressFamily,
    *,
    kind: int | None = None,
    code: int = 0,
    identifier: int = IDENTIFIER,
    sequence: int = SEQUENCE,
    payload: bytes = PAYLOAD,
) -> bytes:
    """Return an echo reply, right in all that is not given; IPv6 leaves the sum to the kernel."""
    kind = REPLY[family] if kind is None else kind
    packet = struct.pack("!BBHHH", kind, code, 0, identifier, sequence) + payload
    if family == socket.AF_INET:
        words = struct.unpack(f"!{(len(packet) + 1) // 2}H", packet + b"\0" * (len(packet) % 2))
        total = sum(words)
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        packet = packet[:2] + struct.pack("!H", ~total & 0xFFFF) + packet[4:]
    return packet


FORGERIES: dict[str, dict[str, Any]] = {
    "identifier": {"identifier": IDENTIFIER + 1},
    "sequence before": {"sequence": SEQUENCE - 1},
    "sequence behind": {"sequence": SEQUENCE + 1},
    "payload": {"payload": b"P" * 15 + b"Q"},
    "payload short": {"payload": b"P" * 14},
    "payload long": {"payload": b"P" * 18},
    "no payload": {"payload": b""},
    "code": {"code": 1},
}


def at_rest(pinger: SpyPinger) -> None:
    """Read all that has come."""
    for _ in range(10):
        pinger.doRead()


@pytest.fixture
def pinger_and_liar(family: socket.AddressFamily) -> Iterator[tuple[SpyPinger, socket.socket]]:
    """A pinger whose chance is known, and a raw socket that lies to it."""
    try:
        protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
        liar = socket.socket(family, socket.SOCK_RAW, protocol)
    except PermissionError:
        pytest.skip("forging needs a raw socket, which is not allowed here")
    with liar:
        pinger = make(lambda: SpyPinger(family, NoReactor(), make_clock()))
        yield pinger, liar
        pinger.close()


def host_of(family: socket.AddressFamily) -> str:
    """The loopback address as text."""
    return socket.inet_ntop(family, LOOPBACK[family])


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_replies(
    family: socket.AddressFamily, pinger_and_liar: tuple[SpyPinger, socket.socket], forgery: str
) -> None:
    """A reply that is wrong in one thing is read and not taken; the right one behind it is."""
    pinger, liar = pinger_and_liar
    forged = echo_reply(family, **FORGERIES[forgery])
    host = host_of(family)
    liar.sendto(forged, (host, 0))  # first, because the system itself answers within `ping`
    answered: list[float] = []
    pinger.ping(LOOPBACK[family]).addCallback(answered.append)
    at_rest(pinger)
    assert forged[4:] in {packet[4:] for packet, _ in pinger.seen}
    assert [packet[4:] for packet, _ in pinger.taken] == [echo_reply(family)[4:]]
    assert pinger.taken[0][0][1] == 0
    assert len(answered) == 1


def test_a_perfect_forgery(
    family: socket.AddressFamily, pinger_and_liar: tuple[SpyPinger, socket.socket]
) -> None:
    """The way in which these tests forge would work, did one know everything."""
    pinger, liar = pinger_and_liar
    liar.sendto(echo_reply(family), (host_of(family), 0))
    pinger.ping(LOOPBACK[family])
    at_rest(pinger)
    replies = [packet for packet, _ in pinger.seen if packet[4:] == echo_reply(family)[4:]]
    assert len(replies) == 2  # the forged one, and the system's own
    assert [packet for packet, _ in pinger.taken] == replies[:1]


@pytest.mark.parametrize("family", [socket.AF_INET])  # loopback has one IPv6 address only
def test_a_reply_from_elsewhere(
    family: socket.AddressFamily, pinger_and_liar: tuple[SpyPinger, socket.socket]
) -> None:
    """A reply that is right in all but its source is not taken."""
    pinger, liar = pinger_and_liar
    liar.bind(("127.0.0.2", 0))
    liar.sendto(echo_reply(family), ("127.0.0.1", 0))
    pinger.ping(LOOPBACK[family])
    at_rest(pinger)
    assert "127.0.0.2" in {host for _, host in pinger.seen}
    assert [host for _, host in pinger.taken] == ["127.0.0.1"]


def test_only_replies_come_in(
    family: socket.AddressFamily, pinger_and_liar: tuple[SpyPinger, socket.socket]
) -> None:
    """The system keeps all other types away from a raw socket: echo requests, errors."""
    pinger, liar = pinger_and_liar
    if not pinger.raw:
        pytest.skip("no raw socket is allowed here")
    for kind in (3, 8, 11) if family == socket.AF_INET else (1, 3, 128, 135):
        liar.sendto(echo_reply(family, kind=kind), (host_of(family), 0))
    pinger.ping(LOOPBACK[family])
    at_rest(pinger)
    assert {packet[0] for packet, _ in pinger.seen} == {REPLY[family]}


PING = """
import json, os, socket, subprocess, sys
range_, uid = sys.argv[1], int(sys.argv[2])
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with open("/proc/sys/net/ipv4/ping_group_range", "w") as file:
    file.write(range_)
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from staggerdns.ranking.icmp import IcmpUnavailable, Pinger
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
said = {"raw": [], "seconds": [], "unavailable": 0}
echoes = []
pingers = []
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    try:
        pinger = Pinger(family, reactor, reactor, os.urandom)
    except IcmpUnavailable:
        said["unavailable"] += 1
        continue
    pingers.append(pinger)
    said["raw"].append(pinger.raw)
    packed = socket.inet_pton(family, host)
    echoes += [pinger.ping(packed) for _ in range(3)]
def over(result):
    said["seconds"] = result if isinstance(result, list) else str(result)
    for pinger in pingers:
        pinger.close()
    reactor.stop()
gatherResults(echoes).addBoth(over)
late = reactor.callLater(10, reactor.stop)
if echoes:
    reactor.run()
print(json.dumps(said))
"""


def in_a_namespace(group_range: str, uid: int) -> dict[str, Any]:
    """Ping loopback as user ``uid`` in a network namespace of its own; what came of it."""
    if os.geteuid() != 0:
        pytest.skip("only root may make a network namespace")
    unshare = shutil.which("unshare")
    assert unshare is not None
    usable = subprocess.run([unshare, "-n", "true"], check=False, capture_output=True)
    if usable.returncode:
        if os.environ.get("CI"):
            pytest.fail(f"root, and no network namespace: {usable.stderr.decode()}")
        pytest.skip("no network namespace can be made here")
    done = subprocess.run(
        [unshare, "-n", sys.executable, "-c", PING, group_range, str(uid)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.live
def test_ping_socket() -> None:
    """Without the privilege, a ping socket does where the system allows those."""
    said = in_a_namespace("0 2147483647", 65534)
    assert said["raw"] == [False, False]
    assert len(said["seconds"]) == 6
    assert all(0 <= seconds < 5 for seconds in said["seconds"])


@pytest.mark.live
def test_no_socket_at_all() -> None:
    """Without the privilege, and with ping sockets forbidden, it says so."""
    said = in_a_namespace("1 0", 65534)
    assert said == {"raw": [], "seconds": [], "unavailable": 2}


@pytest.mark.live
def test_raw_socket_first() -> None:
    """With the privilege the socket is a raw one."""
    assert in_a_namespace("0 2147483647", 0)["raw"] == [True, True]


WALL = 1_800_000_000.5


class FakePing:
    """A pinger on a fake socket."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET, *, raw: bool = True) -> None:
        self.socket = FakeSocket()
        self.reactor = NoReactor()
        self.clock = Clock()
        self.clock.advance(50)
        self.family = family
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(icmp_module, "_open", lambda _: (self.socket, raw))
            self.pinger = Pinger(
                family,
                self.reactor,  # type: ignore[arg-type]
                self.clock,
                rng,
                wall=lambda: WALL,
            )
        self.answers: list[float] = []
        self.failures: list[Failure] = []

    def ping(self, address: bytes) -> Deferred[float]:
        """Ping, and note what comes of it."""
        echo = self.pinger.ping(address)
        echo.addCallbacks(self.answers.append, self.failures.append)
        return echo

    def hear(self, packet: bytes, host: str) -> None:
        """Have a packet come in."""
        self.socket.incoming.append((packet, host))
        self.pinger.doRead()


HOST = socket.inet_pton(socket.AF_INET, "192.0.2.7")
HOST_6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7")
IP_HEADER = b"\x45" + b"\0" * 19


def test_the_packet() -> None:
    """An echo request has type 8, the identifier, the next sequence, 16 octets, a right sum."""
    fake = FakePing()
    fake.ping(HOST)
    ((packet, host),) = fake.socket.sent
    assert host == "192.0.2.7"
    expected = echo_reply(socket.AF_INET, kind=8)
    assert packet == expected


def test_the_packet_of_ipv6() -> None:
    """ICMPv6 has type 128, and the kernel computes the sum."""
    fake = FakePing(socket.AF_INET6)
    fake.ping(HOST_6)
    ((packet, host),) = fake.socket.sent
    assert host == "2001:db8::7"
    assert packet == echo_reply(socket.AF_INET6, kind=128)


@given(st.binary(min_size=18, max_size=18), st.integers(0, 0xFFFF))
def test_the_sum(data: bytes, identifier: int) -> None:
    """The sum over any packet with its sum in place is all ones (RFC 1071)."""
    packet = struct.pack("!BBHH", 8, 0, 0, identifier) + data
    packet = packet[:2] + icmp_module._checksum(packet) + packet[4:]
    total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF


@pytest.mark.parametrize(
    ("family", "raw", "packet", "host"),
    [
        (socket.AF_INET, True, IP_HEADER + echo_reply(socket.AF_INET), "192.0.2.7"),
        (
            socket.AF_INET,
            True,
            b"\x46" + b"\0" * 23 + echo_reply(socket.AF_INET),  # with an IP option
            "192.0.2.7",
        ),
        (socket.AF_INET, False, echo_reply(socket.AF_INET), "192.0.2.7"),
        (socket.AF_INET6, True, echo_reply(socket.AF_INET6), "2001:db8::7"),
        (socket.AF_INET6, True, echo_reply(socket.AF_INET6), "2001:db8::7%eth0"),
        (socket.AF_INET6, False, echo_reply(socket.AF_INET6), "2001:db8::7"),
    ],
)
def test_replies(family: socket.AddressFamily, raw: bool, packet: bytes, host: str) -> None:
    """A reply counts from any kind of socket, once, with the time since its echo."""
    fake = FakePing(family, raw=raw)
    fake.ping(HOST if family == socket.AF_INET else HOST_6)
    fake.clock.advance(0.035)
    fake.hear(packet, host)
    fake.hear(packet, host)
    assert fake.answers == [pytest.approx(0.035)]


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("wrong", [*FORGERIES, "source", "type", "request"])
def test_what_is_no_reply(family: socket.AddressFamily, raw: bool, wrong: str) -> None:
    """Whatever is wrong in one thing is not taken, from either kind of socket."""
    fake = FakePing(family, raw=raw)
    version_4 = family == socket.AF_INET
    fake.ping(HOST if version_4 else HOST_6)
    changes = dict(FORGERIES.get(wrong, {}))
    if wrong == "type":
        changes["kind"] = 3
    if wrong == "request":
        changes["kind"] = 8 if version_4 else 128
    packet = echo_reply(family, **changes)
    right = echo_reply(family)
    if version_4 and raw:
        packet, right = IP_HEADER + packet, IP_HEADER + right
    host = "192.0.2.7" if version_4 else "2001:db8::7"
    other = "192.0.2.8" if version_4 else "2001:db8::8"
    fake.hear(packet, other if wrong == "source" else host)
    assert fake.answers == []
    fake.hear(right, host)
    assert fake.answers == [0]


@given(st.binary(max_size=60), st.booleans(), st.sampled_from(FAMILIES))
def test_noise(packet: bytes, raw: bool, family: socket.AddressFamily) -> None:
    """No bytes upset the reading."""
    fake = FakePing(family, raw=raw)
    fake.ping(HOST if family == socket.AF_INET else HOST_6)
    fake.hear(packet, "192.0.2.7")
    assert fake.failures == []


@pytest.mark.parametrize(
    ("waited", "expected"), [(0.0, 0.030), (0.020, 0.010), (0.031, 0.030), (-5.0, 0.030)]
)
def test_time_in_the_queue_does_not_count(waited: float, expected: float) -> None:
    """What a reply waited for us is not distance; a wall clock that was set says nothing."""
    fake = FakePing()
    fake.ping(HOST)
    fake.clock.advance(0.030)
    came = WALL - waited
    stamp = struct.pack("@ll", int(came), round(came % 1 * 1e9))
    fake.socket.notes = [(socket.SOL_SOCKET, 35, stamp)]
    fake.hear(IP_HEADER + echo_reply(socket.AF_INET), "192.0.2.7")
    assert fake.answers == [pytest.approx(expected, abs=1e-5)]


def test_replies_find_their_echoes() -> None:
    """Answers in another order than the echoes go to whom they belong."""
    fake = FakePing()
    order: list[int] = []
    for number in range(3):
        fake.pinger.ping(HOST).addCallback(lambda _, which: order.append(which), number)
    for number in (2, 0, 1):
        fake.hear(IP_HEADER + echo_reply(socket.AF_INET, sequence=SEQUENCE + number), "192.0.2.7")
    assert order == [2, 0, 1]


def test_a_sequence_that_waits_is_not_given_again() -> None:
    """When the numbers come round, those of echoes under way are left out."""
    fake = FakePing()
    first = fake.ping(HOST)
    for _ in range(0xFFFF):
        other = fake.pinger.ping(HOST)
        other.addErrback(lambda failure: failure.trap(CancelledError) and None)
        other.cancel()
    fake.ping(HOST)
    sequences = [int.from_bytes(packet[6:8], "big") for packet, _ in fake.socket.sent]
    assert sequences[-1] != sequences[0]
    assert len(set(sequences)) == 0x10000
    fake.hear(IP_HEADER + echo_reply(socket.AF_INET), "192.0.2.7")
    assert first.called
    assert len(fake.answers) == 1


def test_an_error_of_sending() -> None:
    """Where the system refuses to send, the Deferred fails and nothing waits."""
    fake = FakePing()
    fake.socket.error = OSError(101, "Network is unreachable")
    fake.ping(HOST)
    assert [failure.check(OSError) for failure in fake.failures] == [OSError]
    assert fake.pinger.waiting == 0


def test_an_error_of_reading() -> None:
    """An ICMP error on the socket is no answer, and no end: what is behind it is read."""
    fake = FakePing()
    fake.ping(HOST)
    fake.socket.incoming.append(ConnectionRefusedError(111, "refused"))
    fake.hear(IP_HEADER + echo_reply(socket.AF_INET), "192.0.2.7")
    fake.pinger.doRead()  # the reactor comes again while there is something
    assert len(fake.answers) == 1


def test_reads_are_bounded() -> None:
    """A flood does not keep the reactor in the reading for ever."""
    fake = FakePing()
    fake.socket.incoming = [(b"", "192.0.2.7")] * 10_000
    fake.pinger.doRead()
    assert len(fake.socket.incoming) > 9_000


def test_close_of_the_reader() -> None:
    """The end takes the reader out and closes the socket."""
    fake = FakePing()
    fake.ping(HOST)
    fake.pinger.close()
    assert fake.socket.closed
    assert fake.reactor.readers == []
    assert [failure.check(CancelledError) for failure in fake.failures] == [CancelledError]
    fake.pinger.connectionLost(Failure(Exception("over")))  # the reactor may tell it, too
    assert fake.pinger.logPrefix() == "icmp"


@pytest_twisted.ensureDeferred
async def test_echo_through_the_reactor_only(pinger: Pinger, family: socket.AddressFamily) -> None:
    """The reactor itself reads the answer: nobody has to look."""
    answers: list[float] = []
    pinger.ping(LOOPBACK[family]).addCallback(answers.append)
    assert answers == []
    await until(lambda: bool(answers))
