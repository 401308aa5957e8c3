"""Answers with SVCB or HTTPS records, whose address hints are put in order (RFC 9460).

A hint is a list of addresses, for which the record does not say that any comes first. So they may
be ranked as those of a pool are; all other octets stay as they came. Such an answer is made for
clients that check no signatures: one covers the octets of a hint as they stand.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from staggerdns.wire.answer import BYTES_OCTETS
from staggerdns.wire.constants import Type, WireError
from staggerdns.wire.question import Question
from staggerdns.wire.sections import SectionsAnswer
from staggerdns.wire.serviceparams import (
    ALIAS_MODE,
    HINT_WIDTHS,
    PORT,
    PRIORITY_SIZE,
    addresses_of,
    parameters,
)

SERVICE_TYPES: Final = frozenset((int(Type.SVCB), int(Type.HTTPS)))
HTTPS_PORT: Final = 443
"""The port of a service that names none (RFC 9460 section 9.5)."""
_HINT_OCTETS: Final = 150  # of memory, that a hint takes
_ADDRESS_OCTETS: Final = 8 + BYTES_OCTETS + 16
_TTL: Final = 4
_TYPE_BEFORE_TTL: Final = 4
_MOST_DIGITS: Final = 5
_SCHEME: Final = b"\6_https"
_u16 = struct.Struct("!H").unpack_from


class Hint:
    """One hint of an answer: ``count`` addresses of ``width`` octets from ``offset`` on, at which
    there is a service on ``port``, 0 if that is not known.
    """

    __slots__ = ("offset", "width", "count", "port")

    def __init__(self, offset: int, width: int, count: int, port: int) -> None:
        self.offset = offset
        self.width = width
        self.count = count
        self.port = port

    def addresses(self, body: bytes) -> list[bytes]:
        """Return the addresses as they stand in the ``body`` of the answer."""
        width, offset = self.width, self.offset
        return [body[at : at + width] for at in range(offset, offset + self.count * width, width)]


class ServiceAnswer(SectionsAnswer):
    """One upstream's answer with ``hints`` in its records, in which addresses can be ordered."""

    __slots__ = ("hints", "_ranked")

    hints: tuple[Hint, ...]
    _ranked: tuple[bytes, ...]

    @property
    def addresses(self) -> tuple[bytes, ...]:
        """The addresses of all hints, each once, as they were ranked last."""
        return self._ranked

    @property
    def ports(self) -> dict[bytes, int]:
        """At which port each address has the service: the first that is said."""
        found: dict[bytes, int] = {}
        for hint in self.hints:
            for address in hint.addresses(self.body):
                found[address] = found.get(address) or hint.port
        return found

    @property
    def octets(self) -> int:
        """About how much memory the answer takes."""
        return super().octets + _HINT_OCTETS * len(self.hints) + _ADDRESS_OCTETS * len(self._ranked)

    def reordered(self, addresses: tuple[bytes, ...]) -> ServiceAnswer:
        """Return the same answer with each hint in the order that ``addresses``, which are those of
        all hints, have here.
        """
        places = {address: place for place, address in enumerate(addresses)}
        body = bytearray(self.body)
        for hint in self.hints:
            listed = hint.addresses(self.body)
            listed.sort(key=places.__getitem__)
            body[hint.offset : hint.offset + hint.count * hint.width] = b"".join(listed)
        return _with_hints(super()._with(bytes(body), self.ttl), self.hints, addresses)

    def _with(self, body: bytes, ttl: int) -> SectionsAnswer:
        return _with_hints(super()._with(body, ttl), self.hints, self._ranked)


def with_ranked_hints(answer: SectionsAnswer, question: Question) -> SectionsAnswer:
    """Return ``answer``, so that its hints can be put in order if there is anything to order."""
    if question.qtype not in SERVICE_TYPES or question.do or answer.negative:
        return answer
    hints = tuple(_hints(answer, question))
    if all(hint.count < 2 for hint in hints):
        return answer
    ranked = dict.fromkeys([one for hint in hints for one in hint.addresses(answer.body)])
    return _with_hints(answer, hints, tuple(ranked))


def records_of(answer: SectionsAnswer) -> Iterator[tuple[int, int]]:
    """Yield start and end of the data of each SVCB and HTTPS record in the answer section."""
    body = answer.body
    for ttl in answer.ttl_offsets[: answer.counts[0] << 8 | answer.counts[1]]:
        start = ttl + _TTL + 2
        # What was saved may be anything.
        if start > len(body) or ttl < _TYPE_BEFORE_TTL:
            continue
        if _u16(body, ttl - _TYPE_BEFORE_TTL)[0] in SERVICE_TYPES:
            yield start, start + _u16(body, start - 2)[0]


def _hints(answer: SectionsAnswer, question: Question) -> Iterator[Hint]:
    """Yield the hints of all records that can be read."""
    body = answer.body
    for start, end in records_of(answer):
        data = body[start:end]
        try:
            found = parameters(data)
        except (WireError, struct.error):
            continue  # nobody checks these records on the way: the client decides
        if data[:PRIORITY_SIZE] == ALIAS_MODE:
            continue
        port = _usual_port(question)
        for key, value, behind in found:
            if key == PORT and behind - value == 2:
                port = _u16(data, value)[0]
        for key, value, behind in found:
            count = len(addresses_of(data, key, value, behind))
            if count:
                yield Hint(start + value, HINT_WIDTHS[key], count, port)


def _usual_port(question: Question) -> int:
    """Return the port of a service that names none: the one in front of the name asked for, as in
    ``_8443._https.www.example`` (section 9.1), or that of HTTPS; 0 where it is not known.
    """
    if question.qtype != Type.HTTPS:
        return 0
    name = question.name
    label, following = name[1 : 1 + name[0]], name[1 + name[0] :]
    digits = label[1:]
    is_port = label.startswith(b"_") and digits.isdigit() and len(digits) <= _MOST_DIGITS
    if is_port and following.startswith(_SCHEME):
        number = int(digits)
        return number if number < 65536 else 0
    return HTTPS_PORT


def _with_hints(
    answer: SectionsAnswer, hints: tuple[Hint, ...], ranked: tuple[bytes, ...]
) -> ServiceAnswer:
    made = ServiceAnswer(
        answer.rcode,
        answer.ad,
        answer.negative,
        answer.ttl,
        answer.counts,
        answer.body,
        answer.ttl_offsets,
        answer.address_offsets,
        answer.width,
    )
    made.hints = hints
    made._ranked = ranked  # noqa: SLF001
    return made
