"""The dashboard in etc/: what Grafana wants of it, and that it asks for what the program has."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from staggerdns.metrics import Metrics
from staggerdns.processmetrics import ProcessMetrics
from staggerdns.shared.metrics import SharedMetrics
from staggerdns.state.metrics import StateMetrics
from tests.kit import monitoring
from tests.kit.monitoring import Asked
from tests.kit.promql import Selector, selectors

ASKED = [
    *monitoring.of_variables(),
    *monitoring.of_annotations(),
    *monitoring.of_panels(),
    *monitoring.of_alerts(),
]
COLUMNS = 24
"""How wide Grafana is, in its own unit."""
GIVEN = {"instance", "job"}
"""Labels that a scrape adds."""


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("up == 0", ["up"]),
        ('sum by (le, a) (rate(b_total{c=~"d|e{}", f!="g"}[5m]))', ['b_total{c=~"d|e{}", f!="g"}']),
        ("time() - a:b > 2 * 86400 and c", ["a:b", "c"]),
        ("a / ignoring (b) group_left () max (c) offset 1h", ["a", "c"]),
        ('a{b="\\"c"} unless on (d, e) f - 1e3 or 5m', ['a{b="\\"c"}', "f"]),
        ('label_replace(a, "b", "$1", "c", "(.*)")', ["a"]),
    ],
)
def test_selectors(expression: str, found: list[str]) -> None:
    """Functions, keywords, labels, strings, numbers and durations are no metrics."""
    assert [selector.text for selector in selectors(expression)] == found


def test_labels_of_selectors() -> None:
    """Each has its name and the labels that it names."""
    assert selectors('rate(a_total{b="c",d!~"e=f"}[1m])') == [
        Selector('a_total{b="c",d!~"e=f"}', "a_total", frozenset("bd"))
    ]


def exposed() -> set[str]:
    """The names of all series that the program has once everything has happened."""
    registry = CollectorRegistry()
    for collector in (Metrics(), ProcessMetrics(lambda: 0.0), StateMetrics(), SharedMetrics()):
        registry.register(collector)
    for of_the_process in (ProcessCollector, PlatformCollector, GCCollector):
        of_the_process(registry=registry)
    text = generate_latest(registry).decode()
    names = {"up"}  # Prometheus adds it
    for family in text_string_to_metric_families(text):
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
        names.update(family.name + suffix for suffix in suffixes.get(family.type, [""]))
    return names


def test_every_metric_is_one_of_the_program() -> None:
    """The dashboard and the alerts name no metric that the program has not."""
    names = exposed()
    asked = {(one.where, selector.name) for one in ASKED for selector in one.selectors}
    assert len(asked) > 60
    assert sorted(one for one in asked if one[1] not in names) == []


@pytest.mark.parametrize("asked", monitoring.of_panels(), ids=lambda asked: asked.where)
def test_a_panel_shows_the_instances_that_are_chosen(asked: Asked) -> None:
    """Each of its series is of the instances of the variable, and rates are over what suits the
    scale, or a fixed day.
    """
    assert asked.selectors
    for selector in asked.selectors:
        assert 'instance=~".*"' in selector.text
    windows = asked.expression.count("[")
    assert windows == asked.expression.count("[$__rate_interval]") + asked.expression.count("[1d]")


def test_where_panels_are() -> None:
    """They have numbers of their own, lie within the width, and none lies upon another."""
    panels = monitoring.panels()
    assert Counter(panel["id"] for panel in panels).most_common(1)[0][1] == 1
    places = [(panel["title"], panel["gridPos"]) for panel in panels]
    for title, place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= COLUMNS, title
    for (one, a), (other, b) in combinations(places, 2):
        assert (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        ), (one, other)


def test_rows() -> None:
    """What there is to see, from top to bottom."""
    rows = [panel["title"] for panel in monitoring.panels() if panel["type"] == "row"]
    assert rows == [
        "Overview",
        "Clients and latency",
        "Cache and pools",
        "Upstreams",
        "Ranking",
        "Lists",
        "The program",
    ]


def _datasources(part: Any) -> list[Any]:
    """Return all data sources that are named in a part of the dashboard."""
    if isinstance(part, list):
        return [found for one in part for found in _datasources(one)]
    if not isinstance(part, dict):
        return []
    own = [part["datasource"]] if "datasource" in part else []
    return own + [found for one in part.values() for found in _datasources(one)]


def test_the_data_source_is_a_choice() -> None:
    """It can be imported anywhere: no data source of somebody's own installation is named."""
    found = _datasources(monitoring.dashboard())
    own = {"type": "grafana", "uid": "-- Grafana --"}
    assert {tuple(one.items()) for one in found if one != own} == {
        (("type", "prometheus"), ("uid", "${datasource}"))
    }
    variables = {one["name"]: one for one in monitoring.dashboard()["templating"]["list"]}
    assert variables.keys() == {"datasource", "instance"}
    assert variables["datasource"]["query"] == "prometheus"
    assert "id" not in monitoring.dashboard()  # it is the one of an installation


def test_panels_are_complete() -> None:
    """Each has a kind, a title, a unit and targets; no title is there twice in a row."""
    row, seen = "", set()
    for panel in monitoring.panels():
        if panel["type"] == "row":
            row = panel["title"]
            continue
        assert panel["targets"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len({*references}) == len(references)
        assert (row, panel["title"]) not in seen
        seen.add((row, panel["title"]))
