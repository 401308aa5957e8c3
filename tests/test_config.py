"""The configuration: docs/configuration.rst."""

from __future__ import annotations

import json
import os
import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import staggerdns
from docs._ext.declared import read_sections
from staggerdns import files as files_module
from staggerdns.config import load_config, parse_config
from staggerdns.settings.document import ConfigError
from staggerdns.settings.section import NAME
from staggerdns.settings.sections import Config
from staggerdns.shared import checks
from tests.kit.certificates import CertificateAuthority, encrypted
from tests.kit.checkout import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(staggerdns.__file__).parent
HINT = "YAML reads on, off, yes and no so: put quotes around text"


BESIDE = {
    "upstream.racing.delay": "min_delay: 1ms, max_delay: 24h, ",
    "upstream.racing.min_delay": "delay: 24h, max_delay: 24h, ",
    "upstream.racing.max_delay": "min_delay: 1ms, delay: 1ms, ",
    "upstream.sequential.timeout": "min_timeout: 1ms, max_timeout: 24h, ",
    "upstream.sequential.min_timeout": "timeout: 24h, max_timeout: 24h, ",
    "upstream.sequential.max_timeout": "min_timeout: 1ms, timeout: 1ms, ",
    "upstream.health.degraded_after": "unhealthy_after: 1000000, ",
    "upstream.health.unhealthy_after": "degraded_after: 1, ",
    "upstream.health.open_for": "max_open_for: 24h, ",
    "upstream.health.max_open_for": "open_for: 1ms, ",
}
"""What leaves a number alone that belongs between others."""


def configured(path: str, value: str, *, servers: str = "[192.0.2.1]") -> str:
    """Return YAML text with one key set to ``value``, which is YAML itself."""
    section, _, key = path.rpartition(".")
    if path == "upstream.servers":
        servers = value
    lines = [f"upstream:\n  servers: {servers}"]
    if section.startswith("upstream."):
        beside = BESIDE.get(path, "")
        lines.append(f"  {section.partition('.')[2]}: {{{beside}{key}: {value}}}")
    elif section == "upstream" and key != "servers":
        lines.append(f"  {key}: {value}")
    elif "." in section:
        top, _, inner = section.partition(".")
        lines.append(f"{top}: {{{inner}: {{{key}: {value}}}}}")
    elif section != "upstream":
        lines.append(f"{section}: {{{key}: {value}}}" if section else f"{key}: {value}")
    return "\n".join(lines) + "\n"


def read(path: str, value: str) -> Any:
    """Return what a key holds after it was set to ``value``."""
    found: Any = parse_config(configured(path, value))
    for part in path.split("."):
        found = getattr(found, part)
    return found


def error_of(text: str) -> str:
    """Return the one line that says what is wrong with a configuration."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def error(path: str, value: str) -> str:
    """Return what is said about one wrong value, and check that it begins with the path."""
    message = error_of(configured(path, value))
    assert message.startswith((f"{path}:", f"{path}[")), message
    return message


def keys(kind: Any = Config, path: str = "") -> Iterator[tuple[str, msgspec.structs.FieldInfo]]:
    """Yield each key of the configuration with its path, sections left out."""
    for field in msgspec.structs.fields(kind):
        inner = f"{path}.{field.name}".lstrip(".")
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from keys(field.type, inner)
        else:
            yield inner, field


DURATIONS = [
    "server.tcp_idle_timeout",
    "upstream.timeout",
    "upstream.parallel.fallback_timeout",
    "upstream.parallel.max_fallback_timeout",
    "upstream.parallel.stagger_delay",
    "upstream.parallel.total_collect_timeout",
    "upstream.parallel.negative_grace",
    "upstream.racing.delay",
    "upstream.racing.min_delay",
    "upstream.racing.max_delay",
    "upstream.sequential.timeout",
    "upstream.sequential.min_timeout",
    "upstream.sequential.max_timeout",
    "upstream.health.open_for",
    "upstream.health.max_open_for",
    "upstream.adaptive.max_step",
    "ranking.timeout",
    "families.margin",
    "cache.shared.timeout",
]
NUMBERS = [
    ("traces", 0, 100_000),
    ("server.tcp_max_connections", 1, 1_000_000),
    ("server.tcp_max_per_client", 1, 1_000_000),
    ("server.max_udp_size", 512, 4096),
    ("server.max_pending", 1, 1_000_000),
    ("server.max_pending_per_client", 1, 1_000_000),
    ("server.client.ipv4_prefix", 8, 32),
    ("server.client.ipv6_prefix", 16, 128),
    ("server.rate_limit.queries_per_second", 0, 1_000_000),
    ("server.rate_limit.burst", 1, 1_000_000),
    ("server.rate_limit.slip", 0, 10),
    ("upstream.parallel.active_tier_size", 1, 1_000_000),
    ("upstream.parallel.batch_size", 1, 1_000_000),
    ("upstream.parallel.max_pool_size", 1, 1_000_000),
    ("upstream.racing.max_concurrent", 1, 1_000_000),
    ("upstream.health.degraded_after", 1, 1_000_000),
    ("upstream.health.unhealthy_after", 1, 1_000_000),
    ("upstream.health.heal_after", 1, 1_000_000),
    ("upstream.budget.max_inflight", 1, 1_000_000),
    ("upstream.budget.queries_per_second", 0, 1_000_000),
    ("upstream.budget.burst", 1, 1_000_000),
    ("cache.max_entries", 1, 100_000_000),
    ("cache.fast_response_ttl", 1, 3600),
    ("cache.user_return_ttl", 0, 604_800),
    ("cache.min_ttl", 0, 86_400),  # max_ttl's default: above it is another error
    ("cache.max_ttl", 0, 604_800),
    ("cache.max_negative_ttl", 0, 604_800),
    ("cache.max_stale", 0, 604_800),
    ("cache.prefetch.min_hits", 1, 255),
    ("cache.prefetch.last_percent", 1, 50),
    ("ranking.samples", 1, 10),
    ("ranking.concurrency", 1, 1000),
    ("ranking.queue", 1, 1_000_000),
    ("ranking.max_addresses", 0, 1000),
    ("ranking.rtt_cache_ttl", 1, 604_800),
    ("ranking.max_probes_per_second", 1, 1_000_000),
    ("query_log.keep", 1, 100),
]
BOOLEANS = [
    "upstream.cookies",
    "server.cookies.enabled",
    "rebinding.strip",
    "upstream.parallel.merge_private",
    "ranking.enabled",
    "ranking.probe_private",
    "cache.prefetch.enabled",
    "page.enabled",
]
LOCAL_NAMES = [
    "local.localhost",
    "local.invalid",
    "local.test",
    "local.mdns",
    "local.onion",
    "local.home_arpa",
    "local.resolver_arpa",
    "local.private_reverse",
]
BOOLEANS += LOCAL_NAMES
OTHERS = {
    "cache.max_size",
    "cache.shared.url",
    "cache.shared.password",
    "cache.shared.tls_ca",
    "cache.shared.site",
    "server.listen",
    "server.allow",
    "server.proxy_protocol",
    "local.hosts",
    "local.records",
    "server.client.exempt",
    "rebinding.allow_domains",
    "addresses.ignore",
    "addresses.bogus_nxdomain",
    "routes",
    "groups",
    "lists",
    "state.directory",
    "control.socket",
    "control.group",
    "state.interval",
    "server.cookies.secret",
    "server.tls_certificate",
    "server.tls_key",
    "upstream.servers",
    "upstream.bootstrap",
    "upstream.tls_ca",
    "upstream.strategy",
    "upstream.profile",
    "upstream.case_randomization",
    "upstream.parallel.ask",
    "upstream.adaptive.ewma_alpha",
    "ranking.probes",
    "families.prefer",
    "metrics.listen",
    "page.hosts",
    "page.names",
    "page.clients",
    "log.level",
    "log.format",
    "query_log.file",
    "query_log.dnstap",
    "query_log.clients",
    "query_log.max_size",
}


def test_every_key_is_tested_here() -> None:
    """The tables above hold every key that there is."""
    tested = {*DURATIONS, *BOOLEANS, *OTHERS, *(path for path, _, _ in NUMBERS)}
    assert {path for path, _ in keys()} == tested


def test_defaults_of_the_server() -> None:
    """Without a section ``server`` that is as docs/configuration.rst says."""
    server = parse_config("upstream: {servers: [192.0.2.1]}").server
    assert list(map(str, server.listen)) == ["127.0.0.1:5300", "[::1]:5300"]
    assert list(map(str, server.allow)) == [
        "127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
        "169.254.0.0/16", "fc00::/7", "fe80::/10",
    ]  # fmt: skip
    assert server.proxy_protocol == ()
    assert server.tcp_idle_timeout == 10.0
    assert server.tcp_max_connections == 256
    assert (server.tcp_max_per_client, server.max_udp_size) == (64, 1232)
    assert (server.max_pending, server.max_pending_per_client) == (10_000, 1_000)
    client, rate = server.client, server.rate_limit
    assert (client.ipv4_prefix, client.ipv6_prefix) == (32, 56)
    assert list(map(str, client.exempt)) == ["127.0.0.0/8", "::1/128"]
    assert (rate.queries_per_second, rate.burst, rate.slip) == (0, 100, 1)
    assert (server.cookies.enabled, server.cookies.secret) == (True, None)
    assert server.tls_certificate is server.tls_key is None


def test_defaults() -> None:
    """With upstreams alone, everything else is as docs/configuration.rst says."""
    config = parse_config("upstream: {servers: [192.0.2.1]}")
    assert (config.rebinding.strip, config.rebinding.allow_domains) == (False, ())
    assert (config.addresses.ignore, config.addresses.bogus_nxdomain) == ((), ())
    assert list(map(str, config.upstream.bootstrap)) == ["1.1.1.1:53", "8.8.8.8:53"]
    assert config.upstream.tls_ca is None
    assert config.upstream.strategy == "parallel"
    assert config.upstream.timeout == 3.0
    numbers = config.upstream.parallel
    assert (numbers.active_tier_size, numbers.batch_size, numbers.max_pool_size) == (2, 2, 32)
    assert (numbers.fallback_timeout, numbers.max_fallback_timeout) == (None, 0.3)
    assert numbers.stagger_delay == 0.05
    assert numbers.total_collect_timeout == 3.0
    assert numbers.negative_grace == 0.03
    assert numbers.merge_private is False
    upstream = config.upstream
    assert upstream.profile == "balanced"
    racing, sequential, health = upstream.racing, upstream.sequential, upstream.health
    assert (racing.delay, racing.min_delay, racing.max_delay) == (0.1, 0.02, 0.2)
    assert racing.max_concurrent == 4
    assert (sequential.min_timeout, sequential.timeout) == (0.5, 1.0)
    assert sequential.max_timeout == 2.0
    assert (health.degraded_after, health.unhealthy_after, health.heal_after) == (3, 5, 2)
    assert (health.open_for, health.max_open_for) == (30.0, 600.0)
    assert (upstream.adaptive.ewma_alpha, upstream.adaptive.max_step) == (0.2, 0.01)
    budget = upstream.budget
    assert (budget.max_inflight, budget.queries_per_second, budget.burst) == (1000, 0, 100)
    cache = config.cache
    assert (cache.max_entries, cache.fast_response_ttl, cache.user_return_ttl) == (50_000, 5, 600)
    assert (cache.min_ttl, cache.max_ttl, cache.max_negative_ttl) == (0, 86_400, 300)
    assert (cache.max_stale, cache.max_size) == (3_600, 128 * 1024 * 1024)
    prefetch = cache.prefetch
    assert (prefetch.enabled, prefetch.min_hits, prefetch.last_percent) == (True, 3, 10)
    ranking = config.ranking
    assert ranking.enabled is True
    assert ranking.probe_private is False
    assert ranking.probes == ("icmp", "tcp:443", "tcp:80")
    assert (ranking.samples, ranking.concurrency, ranking.queue) == (3, 128, 200)
    assert (ranking.rtt_cache_ttl, ranking.max_probes_per_second) == (300, 500)
    assert ranking.max_addresses == 0
    assert (config.families.prefer, config.families.margin) == ("none", 0.02)
    assert ranking.timeout == 1.0
    assert config.local.hosts == "/etc/hosts"
    assert not config.local.records
    for path in LOCAL_NAMES:
        assert getattr(config.local, path.rpartition(".")[2]) is True
    assert str(config.metrics.listen) == "127.0.0.1:9153"
    assert config.control.socket == "/run/staggerdns/control.sock"
    assert config.control.group is None
    assert (config.log.level, config.log.format) == ("info", "text")


def test_the_example_file_shows_the_defaults() -> None:
    """etc/staggerdns.yaml has every key, each with its default."""
    path = ROOT / "etc" / "staggerdns.yaml"
    shown = load_config(str(path))
    plain = parse_config("upstream: {servers: [192.0.2.1]}")
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, _ in keys():
        values, text = [], document
        for config in (shown, plain):
            found: Any = config
            for part in key.split("."):
                found = getattr(found, part)
            values.append(list(map(str, found)) if isinstance(found, tuple) else str(found))
        for part in key.split("."):
            text = text[part]
        if key != "upstream.servers":
            assert values[0] == values[1], key


def test_the_reference_shows_every_key_with_its_default() -> None:
    """The documentation has all keys, in their order, and the defaults that count."""
    rows = {key.path: key.default for section in read_sections() for key in section.keys}
    # Without the keys of items, of lists and of maps.
    rows = {
        path: default for path, default in rows.items() if "[]" not in path and NAME not in path
    }
    assert sorted(rows) == sorted(key for key, _ in keys())
    plain = parse_config("upstream: {servers: [192.0.2.1]}")
    for key, shown in rows.items():
        if key == "upstream.servers":
            continue
        default: Any = plain
        for part in key.split("."):
            default = getattr(default, part)
        values = re.findall("``([^`]*)``", shown)
        if isinstance(default, tuple):
            assert list(map(str, default)) == values, key
        elif isinstance(default, dict):
            assert [*default] == values, key
        else:
            (value,) = values
            assert read(key, value if key != "metrics.listen" else f"'{value}'") == default, key


GOOD_DURATIONS = {
    "300ms": 0.3, "3s": 3, "5m": 300, "1h": 3600, "1.5s": 1.5, "0.5m": 30, "7": 7, "0.25": 0.25,
    "'2 s'": 2, "1ms": 0.001, "24h": 86_400, "86400": 86_400,
}  # fmt: skip
BAD_DURATIONS = [
    "0", "0s", "0.9ms", "-1", "-1s", "24.1h", "86401", "1d", "1 day", "s", "''", "3 s s", "1e3s",
    "[1]", "{a: 1}", "null", "3S", "'1,5s'", ".inf", ".nan", "'٣s'", "9" * 400,
]  # fmt: skip
YAML_BOOLEANS = ["yes", "no", "on", "off", "true", "false"]


@pytest.mark.parametrize("path", DURATIONS)
def test_durations(path: str) -> None:
    """A duration is a number with a unit, or seconds as a number, from 1 ms to 24 h."""
    for text, seconds in GOOD_DURATIONS.items():
        assert read(path, text) == pytest.approx(seconds), text


@pytest.mark.parametrize("path", DURATIONS)
def test_what_is_no_duration(path: str) -> None:
    """Anything else is an error that shows how durations are written, or their range."""
    for text in BAD_DURATIONS:
        message = error(path, text)
        assert "duration" in message or "YAML reads" in message
    for text in YAML_BOOLEANS:
        assert HINT in error(path, text)


@pytest.mark.parametrize(("path", "least", "most"), NUMBERS)
def test_limits_of_numbers(path: str, least: int, most: int) -> None:
    """A number is taken from its least to its most, and one beyond either is an error."""
    assert read(path, str(least)) == least
    assert read(path, str(most)) == most
    for value in (least - 1, most + 1):
        assert "expected" in error(path, str(value))


@pytest.mark.parametrize("path", [path for path, _, _ in NUMBERS])
def test_what_is_no_number(path: str) -> None:
    """Text, fractions and lists are no whole numbers, and YAML's no is not 0."""
    for text in ("'5'", "5s", "five", "2.5", "[5]", "null", "''", "5 5"):
        assert "expected a whole number" in error(path, text)
    for text in YAML_BOOLEANS:
        assert HINT in error(path, text)


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("128MiB", 1 << 27),
        ("'128 MiB'", 1 << 27),
        ("1024KiB", 1 << 20),
        ("1GiB", 1 << 30),
        ("1TiB", 1 << 40),
        ("1048576", 1 << 20),
        ("'1048576'", 1 << 20),
    ],
)
def test_sizes(text: str, octets: int) -> None:
    """A size of memory is a whole number with a binary unit, or of octets."""
    assert read("cache.max_size", text) == octets


@pytest.mark.parametrize("text", ["1023KiB", "1048575", "0", "-1", "2TiB", "1099511627777"])
def test_sizes_out_of_bounds(text: str) -> None:
    """From 1 MiB to 1 TiB."""
    shown = text if text.lstrip("-").isdecimal() else repr(text)
    assert f"expected a size from 1MiB to 1TiB, got {shown}" in error("cache.max_size", text)


@pytest.mark.parametrize(
    "text", ["128MB", "128mib", "128M", "1.5GiB", "lots", "MiB", "-5MiB", "1.5", "true", "[1]", ""]
)
def test_what_is_no_size(text: str) -> None:
    """Whatever else is there is told what was expected."""
    assert "expected a size like 128MiB" in error("cache.max_size", text)


@pytest.mark.parametrize("path", ["cache.max_entries", "upstream.timeout", "log.level"])
def test_numbers_that_yaml_bends(path: str) -> None:
    """Base 60, octal, hexadecimal and dates, which YAML reads as something else, are errors."""
    for text in ("1:30", "190:20:30", "010", "0x10", "0b11", "1_000", "2024-01-01"):
        assert text in error(path, text)


def test_the_least_ttl_is_not_above_the_most() -> None:
    """``min_ttl`` may be as large as ``max_ttl``, and larger only when that is off."""
    base = "upstream: {servers: [192.0.2.1]}\ncache: "
    assert parse_config(base + "{min_ttl: 60, max_ttl: 60}").cache.min_ttl == 60
    assert parse_config(base + "{min_ttl: 60, max_ttl: 0}").cache.max_ttl == 0
    assert error_of(base + "{min_ttl: 61, max_ttl: 60}").startswith("cache.min_ttl: ")


@pytest.mark.parametrize("path", BOOLEANS)
@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ("yes", True)])
def test_booleans(path: str, text: str, value: bool) -> None:
    """A boolean is written as YAML writes booleans, and as nothing else."""
    assert read(path, text) is value
    for wrong in ("'yes'", "1", "null", "maybe"):
        assert "true or false" in error(path, wrong)


def test_probes() -> None:
    """Ways of probing are ICMP and TCP to a port, each once; the error shows how to write them."""
    assert read("ranking.probes", "[icmp, 'tcp:443', tcp:1, tcp:65535]") == (
        "icmp",
        "tcp:443",
        "tcp:1",
        "tcp:65535",
    )
    for wrong in (
        "ICMP",
        "tcp",
        "'tcp:'",
        "tcp:0",
        "tcp:65536",
        "tcp:x",
        "'tcp:٨'",
        "udp:53",
        "''",
    ):
        message = error("ranking.probes", f"[icmp, {wrong}]")
        assert message.startswith("ranking.probes[1]: expected icmp or tcp:PORT")
    assert error("ranking.probes", "[icmp, 443]").startswith("ranking.probes[1]: ")
    assert error("ranking.probes", "[tcp:80, tcp:80]").startswith("ranking.probes[1]: ")
    error("ranking.probes", "[]")
    error("ranking.probes", "icmp")


@pytest.mark.parametrize("level", ["debug", "info", "warn", "error"])
def test_levels(level: str) -> None:
    """There are four levels, and the error for any other names them."""
    assert read("log.level", level) == level
    for wrong in ("INFO", "trace", "''"):
        assert "debug" in error("log.level", wrong)
    assert HINT in error("log.level", "off")


@pytest.mark.parametrize("format", ["text", "json"])
def test_log_formats(format: str) -> None:
    """There are two, and the error for any other names them."""
    assert read("log.format", format) == format
    for wrong in ("JSON", "yaml", "''"):
        assert "text" in error("log.format", wrong)


def test_strategies() -> None:
    """There are five, and the error for any other names them."""
    names = ("parallel", "racing", "sequential", "random", "auto")
    for name in names:
        assert read("upstream.strategy", name) == name
    for wrong in ("race", "''", "Parallel"):
        message = error("upstream.strategy", wrong).partition("got")[0]
        assert all(name in message for name in names)
    for wrong in ("null", "5", "[racing]", "{a: racing}", "no"):
        error("upstream.strategy", wrong)


def parallel(text: str) -> Any:
    """The numbers of the two tiers, with more keys of ``upstream``."""
    return parse_config(f"upstream: {{servers: [192.0.2.1], {text}}}").upstream.parallel


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("balanced", (2, 0.3, 2, 0.05, 3)),
        ("latency", (3, 0.2, 2, 0.03, 2)),
        ("completeness", (2, 0.5, 2, 0.1, 5)),
    ],
)
def test_profiles(name: str, numbers: tuple[float, ...]) -> None:
    """A profile sets five numbers, and each that is given wins, other profiles or not."""
    five = (
        "active_tier_size",
        "max_fallback_timeout",
        "batch_size",
        "stagger_delay",
        "total_collect_timeout",
    )
    for text in (f"profile: {name}", f"parallel: {{}}, profile: {name}"):
        found = parallel(text)
        assert tuple(getattr(found, key) for key in five) == pytest.approx(numbers)
        assert (found.negative_grace, found.max_pool_size, found.merge_private) == (0.03, 32, False)
    for one in five:
        value = 7 if one.endswith("size") else "1234ms"
        found = parallel(f"profile: {name}, parallel: {{{one}: {value}, max_pool_size: 9}}")
        for key, number in zip(five, numbers, strict=True):
            expected = number if key != one else 7 if value == 7 else 1.234
            assert getattr(found, key) == pytest.approx(expected)
        assert found.max_pool_size == 9


def test_gentle_profile() -> None:
    """It has the numbers of ``balanced``, and those who add nothing are left out."""
    gentle, balanced = parallel("profile: gentle"), parallel("")
    assert (gentle.ask, balanced.ask) == ("learned", "all")
    assert msgspec.structs.replace(gentle, ask="all") == balanced
    assert parallel("profile: gentle, parallel: {ask: all}") == balanced
    assert parallel("parallel: {ask: learned}") == gentle


def test_whom_to_ask() -> None:
    """Anything but the two is an error."""
    for wrong in ("some", "Learned", "''"):
        assert "all or learned" in error("upstream.parallel.ask", wrong).partition("got")[0]
    for wrong in ("null", "5", "[all]", "no"):
        error("upstream.parallel.ask", wrong)


def test_no_profiles() -> None:
    """Anything else is an error that names the four; what stands in ``parallel`` is checked."""
    for wrong in ("fast", "''", "Latency"):
        message = error("upstream.profile", wrong).partition("got")[0]
        assert all(name in message for name in ("balanced", "latency", "completeness", "gentle"))
    for wrong in ("null", "5", "[latency]", "{latency: 1}", "no", "[[]]"):
        error("upstream.profile", wrong)


def test_case_randomization() -> None:
    """Auto or never; what else there is, says the error."""
    for value in ("auto", "never"):
        assert read("upstream.case_randomization", value) == value
    for wrong in ("Auto", "on", "off", "1"):
        error("upstream.case_randomization", wrong)
    assert "auto or never" in error("upstream.case_randomization", "always")
    for wrong in ("null", "5", "[1]", "latency"):
        message = error_of(
            f"upstream: {{servers: [192.0.2.1], profile: latency, parallel: {wrong}}}"
        )
        assert message.startswith("upstream.parallel: ")
    message = error_of("upstream: {servers: [192.0.2.1], profile: latency, parallel: {size: 1}}")
    assert message.startswith("upstream.parallel.size: unknown key")


def test_a_timeout_that_is_learnt() -> None:
    """``fallback_timeout: auto`` is `None`; null is not, and no other key takes it."""
    assert read("upstream.parallel.fallback_timeout", "auto") is None
    assert parallel("profile: latency, parallel: {fallback_timeout: auto}").fallback_timeout is None
    for wrong in ("Auto", "automatic", "''", "[auto]", "null"):
        assert "auto" in error("upstream.parallel.fallback_timeout", wrong).partition("got")[0]
    for path in DURATIONS:
        if path != "upstream.parallel.fallback_timeout":
            assert "duration" in error(path, "auto")


def test_alpha() -> None:
    """The weight of a measurement is above 0 and at most 1."""
    path = "upstream.adaptive.ewma_alpha"
    for text, alpha in {"0.2": 0.2, "0.001": 0.001, "1": 1.0, "1.0": 1.0}.items():
        assert read(path, text) == alpha
    for wrong in ("0", "0.0", "-0.1", "1.001", "2", ".nan", ".inf", "null", "'0.2'", "20%", "yes"):
        error(path, wrong)


@pytest.mark.parametrize(
    ("section", "least", "middle", "most", "path"),
    [
        ("racing", "min_delay", "delay", "max_delay", "upstream.racing.delay"),
        ("sequential", "min_timeout", "timeout", "max_timeout", "upstream.sequential.timeout"),
    ],
)
def test_between(section: str, least: str, middle: str, most: str, path: str) -> None:
    """A start lies between its bounds, which may meet it; beyond either is an error."""

    def text(low: int, start: int, high: int) -> str:
        return (
            f"upstream: {{servers: [192.0.2.1], {section}: "
            f"{{{least}: {low}ms, {middle}: {start}ms, {most}: {high}ms}}}}"
        )

    for good in ((5, 5, 5), (4, 5, 6), (5, 5, 6), (4, 5, 5)):
        parse_config(text(*good))
    for bad in ((5, 4, 6), (4, 6, 5), (6, 5, 4)):
        assert error_of(text(*bad)).startswith(f"{path}: expected ")


def test_thresholds_in_their_order() -> None:
    """Unhealthy comes with degraded or later, the longest rest is no shorter than the first."""
    base = "upstream: {servers: [192.0.2.1], health: "
    parse_config(base + "{degraded_after: 4, unhealthy_after: 4}}")
    parse_config(base + "{open_for: 10s, max_open_for: 10s}}")
    message = error_of(base + "{degraded_after: 4, unhealthy_after: 3}}")
    assert message.startswith("upstream.health.unhealthy_after: expected ")
    message = error_of(base + "{open_for: 10s, max_open_for: 9999ms}}")
    assert message.startswith("upstream.health.max_open_for: expected ")


@pytest.mark.parametrize(
    ("text", "shown", "transport", "host", "port"),
    [
        ("1.1.1.1", "1.1.1.1:53", "udp", "1.1.1.1", 53),
        ("1.1.1.1:5353", "1.1.1.1:5353", "udp", "1.1.1.1", 5353),
        ("1.1.1.1:65535", "1.1.1.1:65535", "udp", "1.1.1.1", 65535),
        ("udp://1.1.1.1", "1.1.1.1:53", "udp", "1.1.1.1", 53),
        ("udp://1.1.1.1:1", "1.1.1.1:1", "udp", "1.1.1.1", 1),
        ("tcp://208.67.222.222", "tcp://208.67.222.222:53", "tcp", "208.67.222.222", 53),
        ("tcp://[::1]:5353", "tcp://[::1]:5353", "tcp", "::1", 5353),
        ("::1", "[::1]:53", "udp", "::1", 53),
        ("[::1]", "[::1]:53", "udp", "::1", 53),
        ("[::1]:53", "[::1]:53", "udp", "::1", 53),
        ("2001:DB8:0:0::1", "[2001:db8::1]:53", "udp", "2001:db8::1", 53),
        ("tcp://dns.example", "tcp://dns.example:53", "tcp", "dns.example", 53),
        ("tls://1.1.1.1", "tls://1.1.1.1:853", "tls", "1.1.1.1", 853),
        ("tls://[::1]", "tls://[::1]:853", "tls", "::1", 853),
        ("tls://Dns.Example.:53", "tls://dns.example:53", "tls", "dns.example", 53),
        ("tls://1.1.1.1#A.example.", "tls://1.1.1.1:853#a.example", "tls", "1.1.1.1", 853),
        ("https://a.example/d", "https://a.example:443/d", "https", "a.example", 443),
        ("https://[::1]:4/", "https://[::1]:4/", "https", "::1", 4),
        ("https://a.example/d{?dns}", "https://a.example:443/d{?dns}", "https", "a.example", 443),
        ("https://1.1.1.1/d#a.b", "https://1.1.1.1:443/d#a.b", "https", "1.1.1.1", 443),
    ],
)
def test_upstreams(text: str, shown: str, transport: str, host: str, port: int) -> None:
    """Every form of an address, with the port and the transport that it means."""
    (upstream,) = read("upstream.servers", f"['{text}']")
    assert str(upstream) == shown
    assert upstream.transport == transport
    assert (upstream.endpoint.host, upstream.endpoint.port) == (host, port)


PIN = "A" * 43 + "="


@pytest.mark.parametrize(
    ("text", "auth_name", "path", "get", "pins"),
    [
        ("tls://192.0.2.1", "192.0.2.1", "", False, 0),
        ("tls://192.0.2.1#dns.example", "dns.example", "", False, 0),
        ("tls://dns.example", "dns.example", "", False, 0),
        ("tls://dns.example#other.example", "other.example", "", False, 0),
        (f"tls://192.0.2.1;pin-sha256={PIN}", "", "", False, 1),
        (
            f"tls://[::1]:5{';pin-sha256=' + PIN}{';pin-sha256=' + 'B' * 42 + 'A='}",
            "",
            "",
            False,
            2,
        ),
        (f"tls://192.0.2.1#a.example;pin-sha256={PIN}", "a.example", "", False, 1),
        (f"tls://dns.example;pin-sha256={PIN}", "dns.example", "", False, 1),
        (f"https://192.0.2.1/d;pin-sha256={PIN}", "", "/d", False, 1),
        ("https://dns.example/dns-query", "dns.example", "/dns-query", False, 0),
        ("https://192.0.2.1/a/b{?dns}#a.b", "a.b", "/a/b", True, 0),
    ],
)
def test_who_an_upstream_must_be(
    text: str, auth_name: str, path: str, get: bool, pins: int
) -> None:
    """Whose certificate counts, which keys, and where a DoH query goes."""
    (upstream,) = read("upstream.servers", f"['{text}']")
    assert (upstream.auth_name, upstream.path, upstream.get) == (auth_name, path, get)
    assert len(upstream.pins) == pins
    assert all(len(pin) == 32 for pin in upstream.pins)


@pytest.mark.parametrize(
    ("text", "shown", "subnet"),
    [
        ("192.0.2.1", "192.0.2.1:53", None),
        ("192.0.2.1;ecs=off", "192.0.2.1:53;ecs=off", "0.0.0.0/0"),
        ("::1;ecs=off", "[::1]:53;ecs=off", "::/0"),
        ("192.0.2.1:54;ecs=198.51.100.0/24", "192.0.2.1:54;ecs=198.51.100.0/24", None),
        ("192.0.2.1;ecs=198.51.100.7", "192.0.2.1:53;ecs=198.51.100.7/32", None),
        ("192.0.2.1;ecs=128.0.0.0/1", "192.0.2.1:53;ecs=128.0.0.0/1", None),
        ("192.0.2.1;ecs=2001:DB8:0::/56", "192.0.2.1:53;ecs=2001:db8::/56", None),
        ("192.0.2.1;ecs=::ffff:10.0.0.0/104", "192.0.2.1:53;ecs=10.0.0.0/8", None),
        ("tcp://[::1]:5;ecs=::1/128", "tcp://[::1]:5;ecs=::1/128", None),
        ("tls://192.0.2.1#a.b;ecs=off", "tls://192.0.2.1:853#a.b;ecs=off", "0.0.0.0/0"),
        (f"tls://a.b;ecs=off;pin-sha256={PIN}", "tls://a.b:853;ecs=off", "0.0.0.0/0"),
        (f"tls://a.b;pin-sha256={PIN};ecs=off", "tls://a.b:853;ecs=off", "0.0.0.0/0"),
        ("https://a.b/q;x=1{?dns}#c;ecs=off", "https://a.b:443/q;x=1{?dns}#c;ecs=off", "0.0.0.0/0"),
    ],
)
def test_what_an_upstream_is_told(text: str, shown: str, subnet: str | None) -> None:
    """The client subnet is part of the upstream's name, and a name can be written."""
    (upstream,) = read("upstream.servers", f"['{text}']")
    assert str(upstream) == shown
    assert upstream.resolver == shown.partition(";ecs")[0]
    expected = subnet or shown.partition(";ecs=")[2]
    assert str(upstream.subnet or "") == expected
    (again,) = read("upstream.servers", f"['{shown}']")
    assert (str(again), again.subnet) == (shown, upstream.subnet)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (";ecs=", ";ecs=: expected a network like 192.168.0.0/16, got ''; or off"),
        (";ecs=on", "expected a network like 192.168.0.0/16, got 'on'; or off"),
        (";ecs=OFF", "got 'OFF'; or off"),
        (";ecs=198.51.100.1/24", "did you mean 198.51.100.0/24?; or off"),
        (";ecs=198.51.100.0/33", "got '198.51.100.0/33'"),
        (";ecs=fe80::1%eth0", "got 'fe80::1%eth0'"),
        (";ecs=0.0.0.0/0", ";ecs=0.0.0.0/0: for no subnet at all write ;ecs=off"),
        (";ecs=::/0", ";ecs=::/0: for no subnet at all write ;ecs=off"),
        (";ecs=off;ecs=off", "expected an address like"),
        (";ecs=198.51.100.0/24;ecs=203.0.113.0/24", "expected an address like"),
        (";ECS=off", "expected an address like"),
        (";ecs", "expected an address like"),
        (f";ecs=off;pin-sha256={PIN}", "expected an address like"),
    ],
)
def test_what_is_no_client_subnet(option: str, said: str) -> None:
    """The error names the item, and says what belongs there."""
    message = error("upstream.servers", f"[192.0.2.9, '192.0.2.1{option}']")
    assert message.startswith("upstream.servers[1]: ")
    assert said in message


def test_one_resolver_with_several_subnets() -> None:
    """These are several upstreams; one subnet twice is one."""
    text = "['192.0.2.1', '192.0.2.1;ecs=off', '192.0.2.1;ecs=198.51.100.0/24']"
    assert len(read("upstream.servers", text)) == 3
    message = error("upstream.servers", "['::1;ecs=2001:db8::/56', '[::1]:53;ecs=2001:db8:0::/56']")
    assert message == "upstream.servers[1]: [::1]:53;ecs=2001:db8::/56 is there already"


def test_bootstrap() -> None:
    """Names are resolved by upstreams that have addresses, over any transport."""
    found = read("upstream.bootstrap", "[192.0.2.1, 'tls://192.0.2.2#dns.example']")
    assert list(map(str, found)) == ["192.0.2.1:53", "tls://192.0.2.2:853#dns.example"]
    message = error("upstream.bootstrap", "[192.0.2.1, 'tls://dns.example']")
    assert message.startswith("upstream.bootstrap[1]: expected an address")
    assert error("upstream.bootstrap", "['::1', '::1']").startswith("upstream.bootstrap[1]: ")
    for wrong in ("[]", "192.0.2.1", "null", "[x.example]"):
        error("upstream.bootstrap", wrong)


def test_authorities(tmp_path: Path) -> None:
    """``tls_ca`` names a PEM file; one that is missing, or holds no certificate, is an error."""
    ca = CertificateAuthority(tmp_path).ca
    assert read("upstream.tls_ca", str(ca)) == str(ca)
    assert "cannot be read" in error("upstream.tls_ca", str(tmp_path / "none.pem"))
    (tmp_path / "empty.pem").write_text("nothing\n")
    assert "PEM" in error("upstream.tls_ca", str(tmp_path / "empty.pem"))
    broken = ca.read_text().replace("A", "!")
    (tmp_path / "broken.pem").write_text(broken)
    assert "PEM" in error("upstream.tls_ca", str(tmp_path / "broken.pem"))
    error("upstream.tls_ca", "5")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dns.example",
        "1.1.1",
        "1.1.1.1:",
        "1.1.1.1:0",
        "1.1.1.1:65536",
        "1.1.1.1:x",
        "1.1.1.256",
        "[::1",
        "::1]:53",
        "[::1]x",
        "[::1]:",
        "[::1]:0",
        "[::1]:65536",
        "fe80::1%",
        "fe80::1%eth 0",
        "fe80::1%eth/0",
        "fe80::1%a-name-of-16-let",
        "fe80::1%25eth0%x",
        "2001:db8::1%eth0",
        "::1%lo",
        "192.0.2.1%eth0",
        "[]:53",
        "udp://dns.example",
        "tls://",
        "tls://1.1.1",
        "tls://dns.example:0",
        "tls://dns.example:65536",
        "tls://-dns.example",
        "tls://dns..example",
        "tls://" + "a" * 64,
        "tls://" + "a." * 126 + "aa",
        "tls://dns.example/path",
        "tls://dns.ex\u00e4mple",
        "tls://1.1.1.1#",
        "tls://1.1.1.1#1.1.1.1",
        "tls://1.1.1.1#a b",
        "tls://2001:db8::1%eth0",
        "tls://dns.example%eth0",
        "tls://1.1.1.1;pin-sha256=",
        "tls://1.1.1.1;pin-sha256=AAAA",
        "tls://1.1.1.1;pin-sha256=" + "A" * 43,
        "tls://1.1.1.1;pin-sha256=" + "A" * 42 + "!=",
        "tls://1.1.1.1;pin-sha1=" + "A" * 43 + "=",
        "tcp://1.1.1.1#dns.example",
        "1.1.1.1#dns.example",
        "https://dns.google",
        "https://dns.google/d?x=y",
        "https://dns.google/a b",
        "https://dns.google/{dns}",
        "http://dns.google/dns-query",
        "quic://1.1.1.1",
        "TCP://1.1.1.1",
        "tcp:1.1.1.1",
        "tcp://",
        "udp://tcp://1.1.1.1",
        "1.1.1.1/24",
        " 1.1.1.1",
        "1.1.1.1:-1",
        "1.1.1.1:٥٣",
        "1.1.1.1:5" * 9,
    ],
)
def test_what_is_no_upstream(text: str) -> None:
    """Anything else is an error that names the item and shows what is written."""
    message = error("upstream.servers", json.dumps(["192.0.2.9", text], ensure_ascii=False))
    assert message.startswith("upstream.servers[1]: expected ")


@pytest.mark.parametrize("text", ["53", "null", "yes", "[1.1.1.1]", "{a: 1}", "1.5"])
def test_upstreams_are_text(text: str) -> None:
    """An item that is no text at all is named, too."""
    assert error("upstream.servers", f"[192.0.2.9, {text}]").startswith("upstream.servers[1]: ")


@pytest.mark.parametrize(
    "pair",
    [
        ["192.0.2.1", "192.0.2.1"],
        ["192.0.2.1", "udp://192.0.2.1:53"],
        ["::1", "[0:0::1]:53"],
        ["tcp://192.0.2.1", "tcp://192.0.2.1:53"],
        ["tls://dns.example", "tls://DNS.example.:853"],
        ["https://192.0.2.1/d", "https://192.0.2.1:443/d"],
    ],
)
def test_an_upstream_twice(pair: list[str]) -> None:
    """The same upstream twice, however it is written, would be asked twice: an error."""
    message = error("upstream.servers", json.dumps(["192.0.2.9", *pair]))
    assert message.startswith("upstream.servers[2]: ")


def test_one_address_over_two_transports() -> None:
    """UDP and TCP to one address, or two ports, are two upstreams."""
    text = "['192.0.2.1', 'tcp://192.0.2.1', '192.0.2.1:54']"
    assert len(read("upstream.servers", text)) == 3


@pytest.mark.parametrize("text", ["[]", "192.0.2.1", "null", "{}", "5"])
def test_servers_are_a_list(text: str) -> None:
    """There must be one upstream at least, in a list."""
    error("upstream.servers", text)


@pytest.mark.parametrize(
    "text", ["", "{}", "upstream:", "upstream: {}", "server: {}", "upstream: {timeout: 3s}"]
)
def test_servers_are_needed(text: str) -> None:
    """A configuration without upstreams says where they belong."""
    assert "upstream.servers" in error_of(text)


@pytest.mark.parametrize("text", ["[]", "5", "text", "null", "- a"])
def test_what_is_no_configuration(text: str) -> None:
    """A file that holds no keys is an error."""
    assert "expected" in error_of(text)


def test_listen() -> None:
    """Listeners are addresses with ports; none, doubles and bad ones are errors."""
    found = read("server.listen", "['0.0.0.0:53', '[::]:53', '127.0.0.1:54']")
    assert list(map(str, found)) == ["0.0.0.0:53", "[::]:53", "127.0.0.1:54"]
    for wrong in ("127.0.0.1", "'::1'", "'[::1]'", "localhost:53", "5300", "'127.0.0.1:0'", "null"):
        message = error("server.listen", f"['127.0.0.1:5300', {wrong}]")
        assert message.startswith("server.listen[1]: ")
    assert error("server.listen", "['[::1]:53', '[0:0::1]:53']").startswith("server.listen[1]: ")
    error("server.listen", "[]")
    error("server.listen", "127.0.0.1:5300")


PLACE = "expected an address and a port, as in 127.0.0.1:5300 or [::1]:5300"
LISTENER = f"{PLACE}, or tls://ADDRESS or https://ADDRESS"


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        ("tcp://127.0.0.1:53", "'tcp://127.0.0.1:53'"),
        ("127.0.0.1", "'127.0.0.1'"),
        ("'127.0.0.1:70000'", "'127.0.0.1:70000'"),
        ("9153", "9153"),
        ("true", "True"),
    ],
)
def test_a_listener_is_told_its_own_forms(wrong: str, got: str) -> None:
    """The message offers what a listener takes, whatever stands there, and nothing else."""
    assert error("server.listen", f"[{wrong}]") == f"server.listen[0]: {LISTENER}, got {got}"
    assert error("metrics.listen", wrong) == f"metrics.listen: {PLACE}, got {got}"


@pytest.mark.parametrize(
    ("text", "shown", "scheme", "port", "path"),
    [
        ("tls://127.0.0.1", "tls://127.0.0.1:853", "tls", 853, ""),
        ("tls://127.0.0.1:8853", "tls://127.0.0.1:8853", "tls", 8853, ""),
        ("tls://[::1]", "tls://[::1]:853", "tls", 853, ""),
        ("tls://::1", "tls://[::1]:853", "tls", 853, ""),
        ("https://127.0.0.1", "https://127.0.0.1:443/dns-query", "https", 443, "/dns-query"),
        ("https://[::1]:8443/a/b", "https://[::1]:8443/a/b", "https", 8443, "/a/b"),
        ("https://127.0.0.1/", "https://127.0.0.1:443/", "https", 443, "/"),
    ],
)
def test_encrypted_listeners(
    tmp_path: Path, text: str, shown: str, scheme: str, port: int, path: str
) -> None:
    """Every form of an encrypted listener; it needs a certificate and a key."""
    files = CertificateAuthority(tmp_path).issue("dns.example")
    lines = f"listen: ['{text}'], tls_certificate: {files.chain}, tls_key: {files.key}"
    config = parse_config(f"upstream: {{servers: [192.0.2.1]}}\nserver: {{{lines}}}")
    (listener,) = config.server.listen
    assert str(listener) == shown
    assert (listener.scheme, listener.port, listener.path) == (scheme, port, path)


@pytest.mark.parametrize(
    "text",
    [
        "tls://",
        "tls://dns.example",
        "tls://127.0.0.1:0",
        "tls://127.0.0.1/path",
        "https://127.0.0.1:70000/",
        "https://127.0.0.1/a b",
        "https://127.0.0.1/d{?dns}",
        "https://dns.example/",
        "http://127.0.0.1/",
        "tcp://127.0.0.1:53",
    ],
)
def test_what_is_no_encrypted_listener(text: str) -> None:
    """Anything else is an error that names the item."""
    assert error("server.listen", f"['{text}']").startswith("server.listen[0]: expected ")


def test_certificates_of_listeners(tmp_path: Path) -> None:
    """Encrypted listeners need both files, one file needs the other, and they must fit."""
    authority = CertificateAuthority(tmp_path)
    files, others = authority.issue("dns.example"), authority.issue("other.example")

    def complaint(lines: str) -> str:
        return error_of(f"upstream: {{servers: [192.0.2.1]}}\nserver: {{{lines}}}")

    listen = "listen: ['tls://127.0.0.1']"
    needed = "expected a PEM file: tls://127.0.0.1:853 needs it"
    assert complaint(listen) == f"server.tls_certificate: {needed}"
    assert complaint(f"{listen}, tls_certificate: {files.chain}") == f"server.tls_key: {needed}"
    assert complaint(f"tls_key: {files.key}").startswith("server.tls_certificate: expected a PEM")
    missing = f"{tmp_path}/none.pem"
    empty, der, pipe = tmp_path / "empty.pem", tmp_path / "der.pem", tmp_path / "pipe.pem"
    empty.write_text("")
    der.write_bytes(ssl.PEM_cert_to_DER_cert(files.chain.read_text().split("-\n\n")[0]))
    os.mkfifo(pipe)
    turned = tmp_path / "turned.pem"
    turned.write_text(authority.ca.read_text() + files.chain.read_text())
    locked = encrypted(files)
    no_chain, no_key = (
        "expected certificates in PEM form in",
        "expected a private key in PEM form in",
    )
    unreadable = "cannot be read"
    for chain, key, said in (
        (files.chain, others.key, f"tls_key: the key in {others.key} is not that of {files.chain}"),
        (turned, files.key, "tls_certificate: the server's own certificate is number 2 in"),
        (files.chain, locked, f"tls_key: the key in {locked} is encrypted: expected one without"),
        (missing, files.key, f"tls_certificate: {missing} {unreadable}: No such file"),
        (files.chain, missing, f"tls_key: {missing} {unreadable}: No such file"),
        (tmp_path, files.key, f"tls_certificate: {tmp_path} {unreadable}: Is a directory"),
        (pipe, files.key, f"tls_certificate: {pipe} {unreadable}: it is a pipe"),
        (files.chain, pipe, f"tls_key: {pipe} {unreadable}: it is a pipe"),
        (files.chain, "/dev/zero", f"tls_key: /dev/zero {unreadable}: it is a device"),
        (
            files.key,
            files.chain,
            f"tls_certificate: {no_chain} {files.key}: there is a private key in it",
        ),
        (
            files.chain,
            files.chain,
            f"tls_key: {no_key} {files.chain}: there is a certificate in it",
        ),
        (empty, files.key, f"tls_certificate: {no_chain} {empty}: it is empty"),
        (files.chain, empty, f"tls_key: {no_key} {empty}: it is empty"),
        (der, files.key, f"tls_certificate: {no_chain} {der}: it is in DER form"),
        (files.chain, der, f"tls_key: {no_key} {der}: it is in DER form"),
    ):
        found = complaint(f"tls_certificate: {chain}, tls_key: {key}")
        assert found.startswith(f"server.{said}"), found


def test_authorities_of_upstreams(tmp_path: Path) -> None:
    """A file with authorities that cannot be used is told of by its key and its name."""
    authority = CertificateAuthority(tmp_path)
    files = authority.issue("dns.example")
    assert read("upstream.tls_ca", str(authority.ca)) == str(authority.ca)
    pipe, empty = tmp_path / "pipe.pem", tmp_path / "empty.pem"
    os.mkfifo(pipe)
    empty.write_text("")
    for path, said in (
        (pipe, f"{pipe} cannot be read: it is a pipe"),
        ("/dev/zero", "/dev/zero cannot be read: it is a device"),
        (tmp_path, f"{tmp_path} cannot be read: Is a directory"),
        (tmp_path / "none", f"{tmp_path}/none cannot be read: No such file"),
        (empty, f"expected certificates in PEM form in {empty}"),
        (files.key, f"expected certificates in PEM form in {files.key}"),
    ):
        assert error("upstream.tls_ca", str(path)).startswith(f"upstream.tls_ca: {said}")


def test_an_upstream_is_told_its_own_forms() -> None:
    """Upstreams take forms that listeners do not."""
    assert "tcp://192.0.2.1" in error("upstream.servers", "[dns.example]")


def test_metrics_listen() -> None:
    """Metrics have one address with a port, or null."""
    assert str(read("metrics.listen", "'[::1]:9153'")) == "[::1]:9153"
    assert read("metrics.listen", "null") is None
    for wrong in ("9153", "off", "127.0.0.1", "localhost:9153", "[127.0.0.1:9153]", "''"):
        error("metrics.listen", wrong)


def test_page() -> None:
    """Names of the page have no ports; whether it shows names is left open by null."""
    assert read("page.hosts", "[dns.lan.example, '::1', 192.0.2.1]") == (
        "dns.lan.example", "::1", "192.0.2.1",
    )  # fmt: skip
    assert read("page.hosts", "[]") == ()
    for key in ("page.names", "page.clients"):
        assert [read(key, text) for text in ("null", "true", "false")] == [None, True, False]
        for wrong in ("1", "text", "[]"):
            error(key, wrong)
    assert "page.hosts[1]" in error("page.hosts", "[a, 'b:80']")
    for wrong in ("localhost", "[a, a]", "['http://a']", "['']", "['*']", "[5]", "null"):
        error("page.hosts", wrong)


def test_hosts() -> None:
    """The hosts file is a path, or null."""
    assert read("local.hosts", "/etc/other") == "/etc/other"
    assert read("local.hosts", "null") is None
    for wrong in ("5", "no", "''", "[/etc/hosts]", '"a\\0b"'):
        error("local.hosts", wrong)


def test_records() -> None:
    """Records are a map; an error names the key and the record, and what has to be quoted."""
    path = "local.records"
    found = read(
        path, "{nas.lan.example: 192.168.1.10, '*.dev.example': [192.168.1.20, 'fd00::20']}"
    )
    assert list(found.exact) == [b"\3nas\3lan\7example\0"]
    assert list(found.below) == [b"\3dev\7example\0"]
    assert not read(path, "{}")
    for wrong in ("5", "null", "text", "[a]", "{a.example: 5}", "{a.example: {cname: 'a b'}}"):
        error(path, wrong)
    assert "expected a map" in error(path, "[nas.example]")
    assert "local.records: a.example: " in error(path, "{a.example: 192.0.2.300}")
    circle = "{a.example: {cname: b.example}, b.example: {cname: a.example}}"
    assert "a.example: its CNAMEs lead in a circle" in error(path, circle)
    assert "this key is there twice" in error_of(
        configured(path, "{a.example: '::1', a.example: '::2'}")
    )
    unquoted = error_of(
        "upstream: {servers: [192.0.2.1]}\nlocal:\n  records:\n    *.a.example: '::1'\n"
    )
    assert "put quotes around text that begins with *" in unquoted


def test_allow() -> None:
    """Allowed are networks and addresses without host bits."""
    text = "[127.0.0.0/8, '::1', 10.0.0.0/8, fc00::/7]"
    assert list(map(str, read("server.allow", text))) == [
        "127.0.0.0/8", "::1/128", "10.0.0.0/8", "fc00::/7"
    ]  # fmt: skip
    for wrong in ("10.0.0.1/8", "10.0.0.0/33", "any", "5", "no", "''", "null", "10.0.0.0-10.0.0.9"):
        assert error("server.allow", f"[127.0.0.1, {wrong}]").startswith("server.allow[1]: ")
    error("server.allow", "10.0.0.0/8")
    for wrong, right in (("10.0.0.1/8", "10.0.0.0/8"), ("fd00::1/64", "fd00::/64")):
        assert error("server.allow", f"['{wrong}']").endswith(f": did you mean {right}?")
    assert "did you mean" not in error("server.allow", "[10.0.0.0/33]")
    for wrong, right in (("fe80::1%eth0", "fe80::1/128"), ("fe80::%eth0/64", "fe80::/64")):
        assert error("server.allow", f"['{wrong}']").endswith(
            f": did you mean {right}? By which interface it is reached does not count here."
        )
    assert "did you mean" not in error("server.allow", "['fe80::x%eth0']")


def test_exempt_clients() -> None:
    """Networks, as those that are allowed; nobody may be exempt."""
    path = "server.client.exempt"
    assert list(map(str, read(path, "[192.0.2.1, 2001:db8::/32]"))) == [
        "192.0.2.1/32",
        "2001:db8::/32",
    ]
    assert read(path, "[]") == ()
    for wrong in ("10.0.0.1/8", "any", "5", "null"):
        assert error(path, f"[127.0.0.1, {wrong}]").startswith(f"{path}[1]: ")
    error(path, "10.0.0.0/8")


RULES = ("addresses.ignore", "addresses.bogus_nxdomain")


@pytest.mark.parametrize("path", RULES)
def test_rules_about_addresses(path: str) -> None:
    """Networks and addresses of both families, each once; a network may be within another."""
    text = "[198.51.100.0/24, 198.51.100.7, '2001:db8::/32']"
    assert list(map(str, read(path, text))) == [
        "198.51.100.0/24",
        "198.51.100.7/32",
        "2001:db8::/32",
    ]
    assert read(path, "[]") == ()
    for wrong in ("10.0.0.1/8", "any", "5", "null"):
        assert error(path, f"[192.0.2.1, {wrong}]").startswith(f"{path}[1]: ")
    assert error(path, "[192.0.2.1, '::', 192.0.2.1/32]").startswith(
        f"{path}[2]: 192.0.2.1/32 is there already"
    )
    error(path, "192.0.2.1")


@pytest.mark.parametrize(
    ("ignore", "bogus", "places"),
    [
        (["192.0.2.0/24"], ["198.51.100.0/24", "192.0.2.7"], (1, 0)),
        (["2001:db8::1", "192.0.2.7"], ["192.0.2.0/24"], (0, 1)),
        (["192.0.2.7"], ["192.0.2.7"], (0, 0)),
        (["192.0.2.0/24"], ["::ffff:192.0.2.7"], (0, 0)),
        (["0.0.0.0/0"], ["::/0", "255.255.255.255"], (1, 0)),
        (["10.0.0.0/8", "10.0.0.0/16"], ["10.0.0.0/24"], (0, 1)),
        (["192.0.2.0/25"], ["192.0.2.128/25"], None),
        (["0.0.0.0/0"], ["::/0"], None),
        (["192.0.2.6", "192.0.2.8/29"], ["192.0.2.7", "192.0.2.16"], None),
    ],
)
def test_an_address_has_one_rule(
    ignore: list[str], bogus: list[str], places: tuple[int, int] | None
) -> None:
    """Where both have an address, the error names the two networks."""
    rules = json.dumps({"ignore": ignore, "bogus_nxdomain": bogus})
    text = f"upstream: {{servers: [192.0.2.1]}}\naddresses: {rules}\n"
    if places is None:
        parse_config(text)
        return
    message = error_of(text)
    shown = bogus[places[0]].removeprefix("::ffff:")
    assert message.startswith(f"addresses.bogus_nxdomain[{places[0]}]: {shown}")
    assert f"addresses.ignore[{places[1]}], {ignore[places[1]]}" in message


def test_domains() -> None:
    """Domains are names, kept as the wire has them; case and a final dot make no difference."""
    path = "rebinding.allow_domains"
    assert read(path, "[lan, Corp.Example., _x.a-b]") == (
        b"\3lan\0",
        b"\4corp\7example\0",
        b"\2_x\3a-b\0",
    )
    assert read(path, "[]") == ()
    longest = ".".join(["x" * 63] * 3 + ["x" * 61])
    assert len(read(path, f"[{longest}, {longest}.]")[0]) == 255
    for wrong in (
        "''", "'.'", "a..b", ".a", "'*.lan'", "a b", f"{'x' * 64}.a", f"{longest}x", "5", "null",
        "'é'", "'-a'", "'a\\.b'",
    ):  # fmt: skip
        assert error(path, f"[lan, {wrong}]").startswith(f"{path}[1]: expected ")
    error(path, "lan")


def test_a_cookie_secret() -> None:
    """The secret of cookies is 16 octets, written as 32 hexadecimal digits, or null."""
    path = "server.cookies.secret"
    assert read(path, "'e5e973e5a6b2a43f48e7dc849e37bfcf'").hex().startswith("e5e973e5")
    assert read(path, "0123456789ABCDEF0123456789abcdef") == bytes.fromhex("0123456789abcdef" * 2)
    assert read(path, "null") is None
    for wrong in ("''", "e5e973e5", f"'{'0' * 31}'", f"'{'0' * 33}'", f"'{'g' * 32}'", "[a]", "5"):
        assert "expected" in error(path, wrong)


def test_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is, by name or by address, and who may use it; its text has no password."""
    for text, shown, password in (
        ("redis://127.0.0.1", "redis://127.0.0.1:6379/0", ""),
        ("redis://:p%40w@[::1]:7", "redis://[::1]:7/0", "p@w"),
        ("rediss://user:a:b@Store.example/65535", "rediss://user@store.example:6379/65535", "a:b"),
    ):
        found = read("cache.shared.url", f"'{text}'")
        assert (str(found), found.password) == (shown, password)
        assert found.tls == text.startswith("rediss")
        assert found.named == ("example" in text)
    for text in (
        "127.0.0.1",
        "http://127.0.0.1",
        "redis://127.0.0.1/65536",
        "redis://127.0.0.1/-1",
        "redis://127.0.0.1/" + "9" * 5_000,
        "redis://127.0.0.1:0",
        "redis://",
        "redis://:@h",
        "redis://user@h",
        "redis://127.0.0.1:6379:1",
    ):
        assert "expected an address like redis://" in error("cache.shared.url", f"'{text}'")
    assert "hidden" not in error("cache.shared.url", "'redis://user:hidden@h/x'")
    monkeypatch.setattr(checks, "LIBRARY", "no_such_library")
    assert error("cache.shared.url", "redis://h") == (
        "cache.shared.url: no_such_library cannot be found: pip install 'staggerdns[shared]'"
    )
    assert read("cache.shared.url", "null") is None


def test_what_belongs_to_a_store(tmp_path: Path) -> None:
    """A password stands in one place, which can be read; authorities are for TLS."""
    secret, empty = tmp_path / "secret", tmp_path / "empty"
    secret.write_text("sesame\nopen\n")
    empty.write_text("\n")

    def problem(text: str) -> str:
        return error_of(f"upstream: {{servers: [192.0.2.1]}}\ncache: {{shared: {{{text}}}}}")

    config = parse_config(
        f"upstream: {{servers: [192.0.2.1]}}\n"
        f"cache: {{shared: {{url: 'redis://h', password: {secret}}}}}"
    )
    assert checks.read_password(config.cache.shared) == "sesame"
    place = "cache.shared.password: "
    assert problem(f"url: 'redis://:a@h', password: {secret}").startswith(f"{place}expected none")
    assert "cannot be read" in problem(f"url: 'redis://h', password: {tmp_path}/none")
    assert "in its first line" in problem(f"url: 'redis://h', password: {empty}")
    secret.write_text("a" * (checks.MAX_PASSWORD + 1))
    assert "at most 512 characters" in problem(f"url: 'redis://h', password: {secret}")
    ca = CertificateAuthority(tmp_path / "ca").ca
    assert problem(f"url: 'redis://h', tls_ca: {ca}").startswith("cache.shared.tls_ca: expected")
    assert "PEM" in problem(f"url: 'rediss://h', tls_ca: {empty}")
    assert read("cache.shared.site", "a" * 64) == "a" * 64
    for site in ("''", "'a b'", "a" * 65, "'a:b'"):
        assert "at most 64 letters" in error("cache.shared.site", site)


def test_query_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where answers are written, if anywhere, and what of clients."""
    assert read("query_log.file", "/var/log/queries") == "/var/log/queries"
    for path in ("query_log.file", "query_log.dnstap"):
        assert read(path, "null") is None
        for wrong in ("''", '"a\\0b"', "5", "[a]"):
            error(path, wrong)
    for clients in ("full", "prefix", "none"):
        assert read("query_log.clients", clients) == clients
    assert "full or prefix or none" in error("query_log.clients", "some")
    assert read("query_log.max_size", "1MiB") == 1_048_576
    error("query_log.max_size", "1048575")
    longest = "unix:/" + "a" * 106
    for place in ("/var/log/tap", "unix:/run/tap.sock", longest):
        assert read("query_log.dnstap", place) == place
    error("query_log.dnstap", "'unix:'")
    assert "107 octets" in error("query_log.dnstap", longest + "a")
    for same in ("/logs/a", "/logs/./a", "/logs//b/../a"):
        both = f"{{file: /logs/a, dnstap: {same}}}"
        both = f"upstream: {{servers: [192.0.2.1]}}\nquery_log: {both}\n"
        assert error_of(both).startswith("query_log.dnstap: expected another file")
    monkeypatch.setattr("staggerdns.querylog.checks.LIBRARIES", ("msgspec", "no_such_library"))
    assert error("query_log.dnstap", "/var/log/tap") == (
        "query_log.dnstap: no_such_library cannot be found: pip install 'staggerdns[dnstap]'"
    )
    assert read("query_log.file", "/var/log/queries")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("extra: 1", "extra"),
        ("server: {rate_limit: {rate: 1}}", "server.rate_limit.rate"),
        ("server: {client: {ipv4: 1}}", "server.client.ipv4"),
        ("server: {cookies: {secrets: a}}", "server.cookies.secrets"),
        ("server: {extra: 1}", "server.extra"),
        ("cache: {max_entires: 1}", "cache.max_entires"),
        ("resolver: {enabled: true}", "resolver"),
        ("ranking: {queues: 1}", "ranking.queues"),
        ("local: {names: true}", "local.names"),
        ("metrics: {port: 1}", "metrics.port"),
        ("log: {levels: info}", "log.levels"),
    ],
)
def test_unknown_keys(text: str, path: str) -> None:
    """An unknown key is an error with its whole path."""
    message = error_of(f"upstream: {{servers: [192.0.2.1]}}\n{text}")
    assert message.partition(": did you")[0] == f"{path}: unknown key"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("cache: {max_entires: 1}", "max_entries"),
        ("server: {lisen: []}", "listen"),
        ("sever: {listen: []}", "server"),
        ("log: {Level: info}", "level"),
        ("ranking: {probe: []}", "probes"),
        ("server: {cookies: {secrets: a}}", "secret"),
        ("rebinding: {allow-domains: []}", "allow_domains"),
        # A key that belongs elsewhere, too.
        ("max_stale: 5", "cache.max_stale"),
        ("listen: []", "lists or server.listen or metrics.listen"),
        ("local: {burst: 5}", "upstream.budget.burst or server.rate_limit.burst"),
        ("servers: [192.0.2.1]", "server or upstream.servers"),
        ("extra: 1", None),
        ("cache: {colour: 1}", None),
    ],
)
def test_suggestions(text: str, meant: str | None) -> None:
    """For an unknown key the nearest one of its section is named, and where this one belongs."""
    message = error_of(f"upstream: {{servers: [192.0.2.1]}}\n{text}")
    _, _, suggestion = message.partition(": unknown key")
    assert suggestion == (f": did you mean {meant}?" if meant else "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server: [1]", "server: expected a map of keys and values, got a list"),
        (
            "server: {listen: {a: 1}}",
            "server.listen: expected a list, got a map of keys and values",
        ),
        ("server: {allow: [[1]]}", "server.allow[0]: expected text, got a list"),
        ("log: null", "log: expected a map of keys and values, got nothing"),
        ("log: {level: 5}", "log.level: expected text, got a whole number"),
        ("local: {hosts: 5}", "local.hosts: expected text or null, got a whole number"),
        ("cache: {max_ttl: 1.5}", "cache.max_ttl: expected a whole number, got a number"),
        ("cache: {max_entries: 0}", "cache.max_entries: expected a whole number of at least 1"),
        ("ranking: {samples: 11}", "ranking.samples: expected a whole number of at most 10"),
        ("ranking: {enabled: text}", "ranking.enabled: expected true or false, got text"),
        ("log: {level: on}", f"log.level: expected text, got true or false ({HINT})"),
        ("server: {tcp_idle_timeout: {a: 1}}", "got a map of keys and values"),
    ],
)
def test_plain_words(text: str, said: str) -> None:
    """Kinds of values are called as people call them who write YAML."""
    message = error_of(f"upstream: {{servers: [192.0.2.1]}}\n{text}")
    assert message.endswith(said)


@pytest.mark.parametrize(
    "path",
    [
        "upstream.parallel.extra",
        "upstream.racing.extra",
        "upstream.sequential.extra",
        "upstream.health.extra",
        "upstream.adaptive.extra",
        "upstream.budget.extra",
    ],
)
def test_unknown_keys_of_upstream(path: str) -> None:
    """The same below ``upstream``."""
    assert error_of(configured(path, "1")) == f"{path}: unknown key"


def test_no_words_of_programmers() -> None:
    """Whatever stands in the place of any key, the error speaks of no types of Python or JSON."""
    for path, _ in keys():
        for value in ("5", "1.5", "x", "yes", "null", "[1]", "{a: b}", "[[1]]", "[{a: b}]", "-1"):
            try:
                parse_config(configured(path, value))
            except ConfigError as problem:
                said = re.sub(r"\blisten\b", "", str(problem))
                words = re.findall(r"\b(?:array|object|str|int|float|bool|dict|tuple|None)\b", said)
                assert not words, said


@pytest.mark.parametrize("key", ['"a\\nb"', '"\\u2028"', "''", '"a`b"', "'- at `$`'", '"x\\ty"'])
def test_strange_keys(key: str) -> None:
    """However strange the key, the error is one line."""
    assert "unknown key" in error_of(f"upstream: {{servers: [192.0.2.1]}}\n{key}: 1")


@pytest.mark.parametrize("key", ["1", "yes", "null", "[1]", "{a: 1}", "1.5", "2024-01-01", "<<"])
def test_keys_are_text(key: str) -> None:
    """A key that YAML does not take for text is an error."""
    error_of(f"upstream: {{servers: [192.0.2.1]}}\n? {key}\n: {{}}")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("cache: {max_ttl: 1, max_ttl: 2}", "cache.max_ttl"),
        ("cache: {max_ttl: 1, max_ttl: 1}", "cache.max_ttl"),
        ("cache: {max_ttl: 1, 'max_ttl': 2}", "cache.max_ttl"),
        ("log: {}\nlog: {}", "log"),
        ("upstream: {servers: [192.0.2.1]}", "upstream"),
    ],
)
def test_duplicate_keys(text: str, path: str) -> None:
    """A key that is there twice, of which YAML would keep the last, is an error with its path."""
    message = error_of(f"upstream: {{servers: [192.0.2.1]}}\n{text}")
    assert message.startswith(f"{path}: ")
    assert "twice" in message


@pytest.mark.parametrize(
    "text",
    [
        "a: 'b",
        "a: [",
        "\tx: 1",
        "a: b: c",
        "%",
        "a: *b",
        "a: !!python/object:x {}",
        "a: !x 1",
        "\x00",
        "a: &x [*x]",
        "a: " + "[" * 3000 + "]" * 3000,
        "a: 1\n---\nb: 1",
        "a: !!int x",
        "a: 2024-13-45",
        "a: !!binary x",
        "a: !!timestamp x",
        "a: \x07",
        '"\\xZZ": 1',
    ],
)
def test_what_is_no_yaml(text: str) -> None:
    """Broken, hostile and fancy YAML is an error in one line."""
    error_of(text)


@pytest.mark.parametrize("value", ["null", "5", "text", "[1]", "yes"])
@pytest.mark.parametrize("section", ["server", "local", "cache", "ranking", "metrics", "log"])
def test_sections_are_sections(section: str, value: str) -> None:
    """A section that is something else is an error at its name."""
    error(section, value)


# What UTF-8 can hold. The default says the same of a codec, and tries each character with it.
_CHARACTERS = st.characters(exclude_categories=["Cs"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(_CHARACTERS, max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(_CHARACTERS, max_size=5), inner)
    ),
    max_leaves=4,
)


@given(st.sampled_from([path for path, _ in keys()]), _VALUES)
def test_any_value_of_any_key(path: str, value: object) -> None:
    """Whatever a key holds, the configuration is read or refused in one line."""
    document: dict[str, Any] = {"upstream": {"servers": ["192.0.2.1"]}}
    *sections, key = path.split(".")
    place = document
    for section in sections:
        place = place.setdefault(section, {})
    place[key] = value
    said = "read"
    try:
        parse_config(yaml.safe_dump(document, allow_unicode=True))
    except ConfigError as problem:
        said = str(problem)
    assert len(said.splitlines()) == 1


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"%@`#?, \n\t0159.xyoe_~=<\0\x85é")))
def test_any_text(text: str) -> None:
    """Any text is refused in one line."""
    error_of(text)


def test_files(tmp_path: Path) -> None:
    """Errors of a file begin with its path: missing, a directory, not UTF-8, wrong."""
    path = tmp_path / "staggerdns.yaml"
    for content in (None, b"\xff\xfe\xff", b"log: 5", b"upstream: {servers: [192.0.2.1], x: 1}"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            load_config(str(path))
        assert str(caught.value).startswith(f"{path}: ")
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(str(tmp_path))
    path.write_bytes(b"# caf\xc3\xa9\nupstream: {servers: [192.0.2.1]}")
    assert load_config(str(path)).log.level == "info"


@pytest.mark.parametrize(
    ("control", "problem"),
    [
        ("socket: ''", "control.socket: expected a path that begins with /, or null for none"),
        ("socket: run/x", "control.socket: expected a path that begins with /, or null for none"),
        (r'socket: "/x\0"', "control.socket: expected a path that begins with /, or null for none"),
        (f"socket: /{'x' * 107}", "control.socket: expected a path of at most 107 octets"),
        (f"socket: /{'ä' * 54}", "control.socket: expected a path of at most 107 octets"),
        ("group: ''", "control.group: expected the name of a group, or null for none"),
        ("group: 100", "control.group: expected text"),
    ],
)
def test_wrong_control_sockets(control: str, problem: str) -> None:
    """Where none can be made, or nobody could use it."""
    assert error_of(f"upstream: {{servers: [192.0.2.1]}}\ncontrol: {{{control}}}").startswith(
        problem
    )


def test_the_longest_path_of_a_control_socket() -> None:
    """A socket can have so many octets; and none is needed."""
    longest = f"/{'x' * 106}"
    config = parse_config(
        f"upstream: {{servers: [192.0.2.1]}}\ncontrol: {{socket: {longest}, group: adm}}"
    )
    assert (config.control.socket, config.control.group) == (longest, "adm")
    config = parse_config("upstream: {servers: [192.0.2.1]}\ncontrol: {socket: null}")
    assert config.control.socket is None


def test_a_configuration_is_frozen() -> None:
    """Nobody changes the configuration behind the others' backs."""
    config = parse_config("upstream: {servers: [192.0.2.1]}")
    for section in (config, config.cache, config.upstream.parallel):
        with pytest.raises(AttributeError):
            section.log = None  # type: ignore[union-attr, misc]


def test_a_pipe_without_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration that never comes is waited for no longer than `PIPE_WAIT`."""
    monkeypatch.setattr(files_module, "PIPE_WAIT", 0.05)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert str(caught.value) == f"{path}: cannot be read: the pipe did not end within 0.05 s"


# Families.


def families_error(text: str, families: str = "{prefer: auto}") -> str:
    """What is said of a configuration."""
    return error_of(f"upstream: {{servers: [192.0.2.1]}}\nfamilies: {families}\n{text}")


@pytest.mark.parametrize("prefer", ["AUTO", "ipv4", "null", "5", "''"])
def test_what_may_be_preferred(prefer: str) -> None:
    """``none`` or ``auto``, wherever it stands."""
    assert families_error("", f"{{prefer: {prefer}}}").startswith("families.prefer: ")


def test_what_may_be_preferred_elsewhere() -> None:
    """In routes and in groups; what is not said is as globally."""
    text = "routes: [{domains: [a], servers: default, families: {prefer: ipv4}}]"
    assert families_error(text).startswith("routes[0].families.prefer: expected none or auto")
    text = "groups: {kids: {clients: [10.0.0.0/8], families: {prefer: ipv4}}}"
    assert families_error(text).startswith("groups.kids.families.prefer: expected none or auto")
    config = parse_config(
        "upstream: {servers: [192.0.2.1]}\n"
        "routes: [{domains: [a], servers: default, families: {margin: 1ms}}]\n"
        "groups: {kids: {clients: [10.0.0.0/8]}}"
    )
    families = config.routes[0].families
    assert (families.prefer, families.margin) == (None, 0.001)
    assert config.groups["kids"].families.prefer is None


@pytest.mark.parametrize(
    "where",
    [
        ("families.prefer", ""),
        (
            "routes[0].families.prefer",
            "routes: [{domains: [a], servers: default, families: {prefer: auto}}]",
        ),
        (
            "groups.kids.families.prefer",
            "groups: {kids: {clients: [10.0.0.0/8], families: {prefer: auto}}}",
        ),
    ],
)
def test_families_are_compared_by_connections(where: tuple[str, str]) -> None:
    """Without any way of probing by one nothing can be found out."""
    path, text = where
    families = "{prefer: auto}" if path.startswith("families") else "{prefer: none}"
    message = families_error(f"{text}\nranking: {{probes: [icmp]}}", families)
    assert message == (
        f"{path}: auto goes by connections: name one in ranking.probes, such as tcp:443"
    )


def test_families_need_the_ranking() -> None:
    """Where it is off there are no round trips."""
    message = families_error("ranking: {enabled: false}")
    assert message == "families.prefer: auto goes by round trips: it needs ranking.enabled"
