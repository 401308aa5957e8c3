"""The hosts file, on a clock."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import dns.flags
import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, formatEvent

from staggerdns.files import MAX_SIZE, Unreadable
from staggerdns.journal import Journal
from staggerdns.server import hosts as hosts_module
from staggerdns.server.hosts import CHECK_EVERY, HOSTS_TTL, Hosts
from staggerdns.server.local import LocalNames
from staggerdns.server.request import UDP, Request
from staggerdns.settings.sections import LocalSettings
from staggerdns.wire.answer import Answer, LocalNegativeAnswer
from staggerdns.wire.constants import Rcode
from staggerdns.wire.query import parse_query
from staggerdns.wire.render import render
from tests.kit.clients import parse, question
from tests.kit.factory import NO_LISTENER, MemoryServer
from tests.kit.messages import texts

if TYPE_CHECKING:
    from twisted.logger import ILogObserver, LogEvent

FILE = b"""\
# a comment
127.0.0.1 localhost
192.168.1.7\tNas.Home.Arpa nas  files # the cellar
192.168.1.8  nas
fd00::7 nas.home.arpa.
203.0.113.5 www.example.com\r
203.0.113.5 www.example.com
203.0.113.5 later.example
1.2.3.4 far.example
10.0.0.1 printer.local
10.0.0.9 a.b.c.home.arpa _odd-1.example
"""


class WatchedHosts:
    """A hosts file, who reads it, and what was logged."""

    def __init__(self, path: Path, content: bytes | None = FILE, *, localhost: bool = True) -> None:
        self.path = path
        self.clock = Clock()
        self.events: list[LogEvent] = []
        self._stamp = 1_700_000_000
        if content is not None:
            self.write(content)
        log = Logger(namespace="staggerdns", observer=cast("ILogObserver", self.events.append))
        self.hosts = Hosts(str(path), self.clock, Journal("info", log))
        self.names = LocalNames(LocalSettings(localhost=localhost), self.hosts)

    def write(self, content: bytes) -> None:
        """Write the file, as of another second than before."""
        self.path.write_bytes(content)
        self._stamp += 1
        os.utime(self.path, (self._stamp, self._stamp))

    def later(self) -> None:
        """Let so much time pass that the next question looks at the file."""
        self.clock.advance(CHECK_EVERY)

    def ask(self, name: str, rdtype: str = "A", payload: int | None = None) -> str | None:
        """Return the answer's records or its RCODE and SOA, in a line; `None` for upstream."""
        query = parse_query(question(name, rdtype, payload=payload).to_wire())
        now = self.clock.seconds()
        answer = self.names.answer(Request(query, "192.0.2.1", UDP, now, None, NO_LISTENER))
        if answer is None:
            return None
        assert isinstance(answer, Answer)
        reply = parse(render(query, answer, answer.ttl, query.payload))
        if reply.answer:
            return ", ".join(texts(reply.answer))
        (soa,) = reply.authority
        return f"{reply.rcode().name} {soa.name} {soa.ttl}"

    @property
    def warnings(self) -> list[str]:
        """What was complained of."""
        return [formatEvent(e) for e in self.events if e["log_level"] is LogLevel.warn]


@pytest.fixture
def watched(tmp_path: Path) -> WatchedHosts:
    """Local names with the file above."""
    return WatchedHosts(tmp_path / "hosts")


@pytest.mark.parametrize(
    ("name", "rdtype", "says"),
    [
        ("nas.home.arpa.", "A", "nas.home.arpa. 60 A 192.168.1.7"),
        ("nas.home.arpa.", "AAAA", "nas.home.arpa. 60 AAAA fd00::7"),
        ("NAS.home.ARPA.", "A", "NAS.home.ARPA. 60 A 192.168.1.7"),
        ("nas.", "A", "nas. 60 A 192.168.1.7, nas. 60 A 192.168.1.8"),
        ("files.", "A", "files. 60 A 192.168.1.7"),
        ("www.example.com.", "A", "www.example.com. 60 A 203.0.113.5"),
        ("printer.local.", "A", "printer.local. 60 A 10.0.0.1"),
        ("_odd-1.example.", "A", "_odd-1.example. 60 A 10.0.0.9"),
        ("7.1.168.192.in-addr.arpa.", "PTR", "7.1.168.192.in-addr.arpa. 60 PTR Nas.Home.Arpa."),
        ("5.113.0.203.in-addr.arpa.", "PTR", "5.113.0.203.in-addr.arpa. 60 PTR www.example.com."),
        ("1.0.0.127.in-addr.arpa.", "PTR", "1.0.0.127.in-addr.arpa. 60 PTR localhost."),
        # Where a name with addresses is, the file alone says: no other family, no hints.
        ("www.example.com.", "AAAA", "NOERROR www.example.com. 60"),
        ("www.example.com.", "HTTPS", "NOERROR www.example.com. 60"),
        ("www.example.com.", "SVCB", "NOERROR www.example.com. 60"),
        # What else there is of it the upstreams may know, as behind dnsmasq.
        ("www.example.com.", "MX", None),
        ("www.example.com.", "TXT", None),
        ("www.example.com.", "CNAME", None),
        ("www.example.com.", "SOA", None),
        ("www.example.com.", "DS", None),
        ("www.example.com.", "PTR", None),
        ("www.example.com.", "TYPE65280", None),
        ("4.3.2.1.in-addr.arpa.", "PTR", "4.3.2.1.in-addr.arpa. 60 PTR far.example."),
        ("4.3.2.1.in-addr.arpa.", "A", None),
        ("4.3.2.1.in-addr.arpa.", "TXT", None),
        # But in zones of ours a name that is there has no other types.
        ("nas.home.arpa.", "HTTPS", "NOERROR nas.home.arpa. 60"),
        ("nas.home.arpa.", "MX", "NOERROR nas.home.arpa. 60"),
        ("printer.local.", "TXT", "NOERROR printer.local. 60"),
        ("5.113.0.203.in-addr.arpa.", "A", "NOERROR 5.113.0.203.in-addr.arpa. 60"),
        ("www.example.com.", "ANY", 'www.example.com. 3600 HINFO "RFC8482" ""'),
        # What is above a name that is there is there itself (RFC 8020), in zones of ours.
        ("c.home.arpa.", "A", "NOERROR c.home.arpa. 600"),
        ("local.", "A", "NOERROR local. 600"),
        ("1.168.192.in-addr.arpa.", "PTR", "NOERROR 1.168.192.in-addr.arpa. 600"),
        ("d.home.arpa.", "A", "NXDOMAIN home.arpa. 600"),
        ("x.nas.home.arpa.", "A", "NXDOMAIN home.arpa. 600"),
        ("x.printer.local.", "A", "NXDOMAIN local. 600"),
        ("6.1.168.192.in-addr.arpa.", "PTR", "NXDOMAIN 168.192.in-addr.arpa. 600"),
        # Elsewhere, names above and below are not ours.
        ("example.com.", "A", None),
        ("x.www.example.com.", "A", None),
        ("home.arpa.", "DS", None),
        # And localhost is what RFC 6761 says, whatever the file says.
        ("localhost.", "AAAA", "localhost. 600 AAAA ::1"),
    ],
)
def test_answers(watched: WatchedHosts, name: str, rdtype: str, says: str | None) -> None:
    """Names and addresses are those of the file, in its order, each once; no name has two views."""
    assert watched.ask(name, rdtype) == says
    assert HOSTS_TTL == 60
    assert watched.warnings == []


def test_reverse_names_of_ipv6(watched: WatchedHosts) -> None:
    """An IPv6 address has its name as well."""
    name = ipaddress.ip_address("fd00::7").reverse_pointer + "."
    assert watched.ask(name, "PTR") == f"{name} 60 PTR nas.home.arpa."
    assert watched.ask(name[2:], "PTR") == f"NOERROR {name[2:]} 600"


@pytest.mark.parametrize(
    ("name", "rdtype", "rcode"),
    [
        ("www.example.com.", "MX", "NOERROR"),
        ("WWW.example.com.", "TXT", "NOERROR"),
        ("example.com.", "A", "NOERROR"),
        ("4.3.2.1.in-addr.arpa.", "TXT", "NOERROR"),
        ("xwww.example.com.", "MX", "NXDOMAIN"),
        ("x.www.example.com.", "MX", "NXDOMAIN"),
    ],
)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_name_of_the_file_exists(
    watched: WatchedHosts, name: str, rdtype: str, rcode: str, transport: str
) -> None:
    """Upstreams that know no such name cannot deny it: it has no such data (RFC 8020), from the
    cache and from the ready replies as well. The SOA is theirs.
    """
    server = MemoryServer(local=watched.names)
    query = question(name, rdtype)
    answer = LocalNegativeAnswer(Rcode.NXDOMAIN, len(b"\0"), 300)
    answer.ad = True
    server.forwarder.instant = server.commit(parse_query(query.to_wire()).question(), answer)
    query.flags |= dns.flags.AD
    for _ in range(3):
        reply = server.reply(query.to_wire(), transport=transport)
        assert reply.rcode().name == rcode
        assert bool(reply.flags & dns.flags.AD) == (rcode == "NXDOMAIN")
        assert not reply.answer
        assert reply.authority[0].rdtype.name == "SOA"
    counted = {
        sample.labels["rcode"]: sample.value
        for family in server.metrics.collect()
        for sample in family.samples
        if sample.name == "staggerdns_responses_total"
    }
    assert {label: value for label, value in counted.items() if value} == {rcode: 3}


def test_localhost_of_the_file(tmp_path: Path) -> None:
    """With ``localhost`` switched off the file has its say about that name, too."""
    watched = WatchedHosts(tmp_path / "hosts", b"127.0.0.5 localhost", localhost=False)
    assert watched.ask("localhost.") == "localhost. 60 A 127.0.0.5"
    assert watched.ask("localhost.", "AAAA") == "NOERROR localhost. 60"
    assert watched.ask("a.localhost.") is None


def test_a_change_is_seen(watched: WatchedHosts) -> None:
    """The file is looked at once a second, and read anew when it has changed."""
    watched.write(b"192.168.1.9 nas new.example")
    assert watched.ask("new.example.") is None
    watched.clock.advance(CHECK_EVERY * 0.99)
    assert watched.ask("new.example.") is None
    watched.clock.advance(CHECK_EVERY * 0.01)
    assert watched.ask("new.example.") == "new.example. 60 A 192.168.1.9"
    assert watched.ask("nas.") == "nas. 60 A 192.168.1.9"
    assert watched.ask("files.") is None
    assert watched.ask("7.1.168.192.in-addr.arpa.", "PTR") == "NXDOMAIN 168.192.in-addr.arpa. 600"


def test_a_file_is_read_when_it_has_changed_only(
    watched: WatchedHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at an unchanged file is all that a second costs, however many questions it brings."""
    looks: list[str] = []

    def watch(owner: object, what: str) -> None:
        real = getattr(owner, what)

        def look(path: Any) -> Any:
            looks.append(what)
            return real(path)

        monkeypatch.setattr(owner, what, look)

    watch(Path, "stat")
    watch(hosts_module, "read_file")
    for _ in range(3):
        watched.later()
        for _ in range(10):
            watched.ask("nas.")
    assert looks == ["stat"] * 3
    watched.write(FILE)
    watched.later()
    watched.ask("nas.")
    assert looks == [*["stat"] * 4, "read_file"]


def test_another_file_of_the_same_time_and_size(watched: WatchedHosts) -> None:
    """A file that was put in the place of the old one is seen by its inode."""
    other = watched.path.with_name("other")
    other.write_bytes(FILE.replace(b"203.0.113.5", b"203.0.113.6"))
    stamp = watched.path.stat().st_mtime
    os.utime(other, (stamp, stamp))
    other.replace(watched.path)
    watched.later()
    assert watched.ask("www.example.com.") == "www.example.com. 60 A 203.0.113.6"


def test_a_clock_that_is_set_back(watched: WatchedHosts) -> None:
    """When the clock goes back the file is looked at, and once a second from then on."""
    watched.clock.advance(3600)
    watched.ask("nas.")
    watched.write(b"192.168.1.9 new.example")
    watched.clock.rightNow = 5.0
    assert watched.ask("new.example.") == "new.example. 60 A 192.168.1.9"


WRONG = [
    b"192.168.1.300 name",
    b"192.168.1 name",
    b"0x7f.1 name",
    b"fe80::1%lo0 name",
    b":: :1",
    b"name",
    b"name 192.168.1.1",
    b"192.168.1.1",
    b"192.168.1.1 # name",
    b"192.168.1.1 a..b",
    b"192.168.1.1 .a",
    b"192.168.1.1 b\xfccher",
    b"192.168.1.1 " + b"a" * 64,
    b"192.168.1.1 " + b".".join([b"a" * 63] * 4),
    b"\xff\xfe1\x009\x00",
    b"192.168.1.1 a\0b",
]


@pytest.mark.parametrize("line", WRONG)
def test_wrong_lines(tmp_path: Path, line: bytes) -> None:
    """A line without an address or a good name is told of once; the others count."""
    watched = WatchedHosts(
        tmp_path / "hosts", b"10.0.0.1 before.example\n" + line + b"\n10.0.0.2 behind.example"
    )
    assert watched.ask("before.example.") == "before.example. 60 A 10.0.0.1"
    assert watched.ask("behind.example.") == "behind.example. 60 A 10.0.0.2"
    assert watched.ask("a.") is None
    assert watched.ask("name.") is None
    (warning,) = watched.warnings
    assert warning.startswith(f"1 lines of {watched.path} are wrong, the first is '2: ")
    assert warning.isascii()
    assert len(warning.splitlines()) == 1
    watched.write(watched.path.read_bytes() + b"\n10.0.0.3 more.example")
    watched.later()
    assert watched.ask("more.example.") == "more.example. 60 A 10.0.0.3"
    assert len(watched.warnings) == 1


def test_one_wrong_name(tmp_path: Path) -> None:
    """A wrong name costs only itself, wherever it stands; its line is told of once."""
    watched = WatchedHosts(
        tmp_path / "hosts",
        b"192.168.1.7 b\xfccher nas my* files " + b"a" * 64 + b"\n192.168.1.8 nas",
    )
    assert watched.ask("nas.") == "nas. 60 A 192.168.1.7, nas. 60 A 192.168.1.8"
    assert watched.ask("files.") == "files. 60 A 192.168.1.7"
    reverse = "7.1.168.192.in-addr.arpa."
    assert watched.ask(reverse, "PTR") == f"{reverse} 60 PTR nas."
    (warning,) = watched.warnings
    assert warning.startswith(f"1 lines of {watched.path} are wrong, the first is '1: 192.168.1.7 ")


def test_byte_order_mark(tmp_path: Path) -> None:
    """A file that begins with the mark of UTF-8 has a good first line; elsewhere it is wrong."""
    mark = b"\xef\xbb\xbf"
    watched = WatchedHosts(tmp_path / "hosts", mark + b"10.0.0.1 nas")
    assert watched.ask("nas.") == "nas. 60 A 10.0.0.1"
    assert watched.warnings == []
    watched.write(b"10.0.0.1 nas\n" + mark + b"10.0.0.2 nas")
    watched.later()
    assert watched.ask("nas.") == "nas. 60 A 10.0.0.1"
    assert len(watched.warnings) == 1


def test_the_placeholder_of_debian(tmp_path: Path) -> None:
    """The machine's own name is not given as 127.0.1.1, which would be whoever asks; a line with
    an address that others can use is, and so are other loopback addresses.
    """
    own = b"127.0.1.1 router.example router\n"
    watched = WatchedHosts(tmp_path / "hosts", own)
    assert watched.ask("router.example.") is None
    reverse = "1.1.0.127.in-addr.arpa."
    assert watched.ask(reverse, "PTR") == "NXDOMAIN 127.in-addr.arpa. 600"
    watched.write(own + b"192.168.1.1 router.example\n127.0.1.2 blocked.example\n")
    watched.later()
    assert watched.ask("router.example.") == "router.example. 60 A 192.168.1.1"
    assert watched.ask("blocked.example.") == "blocked.example. 60 A 127.0.1.2"
    assert watched.warnings == []


def test_many_wrong_lines(tmp_path: Path) -> None:
    """Many wrong lines are one event, as short as the first of them allows."""
    watched = WatchedHosts(tmp_path / "hosts", (b"x" * 500 + b"\n") * 500)
    (warning,) = watched.warnings
    assert warning.startswith("500 lines of ")
    assert len(warning) < 300 + len(str(watched.path))


def test_longest_names(tmp_path: Path) -> None:
    """A label of 63 octets and a name of 255 are good."""
    name = ".".join(["a" * 63] * 3 + ["b" * 61])
    watched = WatchedHosts(tmp_path / "hosts", f"10.0.0.1 {name}".encode())
    assert watched.warnings == []
    assert watched.ask(f"{name}.") == f"{name}. 60 A 10.0.0.1"
    assert watched.ask(f"{name}.", "AAAA", payload=1232) == f"NOERROR {name}. 60"


def test_size(tmp_path: Path) -> None:
    """A file of `MAX_SIZE` bytes is read; a longer one changes nothing, and is told of once."""
    watched = WatchedHosts(tmp_path / "hosts", b"10.0.0.1 nas\n".ljust(MAX_SIZE, b"#"))
    assert watched.ask("nas.") == "nas. 60 A 10.0.0.1"
    assert watched.warnings == []
    watched.write(b"10.0.0.2 nas\n".ljust(MAX_SIZE + 1, b"#"))
    for _ in range(3):
        watched.later()
        assert watched.ask("nas.") == "nas. 60 A 10.0.0.1"
    assert watched.warnings == [f"the hosts file {watched.path} has more than {MAX_SIZE} bytes"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A missing file is told of once, and read when it comes; one that vanishes is empty."""
    watched = WatchedHosts(tmp_path / "hosts", None)
    for _ in range(3):
        watched.later()
        assert watched.ask("nas.") is None
    assert watched.warnings == [
        f"the hosts file {watched.path} cannot be read: No such file or directory"
    ]
    watched.write(FILE)
    watched.later()
    assert watched.ask("nas.") is not None
    watched.path.unlink()
    watched.later()
    assert watched.ask("nas.") is None
    assert len(watched.warnings) == 2


def test_what_is_no_file(tmp_path: Path) -> None:
    """A directory or a pipe in the place of the file keeps the names, and nobody waits for it."""
    watched = WatchedHosts(tmp_path / "hosts")
    watched.path.unlink()
    os.mkfifo(watched.path)
    watched.later()
    assert watched.ask("files.") == "files. 60 A 192.168.1.7"
    said = f"the hosts file {watched.path} cannot be read: it is a pipe, not a regular file"
    assert watched.warnings == [said]


def test_a_file_that_cannot_be_read(watched: WatchedHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the program may not read the file any more it keeps what it knows."""

    def refuse(_path: str) -> bytes:
        raise Unreadable("cannot be read: Permission denied")

    monkeypatch.setattr(hosts_module, "read_file", refuse)
    watched.write(FILE + b"\n")
    for _ in range(3):
        watched.later()
        assert watched.ask("files.") == "files. 60 A 192.168.1.7"
    assert watched.warnings == [f"the hosts file {watched.path} cannot be read: Permission denied"]


def test_many_addresses(tmp_path: Path) -> None:
    """Of more addresses than fit, the first ones are given."""
    lines = [f"10.0.{number // 256}.{number % 256} many" for number in range(5000)]
    watched = WatchedHosts(tmp_path / "hosts", "\n".join(lines).encode())
    says = watched.ask("many.")
    assert says is not None
    assert says.split(", ")[:2] == ["many. 60 A 10.0.0.0", "many. 60 A 10.0.0.1"]
    assert len(says.split(", ")) == (512 - 12 - len("\4many\0") - 4) // 16
