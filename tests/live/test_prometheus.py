"""A real Prometheus scrapes the program, and is asked all that the dashboard and the alerts ask."""

from __future__ import annotations

import json
import math
import re
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.kit import behaviours as b
from tests.kit import monitoring
from tests.kit.certificates import CertificateAuthority
from tests.kit.clients import UdpClient, eventually, question
from tests.kit.daemons import prometheus
from tests.kit.monitoring import Asked, filled
from tests.kit.ports import Endpoint, free_endpoint
from tests.kit.testbed import Testbed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.kit.scripted import Action, Behaviour, Query

INTERVAL = "500ms"
"""Of scrapes and evaluations, and how long a scrape may take."""
LIMITED = "127.0.0.2"
"""A client that may ask for one name a second."""
SCRAPES = 2
"""How many there must be before, and after, something happens, so that rates show it."""


class Site:
    """A program about which there is something to say in every panel, and who watches it."""

    def __init__(self, testbed: Testbed, endpoint: Endpoint) -> None:
        self.testbed = testbed
        self._endpoint = endpoint

    def api(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of Prometheus; AssertionError if it is an error."""
        text = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{self._endpoint}/api/v1/{path}?{text}") as page:
            answer = json.load(page)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[Any]:
        """Return what an expression, as Grafana would send it, gives now."""
        found: list[Any] = self.api("query", query=filled(expression))["result"]
        return found

    def scraped(self) -> None:
        """Wait until there have been some more scrapes."""
        count = "count_over_time(staggerdns_build_info[1h])"

        def scrapes() -> int:
            return sum(int(found["value"][1]) for found in self.query(count))

        before = scrapes()
        # Prometheus takes five seconds until it looks for its targets.
        eventually(scrapes, lambda after: after >= before + SCRAPES, timeout=20)

    def live(self, round_: int) -> None:
        """Have clients ask what makes each number move."""
        for number in range(6):
            name = f"n{number}.{round_}.example."
            self.testbed.ask(name)
            self.testbed.ask(name)
            self.testbed.ask(name, tcp=True)
        for name in ("broken", "big", "blocked"):
            self.testbed.ask(f"www.{name}.{round_}.example.")
        with UdpClient(self.testbed.program.endpoint, LIMITED) as client:
            client.send(b"garbage")
            for _ in range(4):
                client.send(question(f"n0.{round_}.example."))


def _of_upstream(index: int) -> Behaviour:
    """Answer with addresses of loopback, which are probed there, others in each round."""

    def behave(query: Query) -> Sequence[Action]:
        round_ = query.name.split(".")[-3]
        if ".broken." in query.name:
            return b.rcode("SERVFAIL")(query)
        own = b.answers(f"127.0.{round_}.9", f"127.0.{round_}.{index}", after=0.002 * index)
        return (b.truncated_over_udp(own) if ".big." in query.name else own)(query)

    return behave


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The program and Prometheus, after both have been busy for a while."""
    directory = tmp_path_factory.mktemp("site")
    files = CertificateAuthority(directory / "authority").issue("127.0.0.1")
    names = directory / "names.txt"
    names.write_text("0.0.0.0 www.blocked.1.example\n0.0.0.0 www.blocked.2.example\n")
    listen, page = free_endpoint(), free_endpoint()
    settings = {
        "server": {
            "listen": [str(listen), f"tls://{free_endpoint()}"],
            "tls_certificate": str(files.chain),
            "tls_key": str(files.key),
            "client": {"exempt": [listen.host]},
            "rate_limit": {"queries_per_second": 1, "burst": 1},
        },
        "upstream": {"timeout": "500ms", "parallel": {"merge_private": True}},
        "ranking": {
            "enabled": True,
            "probe_private": True,
            "probes": [f"tcp:{listen.port}"],
        },
        "lists": {"own": {"files": [str(names)]}, "gone": {"files": [str(directory / "gone")]}},
        "groups": {"default": {"block": ["own", "gone"]}},
        "query_log": {"file": str(directory / "queries.log")},
        "state": {"directory": str(directory / "state")},
    }
    behaviours = [*map(_of_upstream, range(4)), None]
    configuration = yaml.safe_load(monitoring.SCRAPE.read_text())
    (job,) = configuration["scrape_configs"]
    job["scrape_interval"] = job["scrape_timeout"] = INTERVAL
    configuration["global"] = {"evaluation_interval": INTERVAL}
    configuration["rule_files"] = [str(monitoring.ALERTS)]
    testbed = Testbed(directory / "testbed", behaviours, settings, listen=listen)
    job["static_configs"] = [{"targets": [str(testbed.program.web)]}]
    # Prometheus comes first, to have time until it looks for its targets.
    with prometheus(directory / "prometheus", configuration, page), testbed:
        found = Site(testbed, page)
        for round_ in (1, 2):
            found.live(round_)
            found.scraped()
        yield found


def _unknown_labels(asked: Asked, found: list[Any]) -> set[str]:
    """Return the labels that a legend shows and a series lacks."""
    shown = set(re.findall(r"\{\{(\w+)\}\}", asked.legend))
    return {label for label in shown for series in found if label not in series["metric"]}


def _problems(site: Site) -> list[str]:
    """Return what is wrong with what panels and alerts ask."""
    shown = [*monitoring.of_variables(), *monitoring.of_panels()]
    problems = [
        f"{asked.where}: there is no series {selector.text}"
        for asked in [*shown, *monitoring.of_annotations(), *monitoring.of_alerts()]
        for selector in asked.selectors
        if not site.query(selector.text)
    ]
    for asked in shown:
        found = site.query(asked.expression)
        if not any(math.isfinite(float(series["value"][1])) for series in found):
            problems.append(f"{asked.where}: no number comes of {asked.expression}: {found}")
        problems += [
            f"{asked.where}: no label {label} comes of {asked.expression}"
            for label in _unknown_labels(asked, found)
        ]
    return problems


def test_every_panel_and_alert_has_its_series(site: Site) -> None:
    """Prometheus takes each expression, finds each series that it names, and each panel shows a
    number. It evaluates the alerts, and those are on their way that should be.
    """
    eventually(lambda: _problems(site), lambda problems: not problems, timeout=10)
    (group,) = site.api("rules")["groups"]
    rules = {rule["name"]: rule for rule in group["rules"]}
    assert {rule["health"] for rule in rules.values()} == {"ok"}
    pending = {
        (name, alert["labels"].get("upstream"), alert["labels"].get("list"))
        for name, rule in rules.items()
        for alert in rule["alerts"]
    }
    dead = str(site.testbed.endpoints[-1])
    out, failed = ("StaggerDNSUpstreamOut", dead, None), ("StaggerDNSListFailed", None, "gone")
    assert {out, failed} <= pending
    # A machine that has much to do may make answers slow.
    assert {name for name, _, _ in pending - {out, failed}} <= {
        "StaggerDNSSlowAnswers",
        "StaggerDNSPoolsIncomplete",
    }
