"""``staggerdns check``: all that is wrong with a file, with its line."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from staggerdns import __version__
from staggerdns.command.check import Findings, Remark, check_file
from staggerdns.command.cli import main
from tests.kit.certificates import CertificateAuthority
from tests.kit.checkout import ROOT

if TYPE_CHECKING:
    from pathlib import Path

WRONG = """\
server:
  listen: ['127.0.0.1:5300', '127.0.0.1:5x3']
  max_udp_sise: 1232
upstream:
  servers: [192.0.2.1, 300.0.2.1]
  strategy: parallell
  parallel:
    stagger_delay: 300
    batch_size: {}
cache: {max_ttl: 5, min_ttl: 6}
lists:
  ads: {answer: nothing, urls: 3}
groups:
  kids:
    block: [ads, games]
routes:
  - {domains: [a.example], servers: default, strategy: fast}
  - servers: [10.0.0.1]
  - domains: [b.example]
nothing: 1
"""
PLACES = [
    (2, "server.listen[1]"),
    (3, "server.max_udp_sise"),
    (5, "upstream.servers[1]"),
    (6, "upstream.strategy"),
    (9, "upstream.parallel.batch_size"),
    (10, "cache.min_ttl"),
    (12, "lists.ads.answer"),
    (12, "lists.ads.urls"),
    (14, "groups.kids"),
    (15, "groups.kids.block[1]"),
    (17, "routes[0].strategy"),
    (18, "routes[1]"),
    (19, "routes[2].servers"),
    (20, "nothing"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return where the file is to stand."""
    return tmp_path / "file.yaml"


def check(file: Path, text: str) -> Findings:
    """Return what there is to say about a file with this text."""
    file.write_text(text)
    return check_file(str(file))


def test_all_errors(file: Path) -> None:
    """Every value is looked at, whatever is wrong with others; each is complained of once."""
    found = check(file, WRONG)
    assert [(line, path) for line, path, _ in found.errors] == PLACES
    said = {path: what for _, path, what in found.errors}
    assert said["server.max_udp_sise"] == "unknown key: did you mean max_udp_size?"
    assert said["lists.ads.urls"] == "expected a list, got a whole number"
    assert said["upstream.parallel.batch_size"].startswith("expected a whole number, got a map")
    assert said["routes[2].servers"] == "this key is needed"
    assert said["groups.kids.block[1]"] == "there is no list games: expected ads"
    assert found.warnings == []


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("upstream: {servers: [", Remark(1, "", "not YAML: expected the node content, but found")),
        ("a: 1\na: 1\n", Remark(2, "a", "this key is there twice")),
        ("x", Remark(None, "", "expected keys and values, at least upstream.servers")),
        ("", Remark(None, "", "expected keys and values, at least upstream.servers")),
        ("upstream: 1", Remark(1, "upstream", "expected a map of keys and values, got a whole")),
        ("cache: {}", Remark(None, "upstream.servers", "this key is needed")),
        ("upstream:\n  {}", Remark(1, "upstream.servers", "this key is needed")),
        ("upstream:\n - 1: 1", Remark(2, "upstream[0]", "expected text as a key")),
    ],
)
def test_broken_files(file: Path, text: str, remark: Remark) -> None:
    """What cannot be read at all has one error, with the line if there is one."""
    (found,) = check(file, text).errors
    assert (found.line_number, found.path) == (remark.line_number, remark.path)
    assert found.what.startswith(remark.what)


def test_a_file_that_grows(file: Path) -> None:
    """Aliases of aliases, or of what they are in, keep nobody busy."""
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [{f'*a{n - 1},' * 9}]" for n in range(1, 12))]
    (found,) = check(file, "\n".join(lines)).errors
    assert found.what.startswith("more than ")
    (found,) = check(file, "a: &a [*a]").errors
    assert found.what == "nested too deeply, or within itself"


def test_values_that_yaml_bends(file: Path) -> None:
    """All of them are named, and nothing else before they are mended."""
    found = check(file, "upstream: {servers: 1:30}\ncache:\n  max_ttl: 010\n  max_ttl: 1\nx: 1\n")
    assert [(line, path) for line, path, _ in found.errors] == [
        (1, "upstream.servers"),
        (4, "cache.max_ttl"),
        (4, "cache.max_ttl"),
    ]


def test_what_is_left_out_for_its_errors(file: Path) -> None:
    """It is no reason to complain of what refers to it."""
    found = check(
        file,
        "upstream: {servers: [192.0.2.1]}\n"
        "server: {tls_certificate: 1, tls_key: /nowhere}\n"
        "lists: {ads: 1}\n"
        "groups: {default: {block: [ads]}}\n",
    )
    assert [path for _, path, _ in found.errors] == ["server.tls_certificate", "lists.ads"]


def test_a_file_that_cannot_be_read(file: Path) -> None:
    """That is the one error."""
    assert check_file(str(file)).errors == [
        Remark(None, "", "cannot be read: No such file or directory")
    ]
    file.write_bytes(b"\xff")
    assert check_file(str(file)).errors == [Remark(None, "", "expected UTF-8 text")]


def test_warnings(file: Path, tmp_path: Path) -> None:
    """What is allowed and surely not meant, in the order of the file."""
    issued = CertificateAuthority(tmp_path).issue("dns.example", lifetime=dt.timedelta(days=-1))
    found = check(
        file,
        f"server: {{listen: ['127.0.0.1:5300', 'tls://127.0.0.1:8853'], "
        f"tls_certificate: {issued.chain}, tls_key: {issued.key}}}\n"
        "upstream:\n"
        "  servers: ['127.0.0.1:5300', 192.0.2.1, 192.0.2.2]\n"
        "  parallel:\n"
        "    active_tier_size: 3\n"
        "    total_collect_timeout: 100ms\n"
        "    fallback_timeout: 100ms\n"
        "lists: {ads: {domains: [a.example]}}\n",
    )
    assert found.errors == []
    assert [(line, path) for line, path, _ in found.warnings] == [
        (1, "server.tls_certificate"),
        (3, "upstream.servers[0]"),
        (5, "upstream.parallel.active_tier_size"),
        (8, "lists.ads"),
    ]
    assert "has expired on" in found.warnings[0].what
    assert "queries would go round in circles" in found.warnings[1].what


@pytest.mark.parametrize(
    ("servers", "size", "warned"), [(2, 2, 0), (3, 3, 1), (3, 2, 0), (1, 5, 1)]
)
def test_an_active_tier_of_all(file: Path, servers: int, size: int, warned: int) -> None:
    """It is warned of, unless it is the default."""
    hosts = ", ".join(f"192.0.2.{number + 1}" for number in range(servers))
    text = f"upstream: {{servers: [{hosts}], parallel: {{active_tier_size: {size}}}}}\n"
    assert len(check(file, text).warnings) == warned


def run(*arguments: str) -> tuple[int, str]:
    """Run the command; return its exit status and what it prints."""
    result = CliRunner().invoke(main, arguments)
    return result.exit_code, result.output


def test_what_is_printed(file: Path) -> None:
    """A line for each error and warning, and whether the file can be used."""
    file.write_text("upstream: {servers: []}\nx: 1\n")
    assert run("check", str(file)) == (
        1,
        f"{file}:1: upstream.servers: expected at least one item\n{file}:2: x: unknown key\n",
    )
    file.write_text("upstream: {servers: [192.0.2.1]}\nlists: {ads: {}}\n")
    status, printed = run("--config", str(file), "check")
    assert status == 0
    first, last = printed.splitlines()
    assert first.startswith(f"{file}:2: warning: lists.ads: no group has it")
    assert last == f"{file}: this can be used"
    file.write_text("x")
    assert run("check", str(file))[1].startswith(f"{file}: expected keys and values")


def test_what_programs_read(file: Path) -> None:
    """One JSON object."""
    file.write_text("upstream: {servers: [192.0.2.1]}\nlists: {ads: {}}\nx: 1\n")
    status, printed = run("check", "--json", str(file))
    assert (status, json.loads(printed)) == (
        1,
        {
            "file": str(file),
            "errors": [{"line": 3, "path": "x", "what": "unknown key"}],
            "warnings": [],
        },
    )
    assert run("version") == (0, f"staggerdns {__version__}\n")
    assert json.loads(run("version", "--json")[1]) == {"version": __version__}


def test_the_file_that_comes_with_it() -> None:
    """It is good as it is."""
    assert check_file(str(ROOT / "etc/staggerdns.yaml")) == Findings([], [])
