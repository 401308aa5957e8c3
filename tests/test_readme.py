"""What README says of the metrics is what there is."""

from __future__ import annotations

import re

from staggerdns.metrics import Metrics, ProcessMetrics
from tests.kit.checkout import ROOT

_SUFFIX = re.compile("_(total|bucket)$")


def section() -> str:
    """Return README's section on metrics."""
    text = (ROOT / "README.rst").read_text(encoding="utf-8")
    return text.partition("\nMetrics\n---")[2].partition("\nSupervisors\n---")[0]


def table() -> dict[str, str]:
    """Return the labels of each metric in the table, as they are written there."""
    heads = [row.partition("\n     - ")[0] for row in section().split("\n   * - ")[2:]]
    written = [name for head in heads for name in re.findall("``([^`]*)``", head)]
    parts = [name.removesuffix("}").partition("{") for name in written]
    return {name: labels for name, _, labels in parts}


def families() -> dict[str, str]:
    """Return the labels of each metric of the program, its name as a scrape has it."""
    every = [*Metrics().collect(), *ProcessMetrics(lambda: 0.0).collect()]
    return {
        family.name + "_total" * (family.type == "counter"): ",".join(vars(family)["_labelnames"])
        for family in every
    }


def test_every_metric_is_documented() -> None:
    """Each has its place in the table or in one of the five indicators."""
    text = section()
    missing = {name for name in families() if name not in text}
    assert not missing


def test_nothing_else_is_documented() -> None:
    """Every name in the section is a metric's."""
    there = {_SUFFIX.sub("", name) for name in families()}
    assert {_SUFFIX.sub("", name) for name in re.findall("staggerdns_[a-z_]+", section())} <= there


def test_labels_are_those_of_the_metrics() -> None:
    """The table shows them in their order."""
    there = families()
    assert {name: there[name] for name in table()} == table()
