"""Descriptors that a configuration may use, against those that the system grants."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest
import yaml

from staggerdns import descriptors
from staggerdns.config import parse_config
from staggerdns.descriptors import Fit, fit_descriptors, others
from staggerdns.server.ports import MAX_ACCEPTS

if TYPE_CHECKING:
    from staggerdns.settings.sections import Config

INFINITE = resource.RLIM_INFINITY


def config(connections: int = 100, **more: object) -> Config:
    """A configuration with so many client connections."""
    server = {"tcp_max_connections": connections, "listen": ["127.0.0.1:5300"]}
    base = {"server": server, "upstream": {"servers": ["192.0.2.1"]}}
    return parse_config(yaml.safe_dump({**base, **more}))


class Limits:
    """Stands in for the limits of the process."""

    def __init__(self, soft: int, hard: int) -> None:
        self.now = soft, hard
        self.changes = 0

    def getrlimit(self, kind: int) -> tuple[int, int]:
        """Return soft and hard limit."""
        assert kind == resource.RLIMIT_NOFILE
        return self.now

    def setrlimit(self, kind: int, limits: tuple[int, int]) -> None:
        """Set both."""
        assert limits[1] == self.now[1]
        self.now = limits
        self.changes += 1


NEEDED = others(config()) + 100


@pytest.mark.parametrize(
    ("soft", "hard", "then", "connections"),
    [
        (NEEDED, NEEDED, NEEDED, 100),
        (INFINITE, INFINITE, INFINITE, 100),
        (NEEDED - 1, INFINITE, NEEDED, 100),
        (NEEDED - 1, NEEDED, NEEDED, 100),
        (20, 1_000_000, NEEDED, 100),
        (NEEDED - 1, NEEDED - 1, NEEDED - 1, 99),
        (20, NEEDED - 60, NEEDED - 60, 40),
        (20, NEEDED - 99, NEEDED - 99, 1),
        (20, 20, 20, 1),
    ],
)
def test_limits(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, then: int, connections: int
) -> None:
    """The soft limit is raised no further than needed; then connections give way, but for one."""
    limits = Limits(soft, hard)
    monkeypatch.setattr(resource, "getrlimit", limits.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", limits.setrlimit)
    found = fit_descriptors(config())
    assert limits.now == (then, hard)
    assert limits.changes == (then != soft)
    assert found.connections == connections
    assert bool(found.problem) == (connections < 100)
    assert found.problem or found == Fit(100)


@pytest.mark.parametrize("error", [PermissionError, ValueError])
def test_a_limit_that_cannot_be_raised(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Where a sandbox does not let the limit be raised, connections give way as well."""

    def refuse(kind: int, limits: tuple[int, int]) -> None:
        raise error

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (NEEDED - 60, INFINITE))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    found = fit_descriptors(config())
    assert found.connections == 40
    assert f"allows {NEEDED - 60} open files" in found.problem


def test_what_counts() -> None:
    """Listeners, upstreams, probes and the metrics listener each need their share."""
    base = others(config())
    more = config(
        server={"listen": ["127.0.0.1:5300", "[::1]:5300"]},
        upstream={"servers": ["192.0.2.1", "tcp://192.0.2.2"]},
        ranking={"concurrency": 130, "probes": ["icmp", "tcp:443", "tcp:80"]},
    )
    assert others(more) == base + 2 + MAX_ACCEPTS + descriptors.STREAMS + 4
    none = config(metrics={"listen": None}, ranking={"enabled": False})
    assert others(none) == base - 33 - 2 * 128
    assert others(config(page={"enabled": False})) == base - 16
    assert others(config(lists={"ads": {}})) == base + descriptors.LISTS
    echoes = config(ranking={"probes": ["icmp"]})
    assert others(echoes) == base - 2 * 128
