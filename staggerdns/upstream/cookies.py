"""The DNS Cookies that one upstream and we have given each other (RFC 7873).

From an upstream that has given us a cookie a UDP reply without ours is doubted; discarding it
(section 5.3) would hurt a farm of unlike servers behind one address. When nothing clears that
`COOKIE_MISSES` times in a row, the server's cookie is forgotten; ours still goes with every query
that has options, and a new one of the server's is taken. BADCOOKIE brings a new one, too.
"""

from __future__ import annotations

from staggerdns.upstream.entropy import Entropy
from staggerdns.wire.constants import CLIENT_COOKIE_SIZE, COOKIE, WITH_SERVER_COOKIE
from staggerdns.wire.edns import option

COOKIE_MISSES = 3


class Cookies:
    """Ours and the server's cookie; ``wanted``: whether they are sent at all.

    ``ours`` is what a reply must repeat, ``option`` what queries carry.
    """

    def __init__(self, entropy: Entropy, *, wanted: bool) -> None:
        self.wanted = wanted
        self.ours = b""
        self.server = b""
        self.option = b""
        self._entropy = entropy
        self._misses = 0
        self.renew()

    def renew(self) -> None:
        """Take a new cookie of ours, and forget the server's."""
        if self.wanted:
            self.ours = self._entropy.take_bytes(CLIENT_COOKIE_SIZE)
        self._keep(b"")

    def learn(self, message: bytes) -> bool:
        """Take the server's cookie from a reply; say whether the reply repeats ours.

        Nobody but the upstream can know these octets: there is no need to look for their place.
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
        if self.wanted:
            self.option = option(COOKIE, self.ours + server)
