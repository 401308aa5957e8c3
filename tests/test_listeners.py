"""Listeners that cannot be had: which key, why, and what to do."""

from __future__ import annotations

import socket
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL, EINVAL, EPERM
from os import strerror
from socket import SOCK_DGRAM, SOCK_STREAM, SocketKind

import pytest
from twisted.internet.defer import succeed
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from staggerdns.instruments import Cell
from staggerdns.journal import Journal
from staggerdns.lifecycle import Lifecycle
from staggerdns.listeners import Listeners
from staggerdns.server import openlistener
from staggerdns.server.cannotbind import CannotBind
from staggerdns.server.status import StatusFactory
from staggerdns.settings.addresses import Endpoint, parse_listener
from tests.kit.factory import MemoryServer

Refuse = dict[str, int]
OPENED: list[tuple[Endpoint, SocketKind, socket.socket]] = []
"""What a test has had opened."""
SS = "see who has it with ss -lntup 'sport = :{port}', or choose another address or port"
ROOT = (
    "ports below 1024 are for root or need CAP_NET_BIND_SERVICE (as in "
    "etc/systemd/staggerdns.service), or a port above"
)
NOT_THERE = (
    "this machine does not have this address, and its kernel cannot wait for it: choose one that "
    "`ip address` shows"
)
OTHERS = (
    "another DNS server may have it, such as systemd-resolved (DNSStubListener=no in "
    "/etc/systemd/resolved.conf turns that off) or dnsmasq; "
)


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Places that cannot be bound, with the number of the error; all others can, once."""
    refused: Refuse = {}
    taken: set[tuple[str, str]] = set()

    def open_socket(endpoint: Endpoint, kind: SocketKind, *_: object) -> socket.socket:
        place = str(Endpoint(endpoint.host, endpoint.port))
        number = EADDRINUSE if (kind.name, place) in taken else refused.get(place)
        taken.add((kind.name, place))
        if number is not None:
            raise OSError(number, strerror(number))
        made = socket.socket(socket.AF_INET, kind)
        OPENED.append((endpoint, kind, made))
        return made

    OPENED.clear()
    monkeypatch.setattr(openlistener, "open_socket", open_socket)
    return refused


def new_page() -> StatusFactory:
    """The page of the metrics."""
    return StatusFactory(
        [], lambda: succeed(True), Lifecycle(Journal()), Clock(), refused=Cell(), dropped=Cell()
    )


def complaint(listen: list[str], page: str = "127.0.0.1:9153") -> str:
    """What is said when these are to be bound."""
    found = Listeners(MemoryServer().factory, MemoryReactorClock(), Journal())
    host, _, port = page.rpartition(":")
    places = tuple(map(parse_listener, listen))
    with pytest.raises(CannotBind) as caught:
        found.prepare(places, None, new_page(), Endpoint(host, int(port)))
    assert found.bound == []
    assert not [made for *_, made in OPENED if made.fileno() != -1]
    return str(caught.value)


@pytest.mark.parametrize(
    ("number", "place", "remedy"),
    [
        (EACCES, "127.0.0.1:53", ROOT),
        (EPERM, "127.0.0.1:1023", ROOT),
        (EACCES, "127.0.0.1:1024", "choose another address or port"),
        (EADDRINUSE, "127.0.0.1:53", OTHERS + SS),
        (EADDRINUSE, "[::1]:53", OTHERS + SS),
        (EADDRINUSE, "127.0.0.1:5300", SS),
        (EADDRNOTAVAIL, "192.0.2.1:53",
         NOT_THERE),
        (EINVAL, "127.0.0.1:53", "choose another address or port"),
    ],
)  # fmt: skip
def test_remedies(refuse: Refuse, number: int, place: str, remedy: str) -> None:
    """The reason of the system, and what helps against it; the key says which item it is."""
    refuse[place] = number
    remedy = remedy.format(port=place.rpartition(":")[2])
    expected = f"cannot listen on {place}: {strerror(number)}: {remedy}"
    assert complaint(["127.0.0.9:53", place]) == f"server.listen[1]: {expected}"


def test_an_interface_that_is_not_there(refuse: Refuse) -> None:
    """A link-local address is nowhere without it."""
    place = "[fe80::1%nowhere9]:53"
    refuse[place] = EINVAL
    assert complaint([place]) == (
        f"server.listen[0]: cannot listen on {place}: there is no interface nowhere9: see `ip link`"
    )


def test_a_missing_interface(refuse: Refuse) -> None:
    """Without any interface it is neither, which the system calls an invalid argument."""
    refuse["[fe80::1]:53"] = EINVAL
    assert complaint(["[fe80::1]:53"]) == (
        "server.listen[0]: cannot listen on [fe80::1]:53: "
        "a link-local address needs its interface, as in fe80::1%eth0"
    )


@pytest.mark.parametrize(("number", "port"), [(EADDRINUSE, 9153), (EACCES, 80)])
def test_the_page(refuse: Refuse, number: int, port: int) -> None:
    """The page of the metrics has a key of its own."""
    place = f"127.0.0.1:{port}"
    refuse[place] = number
    said = complaint(["127.0.0.1:53"], place)
    assert said.startswith(f"metrics.listen: cannot listen on {place}: {strerror(number)}: ")
    assert (ROOT in said) == (number == EACCES)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("0.0.0.0:53", "127.0.0.1:53"),
        ("127.0.0.1:53", "0.0.0.0:53"),
        ("[::]:53", "[::1]:53"),
        ("127.0.0.1:9153", "127.0.0.1:9153"),
    ],
)
def test_in_our_own_way(refuse: Refuse, first: str, second: str) -> None:
    """Where an earlier item has the port, nobody else is blamed."""
    if first == second:
        said = complaint([first], second)
    else:
        refuse[second] = EADDRINUSE
        said = complaint([first, second])
    assert said.endswith(f"Address already in use: server.listen[0] has it, {first}")


def test_all_that_was_open_is_closed(refuse: Refuse) -> None:
    """When one cannot be had, those before it are let go."""
    refuse["127.0.0.1:2"] = EADDRINUSE
    complaint(["127.0.0.1:1", "127.0.0.1:2"])
    assert [(str(place), kind) for place, kind, _ in OPENED] == [
        ("127.0.0.1:1", SOCK_DGRAM),
        ("127.0.0.1:1", SOCK_STREAM),
    ]
