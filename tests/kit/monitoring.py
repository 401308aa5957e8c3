"""What the files in etc/ have Prometheus asked: the panels of the dashboard, and the alerts."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from tests.kit.checkout import ROOT
from tests.kit.promql import Selector, selectors

if TYPE_CHECKING:
    from collections.abc import Iterator

DASHBOARD = ROOT / "etc" / "grafana" / "staggerdns.json"
ALERTS = ROOT / "etc" / "prometheus" / "alerts.yaml"
SCRAPE = ROOT / "etc" / "prometheus" / "scrape.yaml"


class Asked(NamedTuple):
    """``where``: the panel or alert; ``expression``: as it stands there; ``legend``: a panel's."""

    where: str
    expression: str
    legend: str = ""

    @property
    def selectors(self) -> list[Selector]:
        """What it selects, for all instances."""
        return selectors(filled(self.expression))


def filled(expression: str, window: str = "1m") -> str:
    """Return an expression as Grafana sends it: of all instances, with rates over ``window``."""
    return expression.replace("$__rate_interval", window).replace("$instance", ".*")


def dashboard() -> Any:
    """Return the dashboard as it is imported."""
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def panels() -> list[Any]:
    """Return the panels of the dashboard, rows and those in rows included."""

    def below(found: list[Any]) -> Iterator[Any]:
        for panel in found:
            yield panel
            yield from below(panel.get("panels", []))

    return [*below(dashboard()["panels"])]


def of_panels() -> list[Asked]:
    """Return what the panels ask."""
    return [
        Asked(panel["title"], target["expr"], target.get("legendFormat", ""))
        for panel in panels()
        for target in panel.get("targets", [])
    ]


def alerts() -> list[Any]:
    """Return the alerts."""
    (group,) = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    rules: list[Any] = group["rules"]
    return rules


def of_alerts() -> list[Asked]:
    """Return what the alerts ask."""
    return [Asked(rule["alert"], rule["expr"]) for rule in alerts()]


def of_annotations() -> list[Asked]:
    """Return what the annotations of the dashboard ask."""
    every = dashboard()["annotations"]["list"]
    return [Asked(one["name"], one["expr"]) for one in every if "expr" in one]


def of_variables() -> list[Asked]:
    """Return what the variables of the dashboard are looked up with."""
    found = []
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.+), *(\w+)\)", variable["query"]["query"])
            assert match is not None, variable
            found.append(Asked(variable["name"], f"count by ({match[2]}) ({match[1]})"))
    return found
