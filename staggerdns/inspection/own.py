"""What a client is answered here, before anybody is asked: see `LocalNames`."""

from __future__ import annotations

from typing import Any

from staggerdns.inspection.waterfall import address_text
from staggerdns.policy.rules import Rules
from staggerdns.server.listenercontext import CurrentGroups, ListenerContext
from staggerdns.server.local import LocalNames
from staggerdns.server.request import UDP, Request
from staggerdns.wire.answer import Answer
from staggerdns.wire.constants import CLASS_IN, RD, Rcode, rcode_text
from staggerdns.wire.names import to_text
from staggerdns.wire.query import Query
from staggerdns.wire.question import make_question

_NO_LISTENER = ListenerContext(None, CurrentGroups(None), {})


class Own:
    """What is said here to a client with these ``rules`` who asks for a ``name`` (wire form, lower
    case): the ``answer`` or the code that it is refused with, `None` where the cache and upstreams
    have to answer. ``key`` is that of the answer then, ``block`` the list that blocks the name.
    """

    def __init__(
        self, local: LocalNames, rules: Rules | None, name: bytes, qtype: int, now: float
    ) -> None:
        query = Query(b"", RD)
        query.key = make_question(name, qtype).key
        query.qtype = qtype
        query.qclass = CLASS_IN
        request = Request(query, "", UDP, now, None, _NO_LISTENER)
        self.answer: Answer | Rcode | None = local.answer(request, rules)
        self.key = request.key
        self.block = request.block
        self._alias = request.alias

    def shown(self) -> dict[str, Any] | None:
        """Return what there is to say of it, `None` if nothing is ours and no list's."""
        answer = self.answer
        if self.block is not None or (answer is None and self._alias is None):
            return None
        code = answer.rcode if isinstance(answer, Answer) else answer
        return {
            "rcode": "" if code is None else rcode_text(code),
            "cnames": [] if self._alias is None else list(map(to_text, self._alias.cname_chain)),
            "addresses": list(map(address_text, answer.addresses))
            if isinstance(answer, Answer)
            else [],
        }
