"""Questions that never go upstream: other classes, ANY, and types that are no data.

Each gets a brief answer of our own (RFC 8482 for ANY, RFC 4892 for the version in class CH).
"""

from __future__ import annotations

from staggerdns.wire.answer import Answer, Local
from staggerdns.wire.constants import CLASS_CH, CLASS_IN, Rcode, Type
from staggerdns.wire.query import Query

_ANY_TTL = 3600
_RFC8482 = b"\7RFC8482\0"  # HINFO: CPU "RFC8482", OS empty
_VERSION = b"\x0astaggerdns"
_VERSION_NAMES = (b"\7version\4bind\0", b"\7version\6server\0")
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

_ANY_ANSWER = Local(Type.HINFO, CLASS_IN, _RFC8482, _ANY_TTL)
_VERSION_ANSWER = Local(Type.TXT, CLASS_CH, _VERSION, 0)


def local_answer(query: Query) -> Answer | Rcode | None:
    """Return our own answer, the code of a refusal, or `None` for what the chain answers."""
    if query.qclass != CLASS_IN:
        name = query.key[:-5]
        if query.qclass == CLASS_CH and name in _VERSION_NAMES and query.qtype in _TEXT_TYPES:
            return _VERSION_ANSWER
        return Rcode.REFUSED
    if query.qtype == Type.ANY:
        return _ANY_ANSWER
    return _META_TYPES.get(query.qtype)


_TEXT_TYPES = (Type.TXT, Type.ANY)
