"""What the guides show is what the program takes: configurations, routes, records."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import click
import pytest
import yaml

from staggerdns.command.cli import main
from staggerdns.config import parse_config
from staggerdns.settings.sections import Config
from tests.kit.certificates import CertificateAuthority
from tests.kit.checkout import ROOT
from tests.kit.daemons import find_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.rst")}
FILES = "/etc/staggerdns/"
"""Where guides have the files that configurations name."""
SECTIONS = Config.__struct_fields__
_BLOCK = re.compile(r"\.\. code-block:: yaml\n\n((?:    .*\n|\n)+)")
_TABLE = re.compile(r"\.\. list-table:: ?(.*)\n(?:   :.*\n)+\n((?:   .*\n)+)")
_LITERAL = re.compile("``(.+?)``", re.DOTALL)
_COMMAND = re.compile(r"(?:/opt/\S+/bin/)?staggerdns ([-\w\[][^`#]*)")
MINIMAL = {"servers": ["192.0.2.1"]}


def parse(plain: dict[str, Any], directory: Path) -> Config:
    """Read a configuration, with upstreams if it has none, and with files that are there."""
    text = yaml.safe_dump({"upstream": MINIMAL} | plain)
    for name in re.findall(rf"{FILES}([\w.]+)", text):
        (directory / name).write_text("more.example\n")
    return parse_config(text.replace(FILES, f"{directory}/"))


def rows(page: str) -> Iterator[tuple[str, str, str]]:
    """Yield the title of the table and the two cells of each row of each table of a page."""
    for title, body in _TABLE.findall(PAGES[page]):
        for row in re.split(r"^   \* - ", body, flags=re.MULTILINE)[2:]:
            left, _, right = row.partition("\n     - ")
            yield title, " ".join(left.split()), " ".join(right.split())


def translations() -> list[tuple[str, str, str]]:
    """Return what stands for what: the table, its left side, each piece of its right side."""
    return [
        (title, left, literal)
        for title, left, right in rows("migrating")
        for literal in _LITERAL.findall(right)
        if ": " in literal
    ]


def configuration(literal: str) -> dict[str, Any]:
    """Return the configuration that a piece belongs to: a section, a route or a record."""
    plain = yaml.safe_load(literal)
    assert isinstance(plain, dict)
    if "servers" in plain:
        return {"routes": [plain]}
    if plain.keys() <= {"strategy", "fallback"}:
        return {"routes": [{"domains": ["corp.example"], "servers": ["10.0.0.53"], **plain}]}
    return plain if plain.keys() <= set(SECTIONS) else {"local": {"records": plain}}


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_a_configuration(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is one as it stands, but for upstreams, which not every block has."""
    files = CertificateAuthority(tmp_path).issue("dns.example")
    for credential, path in (("certificate", files.chain), ("key", files.key)):
        (tmp_path / f"tls-{credential}").write_bytes(path.read_bytes())
    (tmp_path / "store").write_text("a password", encoding="ascii")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for block in _BLOCK.findall(PAGES[page]):
        plain = yaml.safe_load(block)
        config = parse(plain, tmp_path)
        assert len(config.routes) == len(plain.get("routes", ()))


def test_the_guide_to_own_names_has_configurations() -> None:
    """At least one for each of its cases."""
    assert len(_BLOCK.findall(PAGES["ownnames"])) >= 8


@pytest.mark.parametrize(("title", "left", "literal"), translations())
def test_translations_are_taken(title: str, left: str, literal: str, tmp_path: Path) -> None:
    """Each right side is a route, a record or a section."""
    parse(configuration(literal), tmp_path)


def test_every_server_has_its_table() -> None:
    """They have routes in them, and so does a rule of each kind."""
    routes = {title: set[str]() for title, _, _ in translations()}
    for title, left, literal in translations():
        if "servers:" in literal:
            routes[title].add(left)
    for name in ("dnsmasq", "unbound", "AdGuard Home", "smartdns", "systemd-resolved"):
        assert any(title.startswith(name) and len(routes[title]) >= 2 for title in routes), name
    every = " ".join(left for lefts in routes.values() for left in lefts)
    for rule in (
        *("server=/", "/#", "local=/", "rev-server=", "domain-needed", "forward-zone", "stub-zone"),
        *("local-zone", "[/corp.example/]", "[//]", "nameserver /", "Domains=~"),
    ):
        assert rule in every, rule


def commands() -> list[tuple[str, str]]:
    """Return every command line of ours that a page shows, with the name of the page."""
    found = []
    for page, text in PAGES.items():
        literals = [" ".join(one.split()) for one in _LITERAL.findall(text)]
        blocks = [line.strip().removeprefix("$ ") for line in text.splitlines()]
        matches = map(_COMMAND.match, dict.fromkeys([*literals, *blocks]))
        found += [(page, match[1].strip()) for match in matches if match]
    return found


@pytest.mark.parametrize(("page", "shown"), commands())
def test_commands_are_there(page: str, shown: str) -> None:
    """Each has a command, or options before it, that there are."""
    words = re.sub(r"\[OPTIONS\]|\bCOMMAND\b|[][]|\.\.\.", " ", shown).split()
    command: click.Command = main
    while True:
        options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        while words and words[0].startswith("-"):
            assert words.pop(0) in options
            if words and isinstance(command, click.Group) and not words[0].startswith("-"):
                words.pop(0)
        if not words or not isinstance(command, click.Group):
            break
        command = command.commands[words.pop(0)]
    assert {word for word in words if word.startswith("-")} <= options


def test_commands_are_found() -> None:
    """Those that an operator needs are on some page."""
    assert {"check", "run"} <= {shown.split()[0] for _, shown in commands()}


@pytest.mark.live
def test_dnsmasq_knows_what_is_translated(tmp_path: Path) -> None:
    """It takes every option on the left side of its tables."""
    options = [
        literal.removesuffix("@tun0")
        for title, left, _ in rows("migrating")
        if title == "dnsmasq"
        for literal in _LITERAL.findall(left)
        if not literal.startswith("servers-file")
    ]
    assert len(options) > 20
    path = tmp_path / "dnsmasq.conf"
    path.write_text("\n".join(options) + "\n")
    command = [find_program("dnsmasq"), "--test", f"--conf-file={path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.live
def test_unbound_knows_what_is_translated(tmp_path: Path) -> None:
    """It takes every line on the left side of its tables, each in its clause."""
    checked = 0
    for title, left, _ in rows("migrating"):
        lines = [one for one in _LITERAL.findall(left) if re.match(r"[a-z-]+: ", one)]
        if title != "unbound" or not lines:
            continue
        clauses = {"server": ["server:"], "forward": [], "stub": []}
        for line in lines:
            kind = line.partition("-")[0]
            clauses[kind if kind in clauses else "server"].append(line)
        names = [one for one in clauses["server"] if one.startswith("name:")]
        text = [one for one in clauses["server"] if one not in names]
        for kind in ("forward", "stub"):
            if clauses[kind]:
                text += [f"{kind}-zone:", *(names or ['name: "corp.example."']), *clauses[kind]]
        path = tmp_path / "unbound.conf"
        path.write_text("\n".join(text) + "\n")
        command = [find_program("unbound-checkconf"), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, (text, done.stderr)
        checked += 1
    assert checked >= 10
