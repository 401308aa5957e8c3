"""Link-local addresses with their interface: what they mean, and interfaces that are not there."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import pytest_twisted

from staggerdns.config import parse_config
from staggerdns.configwarnings import config_warnings
from staggerdns.settings.addresses import Endpoint, parse_endpoint, parse_listener, parse_upstream
from staggerdns.upstream.reason import Reason
from tests.kit.loopback import loopback_upstream
from tests.kit.memoryhttp import HttpsUpstream

if TYPE_CHECKING:
    from staggerdns.upstream.exchange import Outcome

NOWHERE = "nowhere9"


@pytest.mark.parametrize(
    ("text", "shown", "host"),
    [
        ("fe80::1%eth0", "[fe80::1%eth0]:53", "fe80::1%eth0"),
        ("FE80:0::1%eth0", "[fe80::1%eth0]:53", "fe80::1%eth0"),
        ("[fe80::1%eth0.100]:5353", "[fe80::1%eth0.100]:5353", "fe80::1%eth0.100"),
        ("fe80::1%3", "[fe80::1%3]:53", "fe80::1%3"),
        ("fe80::1%25", "[fe80::1%25]:53", "fe80::1%25"),
        ("febf::1%br-lan", "[febf::1%br-lan]:53", "febf::1%br-lan"),
        ("tcp://[fe80::1%eth0]:53", "tcp://[fe80::1%eth0]:53", "fe80::1%eth0"),
        ("tcp://fe80::1%25eth0", "tcp://[fe80::1%eth0]:53", "fe80::1%eth0"),
        ("tls://[fe80::1%25eth0]", "tls://[fe80::1%eth0]:853", "fe80::1%eth0"),
        ("tls://[fe80::1%25]", "tls://[fe80::1%25]:853", "fe80::1%25"),
        ("tls://[fe80::1%2525]", "tls://[fe80::1%25]:853", "fe80::1%25"),
        (
            "https://[fe80::1%25eth0]:8443/dns-query#dns.example",
            "https://[fe80::1%eth0]:8443/dns-query#dns.example",
            "fe80::1%eth0",
        ),
    ],
)
def test_upstreams(text: str, shown: str, host: str) -> None:
    """All forms of an upstream may have one; the percent sign of a URL may be escaped."""
    found = parse_upstream(text)
    assert str(found) == shown
    assert found.endpoint.host == host
    assert not found.named
    assert parse_upstream(shown) == found, "what is shown can be written"


def test_the_interface_is_nobody_else_s_concern() -> None:
    """Neither a certificate nor a request names it (RFC 6874 section 4)."""
    assert parse_upstream("tls://fe80::1%eth0").auth_name == "fe80::1"
    https = HttpsUpstream("https://[fe80::1%eth0]:8443/dns-query")
    https.ask()
    assert https.reactor.tcpClients[0][:2] == ("fe80::1%eth0", 8443)
    assert https.connect().headers[1][":authority"] == "[fe80::1]:8443"
    https.upstream.close()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[fe80::1%eth0]:53", "[fe80::1%eth0]:53"),
        ("tls://fe80::1%eth0", "tls://[fe80::1%eth0]:853"),
        ("https://[fe80::1%25eth0]:8443/q", "https://[fe80::1%eth0]:8443/q"),
    ],
)
def test_listeners(text: str, shown: str) -> None:
    """So may listeners, and that of the metrics."""
    assert str(parse_listener(text)) == shown
    assert str(parse_endpoint("[fe80::1%eth0]:9153")) == "[fe80::1%eth0]:9153"


def test_places() -> None:
    """A socket wants the number of the interface, which may be there or not."""
    number = socket.if_nametoindex("lo")
    for zone in ("lo", str(number)):
        endpoint = Endpoint(f"fe80::1%{zone}", 53)
        assert endpoint.place == ("fe80::1", 53, 0, number)
        assert endpoint.missing_interface == ""
    for zone in (NOWHERE, "4000000", "99999999999"):
        endpoint = Endpoint(f"fe80::1%{zone}", 53)
        assert endpoint.missing_interface == zone
        with pytest.raises(OSError, match="device"):
            _ = endpoint.place
    assert Endpoint("2001:db8::1", 53).place == ("2001:db8::1", 53)
    assert Endpoint("2001:db8::1", 53).missing_interface == ""


@pytest.mark.parametrize("scheme", ["", "tcp://"])
@pytest_twisted.ensureDeferred
async def test_an_interface_that_is_not_there(scheme: str) -> None:
    """Queries fail at once, by our own fault: the upstream may be asked as soon as it is there."""
    with loopback_upstream(f"[fe80::1%{NOWHERE}]:53", scheme) as asked:
        for _ in range(10):
            outcome: Outcome = await asked.ask()
            assert outcome.reason == Reason.LOCAL
        assert asked.marks == 0
        assert asked.readers == 0


def test_what_people_are_told() -> None:
    """The log names upstreams whose interface is missing."""
    config = parse_config(f"upstream: {{servers: ['fe80::1%{NOWHERE}', 'fe80::2%lo']}}")
    (told,) = config_warnings(config)
    assert told == (
        f"upstream.servers[0]: [fe80::1%{NOWHERE}]:53 needs an interface that is not there, "
        f"{NOWHERE}: it is asked when that has come"
    )


def test_no_interface() -> None:
    """A link-local address alone can be asked nothing; IPv4 has no interfaces in addresses."""
    for host, lacks in (
        ("fe80::1", True),
        ("febf::1", True),
        ("fe80::1%lo", False),
        ("fec0::1", False),
        ("2001:db8::1", False),
        ("169.254.1.1", False),
        ("dns.example", False),
    ):
        assert Endpoint(host, 53).lacks_interface is lacks
    (told,) = config_warnings(parse_config("upstream: {servers: ['fe80::1', 169.254.1.1]}"))
    assert told == (
        "upstream.servers[0]: [fe80::1]:53 cannot be asked: "
        "a link-local address needs its interface, as in fe80::1%eth0"
    )
