"""The DNS Cookies that one upstream and we have given each other (RFC 7873).

When an upstream has given us a cookie, a UDP reply without ours is doubted and checked. It is not
discarded (section 5.3), since several unlike servers may share one address. After `COOKIE_MISSES`
doubts in a row that no check cleared, the server's cookie is forgotten. Ours still goes with every
query that has options, and the next cookie that the server gives counts again; BADCOOKIE brings
one, too.
"""

from __future__ import annotations

from staggerdns.upstream.entropy import Entropy
from staggerdns.wire.constants import CLIENT_COOKIE_SIZE, COOKIE, WITH_SERVER_COOKIE
from staggerdns.wire.edns import option

COOKIE_MISSES = 3


class Cookies:
    """Ours and the server's cookie; ``wanted``: whether they are sent at all.

    ``ours`` is what a reply must repeat, ``option`` what queries carry. ``expected``: whether a
    usual reply has ``ours`` in it; when none are sent ``ours`` is empty, which every reply has.
    """

    def __init__(self, entropy: Entropy, *, wanted: bool) -> None:
        self.wanted = wanted
        self.ours = b""
        self.server = b""
        self.option = b""
        self.expected = True
        self._entropy = entropy
        self._misses = 0
        self.renew()

    def renew(self) -> None:
        """Make a new cookie of ours, and forget the server's."""
        if self.wanted:
            self.ours = self._entropy.take_bytes(CLIENT_COOKIE_SIZE)
        self._keep(b"")

    def learn(self, message: bytes) -> bool:
        """Remember the server's cookie in a reply. Return whether the reply repeats ours.

        Our octets may stand anywhere in the message: nobody but the upstream can know them.
        """
        place = message.find(self.ours)
        if place < 0:
            return False
        self._misses = 0
        size = int.from_bytes(message[place - 2 : place], "big")
        if size in WITH_SERVER_COOKIE:
            given = message[place + CLIENT_COOKIE_SIZE : place + size]
            if given != self.server:
                self._keep(given)
        return True

    def missed(self) -> None:
        """Note that a reply without our cookie was not cleared."""
        self._misses += 1
        if self._misses >= COOKIE_MISSES:
            self._keep(b"")

    def _keep(self, server: bytes) -> None:
        self._misses = 0
        self.server = server
        self.expected = bool(server) or not self.wanted
        if self.wanted:
            self.option = option(COOKIE, self.ours + server)
