"""A small DNS client: single questions, and paced questions with precise times."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Sequence
from random import Random

_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_A = 1
_POINTER = 0xC0
_RD = 0x0100
_RCODE = 0x000F


def question(qname: str, message_id: int) -> bytes:
    """Return a query for the A records of ``qname`` (RFC 1035 section 4.1)."""
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in qname.split("."))
    return _HEADER.pack(message_id, _RD, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


def ask(address: tuple[str, int], qname: str, timeout: float) -> bytes | None:
    """Ask once over UDP; the reply, or None after ``timeout`` seconds or a refused port."""
    query = question(qname, 4711)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.settimeout(timeout)
        try:
            sock.send(query)
            reply = sock.recv(4096)
        except TimeoutError:
            return None
        except ConnectionRefusedError:
            # Refused at once: without a pause the caller would spin.
            time.sleep(0.05)
            return None
    return reply if reply[:2] == query[:2] else None


def failed(reply: bytes) -> bool:
    """Tell whether a reply has an error code."""
    return bool(_HEADER.unpack_from(reply)[1] & _RCODE)


def records(reply: bytes) -> tuple[list[str], int]:
    """Return the IPv4 addresses in a reply's answer section, in order, and their least TTL in
    seconds; nothing and 0 for a reply without any.
    """
    count = _HEADER.unpack_from(reply)[3]
    at = _after_name(reply, 12) + 4
    addresses = []
    ttls = []
    for _ in range(count):
        rtype, _, ttl, size = _RECORD.unpack_from(reply, at := _after_name(reply, at))
        at += _RECORD.size + size
        if rtype == _A:
            addresses.append(socket.inet_ntoa(reply[at - size : at]))
            ttls.append(ttl)
    return addresses, min(ttls, default=0)


def _after_name(message: bytes, at: int) -> int:
    while length := message[at]:
        if length & _POINTER == _POINTER:
            return at + 2
        at += 1 + length
    return at + 1


class Pacer:
    """Asks each address for the same names at a steady rate, and times every reply.

    The addresses take turns within one interval, so that all of them meet the same
    disturbances of the machine. Sockets are connected: one per address.
    """

    def __init__(self, addresses: Sequence[tuple[str, int]], rate: float) -> None:
        self._interval = 1.0 / rate
        self._sockets = []
        for address in addresses:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect(address)
            sock.setblocking(False)
            self._sockets.append(sock)
        self._sent: list[dict[int, int]] = [{} for _ in addresses]
        self._times: list[list[float]] = [[] for _ in addresses]
        self.failed = 0

    def run(self, names: Sequence[str], patience: float) -> list[list[float]]:
        """Return the milliseconds of each reply, per address. ``patience`` seconds after the
        last question the missing replies count as failed, like replies with an error code.
        """
        turns = len(self._sockets)
        begin = time.perf_counter()
        try:
            for number, name in enumerate(names):
                for turn in range(turns):
                    due = begin + (number + turn / turns) * self._interval
                    self._receive_until(due)
                    self._ask(turn, number, name)
            self._wait(patience)
        finally:
            self._close()
        self.failed += sum(len(waiting) for waiting in self._sent)
        return self._times

    def split(self, names: Sequence[str], rng: Random, patience: float) -> int:
        """Ask one of the addresses for each name, whichever ``rng`` says; return how many replies
        have come without an error code ``patience`` seconds after the last question.
        """
        begin = time.perf_counter()
        try:
            for number, name in enumerate(names):
                self._receive_until(begin + number * self._interval)
                self._ask(rng.randrange(len(self._sockets)), number, name)
            self._wait(patience)
        finally:
            self._close()
        return sum(map(len, self._times))

    def _ask(self, turn: int, number: int, name: str) -> None:
        query = question(name, number & 0xFFFF)
        self._sent[turn][number & 0xFFFF] = time.perf_counter_ns()
        self._sockets[turn].send(query)

    def _wait(self, patience: float) -> None:
        deadline = time.perf_counter() + patience
        while any(self._sent) and time.perf_counter() < deadline:
            self._receive_until(time.perf_counter() + 0.01)

    def _close(self) -> None:
        for sock in self._sockets:
            sock.close()

    def _receive_until(self, due: float) -> None:
        # Sleeping, not spinning: the upstreams share this core.
        while (left := due - time.perf_counter()) > 0:
            ready, _, _ = select.select(self._sockets, [], [], left)
            now = time.perf_counter_ns()
            for sock in ready:
                turn = self._sockets.index(sock)
                reply = sock.recv(4096)
                message_id, flags, *_ = _HEADER.unpack_from(reply)
                sent = self._sent[turn].pop(message_id, None)
                if sent is None or flags & _RCODE:
                    self.failed += 1
                else:
                    self._times[turn].append((now - sent) / 1e6)
