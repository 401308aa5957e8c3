"""Five upstreams on loopback, each with a delay and addresses of its own. Times are seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.names import dns

#: What all addresses are good for.
TTL = 60
#: Every name has these addresses, and every upstream knows some of them. How many milliseconds
#: away they are is in the third octet, see `bench.demo.place`.
_POOL = ("198.18.80.1", "198.18.120.1", "198.18.55.1", "198.18.9.1", "198.18.30.1")


@dataclass(frozen=True)
class Character:
    """One upstream: where it listens, how long it takes (`None`: it never answers), and which
    addresses it knows.
    """

    host: str
    delay: float | None
    addresses: tuple[str, ...] = ()


CHARACTERS = (
    Character("127.0.0.11", 0.018, _POOL[:2]),
    Character("127.0.0.12", 0.031, (_POOL[0], _POOL[2])),
    Character("127.0.0.13", None),
    Character("127.0.0.14", 0.044, (_POOL[3],)),
    Character("127.0.0.15", 0.070, (_POOL[4], _POOL[1])),
)


def distance(address: str) -> int:
    """Return how many milliseconds away an address is."""
    return int(address.split(".")[2])


@dataclass
class Asked:
    """One question as an upstream met it: who, what, when, and when it answered how much."""

    host: str
    question: str
    at: float
    answered: float | None = None
    addresses: int = 0


class Upstream(DatagramProtocol):
    """Answers every question for an address in its own time; ``notice`` hears of each."""

    def __init__(
        self, character: Character, clock: IReactorTime, notice: Callable[[Asked], None]
    ) -> None:
        self._character = character
        self._clock = clock
        self._notice = notice

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Note a question, and answer it after the delay."""
        asked_at = self._clock.seconds()
        query = dns.Message()
        query.fromStr(datagram)
        asked = Asked(self._character.host, text(query.queries[0]), asked_at)
        self._notice(asked)
        if self._character.delay is not None:
            self._clock.callLater(self._character.delay, self._answer, query, addr, asked)

    def _answer(self, query: dns.Message, addr: Any, asked: Asked) -> None:
        if self.transport is None:  # it is all over
            return
        reply = answer(query, self._character.addresses)
        asked.answered, asked.addresses = self._clock.seconds(), len(reply.answers)
        self.transport.write(reply.toStr(), addr)


def text(question: dns.Query) -> str:
    """Return name and type of a question."""
    kind = dns.QUERY_TYPES.get(question.type, f"TYPE{question.type}")
    return f"{question.name.name.decode('ascii', 'replace').lower()} {kind}"


def answer(query: dns.Message, addresses: tuple[str, ...]) -> dns.Message:
    """Return the reply to a query: these addresses, or for other types that there are none."""
    question = query.queries[0]
    reply = dns.Message(id=query.id, answer=1, recDes=query.recDes, recAv=1)
    reply.queries = [question]
    if (question.type, question.cls) == (dns.A, dns.IN):
        reply.answers = [
            dns.RRHeader(question.name.name, dns.A, dns.IN, TTL, dns.Record_A(address, TTL))
            for address in addresses
        ]
    else:  # no such data (RFC 2308 section 2.2)
        nothing = dns.Record_SOA(
            b"ns.example", b"hostmaster.example", 1, 3600, 600, 86400, TTL, TTL
        )
        reply.authority = [dns.RRHeader(b"", dns.SOA, dns.IN, TTL, nothing)]
    return reply
