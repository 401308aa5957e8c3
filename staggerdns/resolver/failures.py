"""What is said when nobody has answered."""

from __future__ import annotations

from collections.abc import Sequence

from staggerdns.upstream.reason import Reason
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.constants import Ede

_NOT_SERVED = (Reason.TIMEOUT, Reason.REFUSED)


def failure_answer(reasons: Sequence[Reason], ttl: int) -> FailureAnswer:
    """Return SERVFAIL with these ``reasons`` in code and text, to be kept for ``ttl`` seconds."""
    text = ", ".join(sorted({reason.text for reason in reasons}))
    return FailureAnswer(_ede(reasons), ttl, text)


def _ede(reasons: Sequence[Reason]) -> Ede:
    """Return the error that says why nobody answered (RFC 8914 sections 4.24 and 4.23; the text
    tells more).
    """
    if not reasons:
        return Ede.OTHER
    if all(reason.is_network for reason in reasons):
        return Ede.NETWORK_ERROR
    not_served = all(reason.is_network or reason in _NOT_SERVED for reason in reasons)
    return Ede.NO_REACHABLE_AUTHORITY if not_served else Ede.OTHER


def is_served(reasons: Sequence[Reason]) -> bool:
    """Return whether somebody replied who would have served us."""
    return not all(
        reason.is_network or reason in _NOT_SERVED or reason is Reason.NO_EDNS for reason in reasons
    )
