"""What README and the documentation say is so: references, tables, links, names of files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from docs._ext import manpages
from docs._ext.declared import Key, families, labels, profiles, read_sections
from staggerdns.config import CASE, parse_config
from staggerdns.journal import LEVELS
from staggerdns.logformat import FORMATS
from staggerdns.ranking.rtt import MAX_ADDRESSES
from staggerdns.resolver.forwarder import MAX_COLLECTIONS, MAX_FOLLOWERS, MAX_QUEUED
from staggerdns.settings.upstreams import ASK, PROFILES
from staggerdns.strategy.adaptive import ENOUGH_SAMPLES, SAMPLES
from staggerdns.strategy.strategies import NAMES
from tests.kit.checkout import ROOT

DOCS = ROOT / "docs"
SOURCES = ("staggerdns", "tests", "bench", "fuzz", "docs", "etc", "twisted")
CHOICES = {
    "upstream.strategy": NAMES,
    "upstream.profile": tuple(PROFILES),
    "upstream.case_randomization": CASE,
    "upstream.parallel.ask": ASK,
    "log.level": LEVELS,
    "log.format": tuple(FORMATS),
}
_PATH = re.compile(r"``((?:staggerdns|tests|bench|fuzz|docs|etc|twisted)/[\w./-]*)``")


def pages() -> list[Path]:
    """Return every page of the documentation, and those that stand at the top."""
    return [*sorted(DOCS.glob("*.rst")), *sorted(ROOT.glob("*.rst"))]


def keys() -> dict[str, Key]:
    """Return every key of the configuration as the reference describes it."""
    return {key.path: key for section in read_sections() for key in section.keys}


def headings(path: Path) -> list[str]:
    """Return the headings of a page."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        text
        for text, line in pairwise(lines)
        if text and line and line == line[0] * len(text) and line[0] in "=-~"
    ]


def metric_directives() -> dict[str, str]:
    """Return what the page on metrics says beside what the program declares."""
    blocks = (DOCS / "metrics.rst").read_text(encoding="utf-8").split("\n.. metric:: ")[1:]
    return {name: text.strip() for name, _, text in (block.partition("\n") for block in blocks)}


def test_every_key_has_words() -> None:
    """Each has a sentence of its own; those that are one of several words name them all."""
    found = keys()
    for key in found.values():
        assert key.text.endswith("."), key.path
    for path, choices in CHOICES.items():
        assert {word for word in choices if f"``{word}``" not in found[path].text} == set()


@pytest.mark.parametrize(
    ("path", "kind", "default"),
    [
        ("server.client.ipv6_prefix", "whole number, from 16 to 128", "``56``"),
        ("server.listen", "list of: listener address", "``127.0.0.1:5300``, ``[::1]:5300``"),
        ("server.cookies.secret", "secret, or ``null``", "``null``"),
        ("upstream.servers", "list of: upstream address", "(required)"),
        ("upstream.parallel.fallback_timeout", "duration, or ``auto``", "``auto``"),
        ("upstream.parallel.total_collect_timeout", "duration", "``3s``"),
        ("upstream.health.max_open_for", "duration", "``10m``"),
        ("upstream.adaptive.ewma_alpha", "number, above 0 to 1", "``0.2``"),
        ("rebinding.allow_domains", "list of: domain", "(none)"),
        ("cache.max_size", "size", "``128MiB``"),
        ("ranking.enabled", "``true`` or ``false``", "``true``"),
        ("metrics.listen", "address and port, or ``null``", "``127.0.0.1:9153``"),
    ],
)
def test_kinds_and_defaults(path: str, kind: str, default: str) -> None:
    """They are shown as they would be written in the file."""
    key = keys()[path]
    assert (key.kind, key.default) == (kind, default)


def test_the_profiles() -> None:
    """The table has the numbers that each profile sets."""
    for name, shown in profiles().items():
        written = ", ".join(f"{key}: {value}" for key, value in shown.items())
        servers = "servers: [192.0.2.1]"
        assert (
            parse_config(f"upstream: {{{servers}, parallel: {{{written}}}}}").upstream.parallel
            == parse_config(f"upstream: {{{servers}, profile: {name}}}").upstream.parallel
        )


def test_every_metric_is_documented() -> None:
    """Each has its place on the page, and nothing else has."""
    assert metric_directives().keys() == families().keys()


def test_the_labels_of_metrics_are_explained() -> None:
    """No text names a label that its metric does not have."""
    every = {label for family in families().values() for label in labels(family)}
    for name, text in metric_directives().items():
        named = {word for word in re.findall(r"``(\w+)`` is ", text) if word in every}
        assert named <= set(labels(families()[name])), name


def test_names_of_metrics_are_right() -> None:
    """Every name that a page gives is a metric's."""
    suffix = re.compile("_(total|bucket|count)$")
    there = {suffix.sub("", name) for name in families()}
    for page in pages():
        named = re.findall(r"\bstaggerdns_(?!plugin)[a-z_]+", page.read_text(encoding="utf-8"))
        assert {suffix.sub("", name) for name in named} <= there, page.name


def test_named_files_are_there() -> None:
    """Every path of a file that a page names is in the checkout."""
    for page in pages():
        named = _PATH.findall(page.read_text(encoding="utf-8"))
        assert [name for name in named if not (ROOT / name).exists()] == [], page.name


def test_named_classes_and_functions_are_there() -> None:
    """What the pages for those who carry on call by its name in the code has that name there."""
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "staggerdns").rglob("*.py"))
    words = set(re.findall(r"\w+", code))
    for name in ("docs/architecture.rst", "docs/glossary.rst", "CONTRIBUTING.rst"):
        text = (ROOT / name).read_text(encoding="utf-8")
        named = re.findall(r"``([A-Z]\w*[a-z]\w*|[a-z]+_[a-z_]+)``", text)
        for dotted in re.findall(r"``((?:\w+\.)+\w+)(?:\(\))?``", text):
            if not (ROOT / dotted).exists():  # a file of the checkout is none
                named += dotted.split(".")
        assert set(named) <= words, name


def test_the_links_of_the_readme_lead_somewhere() -> None:
    """README and its neighbours link to files of the checkout alone."""
    for name in ("README.rst", "CONTRIBUTING.rst", "SECURITY.rst"):
        text = (ROOT / name).read_text(encoding="utf-8")
        targets = re.findall(r"<([^>`]+)>`_", text) + re.findall(r"image:: (\S+)", text)
        assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_configuration_of_the_readme_is_one() -> None:
    """The program takes it as it is printed; so it takes those of the pages."""
    found = 0
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"\.\. code-block:: yaml\n\n((?:    .*\n|\n)+)", text):
            if "upstream:" in block:
                parse_config(block)
                found += 1
    assert found >= 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("specification.rst", f"{MAX_COLLECTIONS:,} collections"),
        ("specification.rst", f"{MAX_QUEUED:,} that wait for their turn"),
        ("specification.rst", f"{MAX_FOLLOWERS:,} followers"),
        ("specification.rst", f"at most {MAX_ADDRESSES:,}"),
        ("specification.rst", f"last {SAMPLES} first answers"),
        ("specification.rst", f"until there are {ENOUGH_SAMPLES}"),
        ("operating.rst", f"{MAX_QUEUED:,} for their turn, {MAX_COLLECTIONS:,}"),
        ("operating.rst", f"{MAX_FOLLOWERS:,} for one name"),
    ],
)
def test_constants(name: str, words: str) -> None:
    """What the pages say of limits that are no settings is what the code has."""
    assert words in " ".join((DOCS / name).read_text(encoding="utf-8").split())


def test_the_numbers_of_the_specification() -> None:
    """Each number that stands behind a key, as in ``batch_size`` (2), is its default."""
    defaults: dict[str, set[str]] = {}
    for key in keys().values():
        shown = key.default.strip("`")
        if seconds := re.fullmatch("([0-9]+)m", shown):
            shown = f"{int(seconds[1]) * 60}s"
        defaults.setdefault(key.path.rpartition(".")[2], set()).add(shown.removesuffix("s"))
    text = " ".join((DOCS / "specification.rst").read_text(encoding="utf-8").split())
    numbers = re.findall(r"``([a-z_.]+)`` \(([0-9][0-9.]* ?m?s?)\)", text)
    assert len(numbers) > 25
    for name, number in numbers:
        plain = number.replace(" ", "").removesuffix("s")
        assert plain in defaults[name.rpartition(".")[2]], (name, number)


def sources() -> Iterator[tuple[str, str]]:
    """Yield name and text of every file that may refer to a page."""
    for top in SOURCES:
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in (".py", ".yaml", ".conf", ".service") and path != Path(__file__):
                yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def test_references_resolve() -> None:
    """Each reference names a page that is there, and where a heading follows, one of the page's."""
    found = 0
    for path, text in sources():
        for match in re.finditer(r"docs/(\w+\.rst)(, )?", " ".join(text.replace("# ", "").split())):
            page = DOCS / match[1]
            assert page.exists(), (path, match[1])
            if match[2]:
                after = match.string[match.end() :]
                assert any(map(after.startswith, headings(page))), (path, match[1], after[:40])
                found += 1
    assert found > 30


def test_nothing_else_is_referred_to() -> None:
    """What the program promises is on these pages."""
    assert [path for path, text in sources() if re.search(r"\bSPEC\b", text)] == []


BUILD = """
import json, sys
from sphinx.cmd.build import main
print(json.dumps([main(["-q", *arguments]) for arguments in json.load(sys.stdin)]))
"""


def build(*arguments: Sequence[str]) -> tuple[list[int], str]:
    """Run Sphinx as often as there are arguments for it, and import it once: the exit statuses, and
    what it complains of.
    """
    done = subprocess.run(
        [sys.executable, "-c", BUILD],
        input=json.dumps(arguments),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=True,
    )
    return json.loads(done.stdout), done.stderr


@pytest.mark.live
@pytest.mark.slow
def test_the_site_and_the_man_pages(tmp_path: Path) -> None:
    """All is built without a warning; pages of the site lead to each other, and the man pages that
    wheels carry say what the sources say. A metric without a description ends the build.
    """
    incomplete = tmp_path / "incomplete"
    incomplete.mkdir()
    (incomplete / "conf.py").write_text('extensions = ["docs._ext.reference"]\n')
    described = [name for name in families() if name != "staggerdns_probes_total"]
    text = "".join(f".. metric:: {name}\n\n" for name in described)
    (incomplete / "index.rst").write_text(f"Metrics\n=======\n\n{text}")
    strict = ["-W", "-n", "-d", str(tmp_path / "doctrees"), str(DOCS)]
    pages, manual = tmp_path / "site", tmp_path / "man"
    # This order: quotes become others when a page is read for the site.
    (*statuses, failed), said = build(
        ["-b", "man", *strict, str(manual)],
        [*strict, str(pages)],
        ["-b", "dummy", str(incomplete), str(tmp_path / "nothing")],
    )
    assert statuses == [0, 0], said
    assert failed
    assert "no page describes these metrics: staggerdns_probes_total\n" in said
    for page in pages.glob("*.html"):
        targets = re.findall(r'href="([\w./-]+)(?:#[^"]*)?"', page.read_text("utf-8"))
        missing = {one for one in targets if not (page.parent / one).exists()}
        assert missing == set(), page.name
    names = {"staggerdns.1", "staggerdns.yaml.5"}
    assert {path.name for path in manpages.KEPT.iterdir()} == names
    assert [*manpages.changed(manual, manpages.KEPT)] == [], "run make man"
    assert manpages.changed(manual, tmp_path).keys() == names


@pytest.mark.live
@pytest.mark.parametrize("name", ["staggerdns.1", "staggerdns.yaml.5"])
@pytest.mark.parametrize(
    "check",
    [("groff", "-man", "-ww", "-z", "-Kutf8"), ("mandoc", "-T", "lint", "-W", "warning")],
    ids=lambda check: check[0],
)
def test_the_man_pages_are_well_made(name: str, check: Sequence[str]) -> None:
    """What shows manual pages has nothing to complain of."""
    if shutil.which(check[0]) is None:
        pytest.skip(f"{check[0]} is not installed")
    done = subprocess.run([*check, manpages.KEPT / name], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_what_man_pages_say() -> None:
    """Neither the date nor how the writer writes something is part of it; a word is."""
    page = '.\\" by 1\n.\n.TH "X" "1" "Nov 30, 2026" "0.1.0"\n.SH NAME\nx \\- \\fBy\\fP \\%z\\&.\n'
    again = '.\\" by 2\n.\n.TH "X" "1" "Dec 01, 2026" "0.1.0"\n.SH "NAME"\n\\&x - y\n.B z.\n'
    assert (
        manpages.words(page)
        == manpages.words(again)
        == [
            *("X", "1", "0.1.0", "NAME", "x", "-", "y", "z."),
        ]
    )
    assert manpages.words(page.replace("0.1.0", "0.2.0")) != manpages.words(page)
    assert manpages.tidy(".SH NAME\n.sp\ntext\n.sp\n") == ".SH NAME\ntext\n.sp\n"
