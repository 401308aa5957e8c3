"""What systemd passes in: by name and address, and what nothing can be made of."""

from __future__ import annotations

import os
import socket
from socket import SOCK_DGRAM, SOCK_STREAM
from typing import TYPE_CHECKING, Any

import pytest

from staggerdns.server.passedsockets import PassedSockets, WrongSocket, take_passed_sockets
from staggerdns.settings.addresses import Endpoint, parse_listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST = 300
"""The descriptor from which on a test passes sockets in."""
Pass = Any


def opened(kind: int = SOCK_DGRAM, host: str = "127.0.0.1", *, listens: bool = True) -> int:
    """The descriptor of a socket as systemd makes one, blocking and inherited."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    made.bind((host, 0))
    if kind == SOCK_STREAM and listens:
        made.listen()
    made.setblocking(True)
    return made.detach()


@pytest.fixture
def take() -> Iterator[Pass]:
    """Have these descriptors passed in, under these names."""
    taken: list[PassedSockets] = []
    numbers: list[int] = []

    def take(names: str, *descriptors: int, **more: str) -> PassedSockets:
        for index, number in enumerate(descriptors):
            numbers.append(os.dup2(number, FIRST + index))
            os.close(number)
        environ = {
            "LISTEN_PID": "77",
            "LISTEN_FDS": str(len(descriptors)),
            "LISTEN_FDNAMES": names,
            "OTHER": "stays",
            **more,
        }
        try:
            taken.append(take_passed_sockets(environ, 77, FIRST))
        finally:
            assert environ == {"OTHER": "stays"}
        return taken[-1]

    yield take
    for one in taken:
        one.close()
    for number in numbers:
        try:
            os.close(number)
        except OSError:
            continue


def place(number: int, scheme: str = "") -> Endpoint:
    """A listener at the place of a descriptor."""
    with socket.socket(fileno=os.dup(number)) as own:
        host, port = own.getsockname()[:2]
    return parse_listener(f"{scheme}{Endpoint(host, port)}")


def test_by_name_and_address(take: Pass) -> None:
    """Each listener has those with its address, and of its kind alone."""
    udp, tcp, tls, https, page = (
        opened(), opened(SOCK_STREAM), opened(SOCK_STREAM), opened(SOCK_STREAM), opened(SOCK_STREAM)
    )  # fmt: skip
    places = [
        place(udp), place(tcp), place(tls, "tls://"), place(https, "https://"), place(page)
    ]  # fmt: skip
    passed = take("dns:dns:tls:https:metrics", udp, tcp, tls, https, page)
    found = [
        passed.find(places[0], SOCK_DGRAM),
        *(passed.find(one, SOCK_STREAM) for one in places[1:4]),
        passed.find(Endpoint(places[4].host, places[4].port), SOCK_STREAM),
    ]
    assert [one.socket.fileno() - FIRST for one in found if one] == [0, 1, 2, 3, 4]
    assert passed.find(places[0], SOCK_STREAM) is None
    assert [one.name for one in passed.unused({FIRST, FIRST + 2})] == ["dns", "https", "metrics"]


def test_what_it_is_made_of(take: Pass) -> None:
    """Nothing blocks, and no process that we start has it."""
    number = opened()
    where = place(number)
    found = take("dns", number).find(where, SOCK_DGRAM)
    assert found is not None
    assert not found.socket.getblocking()
    assert not found.socket.get_inheritable()
    assert str(found) == f"dns (ListenDatagram={where})"


@pytest.mark.parametrize("names", ["", "staggerdns.socket", "unknown"])
def test_without_a_name(take: Pass, names: str) -> None:
    """The address alone says whose it is: systemd names a socket after its unit."""
    number = opened(SOCK_STREAM)
    where = place(number, "tls://")
    assert take(names, number).find(where, SOCK_STREAM) is not None


def test_meant_for_something_else(take: Pass) -> None:
    """A name that is not that of the listener at its address."""
    number = opened(SOCK_STREAM)
    where = place(number, "https://")
    with pytest.raises(WrongSocket, match=r"tls \(ListenStream=.*: expected FileDesc.*https"):
        take("tls", number).find(where, SOCK_STREAM)


def test_for_another_process(take: Pass) -> None:
    """What our parent was given is none of ours."""
    assert take("dns", LISTEN_PID="78", LISTEN_FDS="1").unused(set()) == []


@pytest.mark.parametrize(
    ("name", "make", "problem"),
    [
        ("tls", opened, "is for datagrams: expected ListenStream=ADDRESS:PORT in"),
        ("metrics", opened, "is for datagrams: expected ListenStream=ADDRESS:PORT in"),
        ("dns", lambda: opened(SOCK_STREAM, listens=False), "does not listen: expected Accept=no"),
        ("dns", lambda: socket.socket(socket.AF_UNIX, SOCK_DGRAM).detach(),
         "is no socket of the Internet: expected ListenDatagram=ADDRESS:PORT or ListenStream=ADDR"),
        ("dns", lambda: os.open("/dev/null", os.O_RDONLY), "is no socket: Socket operation on non"),
    ],
)  # fmt: skip
def test_what_nothing_can_be_made_of(
    take: Pass, name: str, make: Callable[[], int], problem: str
) -> None:
    """One line says which descriptor it is, what is wrong, and what was expected."""
    with pytest.raises(WrongSocket) as caught:
        take(name, make())
    assert str(caught.value).startswith(
        f"descriptor {FIRST} was passed in as {name!r}, and {problem}"
    )


def test_a_wrong_count(take: Pass) -> None:
    """It is a number, and so many are open."""
    with pytest.raises(WrongSocket, match="LISTEN_FDS in the environment is 'x': expected a num"):
        take("dns", LISTEN_FDS="x")
    with pytest.raises(WrongSocket, match=f"descriptor {FIRST} .* is no socket: Bad file desc"):
        take("dns", LISTEN_FDS="1")


@pytest.mark.parametrize(
    ("host", "alone", "way"), [("::", 0, True), ("::", 1, False), ("::1", 1, False)]
)
def test_both_families(take: Pass, host: str, alone: int, way: bool) -> None:
    """A socket of IPv6 may take IPv4 as well: then nobody else can have that."""
    with socket.socket(socket.AF_INET6, SOCK_DGRAM) as made:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, alone)
        try:
            made.bind((host, 0))
        except OSError:
            pytest.skip("there is no IPv6")
        port = made.getsockname()[1]
        passed = take("dns", made.detach())
    assert (passed.in_the_way(Endpoint("127.0.0.1", port)) is not None) == way
    assert passed.in_the_way(Endpoint("127.0.0.1", port + 1)) is None
