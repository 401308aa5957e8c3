"""The fuzz targets: their corpus passes, they see a defect, and libFuzzer runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import fuzz
from staggerdns.control.connection import ControlConnection, ControlFactory
from staggerdns.control.peers import Peer, Perform
from staggerdns.control.protocol import Request, parse_request
from staggerdns.policy.domains import DomainFile, Steps
from staggerdns.policy.lists.lines import Rule
from staggerdns.policy.lists.table import TableWriter
from staggerdns.policy.routes import Routes
from staggerdns.server.proxies import Proxies
from staggerdns.server.proxyconnection import ProxyConnection
from staggerdns.upstream.reason import RetryReason
from staggerdns.upstream.upstream import Upstream
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer
from staggerdns.wire.judge import Judge
from staggerdns.wire.question import Question
from staggerdns.wire.reply import index_reply
from staggerdns.wire.sections import SectionsAnswer
from staggerdns.wire.verdict import Verdict
from tests.kit.compiled import PURE_ONLY
from tests.kit.effort import amount
from tests.kit.program import environment

if TYPE_CHECKING:
    from staggerdns.upstream.exchange import Exchange

ROOT = Path(fuzz.__path__[0])
CORPUS = {directory.name: sorted(directory.iterdir()) for directory in (ROOT / "corpus").iterdir()}
RUNS = {
    "queries": amount(1_000, 100_000),
    "replies": amount(150, 10_000),
    "settings": amount(150, 5_000),
    "lists": amount(500, 50_000),
    "domains": amount(40, 3_000),
    "control": amount(200, 20_000),
    "proxies": amount(500, 50_000),
}
"""Executions of the short run, a second at most each."""


class NeverContent(Upstream):
    """Has every query repeated, again and again."""

    def received(
        self,
        exchange: Exchange,
        message: bytes,
        *,
        over_stream: bool,
        repeated: bool = False,
        believed: bool = False,
    ) -> bool:
        """Repeat it."""
        self.send_again(exchange, RetryReason.CASE, over_stream=True)
        return False


class Forgetful(Upstream):
    """Drops what it should repeat."""

    def send_again(self, exchange: Exchange, reason: RetryReason, *, over_stream: bool) -> None:
        """End the exchange and tell nobody."""
        exchange.over = True


class Forgotten(TableWriter):
    """Leaves a name out."""

    def add(self, number: int, rule: Rule) -> None:
        """Add all names of a rule but the first."""
        super().add(number, rule._replace(names=rule.names[1:]))


class WithoutProblems(DomainFile):
    """Has the domains of a file that is wrong as well, and says nothing."""

    def read(self) -> Steps[list[bytes] | None]:
        """Read the file and forget what is wrong with it."""
        yield from super().read()
        self.problem = ""
        return []


class Lost(Routes):
    """Finds the names below a domain alone."""

    def find(self, name: bytes) -> int | None:
        """Find the name by what is below its first label."""
        return super().find(name[1 + name[0] :]) if name[0] else None


class Forgiving(ControlFactory):
    """Has whatever a reader asks for done."""

    def admit(self, connection: ControlConnection) -> bool:
        """Believe everybody to be root."""
        connection.peer = connection.peer._replace(may_change=True)
        return super().admit(connection)

    def __init__(self, perform: Perform, *more: Any) -> None:
        super().__init__(lambda request, peer: perform(request, Peer(1, 1_000, False)), *more)


class Trusting(Proxies):
    """Believes everybody to be a proxy."""

    def includes(self, host: str) -> bool:
        """Return that it is one."""
        return True


class Swallowing(ProxyConnection):
    """Loses what comes in one piece with the end of a header."""

    def dataReceived(self, data: bytes) -> None:
        """Hand the beginning on alone."""
        super().dataReceived(data[:28])


def unlimited(octets: bytes) -> Request:
    """Read a request as the one in front of it, whatever its ID."""
    return msgspec.structs.replace(parse_request(octets), id="mine")


def with_our_letters(message: bytes, asked: Question) -> tuple[Verdict, Answer | None]:
    """Judge a reply without a look at the letters of its question."""
    message = message[:12] + asked.section + message[12 + len(asked.section) :]
    return Judge(asked).verdict(message)


def one_too_many(pool: AddressPool, limit: int) -> AddressPool:
    """Leave one address more in a pool than there may be."""
    width = len(pool.addresses[0])
    addresses = tuple(bytes([7] * (width - 1) + [host]) for host in range(limit + 1))
    return AddressPool((), addresses, pool.ttl, ad=True)


def unscrubbed(message: bytes, asked: Question) -> tuple[Verdict, Answer | None]:
    """Return all that stands in a reply as its answer."""
    return Verdict.POSITIVE, SectionsAnswer.of(
        index_reply(message, asked), asked, 1, negative=False
    )


@pytest.mark.parametrize("name", RUNS)
def test_the_corpus_passes(name: str) -> None:
    """Every input of the corpus holds what the target promises."""
    target = import_module(f"fuzz.{name}")
    for path in CORPUS[name]:
        target.check(path.read_bytes())


def test_the_corpus_is_small() -> None:
    """Each target has a corpus, and it is no burden to the tree."""
    assert CORPUS.keys() == RUNS.keys()
    for paths in CORPUS.values():
        assert 10 <= len(paths) <= 200
        assert sum(path.stat().st_size for path in paths) < 50_000


@PURE_ONLY
@pytest.mark.parametrize(
    ("name", "part", "defect"),
    [
        ("queries", "render", lambda query, *rest: query.message[:2] + b"\x81\x80" + bytes(8)),
        ("queries", "render_error", lambda query, *rest: query.message),
        ("queries", "parse_query", lambda message: 1 / 0),
        ("replies", "cap", one_too_many),
        ("replies", "judge", lambda message, asked: Judge(asked).verdict(message[:-1] + b"\0")),
        ("replies", "judge", with_our_letters),
        ("replies", "judge", unscrubbed),
        ("replies", "render", lambda query, *rest: query.message),
        ("replies", "without_private", lambda answer: answer),
        ("replies", "Upstream", NeverContent),
        ("replies", "Upstream", Forgetful),
        ("settings", "parse_config", lambda text: 1 / 0),
        ("settings", "parse_upstream", lambda text: None),
        ("lists", "read_source", lambda path, add: 1 / 0),
        ("lists", "TableWriter", Forgotten),
        ("lists", "ListSet", lambda octets, number: 1 / 0),
        ("domains", "finish", lambda steps: 1 / 0),
        ("domains", "DomainFile", WithoutProblems),
        ("domains", "Routes", Lost),
        ("control", "ControlFactory", Forgiving),
        ("control", "parse_name", lambda text: text.encode() + b"\0"),
        ("control", "parse_request", unlimited),
        ("proxies", "read_proxy_header", lambda octets: ("", 16)),
        ("proxies", "Proxies", Trusting),
        ("proxies", "ProxyConnection", Swallowing),
    ],
)
def test_a_defect_is_seen(
    name: str, part: str, defect: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one part of the program broken some input of the corpus fails."""
    target = import_module(f"fuzz.{name}")
    monkeypatch.setattr(target, part, defect)
    failures = 0
    for path in CORPUS[name]:
        try:
            target.check(path.read_bytes())
        except Exception:  # noqa: BLE001 - whatever it is, libFuzzer would report it
            failures += 1
    assert failures


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("atheris") is None and "CI" not in os.environ, reason="atheris is not installed"
)
@pytest.mark.parametrize("name", RUNS)
def test_a_short_run(name: str, tmp_path: Path) -> None:
    """So many executions from the corpus on find nothing; always the same ones."""
    done = subprocess.run(
        # -P: the checkout must not come before the program that is tested.
        [sys.executable, "-P", "-m", "fuzz", name, str(tmp_path), f"-runs={RUNS[name]}", "-seed=1"],
        cwd=ROOT.parent,
        env=environment() | {"PYTHONPATH": f"{environment()['PYTHONPATH']}:{ROOT.parent}"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert f"Done {RUNS[name]} runs" in done.stderr
