"""ICMP and ICMPv6 echo (RFC 792, RFC 4443 section 4).

One socket per family, opened before privileges are dropped: a raw one, or a datagram "ping"
socket where the system allows those. A reply counts only if source address, identifier, sequence
number and the random payload are those of an echo that waits. The kernel says when it came,
so a busy program does not make its neighbours look far away.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet, IReactorTime, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from staggerdns.errors import StaggerDNSError

_header = struct.Struct("!BBHHH")
_PAYLOAD = 16  # random octets, so that only who has seen the echo can reply to it
_READS_PER_WAKE_UP = 64
_ECHO_4, _REPLY_4 = 8, 0
_ECHO_6, _REPLY_6 = 128, 129
_SOL_RAW = 255  # the socket module does not name it
_ICMP_FILTER = 1  # linux/icmp.h: a bit per type that is not wanted
_ICMP6_FILTER = 1  # the same idea in 256 bits, RFC 3542 section 3.2
_SO_TIMESTAMPNS = 35  # the socket module does not name it
_timespec = struct.Struct("@ll").unpack


class IcmpUnavailable(StaggerDNSError, OSError):
    """The system lets us open neither kind of socket."""


class Echo(Deferred[float]):
    """An echo under way: a Deferred of the round-trip time in seconds. Cancel it to give up."""

    def __init__(self, pinger: Pinger, sequence: int, host: str, payload: bytes) -> None:
        super().__init__(_cancelled)
        self.pinger = pinger
        self.sequence = sequence
        self.host = host
        self.payload = payload
        self.sent = 0.0


def _cancelled(echo: Deferred[float]) -> None:
    assert isinstance(echo, Echo)
    echo.pinger.forget(echo)


@implementer(IReadDescriptor)
class Pinger:
    """Sends echoes of one family. Raises `IcmpUnavailable` when it cannot get a socket.

    ``family`` is ``socket.AF_INET`` or ``AF_INET6``; ``rng`` returns that many random bytes;
    ``wall`` is the clock of the kernel's timestamps.
    """

    def __init__(
        self,
        family: socket.AddressFamily,
        reactor: IReactorFDSet,
        clock: IReactorTime,
        rng: Callable[[int], bytes],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._wall = wall
        self._rng = rng
        self._version_4 = family == socket.AF_INET
        self._waiting: dict[int, Echo] = {}
        self._sequence = int.from_bytes(rng(2), "big")
        self._socket, self.raw = _open(family)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        if self.raw:
            self._identifier = int.from_bytes(rng(2), "big")
        else:  # the kernel puts its own into every echo, and shows us replies to that alone
            self._identifier = self._socket.getsockname()[1]
        self.fileno = self._socket.fileno
        reactor.addReader(self)

    @property
    def waiting(self) -> int:
        """The echoes that wait for their replies."""
        return len(self._waiting)

    def ping(self, address: bytes) -> Deferred[float]:
        """Send an echo to ``address``; the Deferred fails only when it cannot be sent."""
        host = socket.inet_ntop(socket.AF_INET if self._version_4 else socket.AF_INET6, address)
        self._sequence = (self._sequence + 1) & 0xFFFF
        while self._sequence in self._waiting:  # far fewer wait than there are numbers
            self._sequence = (self._sequence + 1) & 0xFFFF
        echo = Echo(self, self._sequence, host, self._rng(_PAYLOAD))
        kind = _ECHO_4 if self._version_4 else _ECHO_6
        packet = _header.pack(kind, 0, 0, self._identifier, echo.sequence) + echo.payload
        if self._version_4:  # for ICMPv6 the kernel computes it
            packet = packet[:2] + _checksum(packet) + packet[4:]
        self._waiting[echo.sequence] = echo
        echo.sent = self._clock.seconds()
        try:
            self._socket.sendto(packet, (host, 0))
        except OSError as error:
            del self._waiting[echo.sequence]
            echo.errback(Failure(error))
        return echo

    def forget(self, echo: Echo) -> None:
        """Stop waiting for an echo; called when it is cancelled."""
        self._waiting.pop(echo.sequence, None)

    def doRead(self) -> None:
        """Match what has come with the echoes that wait; called by the reactor."""
        for _ in range(_READS_PER_WAKE_UP):
            try:
                packet, notes, _, source = self._socket.recvmsg(2048, 64)
            except OSError:  # nothing more, or an ICMP error, which is no answer
                return
            self._match(packet, source[0].partition("%")[0], self._waited(notes))

    def connectionLost(self, reason: Failure) -> None:
        """Close the socket; called by the reactor when it drops the descriptor."""
        self._socket.close()

    def logPrefix(self) -> str:
        """Name the socket in the reactor's log."""
        return "icmp"

    def close(self) -> None:
        """Give up every echo and close the socket."""
        for echo in list(self._waiting.values()):
            echo.cancel()
        self._reactor.removeReader(self)
        self._socket.close()

    def _waited(self, notes: list[tuple[int, int, bytes]]) -> float:
        """Return the seconds that a packet has waited for us, by the kernel's note."""
        for level, kind, data in notes:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _timespec(data)
                came: float = seconds + nanoseconds / 1e9
                return max(0.0, self._wall() - came)
        return 0.0

    def _match(self, packet: bytes, host: str, waited: float) -> None:
        if self._version_4 and self.raw:  # a raw IPv4 socket delivers the IP header, too
            if len(packet) < 20:
                return
            packet = packet[(packet[0] & 0x0F) * 4 :]
        if len(packet) != _header.size + _PAYLOAD:
            return
        kind, code, _, identifier, sequence = _header.unpack_from(packet)
        echo = self._waiting.get(sequence)
        if (
            echo is not None
            and kind == (_REPLY_4 if self._version_4 else _REPLY_6)
            and code == 0
            and identifier == self._identifier
            and host == echo.host
            and packet[_header.size :] == echo.payload
        ):
            del self._waiting[sequence]
            elapsed = self._clock.seconds() - echo.sent
            # After a step of the wall clock the timestamp is wrong: then our own time counts.
            echo.callback(elapsed - waited if waited < elapsed else elapsed)


def _open(family: socket.AddressFamily) -> tuple[socket.socket, bool]:
    """Return a socket for echoes and whether it is a raw one."""
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM):
        try:
            opened = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        except OSError:
            continue
        if kind == socket.SOCK_RAW:
            _want_replies_only(opened, family)
        else:
            with suppress(OSError):
                opened.bind(("0.0.0.0" if family == socket.AF_INET else "::", 0))
        return opened, kind == socket.SOCK_RAW
    raise IcmpUnavailable


def _want_replies_only(raw: socket.socket, family: socket.AddressFamily) -> None:
    if family == socket.AF_INET:
        raw.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~(1 << _REPLY_4) & 0xFFFFFFFF))
        return
    blocked = bytearray(b"\xff" * 32)
    struct.pack_into("=I", blocked, _REPLY_6 // 32 * 4, ~(1 << _REPLY_6 % 32) & 0xFFFFFFFF)
    raw.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, bytes(blocked))


def _checksum(packet: bytes) -> bytes:
    """Return the Internet checksum (RFC 1071) of an even number of bytes.

    To add words with what carries over put back is to take the whole as one number modulo 65,535.
    """
    return struct.pack("!H", 0xFFFF - int.from_bytes(packet, "big") % 0xFFFF)
