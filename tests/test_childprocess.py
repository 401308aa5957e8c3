"""Work in a process of its own, and the configuration that is read there."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.process import ProcessReader

from staggerdns import childprocess
from staggerdns.childprocess import ChildProblem, run_child
from staggerdns.config import load_config
from staggerdns.configreader import read_config
from staggerdns.settings.document import ConfigError
from tests.kit.loopback import reactor, until

if TYPE_CHECKING:
    from pathlib import Path

PRINTING = "this"
"""A module that prints some text."""
TEXT = subprocess.run(
    [sys.executable, "-m", PRINTING], capture_output=True, check=True, timeout=60
).stdout
TIMEOUT = 60.0
pytestmark = pytest.mark.live


def run(module: str, timeout: float = TIMEOUT) -> Deferred[bytes]:
    """Run a module with nothing to do."""
    return run_child(module, b"", timeout, reactor, reactor)


@pytest_twisted.ensureDeferred
async def test_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes whole, up to the limit; a child that writes more is killed."""
    monkeypatch.setattr(childprocess, "MAX_REPORT", len(TEXT))
    assert await run(PRINTING) == TEXT
    monkeypatch.setattr(childprocess, "MAX_REPORT", len(TEXT) - 1)
    with pytest.raises(ChildProblem, match=f"^reports more than {len(TEXT) - 1} octets$"):
        await run(PRINTING)


@pytest_twisted.ensureDeferred
async def test_a_child_that_fails() -> None:
    """The last line of what it says tells why."""
    with pytest.raises(ChildProblem, match=r"No module named tests\.nothing$"):
        await run("tests.nothing")


@pytest_twisted.ensureDeferred
async def test_a_child_that_takes_too_long() -> None:
    """It is killed, as it is when nobody waits for it any more."""
    with pytest.raises(ChildProblem, match=r"takes longer than 0\.001 s"):
        await run(PRINTING, timeout=0.001)
    running = run(PRINTING)
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    await until(lambda: not any(isinstance(one, ProcessReader) for one in reactor.getReaders()))


@pytest_twisted.ensureDeferred
async def test_a_configuration(tmp_path: Path) -> None:
    """It is the same as if it were read here, and so is what is wrong with it."""
    path = tmp_path / "staggerdns.yaml"
    path.write_text(
        "upstream: {servers: [192.0.2.1, 'tls://192.0.2.2#dns.example']}\n"
        "server: {cookies: {secret: 000102030405060708090a0b0c0d0e0f}}\n"
        "routes: [{domains: ['*.corp.example'], servers: [10.0.0.1], profile: latency}]\n"
        "local: {records: {nas.example: 10.0.0.2}}\ngroups: {kids: {clients: [10.9.0.0/16]}}\n"
    )
    assert await read_config(str(path), reactor, reactor) == load_config(str(path))
    path.write_text("upstream: {servers: [nowhere.example]}\ncache: {max_tll: 1, min_ttl: -1}\n")
    with pytest.raises(ConfigError) as here:
        load_config(str(path))
    with pytest.raises(ConfigError) as there:
        await read_config(str(path), reactor, reactor)
    assert there.value.problems == here.value.problems
    assert len(here.value.problems) > 2
