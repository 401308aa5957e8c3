"""The configuration of dnsdist that the benchmark and the tests start it with."""

from __future__ import annotations

import pytest

from tests.kit.balancer import ETC, balancer, fronts

NODES = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_so_many_instances(count: int) -> None:
    """They have the first ids of the file, and nobody else is there."""
    text = balancer(NODES[:count])
    assert [node for node in NODES if f'"{node}"' in text] == NODES[:count]
    assert text.count('id = "') == count
    assert "127.0.0.1:53" not in text


@pytest.mark.parametrize("count", [0, 5])
def test_others(count: int) -> None:
    """Without an id of its own none has names."""
    with pytest.raises(AssertionError, match="4 instances"):
        balancer([f"127.0.0.1:{number}" for number in range(count)])


def test_where_clients_ask() -> None:
    """What says it is left out, and told apart; all else stays as it is."""
    assert [line.partition("(")[0] for line in fronts()] == [
        "setLocal",
        "addLocal",
        "addTLSLocal",
        "addDOHLocal",
    ]
    whole = (ETC / "dnsdist.conf").read_text()
    assert "Local(" not in balancer(NODES)
    assert len(balancer(NODES).splitlines()) == len(whole.splitlines()) - len(fronts())
