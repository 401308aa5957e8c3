"""Lists in the configuration: what may stand there, and who may name them."""

from __future__ import annotations

import pytest

from staggerdns.config import parse_config
from staggerdns.policy.blocking import ANSWERS
from staggerdns.settings.document import ConfigError

UPSTREAM = "upstream: {servers: [192.0.2.1]}\n"
LISTS = "lists: {ads: {}, good: {}}\n"


def test_good_lists() -> None:
    """All keys, and the groups that choose among them."""
    config = parse_config(
        UPSTREAM
        + """
lists:
  ads:
    files: [/etc/ads.txt]
    urls: ['https://lists.example/hosts.txt']
    domains: [Tracker.example]
    refresh: 1h
    answer: nxdomain
  good: {}
groups:
  default: {block: [ads], allow: [good]}
state: {directory: /var/lib/staggerdns}
"""
    )
    ads = config.lists["ads"]
    assert ads.domains == (b"\7tracker\7example\0",)
    assert (ads.refresh, ads.answer) == (3600, "nxdomain")
    assert config.groups["default"].block == ("ads",)
    assert config.state.directory == "/var/lib/staggerdns"
    assert [*config.lists] == ["ads", "good"]


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("720h", 30 * 86_400), ("90", 90)])
def test_refresh(text: str, seconds: float) -> None:
    """From a minute, so that no server is overrun, to a month."""
    config = parse_config(f"{UPSTREAM}lists: {{ads: {{refresh: {text}}}}}")
    assert config.lists["ads"].refresh == seconds


@pytest.mark.parametrize("answer", ANSWERS)
def test_answers(answer: str) -> None:
    """The four of them."""
    config = parse_config(f"{UPSTREAM}lists: {{ads: {{answer: {answer}}}}}")
    assert config.lists["ads"].answer == answer


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("lists: {ads: {answer: zero}}", "lists.ads.answer: expected null_address or nxdomain or "),
        ("lists: {ads: {answer: null}}", "lists.ads.answer: expected text, got nothing"),
        ("lists: {ads: {answers: nodata}}", "lists.ads.answers: unknown key: did you mean answer?"),
        ("lists: {good: {}, ads: {refresh: 0}}", "lists.ads.refresh: expected "),
        (
            "lists: {ads: {refresh: 59.9s}}",
            "lists.ads.refresh: expected a duration from 60s to 720h, got '59.9s'",
        ),
        ("lists: {ads: {refresh: 2592001}}", "lists.ads.refresh: expected a duration from 60s to "),
        ("lists: {ads: {domains: ['a..b']}}", "lists.ads.domains[0]: expected "),
        ("lists: {ads: {files: /etc/ads}}", "lists.ads.files: expected a list, got text"),
        ("lists: {ads: {urls: ['http://a.example/']}}", "lists.ads.urls[0]: expected a URL like "),
        ("lists: {a b: {}}", "lists: expected names of letters"),
        ("lists: [ads]", "lists: expected a map of keys and values, got a list"),
        ("lists: {ads: null}", "lists.ads: expected a map of keys and values, got nothing"),
        (f"{LISTS}groups: {{default: {{block: [adds]}}}}", "groups.default.block[0]: there is no "),
        (
            f"{LISTS}groups: {{default: {{block: [ads], allow: [good, x]}}}}",
            "groups.default.allow[1]: there is no list x: expected ads or good",
        ),
        (
            f"{LISTS}groups: {{kids: {{clients: ['::1'], block: [ads, ads]}}}}",
            "groups.kids.block[1]: ads is there already",
        ),
        ("state: {directory: ''}", "state.directory: expected a path, or null for none"),
        ("state: {directory: 5}", "state.directory: expected text or null, got a whole number"),
    ],
)
def test_bad_lists(text: str, problem: str) -> None:
    """The place is named, and what was expected."""
    with pytest.raises(ConfigError) as error:
        parse_config(f"{UPSTREAM}{text}\n")
    assert str(error.value).startswith(problem)
