"""A real client of glibc, whose getaddrinfo puts addresses in an order of its own (RFC 6724)."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.kit import behaviours as b
from tests.kit.internet.hosts import near6
from tests.kit.ports import Endpoint

if TYPE_CHECKING:
    from pathlib import Path

    from tests.internet.conftest import BuildTestbed
    from tests.kit.internet.world import World

SERVER = Endpoint("127.0.0.53", 53)
_CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], 443), timeout=5) as connection:
    print(connection.getpeername()[0])
"""


def connects_to(directory: Path, name: str) -> str:
    """Let a process whose resolver is `SERVER` connect to a name; to which address it does."""
    files = {
        "resolv.conf": f"nameserver {SERVER.host}\n",
        "nsswitch.conf": "hosts: dns\n",
    }
    script = ""
    for file, text in files.items():
        (directory / file).write_text(text)
        script += f"mount --bind {directory / file} /etc/{file} && "
    shell = ["unshare", "--mount", "sh", "-c", f'{script}exec "$@"', "sh"]
    return subprocess.run(
        [*shell, sys.executable, "-c", _CLIENT, name],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout.strip()


@pytest.mark.parametrize("most", [0, 1])
def test_connects_to_the_nearest(
    build: BuildTestbed, world: World, tmp_path: Path, most: int
) -> None:
    """With one address a reply it does; with all of them it takes what looks most like its own.

    That is the one that has the longest prefix in common with its own address (rule 9), however
    far it is away.
    """
    alike, nearest = near6(1, 53 + most), near6(128, 53 + most)
    world.move(alike, 150)
    world.move(nearest, 20)
    testbed = build({"ranking": {"max_addresses": most}}, listen=SERVER)
    name = testbed.everywhere("glibc", b.answers(alike, nearest))
    testbed.ask(name, "AAAA")
    given = [nearest, alike][: most or 2]
    testbed.ranked(name, given, "AAAA")
    for _ in range(3):  # ready replies, too
        assert testbed.ask(name, "AAAA").addresses == given
    assert connects_to(tmp_path, name) == (nearest if most else alike)
