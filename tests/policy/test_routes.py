"""Which scope a name belongs to, by domains in the configuration and in files."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from staggerdns.config import parse_config
from staggerdns.journal import Journal
from staggerdns.policy.domainfiles import CHECK_EVERY, DomainFiles
from staggerdns.policy.domains import MAX_FILE_SIZE, finish
from staggerdns.policy.routes import Routes
from staggerdns.policy.scope import NO_SUCH_NAMES, Scopes, default_scope
from staggerdns.settings.document import ConfigError
from staggerdns.wire.constants import Type
from tests.kit.acts import AAAA, MX, TXT, A, name

if TYPE_CHECKING:
    from pathlib import Path

UPSTREAM = "upstream: {servers: [192.0.2.1]}\n"
HOSTILE = {
    "a wrong line": (b"good.example\nbad..example\n", "line 2: expected a domain"),
    "HTML": (b"<!DOCTYPE html>\n<p>no</p>\n", "line 1: expected a domain"),
    "binary": (b"\x7fELF\0\0\1\n", "null characters"),
    "no ASCII": ("caf\xe9.example\n".encode(), "got 'caf\xe9.example': write xn--caf-dma.example"),
    "long and no ASCII": (
        f"f\xfcr.{'x' * 60}.{'y' * 60}.{'z' * 60}.example\n".encode(),
        f"write xn--fr-xka.{'x' * 60}.{'y' * 60}.{'z' * 60}.example",
    ),
    "no UTF-8": (b"a.example\ncaf\xe9.example\n", "line 2: expected a domain"),
    "huge": (b"a.example\n" * 838_861, f"more than {MAX_FILE_SIZE} bytes"),
    "a long line": (b"x" * 5_000, "line 1: expected a domain"),
}
"""Contents of a file that cannot be used, and what is said."""


class Routed:
    """Routes made from YAML, on a clock."""

    def __init__(self, routes: str) -> None:
        self.clock = Clock()
        config = parse_config(f"{UPSTREAM}routes: [{routes}]\n")
        self.files = DomainFiles(self.clock, Journal("debug"))
        self.routes = Routes(config.routes, Scopes(default_scope(config)), self.files)
        finish(self.routes.load())
        self.files.watch()

    def find(self, text: str) -> int | None:
        """Where a name leads to by its domain, now."""
        return self.routes.find(name(text))

    def let_it_count(self) -> None:
        """Let there be two looks at the files."""
        for _ in range(2):
            self.clock.advance(CHECK_EVERY)

    def single(self, text: str, qtype: int = A) -> int | None:
        """Where a name leads to by its one label."""
        return self.routes.find_single_label(name(text), qtype)


def error(routes: str) -> str:
    """What is wrong with a configuration with these routes."""
    with pytest.raises(ConfigError) as caught:
        parse_config(f"{UPSTREAM}routes: [{routes}]\n")
    return str(caught.value)


def test_the_longest_domain_counts() -> None:
    """Whatever the order in which they are given; a part of a label is none."""
    routed = Routed(
        "{domains: [example], servers: [10.0.0.1]},"
        "{domains: [corp.example, 10.in-addr.arpa], servers: [10.0.0.2]},"
        "{domains: [public.corp.example], servers: default},"
        "{domains: [void.corp.example], servers: []}"
    )
    expected = {
        "example": 1, "a.example": 1, "acorp.example": 1, "xcorp.example": 1,
        "corp.example": 2, "a.b.corp.example": 2, "5.0.0.10.in-addr.arpa": 2,
        "public.corp.example": 0, "x.public.corp.example": 0,
        "void.corp.example": NO_SUCH_NAMES, "a.void.corp.example": NO_SUCH_NAMES,
        "other.test": None, "arpa": None, "": None,
    }  # fmt: skip
    assert {text: routed.find(text) for text in expected} == expected


@pytest.mark.parametrize("turned", [False, True])
def test_only_below(turned: bool) -> None:
    """``*.x`` is the names below x, and goes before x itself in another route."""
    given = [
        "{domains: ['*.x.example'], servers: [10.0.0.1]}",
        "{domains: [x.example], servers: [10.0.0.2]}",
        "{domains: ['*.y.example'], servers: [10.0.0.3]}",
    ]
    routed = Routed(", ".join(given[::-1] if turned else given))
    below, at, other = (3, 2, 1) if turned else (1, 2, 3)
    assert routed.find("a.x.example") == routed.find("a.b.x.example") == below
    assert routed.find("x.example") == at
    assert (routed.find("y.example"), routed.find("a.y.example")) == (None, other)


def test_letters_do_not_matter() -> None:
    """A domain may be written in any case, with or without the last dot."""
    assert Routed("{domains: [CORP.Example.], servers: [10.0.0.1]}").find("a.corp.example") == 1


def test_single_labels() -> None:
    """All types of names with one label, but those that are about the zone of a top-level domain;
    never the root.
    """
    routed = Routed("{single_label: true, servers: [10.0.0.1]}")
    for qtype in (A, AAAA, MX, TXT, Type.HTTPS, Type.SRV, Type.PTR, 65_280):
        assert routed.single("nas", qtype) == 1
    for qtype in (Type.NS, Type.SOA, Type.DS, Type.DNSKEY):
        assert routed.single("com", qtype) is None
    for text, qtype in (("", A), ("", TXT), ("nas.lan", A), ("nas.lan", TXT)):
        assert routed.single(text, qtype) is None
    assert routed.find("nas") is None
    assert Routed("{domains: [lan], servers: default}").single("nas") is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("_443._tcp.nas", 1), ("_8443._https.nas", 1), ("_dns.nas", 1), ("_nas", 1), ("_a._nas", 1),
        ("443._tcp.nas", None), ("_tcp.nas.lan", None), ("_tcp.a_nas.lan", None), ("a.nas", None),
        ("_443.tcp.nas", None),
    ],
)  # fmt: skip
def test_single_labels_behind_ports(text: str, number: int | None) -> None:
    """Labels in front that begin with an underscore do not count; browsers put the port there."""
    routed = Routed("{single_label: true, servers: [10.0.0.1]}")
    for qtype in (Type.HTTPS, Type.SRV, 52, A):
        assert routed.single(text, qtype) == number
    assert routed.single(text, Type.DS) is None


def test_the_zone_of_what_is_found() -> None:
    """It is the domain by which a name was found."""
    routed = Routed("{domains: [corp.example, '*.x.example'], servers: []}")
    for text, zone in (
        ("a.b.corp.example", "corp.example"),
        ("corp.example", "corp.example"),
        ("a.b.x.example", "x.example"),
    ):
        assert routed.routes.zone(name(text)) == len(name(zone))


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        ("{domains: [a.b], servers: default}, {domains: [x, A.b.], servers: []}",
         "routes[1].domains[1]: a.b. belongs to routes[0] already"),
        ("{domains: ['*.a'], servers: []}, {domains: ['*.a'], servers: default}",
         "routes[1].domains[0]: *.a. belongs to routes[0] already"),
        ("{single_label: true, servers: []}, {single_label: true, servers: default}",
         "routes[1].single_label: another route has it already"),
        ("{domains: [a, b, a], servers: []}", "routes[0].domains[2]: a is there already"),
        ("{domains: [a], servers: [10.0.0.1, '10.0.0.1:53']}",
         "routes[0].servers[1]: 10.0.0.1:53 is there already"),
        ("{servers: [10.0.0.1]}",
         "routes[0]: no names go there: it needs domains, domain_files or single_label"),
        ("{domains: [a]}", "routes[0].servers: this key is needed"),
        ("{domains: [a], servers: [x y]}", "routes[0].servers[0]: expected an address like"),
        ("{domains: ['a.*'], servers: []}",
         "routes[0].domains[0]: expected a domain like lan.example or *.lan.example, got 'a.*'"),
        ("{domains: ['.'], servers: []}", "routes[0].domains[0]: expected a domain like"),
        ("{domains: [" + "a" * 64 + "], servers: []}", "routes[0].domains[0]: expected a domain"),
        ("{domians: [a], servers: []}", "routes[0].domians: unknown key: did you mean domains?"),
        ("{domains: [a], servers: [], parallel: {batchsize: 1}}",
         "routes[0].parallel.batchsize: unknown key: did you mean batch_size?"),
        ("{domains: [a], servers: [], ranking: {samples: 1}}",
         "routes[0].ranking.samples: unknown key: did you mean ranking.samples?"),
        ("{domains: [a], servers: [10.0.0.1], strategy: fast}",
         "routes[0].strategy: expected parallel or racing"),
        ("{domains: [a], servers: [10.0.0.1], profile: fast}",
         "routes[0].profile: expected balanced or latency or completeness or gentle, got 'fast'"),
        ("{domains: [a], servers: [], fallback: true}",
         "routes[0].fallback: nobody is asked, so nobody can fail: leave it out"),
        ("{domains: [a], servers: default, parallel: {fallback_timeout: null}}",
         "routes[0].parallel.fallback_timeout: expected auto or a duration"),
        ("{domain_files: [''], servers: []}", "routes[0].domain_files[0]: expected a path"),
        ("{domain_files: [/no/such/file], servers: []}",
         "routes[0].domain_files[0]: /no/such/file cannot be read: No such file or directory"),
        ("{domains: [a], servers: ['tls://192.0.2.9;pin-sha256=" + "A" * 43 + "=']},"
         "{domains: [b], servers: ['tls://192.0.2.9']}",
         "routes[1].servers[0]: tls://192.0.2.9:853 is given elsewhere with other pins"),
    ],
)  # fmt: skip
def test_what_is_wrong(routes: str, said: str) -> None:
    """Each error names the place and the remedy."""
    assert error(routes).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("M\xdcnchen.example.", "write xn--mnchen-3ya.example."),
        ("*._dns.b\xfccher.example", "write *._dns.xn--bcher-kva.example"),
        ("b\xfccher..example", ""),
        ("\u2603.example", ""),
        ("a b.\xfc", ""),
        ("\xfc" * 63, ""),
        ("\xfc." * 200, ""),
    ],
)
def test_letters_of_other_scripts(text: str, said: str) -> None:
    """The error says how they are written, if there is a way."""
    said = said or "letters beyond ASCII are written as the DNS has them, in labels with xn--"
    assert error(f"{{domains: ['{text}'], servers: []}}").endswith(f", got '{text}': {said}")


def test_a_file_of_domains(tmp_path: Path) -> None:
    """One a line, with comments, blank lines and any ends of lines; it is read again when a second
    look has found it as the first one after a change did.
    """
    path = tmp_path / "corp.domains"
    path.write_bytes(
        b"\xef\xbb\xbfcorp.example # ours\r\n\n# nothing\n*.lab.example\ncorp.example.\n"
    )
    routed = Routed(f"{{domain_files: ['{path}'], domains: [a.example], servers: [10.0.0.1]}}")
    assert [routed.find(text) for text in ("a.example", "corp.example", "x.lab.example")] == [1] * 3
    assert routed.find("lab.example") is None
    path.write_bytes(b"new.example\n")
    routed.clock.advance(CHECK_EVERY)
    routed.clock.advance(CHECK_EVERY * 0.99)
    assert routed.find("new.example") is None
    routed.clock.advance(CHECK_EVERY * 0.02)
    assert (routed.find("new.example"), routed.find("corp.example")) == (1, None)
    assert routed.find("a.example") == 1


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file(tmp_path: Path, kind: str) -> None:
    """At the start it is an error; later the last good domains stay, and one warning is logged."""
    content, said = HOSTILE[kind]
    path = tmp_path / "domains"
    path.write_bytes(content)
    routes = f"{{domain_files: ['{path}'], servers: [10.0.0.1]}}"
    message = error(routes)
    assert message.startswith(f"routes[0].domain_files[0]: {path} ")
    assert said in message
    assert len(message) < 600
    path.write_bytes(b"corp.example\n")
    routed = Routed(routes)
    path.write_bytes(content)
    with capturedLogs() as events:
        for _ in range(5):
            routed.let_it_count()
            assert (routed.find("corp.example"), routed.find("good.example")) == (1, None)
    assert len(events) == 1
    assert said in str(events[0]["problem"])
    path.write_bytes(b"better.example\n")
    routed.let_it_count()
    assert (routed.find("corp.example"), routed.find("better.example")) == (None, 1)


def test_a_file_that_goes_and_comes(tmp_path: Path) -> None:
    """While it is not there the domains stay: their names must not be seen elsewhere."""
    path = tmp_path / "domains"
    path.write_text("corp.example\n")
    routed = Routed(f"{{domain_files: ['{path}'], servers: [10.0.0.1]}}")
    path.unlink()
    routed.let_it_count()
    assert routed.find("corp.example") == 1
    path.write_text("other.example\n")
    os.utime(path, (1, 1))
    routed.let_it_count()
    assert (routed.find("corp.example"), routed.find("other.example")) == (None, 1)


def test_a_file_that_claims_what_another_route_has(tmp_path: Path) -> None:
    """At the start that is an error; later the file does not count until it is good again."""
    path = tmp_path / "domains"
    path.write_text("b.example\na.example\n")
    routes = (
        f"{{domains: [a.example], servers: []}}, {{domain_files: ['{path}'], servers: default}}"
    )
    assert error(routes) == (
        f"routes[1].domain_files[0]: {path}: a.example. belongs to routes[0] already"
    )
    path.write_text("b.example\n")
    routed = Routed(routes)
    path.write_text("c.example\na.example\n")
    routed.let_it_count()
    found = [routed.find(f"{letter}.example") for letter in "abc"]
    assert found == [NO_SUCH_NAMES, 0, None]


def slow_find(routes: list[tuple[list[str], int]], text: str) -> int | None:
    """What `Routes.find` does, by comparing a name with every domain."""
    best: tuple[int, int] | None = None
    for domains, number in routes:
        for domain in domains:
            below_only = domain.startswith("*.")
            plain = domain.removeprefix("*.")
            if text.endswith(f".{plain}") or (text == plain and not below_only):
                rank = 2 * len(plain) + below_only
                if best is None or rank > best[0]:
                    best = rank, number
    return None if best is None else best[1]


def test_at_random() -> None:
    """The table finds what a slow comparison with every domain finds."""
    rng = random.Random(13)
    labels = ["a", "b", "ab", "c"]
    found = 0
    for _ in range(150):
        every = {
            "*." * (rng.random() < 0.3) + ".".join(rng.choices(labels, k=rng.randint(1, 3)))
            for _ in range(rng.randint(1, 8))
        }
        given: list[tuple[list[str], int]] = [([], number) for number in range(1, 4)]
        for domain in sorted(every):
            rng.choice(given)[0].append(domain)
        given = [(domains, number) for domains, number in given if domains]
        given = [(domains, place) for place, (domains, _) in enumerate(given, 1)]
        routed = Routed(
            ", ".join(
                f"{{domains: {[*domains]}, servers: [10.0.0.{number}]}}"
                for domains, number in given
            )
        )
        for _ in range(40):
            text = ".".join(rng.choices(labels, k=rng.randint(1, 5)))
            expected = slow_find(given, text)
            found += expected is not None
            assert routed.find(text) == expected, (given, text)
    assert found > 1_000
