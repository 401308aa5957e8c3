"""What lists cost is measured with lists that count, and beside servers that have the same ones."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from bench import blocking, loading, servers
from bench.daemons import Laboratory
from staggerdns.config import parse_config

if TYPE_CHECKING:
    from pathlib import Path

    from bench.report import Section

NAMES = 2_000


def measures(section: Section) -> list[str]:
    """What the section has lines for, of each server."""
    return [figure.measure for figure in section.figures if figure.measure]


def test_the_rules(tmp_path: Path) -> None:
    """There are ten groups, all of which have the long list, and this machine is in one of them."""
    path = tmp_path / "names.txt"
    path.write_text("0.0.0.0 a.example\n")
    config = parse_config("upstream: {servers: [192.0.2.1]}\n" + blocking.rules(path))
    assert len(config.groups) == blocking.GROUPS
    assert all("names" in (group.block or ()) for group in config.groups.values())
    mine = [
        name
        for name, group in config.groups.items()
        if any(ip_address("127.0.0.1") in network.addresses for network in group.clients)
    ]
    assert mine == ["g1"]


@pytest.mark.long
@pytest.mark.live
@pytest.mark.slow
def test_names_that_are_not_blocked_are_measured() -> None:
    """With groups and lists that count, and twice without."""
    with Laboratory() as laboratory:
        section = blocking.hits(laboratory, count=NAMES, rounds=1, seconds=0.2)
    builds = len(servers.builds())
    assert measures(section) == ["CPU us per query"] * builds
    assert len(section.figures) == 3 * builds
    assert all(figure.median > 0 for figure in section.figures)


@pytest.mark.long
@pytest.mark.live
@pytest.mark.slow
def test_loads_of_others_are_measured() -> None:
    """Each server blocks what is in its list, and what is in another one later."""
    with Laboratory() as laboratory:
        section = loading.measure(laboratory, count=NAMES, rounds=1)
    assert len(measures(section)) == 5
    counts = {figure.server for figure in section.figures}
    assert {build.name for build in servers.builds()} | {"unbound", "dnsmasq"} == counts
    text = section.text()
    assert re.search("staggerdns +[0-9.]+ ", text)
