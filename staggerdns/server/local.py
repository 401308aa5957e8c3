"""Questions that never go upstream.

These are ANY (RFC 8482), the version in class CH (RFC 4892), other classes, and types that are not
data; and names that have a meaning only on this machine or site: special-use names (RFC 6761 and
its successors), reverse names of private addresses (RFC 6303), and names in the hosts file or
among the records of the configuration. Before all others comes the name `READY`, which tells
balancers whether the server is ready for queries.

All special names are in one table; a question belongs to the longest of them that its name ends
in. Most names are not special, which a comparison of their last octets tells before any look-up.
The hosts file takes precedence over all special names but ``localhost``. Upstreams are asked for
types that it does not have (the MX of a name, for example), but not within special zones. Records
come next, and have all types of their names. Behind them come the lists of the client: what they
have is answered as they say, for all types. What a route of the configuration claims is not
special. Where a CNAME of ours leads to a name that is not ours, the answer is an `Alias`: its
target has to be asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

from staggerdns import __version__
from staggerdns.lifecycle import Lifecycle
from staggerdns.policy.rules import Rules
from staggerdns.policy.scope import NO_SUCH_NAMES
from staggerdns.server.hosts import Hosts
from staggerdns.server.records import LocalRecords
from staggerdns.server.request import Request
from staggerdns.settings.records import MAX_CNAMES
from staggerdns.settings.sections import LocalSettings
from staggerdns.wire.alias import Alias
from staggerdns.wire.answer import (
    SOA_BEHIND_MNAME,
    Answer,
    FailureAnswer,
    LocalNegativeAnswer,
    RecordAnswer,
)
from staggerdns.wire.constants import CLASS_CH, CLASS_IN, Ede, Rcode, Type
from staggerdns.wire.key import NAME_END, in_scope, with_name
from staggerdns.wire.names import from_text

LOCAL_TTL = 600
"""Seconds that clients may keep our answers about special names.

RFC 6303 suggests three hours, but then a new name in the hosts file would stay unknown for so long.
"""
READY = "ready.staggerdns.invalid"
"""The name that exists while the server is ready; TTL 0, so that nobody keeps what it was."""
_ANY_TTL = 3600
_RFC8482 = b"\7RFC8482\0"  # HINFO: CPU "RFC8482", OS empty
_VERSION_TEXT = f"staggerdns {__version__}".encode()
_VERSION_NAMES = (b"\7version\4bind\0", b"\7version\6server\0")
_TEXT_TYPES = (Type.TXT, Type.ANY)
_META_TYPES = {
    0: Rcode.FORMERR,  # reserved, RFC 6895 section 3.1
    Type.OPT: Rcode.FORMERR,
    Type.TKEY: Rcode.REFUSED,
    Type.TSIG: Rcode.FORMERR,
    Type.IXFR: Rcode.REFUSED,
    Type.AXFR: Rcode.REFUSED,
    Type.MAILB: Rcode.REFUSED,
    Type.MAILA: Rcode.REFUSED,
}
_ANY_ANSWER = RecordAnswer(Type.HINFO, CLASS_IN, _RFC8482, _ANY_TTL)
_VERSION_ANSWER = RecordAnswer(Type.TXT, CLASS_CH, bytes((len(_VERSION_TEXT),)) + _VERSION_TEXT, 0)
_LOCALHOST = b"\x09localhost\0"
_READY = from_text(READY)
_ARPA = b"\4arpa\0"

_Answers = Mapping[int, Answer | None]
_Replies = tuple[_Answers, Answer]
"""Answers by type, where `None` means that upstreams are asked, and the answer for other types."""
_NO_RECORDS: _Answers = {}
_READY_ADDRESS = RecordAnswer(Type.A, CLASS_IN, b"\x7f\0\0\1", 0)
_READY_ANSWERS: Mapping[int, Answer] = {
    Type.A: _READY_ADDRESS,
    Type.ANY: _READY_ADDRESS,
    Type.AAAA: RecordAnswer(Type.AAAA, CLASS_IN, b"\0" * 15 + b"\1", 0),
    Type.TXT: RecordAnswer(Type.TXT, CLASS_IN, b"\5ready", 0),
}
_READY_NODATA = LocalNegativeAnswer(Rcode.NOERROR, len(_READY), 0)

_PRIVATE_REVERSE = (
    # RFC 6303 section 4.1: RFC 1918
    "10.in-addr.arpa",
    *(f"{net}.172.in-addr.arpa" for net in range(16, 32)),
    "168.192.in-addr.arpa",
    # Section 4.2: this network, link-local, examples, broadcast; loopback has its own table
    *("0.in-addr.arpa", "254.169.in-addr.arpa", "255.255.255.255.in-addr.arpa"),
    *("2.0.192.in-addr.arpa", "100.51.198.in-addr.arpa", "113.0.203.in-addr.arpa"),
    # Sections 4.3 to 4.6: unspecified, unique local, link-local, examples
    "0." * 32 + "ip6.arpa",
    "d.f.ip6.arpa",
    *(f"{digit}.e.f.ip6.arpa" for digit in "89ab"),
    "8.b.d.0.1.0.0.2.ip6.arpa",
    # RFC 7793: addresses that carriers share
    *(f"{net}.100.in-addr.arpa" for net in range(64, 128)),
)


class LocalNames:
    """Answers what never goes upstream, by ``settings`` and ``hosts`` (`None`: no hosts file).

    ``lifecycle``: that of the server, about which `READY` tells, `None` if nothing is told.
    """

    def __init__(
        self, settings: LocalSettings, hosts: Hosts | None, lifecycle: Lifecycle | None = None
    ) -> None:
        self._lifecycle = lifecycle
        self._hosts = hosts
        self._records = LocalRecords(settings.records) if settings.records else None
        self._has_own = hosts is not None or self._records is not None
        self._special: dict[bytes, tuple[_Replies, _Replies]] = {}  # at the name, below it
        if settings.localhost:
            self._add_localhost()
        for text, wanted in (
            ("invalid", settings.invalid),  # RFC 6761 section 6.4
            ("test", settings.test),  # RFC 6761 section 6.2
            ("local", settings.mdns),  # RFC 6762 section 22.1
            ("onion", settings.onion),  # RFC 7686 section 2
        ):
            if wanted:
                absent = (
                    _NO_RECORDS,
                    LocalNegativeAnswer(Rcode.NXDOMAIN, len(from_text(text)), LOCAL_TTL),
                )
                self._special[from_text(text)] = (absent, absent)
        if settings.resolver_arpa:  # RFC 9462 sections 4 and 6.1: none designated, no data
            name = from_text("resolver.arpa")
            nodata = LocalNegativeAnswer(Rcode.NOERROR, len(name), LOCAL_TTL)
            self._special[name] = ((_apex(name), nodata), (_NO_RECORDS, nodata))
        if settings.home_arpa:  # RFC 8375 section 4
            self._add_zone("home.arpa")
        if settings.private_reverse:
            for text in _PRIVATE_REVERSE:
                self._add_zone(text)
            self._add_loopback()
        # Few and short. They need not begin at a label: the look-up in the table does.
        self._endings = tuple(
            {_ARPA if name.endswith(_ARPA) else name for name in self._special},
        )

    def answer(self, request: Request, rules: Rules | None = None) -> Answer | Rcode | None:
        """Return our own answer, the code to refuse with, or `None` if the chain has to answer.

        Then ``request`` is given the key under which its answer is found: the name that CNAMEs of
        ours lead to, in the scope that ``rules`` give that name.
        """
        query = request.query
        name, qtype = query.key[:NAME_END], query.qtype
        if query.qclass != CLASS_IN:
            if query.qclass == CLASS_CH and name in _VERSION_NAMES and qtype in _TEXT_TYPES:
                return _VERSION_ANSWER
            return Rcode.REFUSED
        if qtype in _META_TYPES:
            return _META_TYPES[qtype]
        if name == _READY and self._lifecycle is not None:
            if not self._lifecycle.ready:
                return FailureAnswer(Ede.NOT_READY, 0, self._lifecycle.phase)
            return _READY_ANSWERS.get(qtype, _READY_NODATA)
        found = self._find(request, name, rules)
        if qtype == Type.ANY and not (
            request.block is not None
            or (isinstance(found, Answer) and found.rcode == Rcode.NXDOMAIN)
        ):
            request.key = query.key
            return _ANY_ANSWER
        return self._follow(request, found, rules) if isinstance(found, Alias) else found

    def look(self, now: float) -> None:
        """Find out whether the hosts file has changed, now and then."""
        if self._hosts is not None:
            self._hosts.look(now)

    def exists(self, name: bytes) -> bool:
        """Return whether a name (wire form, lower case) is ours, or one below it."""
        hosts, records = self._hosts, self._records
        return (hosts is not None and hosts.exists(name)) or (
            records is not None and records.exists(name)
        )

    def _find(self, request: Request, name: bytes, rules: Rules | None) -> Answer | Alias | None:
        """Return what is known of a name; if nothing is, ``request`` is given the key of that name
        in its scope.
        """
        qtype, now = request.query.qtype, request.started
        number = None if rules is None else rules.routes.find(name)
        absent: Answer | None = None  # what is said where nobody is asked
        if number is None:
            if name.endswith(self._endings):
                absent = self._find_special(name, qtype)
                if absent is not None and name.endswith(_LOCALHOST):
                    return absent
            if rules is not None and absent is None:
                number = rules.routes.find_single_label(name, qtype)
        if number == NO_SUCH_NAMES:
            assert rules is not None
            absent = LocalNegativeAnswer(Rcode.NXDOMAIN, rules.routes.zone(name), LOCAL_TTL)
        if self._has_own:
            own = self._find_own(name, qtype, now, only_local=absent is not None)
            if own is not None:
                return own
        if rules is not None and rules.blocking is not None:
            request.block = block = rules.blocking.of_name(name)
            if block is not None:
                absent = block.answer(name, qtype)
        if absent is None:
            if number is not None:
                request.key = in_scope(request.key, number)
            return None
        if absent.rcode == Rcode.NXDOMAIN and self._has_descendants(name):
            return LocalNegativeAnswer(Rcode.NOERROR, len(name), LOCAL_TTL)  # RFC 8020
        return absent

    def _find_own(
        self, name: bytes, qtype: int, now: float, *, only_local: bool
    ) -> Answer | Alias | None:
        """Return what the hosts file says, or else the records."""
        if self._hosts is not None:
            found = self._hosts.find(name, qtype, now, only_local=only_local)
            if found is not None:
                return found
        if self._records is None:
            return None
        return self._records.find(name, qtype, only_local=only_local)

    def _has_descendants(self, name: bytes) -> bool:
        hosts, records = self._hosts, self._records
        return (hosts is not None and hosts.has_descendants(name)) or (
            records is not None and records.has_descendants(name)
        )

    def _follow(self, request: Request, alias: Alias, rules: Rules | None) -> Answer | Rcode | None:
        """Return what is known here of the name that a name of ours leads to, with the CNAMEs in
        front; if nothing is, ``request`` has all of them, and the key of the name they lead to.
        """
        for _ in range(MAX_CNAMES):
            request.key = with_name(request.key, alias.target)
            found = self._find(request, alias.target, rules)
            if found is None:
                request.alias = alias
                return None
            if isinstance(found, Answer):
                return alias.joined(found, request.key)
            alias = Alias(alias.cname_chain + found.cname_chain, alias.ttl)
        return Rcode.SERVFAIL  # the configuration has no such chain

    def _find_special(self, name: bytes, qtype: int) -> Answer | None:
        position = 0
        while position < len(name):
            at_and_below = self._special.get(name[position:])
            if at_and_below is not None:
                answers, other = at_and_below[position > 0]
                return answers.get(qtype, other)
            position += name[position] + 1
        return None

    def _add_localhost(self) -> None:
        """Add the loopback addresses of ``localhost`` and all below it (RFC 6761 section 6.3)."""
        addresses: _Answers = {
            Type.A: RecordAnswer(Type.A, CLASS_IN, b"\x7f\0\0\1", LOCAL_TTL),
            Type.AAAA: RecordAnswer(Type.AAAA, CLASS_IN, b"\0" * 15 + b"\1", LOCAL_TTL),
        }
        replies = (addresses, LocalNegativeAnswer(Rcode.NOERROR, len(_LOCALHOST), LOCAL_TTL))
        self._special[_LOCALHOST] = (replies, replies)

    def _add_zone(self, text: str, records: _Answers = _NO_RECORDS) -> None:
        """Add a zone with nothing in it but ``records`` at its apex (RFC 6303 section 3)."""
        name = from_text(text)
        self._special[name] = (
            ({**_apex(name), **records}, LocalNegativeAnswer(Rcode.NOERROR, len(name), LOCAL_TTL)),
            (_NO_RECORDS, LocalNegativeAnswer(Rcode.NXDOMAIN, len(name), LOCAL_TTL)),
        )

    def _add_loopback(self) -> None:
        """Add the reverse zones of loopback addresses, in which there is ``localhost``."""
        pointer: _Answers = {Type.PTR: RecordAnswer(Type.PTR, CLASS_IN, _LOCALHOST, LOCAL_TTL)}
        self._add_zone("1." + "0." * 31 + "ip6.arpa", pointer)
        zone = "127.in-addr.arpa"
        self._add_zone(zone)
        (_, nodata), below = self._special[from_text(zone)]
        for text, records in (("0", _NO_RECORDS), ("0.0", _NO_RECORDS), ("1.0.0", pointer)):
            self._special[from_text(f"{text}.{zone}")] = ((records, nodata), below)


def _apex(name: bytes) -> _Answers:
    """Return what is at the apex of an empty zone; a DS is the parent's (RFC 8375 section 4)."""
    return {
        Type.SOA: RecordAnswer(Type.SOA, CLASS_IN, name + SOA_BEHIND_MNAME, LOCAL_TTL),
        Type.NS: RecordAnswer(Type.NS, CLASS_IN, name, LOCAL_TTL),
        Type.DS: None,
    }
