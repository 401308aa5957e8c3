"""Whose fault a failing reply is: the upstream's, or that of the zone it was asked about.

A reply that fails although others answered well is a mark against its upstream, but:

* What a zone holds is the zone's fault: broken records, an answer too large even for TCP, and an
  error whose Extended DNS Error (RFC 8914) says that DNSSEC does not validate, or that the upstream
  does not want to answer. These are no marks.
* Any other error (SERVFAIL, REFUSED, FORMERR, NOTIMP, an HTTP status) may be about one zone, or
  about a type that the upstream does not know. So in a row of failures each zone, and each type
  other than A and AAAA, is a mark only once (`subject`). The same holds for the codes 13, 22, 23
  and 24 of RFC 8914, which say that an authority gives no answer: when several zones have that
  trouble it is likely the upstream's own uplink.

Errors that are no marks are still counted: see `staggerdns.upstream.health.LONG_SERIES`.
"""

from __future__ import annotations

from staggerdns.upstream.reason import Reason, of_rcode
from staggerdns.wire.constants import TC, Type
from staggerdns.wire.edns import extended_errors, full_rcode
from staggerdns.wire.question import Question

# RFC 8914 section 4: unsupported algorithms and digests, indeterminate, bogus, expired, not yet
# valid, DNSKEY, RRSIG, zone key bit or NSEC missing; of the IANA registry: expired before valid,
# NSEC3 iterations.
_DNSSEC_CODES = frozenset((1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 25, 27))
# Blocked, censored, filtered. Not 18, prohibited, which is about us.
_BLOCKED_CODES = frozenset((15, 16, 17))


def explained(message: bytes) -> Reason | None:
    """Return `Reason.DNSSEC` or `Reason.BLOCKED` if an error reply says that this is why."""
    codes = extended_errors(message)
    if not _DNSSEC_CODES.isdisjoint(codes):
        return Reason.DNSSEC
    return None if _BLOCKED_CODES.isdisjoint(codes) else Reason.BLOCKED


def failing_reason(message: bytes) -> Reason:
    """Return what is wrong with a reply that can be read and answers nothing."""
    found = explained(message)
    if found is not None:
        return found
    if message[2] << 8 & TC:
        return Reason.TRUNCATED
    return of_rcode(full_rcode(message))


def subject(reason: Reason, question: Question) -> bytes | None:
    """Return what a failing reply may be about: the zone (taken for the last two labels of the
    name) of an address question, else the type; `None` if the zone alone is at fault.
    """
    if not reason.counts_against_upstream:
        return None
    if question.qtype not in (Type.A, Type.AAAA):
        return bytes(divmod(question.qtype, 256))
    name = question.name
    starts = [0]
    while length := name[starts[-1]]:
        starts.append(starts[-1] + length + 1)
    return name[starts[max(0, len(starts) - 3)] :]
