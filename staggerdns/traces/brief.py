"""What is kept of an answer that would take too much memory in a trace."""

from __future__ import annotations

from staggerdns.wire.answer import Answer
from staggerdns.wire.sections import LoneAliasAnswer

MAX_ADDRESSES = 64
"""Addresses of an answer that a trace keeps."""


class BriefAnswer(Answer):
    """The head of an ``answer``: what it says in general, and its first addresses.

    ``left_out``: how many more there were. ``target``: the name that it leads to if it is an alias
    alone, else empty. It cannot be given to a client.
    """

    __slots__ = ("_addresses", "left_out", "target")

    def __init__(self, answer: Answer) -> None:
        self.rcode = answer.rcode
        self.ad = answer.ad
        self.ttl = answer.ttl
        self.negative = answer.negative
        self.target = answer.target if isinstance(answer, LoneAliasAnswer) else b""
        addresses = answer.addresses
        self._addresses = addresses[:MAX_ADDRESSES]
        self.left_out = len(addresses) - len(self._addresses)

    @property
    def addresses(self) -> tuple[bytes, ...]:
        """The first of them."""
        return self._addresses

    def sections(self, question_end: int, ttl: int, room: int) -> tuple[bytes, bytes] | None:
        """Return `None`: nobody is given what is only remembered."""
        return None
