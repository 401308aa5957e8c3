"""The configuration of dnsdist in etc/, with other addresses than those of the world outside.

The benchmark and `make site` read it as well, so that this stands on the standard library alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.kit.checkout import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

ETC = ROOT / "etc" / "dnsdist"
SOURCE = "127.0.0.2"
"""The address that it asks instances from."""
_FRONTS = re.compile(r"^(?:-- )?(?:set|add)\w*Local\(.*\n", re.MULTILINE)
_NODE = re.compile(r'^  \{address = "[^"]+", (id = "[^"]+"\},\n)', re.MULTILINE)


def fronts() -> list[str]:
    """Return the lines that say where clients ask, those that are commented out as well."""
    return [line.removeprefix("-- ").rstrip() for line in _FRONTS.findall(_text())]


def balancer(nodes: Sequence[str]) -> str:
    """Return the configuration with these instances, up to four, in place of its own, and without
    the lines that say where clients ask.
    """
    ids = _NODE.findall(_text())
    assert 0 < len(nodes) <= len(ids), f"there are {len(ids)} instances in etc/"
    lines = iter(
        [f'  {{address = "{node}", {rest}' for node, rest in zip(nodes, ids, strict=False)]
        + [""] * (len(ids) - len(nodes))
    )
    return _NODE.sub(lambda _: next(lines), _FRONTS.sub("", _text()))


def _text() -> str:
    return (ETC / "dnsdist.conf").read_text(encoding="utf-8")
