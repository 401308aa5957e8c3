"""Answers as lines, and what is said of clients."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.querylog.clients import CLIENTS, client_prefix, shown_client
from staggerdns.querylog.entry import json_line
from tests.kit.answered import SHOWN, answered


def test_a_line() -> None:
    """It has everything that there is to say, as one object."""
    octets = json_line(answered("WWW.Example.com."), "full")
    assert octets.endswith(b"}\n")
    assert octets.count(b"\n") == 1
    assert json.loads(octets) == SHOWN


@pytest.mark.parametrize(
    ("host", "prefix"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
    ],
)
def test_clients(host: str, prefix: str) -> None:
    """All of an address, the network that it is in, or nothing."""
    assert [shown_client(host, clients) for clients in CLIENTS] == [host, prefix, None]


@given(st.ip_addresses())
def test_a_prefix_does_not_tell_clients_apart(address: object) -> None:
    """The last octet of an IPv4 address, and all that a site may choose of an IPv6 address, is
    not in it.
    """
    network = client_prefix(str(address))
    assert client_prefix(network.partition("/")[0]) == network


@given(st.binary(min_size=1, max_size=63))
def test_names_of_strangers(label: bytes) -> None:
    """Whatever octets a name has, a line is one line of printable ASCII and reads as JSON."""
    event = answered()
    event.reply = b"\0\1\x81\x80\0\1" + bytes(6) + bytes((len(label),)) + label + b"\0\0\1\0\1"
    octets = json_line(event, "none")
    assert octets.endswith(b"\n")
    assert all(0x20 <= octet <= 0x7E for octet in octets[:-1])
    assert json.loads(octets)["client"] is None


def test_other_answers() -> None:
    """A list that blocks, and a query without a question."""
    shown = json.loads(json_line(answered(source="blocked", list="ads"), "full"))
    assert (shown["source"], shown["list"]) == ("blocked", "ads")
    empty = answered(source="refused", reply=b"\0\1\x81\x81" + bytes(8))
    shown = json.loads(json_line(empty, "full"))
    assert (shown["name"], shown["type"], shown["rcode"]) == ("", "", "FORMERR")
    assert shown["addresses"] == []
