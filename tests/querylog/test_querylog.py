"""The query log in the whole program: settings, reloads, what is written of whom."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest

from staggerdns.config import parse_config
from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.querylog.outlet import HAND_OVER_AFTER, MAX_HELD
from staggerdns.querylog.querylog import QueryLog
from staggerdns.server.answered import AnswerHub
from staggerdns.settings.sections import QueryLogSettings
from tests.kit.answered import Hand, Reactor, answered

if TYPE_CHECKING:
    from pathlib import Path


class Logged:
    """A query log, and the hub that tells it of answers."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.metrics = Metrics()
        self.hub = AnswerHub(self.reactor.seconds, Journal(), self.reactor)
        self.hands: list[Hand] = []
        self.log = QueryLog(
            self.hub, self.reactor, self.metrics, Journal("error"), cast("Any", self._hand)
        )

    def _hand(self, *_: object) -> Hand:
        self.hands.append(Hand())
        return self.hands[-1]

    def answer(self, name: str = "www.example.com.", **more: Any) -> None:
        """Tell of an answer."""
        self.hub.publish(answered(name, **more))

    def flush(self) -> None:
        """Let what has come be written."""
        self.reactor.advance(HAND_OVER_AFTER)

    def close(self) -> bool:
        """End; return whether that is over."""
        ended: list[object] = []
        self.log.close().addCallback(ended.append)
        return bool(ended)

    @property
    def lost(self) -> dict[tuple[str, ...], float]:
        """How many are missing, by output."""
        return {key: count for key, count in self.metrics.query_log_lost.values().items() if count}


@pytest.fixture
def logged() -> Logged:
    """A query log that has yet to begin."""
    return Logged()


def names(path: Path) -> list[str]:
    """The names in a file."""
    return [json.loads(line)["name"] for line in path.read_text().splitlines()]


def test_off(logged: Logged) -> None:
    """By default nobody listens, and there is no thread."""
    logged.log.use(parse_config("upstream: {servers: [192.0.2.1]}").query_log)
    assert not logged.hub.active
    assert logged.hands == []
    assert logged.close()


@pytest.mark.parametrize(
    ("clients", "shown"), [("full", "192.0.2.77"), ("prefix", "192.0.2.0/24"), ("none", None)]
)
def test_clients(logged: Logged, tmp_path: Path, clients: str, shown: str | None) -> None:
    """As much of their addresses is written as the settings say."""
    path = tmp_path / "queries"
    logged.log.use(QueryLogSettings(file=str(path), clients=clients))
    logged.answer()
    assert logged.close()
    assert json.loads(path.read_text())["client"] == shown
    assert not logged.hub.active
    assert logged.hands[0].stopped
    assert not logged.reactor.getDelayedCalls()


def test_other_settings(logged: Logged, tmp_path: Path) -> None:
    """They count from the next answer on; what has come before is where it belongs."""
    paths = [tmp_path / "one", tmp_path / "two"]
    logged.log.use(QueryLogSettings(file=str(paths[0])))
    logged.answer("a.example.")
    logged.log.use(QueryLogSettings(file=str(paths[1]), clients="none"))
    logged.answer("b.example.")
    logged.log.use(QueryLogSettings())
    assert not logged.hub.active
    logged.answer("c.example.")
    logged.log.use(QueryLogSettings(file=str(paths[0])))
    logged.answer("d.example.")
    assert logged.close()
    assert [names(path) for path in paths] == [["a.example.", "d.example."], ["b.example."]]
    assert all(hand.stopped for hand in logged.hands)


def test_the_same_settings(logged: Logged, tmp_path: Path) -> None:
    """A reload that changes nothing has the same thread go on, into the file that is there now."""
    path = tmp_path / "queries"
    settings = QueryLogSettings(file=str(path))
    logged.log.use(settings)
    logged.answer("a.example.")
    logged.flush()
    path.rename(tmp_path / "moved")
    logged.answer("b.example.")
    logged.log.use(QueryLogSettings(file=str(path)))
    logged.log.reopen()
    logged.answer("c.example.")
    assert logged.close()
    assert len(logged.hands) == 1
    assert names(tmp_path / "moved") == ["a.example.", "b.example."]
    assert names(path) == ["c.example."]


def test_settings_of_the_other_output(logged: Logged, tmp_path: Path) -> None:
    """They change nothing about this one."""
    pytest.importorskip("dnstap_pb")
    path = tmp_path / "queries"
    logged.log.use(QueryLogSettings(file=str(path)))
    logged.log.use(QueryLogSettings(file=str(path), dnstap=str(tmp_path / "tap")))
    assert len(logged.hands) == 2
    logged.answer()
    logged.log.use(QueryLogSettings(dnstap=str(tmp_path / "tap")))
    assert [hand.stopped for hand in logged.hands] == [True, False]
    assert logged.close()
    assert names(path) == ["www.example.com."]
    assert b"staggerdns" in (tmp_path / "tap").read_bytes()


def test_sizes(logged: Logged, tmp_path: Path) -> None:
    """A file has ``max_size`` octets at most, and ``keep`` older ones are kept."""
    path = tmp_path / "queries"
    path.write_bytes(b"{}\n" * 349_000)  # not quite 1 MiB
    logged.log.use(QueryLogSettings(file=str(path), max_size=1_048_576, keep=1))
    for number in range(40):
        logged.answer(f"n{number}.example.")
        logged.flush()
    assert logged.close()
    assert names(path)[-1] == "n39.example."
    assert 0 < len(names(path)) < 40
    assert sorted(found.name for found in tmp_path.iterdir()) == ["queries", "queries.1"]
    assert (tmp_path / "queries.1").stat().st_size <= 1_048_576


def test_a_hanging_disk(logged: Logged, tmp_path: Path) -> None:
    """What does not fit is counted, and costs nothing: it is not even read."""
    logged.log.use(QueryLogSettings(file=str(tmp_path / "queries")))
    logged.hands[0].stuck = True
    event = answered()
    while not logged.lost:
        logged.hub.publish(event)
    reads = partial(logged.hub.publish, cast("Any", None))
    reads()
    assert logged.lost == {("file",): 2}
    logged.hands[0].go_on()
    logged.answer("later.example.")
    assert logged.close()
    written = names(tmp_path / "queries")
    assert written[-1] == "later.example."
    assert len(written) * 200 < MAX_HELD < len(written) * 400


def test_the_end_while_others_leave(logged: Logged, tmp_path: Path) -> None:
    """Whoever has been left by a reload is waited for as well, and no longer."""
    logged.log.use(QueryLogSettings(file=str(tmp_path / "one")))
    logged.hands[0].stuck = True
    logged.answer()
    logged.log.use(QueryLogSettings())
    ended: list[object] = []
    logged.log.close().addCallback(ended.append)
    assert ended == []
    logged.reactor.advance(1)
    assert len(ended) == 1
    assert logged.lost == {("file",): 1}
