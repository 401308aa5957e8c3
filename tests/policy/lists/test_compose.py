"""Lists as a program has them: who fetches and who compiles for them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.policy.lists.compose import make_lists
from staggerdns.policy.lists.mapped import Choice, Hit, ListSet
from staggerdns.settings.policy import ListSettings
from staggerdns.settings.sections import StateSettings
from staggerdns.wire.names import from_text
from tests.kit.loopback import DEADLINE, reactor

if TYPE_CHECKING:
    from pathlib import Path

LOADED = """
import sys
from twisted.internet import reactor
from staggerdns.config import parse_config
from staggerdns.service import StaggerService
config = parse_config("upstream: {servers: [192.0.2.1]}\\nlists: {ads: " + sys.argv[1] + "}")
StaggerService(config, reactor, bytes)
print("treq" in sys.modules)
"""


def test_no_lists() -> None:
    """Nothing is made where there are none."""
    made = make_lists(
        {},
        StateSettings(),
        lambda _: succeed([]),
        reactor=reactor,
        clock=reactor,
        metrics=Metrics(),
        journal=Journal(),
    )
    assert made is None


@pytest.mark.live
@pytest.mark.parametrize(
    ("settings", "loaded"),
    [("{files: [/nowhere]}", "False"), ("{urls: ['https://lists.example/']}", "True")],
)
def test_only_lists_of_servers_load_what_fetches(settings: str, loaded: str) -> None:
    """It takes memory that most programs can do without."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, settings],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.strip() == loaded


@pytest.mark.live
@pytest_twisted.ensureDeferred
async def test_a_list_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is compiled by another process, and is in force when that has ended; nothing is left of
    it in the end where nothing is to be kept, though other lists have taken its place meanwhile.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = tmp_path / "ads.txt"
    path.write_text("ads.example\n")
    settings = {"ads": ListSettings(files=(str(path),))}
    lists = make_lists(
        settings,
        StateSettings(),
        lambda _: succeed([]),
        reactor=reactor,
        clock=reactor,
        metrics=Metrics(),
        journal=Journal(),
    )
    assert lists is not None
    current = lists
    came: Deferred[Any] = Deferred()

    def note(found: ListSet) -> None:
        if not came.called:
            came.callback(found)

    lists.on_change(note)
    lists.start()
    try:
        found = await came.addTimeout(DEADLINE, reactor)
        following = make_lists(
            {"own": ListSettings(domains=(from_text("own.example"),)), **settings},
            StateSettings(),
            lambda _: succeed([]),
            reactor=reactor,
            clock=reactor,
            metrics=Metrics(),
            journal=Journal(),
            before=lists,
        )
        assert following is not None
        await following.prepare().addTimeout(DEADLINE, reactor)
        following.take_over()
        current = following
    finally:
        current.stop()
    assert current.current.number > found.number
    assert Choice([0, 1]).verdict(current.current.listing(from_text("ads.example"))) == Hit(
        1, False
    )
    assert os.listdir(tmp_path) == [path.name]  # noqa: PTH208 (nothing waits)
    assert Choice([0]).verdict(found.listing(from_text("x.ads.example"))) == Hit(0, False)
