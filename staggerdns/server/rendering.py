"""From an answer to the bytes of a reply: what of it this client gets, in which form.

Lists of the client's group come first, then what of the entry lives, then whether both families of
addresses are given. What is decided here is for one reply: the cache has the answer as it came.
"""

from __future__ import annotations

from staggerdns.resolver.adapter import CacheAdapter
from staggerdns.resolver.entry import Entry
from staggerdns.server.local import LocalNames
from staggerdns.server.request import Request
from staggerdns.wire.answer import Answer, FailureAnswer
from staggerdns.wire.constants import Ede, Rcode
from staggerdns.wire.key import NAME_END, scope_of
from staggerdns.wire.question import Question
from staggerdns.wire.render import deny_data_only, render


class Renderer:
    """Renders what is in the cache of ``caching``. ``local``: the names that are ours;
    ``max_udp_size``: octets of a reply over UDP.
    """

    def __init__(self, caching: CacheAdapter, local: LocalNames, max_udp_size: int) -> None:
        self._caching = caching
        self._local = local
        self._max_udp_size = max_udp_size

    def of_entry(self, request: Request, entry: Entry, now: float, *, stale: bool) -> bytes:
        """Return the reply with an entry."""
        rules, key = request.rules, request.key
        if rules is not None and rules.blocking is not None:
            request.block = block = rules.blocking.of_chain(entry, key)
            if block is not None:
                answer = block.answer(key[:NAME_END], request.query.qtype)
                return self.of_answer(request, answer, answer.ttl)
        cache, scope = self._caching.cache, scope_of(key)
        answer = cache.living(entry, now, scope)
        ttl = cache.reply_ttl(entry, now, scope)
        ede: int | None = None
        text = b""
        if isinstance(answer, FailureAnswer):
            ede, text = answer.ede, answer.text
        elif stale:
            ede = Ede.STALE_NXDOMAIN if answer.rcode == Rcode.NXDOMAIN else Ede.STALE_ANSWER
        families = self._caching.families
        if families is not None:
            question = Question(key)
            own = None if rules is None else rules.families
            margin = families.margin(question, own)
            if margin is not None:
                request.decided = True
                answer, ttl = families.chosen(question, answer, ttl, margin, now)
        return self.of_answer(request, answer, ttl, ede, text)

    def of_answer(
        self, request: Request, answer: Answer, ttl: int, ede: int | None = None, text: bytes = b""
    ) -> bytes:
        """Return the reply with an answer, behind the aliases that lead to it."""
        block = request.block
        if block is not None:
            block.count()
            ede, text = Ede.BLOCKED, block.list.encode()
        if request.alias is not None:
            answer = request.alias.joined(answer, request.key)
            ttl = min(ttl, request.alias.ttl)
        limit = request.limit(self._max_udp_size)
        reply = render(request.query, answer, ttl, limit, ede, text)
        if answer.rcode == Rcode.NXDOMAIN and self._local.exists(request.key[:NAME_END]):
            reply = deny_data_only(reply)
        return request.padded(reply)
