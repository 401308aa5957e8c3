"""Files of lists: each is read or refused, and what is compiled of it is found again."""

from __future__ import annotations

import tempfile
from io import BytesIO
from pathlib import Path

from staggerdns.policy.lists.content import Refused, read_source
from staggerdns.policy.lists.lines import ALLOW_BELOW, ALLOW_ITSELF, BELOW, ITSELF, Rule
from staggerdns.policy.lists.mapped import Choice, Damaged, ListSet
from staggerdns.policy.lists.table import TableWriter
from staggerdns.wire.names import read_name

_PATH = Path(tempfile.gettempdir()) / "staggerdns-fuzz.list"
_ALL = ITSELF | BELOW | ALLOW_ITSELF | ALLOW_BELOW


def check(data: bytes) -> None:
    """Check one file; raises `AssertionError`, or anything else, for a defect."""
    _check_compiled(data)
    _PATH.write_bytes(data)
    rules: list[Rule] = []
    try:
        lines = read_source(str(_PATH), rules.append)
    except Refused as refused:
        said = str(refused)
        assert said.isprintable(), said
        return
    assert lines.understood == len(rules)
    assert lines.first.isprintable(), lines.first
    table = TableWriter(bytes(16))
    for rule in rules:
        assert 0 < rule.effect <= _ALL
        assert rule.names
        table.add(0, rule)
    file = BytesIO()
    table.write(file, 1, None)
    found = ListSet(file.getvalue(), 1)
    for _ in found.check():
        pass
    for rule in rules:
        for name in rule.names:
            assert read_name(bytes(12) + name, 12) == (name, 12 + len(name))
            assert name == name.lower()
            asked = name if rule.effect & (ITSELF | ALLOW_ITSELF) else b"\1x" + name
            if len(asked) <= 255:
                assert Choice([0]).verdict(found.listing(asked)) is not None, asked


def _check_compiled(data: bytes) -> None:
    """Read the octets as a compiled file, which a disk may have damaged."""
    try:
        for _ in ListSet(data, 1).check():
            pass
    except Damaged as damaged:
        said = str(damaged)
        assert said.isprintable(), said
