"""Why an exchange ended without a good answer, and why a query is sent once more.

    reason                                        counts against the upstream    is_network
    our own machine's error                       no                             yes
    a connection known to fail already            no, that has its mark          yes
    a question with DO that it cannot be asked    no                             no
    any other network error                       yes                            yes
    no reply in time                              yes                            no
    an error, or no DNS message                   if others answered well        no
    what only the zone can be blamed for          no (see `blame`)               no
    addresses that we do not want                 no                             no

``/metrics`` shows the `Reason.label` of a reason, one of a fixed set; people get its `Reason.text`.
"""

from __future__ import annotations

from enum import Enum
from errno import (
    EACCES,
    EADDRINUSE,
    EAGAIN,
    ECONNREFUSED,
    EMFILE,
    ENFILE,
    ENOBUFS,
    ENODEV,
    ENOMEM,
    EPERM,
)

from staggerdns.wire.constants import Rcode

_OF_OUR_OWN = frozenset(
    (EAGAIN, EMFILE, ENFILE, ENOBUFS, ENODEV, ENOMEM, EPERM, EACCES, EADDRINUSE)
)


class Reason(Enum):
    """What was wrong: label, whether it may count against the upstream, whether it says that the
    network, not the upstream, stood in the way.
    """

    LOCAL = "local error", False, True
    NO_CONNECTION = "no connection", False, True
    NO_EDNS = "no edns", False, False
    """A question with DO is not asked, or not once more: without OPT there are no signatures."""

    CONNECTION_REFUSED = "connection refused", True, True
    UNREACHABLE = "unreachable", True, True
    NO_ADDRESS = "no address", True, True
    CLOSED = "closed", True, True
    CERTIFICATE = "certificate", True, True
    TLS = "tls", True, True

    TIMEOUT = "timeout", True, False
    MISMATCH = "mismatch", True, False
    """Something came that is no reply to the query, over a connection."""
    HTTP = "http", True, False
    """An HTTP error, or something in HTTP that is no DNS message."""

    DNSSEC = "dnssec", False, False
    """An error reply says so itself: the zone's signatures are not valid."""
    BLOCKED = "blocked", False, False
    """An error reply says so itself: the upstream's lists forbid the name."""
    IGNORED = "ignored addresses", False, False
    """There was nothing else in it (``addresses.ignore``): that counts as no reply."""
    CLIENT_SUBNET = "client subnet", True, False
    """The reply, over a connection, was for another client subnet than the one that was sent."""
    MALFORMED = "malformed", False, False
    TRUNCATED = "truncated", False, False

    REFERRAL = "referral", True, False
    FORMERR = "formerr", True, False
    SERVFAIL = "servfail", True, False
    NOTIMP = "notimp", True, False
    REFUSED = "refused", True, False
    YXDOMAIN = "yxdomain", True, False
    YXRRSET = "yxrrset", True, False
    NXRRSET = "nxrrset", True, False
    NOTAUTH = "notauth", True, False
    NOTZONE = "notzone", True, False
    DSOTYPENI = "dsotypeni", True, False
    BADVERS = "badvers", True, False
    BADKEY = "badkey", True, False
    BADTIME = "badtime", True, False
    BADMODE = "badmode", True, False
    BADNAME = "badname", True, False
    BADALG = "badalg", True, False
    BADTRUNC = "badtrunc", True, False
    BADCOOKIE = "badcookie", True, False
    OTHER_RCODE = "other rcode", True, False
    """A code without a name, since metrics have a fixed set of labels; see `of_rcode`."""

    def __init__(self, label: str, counts_against_upstream: bool, is_network: bool) -> None:
        self.label = label
        self.text = label
        self.counts_against_upstream = counts_against_upstream
        self.is_network = is_network

    def __str__(self) -> str:
        return self.text


_BY_RCODE: dict[int, Reason] = {  # RFC 6895 section 2.3; a good code without an answer: a referral
    Rcode.NOERROR: Reason.REFERRAL,
    Rcode.FORMERR: Reason.FORMERR,
    Rcode.SERVFAIL: Reason.SERVFAIL,
    Rcode.NOTIMP: Reason.NOTIMP,
    Rcode.REFUSED: Reason.REFUSED,
    6: Reason.YXDOMAIN,
    7: Reason.YXRRSET,
    8: Reason.NXRRSET,
    9: Reason.NOTAUTH,
    10: Reason.NOTZONE,
    11: Reason.DSOTYPENI,
    Rcode.BADVERS: Reason.BADVERS,
    17: Reason.BADKEY,
    18: Reason.BADTIME,
    19: Reason.BADMODE,
    20: Reason.BADNAME,
    21: Reason.BADALG,
    22: Reason.BADTRUNC,
    Rcode.BADCOOKIE: Reason.BADCOOKIE,
}


def of_rcode(rcode: int) -> Reason:
    """Return the reason for a reply with this response code, of at most 12 bits, and no answer.

    A code without a name has the label of `Reason.OTHER_RCODE`, and its number in the text.
    """
    found = _BY_RCODE.get(rcode)
    if found is None:  # a member of its own, as `enum.Flag` makes them for combinations
        found = _BY_RCODE[rcode] = object.__new__(Reason)
        found._name_ = f"RCODE{rcode}"
        found._value_ = Reason.OTHER_RCODE.value
        Reason.__init__(found, *found._value_)
        found.text = f"rcode {rcode}"
    return found


def of_errno(error: int | None) -> Reason:
    """Return what an error number of a socket means for an exchange."""
    if error == ECONNREFUSED:
        return Reason.CONNECTION_REFUSED
    return Reason.LOCAL if error in _OF_OUR_OWN else Reason.UNREACHABLE


class RetryReason(Enum):
    """Why a query is sent once more; ``is_doubt``: the reply over UDP may be forged."""

    TRUNCATED = "truncated", False
    CASE = "case", True
    COOKIE = "cookie", True
    QUESTION = "question", True
    SUBNET = "subnet", True
    BADCOOKIE = "badcookie", False
    EDNS = "edns", False
    LOWERCASE = "lowercase", False
    SILENCE = "silence", False
    FLOOD = "flood", False
    """Somebody guesses at IDs."""
    CLOSED = "closed", False
    """Its connection was lost."""
    PROBE = "probe", False
    """A copy of a query, to learn what the upstream copes with by now."""

    def __init__(self, label: str, is_doubt: bool) -> None:
        self.label = label
        self.is_doubt = is_doubt
