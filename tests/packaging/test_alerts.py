"""The alerts in etc/: promtool takes them, and has them fire when they should."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from tests.kit import monitoring
from tests.kit.checkout import ROOT
from tests.kit.daemons import find_program

CASES = ROOT / "tests" / "packaging" / "alerts.test.yaml"


def promtool(*arguments: object) -> None:
    """Run promtool; AssertionError with what it says when it is not content."""
    done = subprocess.run(
        [find_program("promtool"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_prometheus_takes_the_files() -> None:
    """The whole configuration is one, with the alerts that it names."""
    file = yaml.safe_load(monitoring.SCRAPE.read_text())
    assert file.keys() == {"rule_files", "scrape_configs"}
    assert file["rule_files"] == [monitoring.ALERTS.name]
    promtool("check", "config", "--lint=all", "--lint-fatal", monitoring.SCRAPE)


def test_alerts() -> None:
    """Each fires when it should and not before, with the labels and the words that it should."""
    promtool("test", "rules", CASES)


def test_each_alert_is_tried() -> None:
    """There is a case in which it fires, and one in which it does not."""
    tried: dict[str, set[bool]] = {}
    for test in yaml.safe_load(CASES.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            tried.setdefault(case["alertname"], set()).add(bool(case["exp_alerts"]))
    assert tried == {rule["alert"]: {True, False} for rule in monitoring.alerts()}


@pytest.mark.parametrize("rule", monitoring.alerts(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_is_of_use(rule: Any) -> None:
    """It says what is wrong where, and what to do about it, once it has lasted for a while."""
    assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"StaggerDNS[A-Z]\w+", rule["alert"])
    assert re.fullmatch(r"[1-9]\d*[mh]", rule["for"])
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"].keys() == {"summary", "description"}
    assert "{{ $labels.instance }}" in rule["annotations"]["summary"]
    assert len(rule["annotations"]["description"].split()) > 15


def test_what_descriptions_name_is_there() -> None:
    """A remedy that names a metric or a setting names one that there is."""
    docs = ROOT / "docs"
    metrics = set(re.findall(r"staggerdns_\w+", (docs / "metrics.rst").read_text()))
    settings = yaml.safe_load((ROOT / "etc" / "staggerdns.yaml").read_text())
    for rule in monitoring.alerts():
        text = rule["annotations"]["description"]
        assert set(re.findall(r"staggerdns_\w+", text)) <= metrics, rule["alert"]
        for path in re.findall(
            r"\b(?:server|upstream|cache|state|query_log|metrics)(?:\.\w+)+", text
        ):
            place = settings
            for key in path.split("."):
                assert key in place, f"{rule['alert']}: {path}"
                place = place[key] or {}
