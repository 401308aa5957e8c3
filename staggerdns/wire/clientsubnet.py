"""The client subnet that queries to one upstream carry (EDNS Client Subnet, RFC 7871).

It is a subnet that the configuration names, never the one of a client: what clients send of
theirs goes to nobody. An upstream may use it to choose among the addresses of a name, and says in
its reply for which subnet it chose. A reply that names another one than the query is none to that
query, and is dropped (section 7.3). For how wide a network the upstream would choose the same, its
SCOPE PREFIX-LENGTH, does not matter here, since each upstream is told one subnet only.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Final

from staggerdns.wire.constants import CLIENT_SUBNET
from staggerdns.wire.edns import option, options_in

_FAMILIES: Final = {4: 1, 6: 2}  # section 6: numbers of address families, by version of IP
_FIXED = 4  # octets before the address
_SCOPE = 3  # which of these is the SCOPE PREFIX-LENGTH, which replies alone have
_CODE = CLIENT_SUBNET.to_bytes(2, "big")


class ClientSubnet:
    """The option for ``subnet``, ready to be sent. One of no bits at all asks the upstream to tell
    others nothing of the network that the query comes from (section 7.1.2).
    """

    __slots__ = ("option", "_tells", "_data")

    def __init__(self, subnet: IPv4Network | IPv6Network) -> None:
        length = subnet.prefixlen
        fixed = _FAMILIES[subnet.version].to_bytes(2, "big") + bytes((length, 0))
        self._data = fixed + subnet.network_address.packed[: (length + 7) // 8]
        self._tells = length > 0
        self.option = option(CLIENT_SUBNET, self._data)

    def fits(self, message: bytes) -> bool:
        """Return whether the reply ``message`` names no other subnet. One that names none is as
        good for this one as for any; of one that cannot be read the judge tells.
        """
        if not self._tells or _CODE not in message:
            return True
        expected = self._data
        return all(
            data[:_SCOPE] == expected[:_SCOPE] and data[_FIXED:] == expected[_FIXED:]
            for data in options_in(message, CLIENT_SUBNET)
        )
