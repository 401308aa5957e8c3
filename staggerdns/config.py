"""The configuration: YAML text to a frozen, validated `Config` (SPEC section 7).

Whatever is wrong ends in one `ConfigError` that names the path, as in ``upstream.servers[1]``, and
what was expected.
"""

from __future__ import annotations

import re
import time
from collections.abc import Hashable
from ipaddress import ip_network
from typing import Any

import msgspec

from staggerdns.configerrors import LIST, MAP, YAML_BOOLEAN, explain
from staggerdns.document import ConfigError, read_document
from staggerdns.files import Unreadable, read_file
from staggerdns.journal import LEVELS, Journal
from staggerdns.ranking.probes import check_probe
from staggerdns.server.access import Network
from staggerdns.server.listener import Listener, parse_listener
from staggerdns.server.tls import Certificate, CertificateProblem
from staggerdns.settings import (
    PROFILES,
    Config,
    Domain,
    Octets,
    Seconds,
    SecondsOrAuto,
    Secret,
    Server,
    Upstream,
)
from staggerdns.strategy.strategies import NAMES as STRATEGIES
from staggerdns.upstream.address import Endpoint, UpstreamAddress, parse_endpoint, parse_upstream
from staggerdns.upstream.tls import Authorities
from staggerdns.wire.constants import MAX_NAME
from staggerdns.wire.names import from_labels

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(ms|s|m|h)")
_SIZES = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_SIZE = re.compile(r"([0-9]{1,15}) ?(|KiB|MiB|GiB|TiB)")
CASE = ("auto", "never")
"""Values of ``upstream.case_randomization``."""
_LABEL = re.compile("[0-9a-z_](?:[0-9a-z_-]{0,62})")
_SECRET = re.compile("[0-9a-fA-F]{32}")
_LONGEST = 86_400.0


def load_config(path: str) -> Config:
    """Read the configuration file at ``path``, which may be a pipe: ``/dev/stdin``, ``<(...)``.

    Raises `ConfigError`, which names the file.
    """
    try:
        text = read_file(path, pipes=True).decode("utf-8")
    except Unreadable as error:
        raise ConfigError(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected UTF-8 text") from None
    try:
        return parse_config(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_config(text: str) -> Config:
    """Return the configuration that YAML ``text`` means. Raises `ConfigError`."""
    document = read_document(text)
    if not isinstance(document, dict):
        raise ConfigError("expected keys and values, at least upstream.servers")
    if document.get("upstream") is None:
        document["upstream"] = {}
    _apply_profile(document["upstream"])
    try:
        config = msgspec.convert(document, Config, dec_hook=_convert)
    except msgspec.ValidationError as error:
        raise ConfigError(explain(str(error))) from None
    _check(config)
    return config


def _apply_profile(upstream: Any) -> None:
    """Put the numbers of the profile under those that are given."""
    given = upstream.get("parallel", {}) if isinstance(upstream, dict) else None
    if isinstance(given, dict):
        preset = PROFILES.get(str(upstream.get("profile")), {})
        upstream["parallel"] = {**preset, **given}


def _convert(kind: type, value: object) -> object:
    """Turn a YAML value into one of our own types; `ValueError` says what was expected."""
    if kind is Seconds:
        return _seconds(value)
    if kind is Octets:
        return _octets(value)
    if kind is SecondsOrAuto:
        return SecondsOrAuto(0 if value == "auto" else _seconds(value, "auto or a duration"))
    if kind is Listener:
        return parse_listener(value)
    if kind is Endpoint:
        return parse_endpoint(value)
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {_show(value)}")  # noqa: TRY004 (msgspec adds the path)
    if kind is Domain:
        return _domain(value)
    if kind is Secret:
        if _SECRET.fullmatch(value) is None:
            raise ValueError("expected 32 hexadecimal digits")
        return Secret.fromhex(value)
    if kind is UpstreamAddress:
        return parse_upstream(value)
    try:
        return Network(value)
    except ValueError:
        expected = f"expected a network like 192.168.0.0/16, got {value!r}"
    try:
        around = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(expected) from None
    raise ValueError(f"{expected}: did you mean {around}?")


def _domain(text: str) -> Domain:
    name = text.removesuffix(".").lower()
    labels = name.split(".")
    if all(map(_LABEL.fullmatch, labels)) and len(name) <= MAX_NAME - 2:
        return Domain(from_labels([label.encode() for label in labels]))
    raise ValueError(f"expected a domain like lan.example, got {text!r}")


def _seconds(value: object, what: str = "a duration") -> Seconds:
    expected = f"expected {what} like 300ms, 3s or 5m, got {_show(value)}"
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError(expected)
        seconds = float(match[1]) * _UNITS[match[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise ValueError(expected)  # noqa: TRY004 (as above)
    if not 0.001 <= seconds <= _LONGEST:
        raise ValueError(f"expected a duration from 1ms to 24h, got {_show(value)}")
    return Seconds(seconds)


def _octets(value: object) -> Octets:
    expected = f"expected a size like 128MiB or 1GiB, or a number of octets, got {_show(value)}"
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            raise ValueError(expected)
        octets = int(match[1]) * _SIZES[match[2]]
    elif isinstance(value, int) and not isinstance(value, bool):
        octets = value
    else:
        raise ValueError(expected)  # noqa: TRY004 (as above)
    if not _SIZES["MiB"] <= octets <= _SIZES["TiB"]:
        raise ValueError(f"expected a size from 1MiB to 1TiB, got {_show(value)}")
    return Octets(octets)


def _show(value: object) -> str:
    if isinstance(value, bool):
        return f"{str(value).lower()} {YAML_BOOLEAN}"
    if isinstance(value, list | dict):
        return LIST if isinstance(value, list) else MAP
    return "nothing" if value is None else repr(value)


def _check(config: Config) -> None:
    """Check what no single value shows."""
    _check_list("upstream.servers", config.upstream.servers)
    _check_bootstrap(config.upstream)
    _check_list("server.listen", config.server.listen)
    _check_certificate(config.server)
    hosts = config.local.hosts
    if hosts is not None and (not hosts or "\0" in hosts):
        raise ConfigError("local.hosts: expected a path, or null for none")
    cache = config.cache
    if cache.max_ttl and cache.min_ttl > cache.max_ttl:
        raise ConfigError("cache.min_ttl: expected at most cache.max_ttl")
    _check_list("ranking.probes", config.ranking.probes)
    for index, name in enumerate(config.ranking.probes):
        try:
            check_probe(name)
        except ValueError as error:
            raise ConfigError(f"ranking.probes[{index}]: {error}") from None
    _check_choice("upstream.strategy", config.upstream.strategy, STRATEGIES)
    _check_choice("upstream.profile", config.upstream.profile, tuple(PROFILES))
    _check_choice("upstream.case_randomization", config.upstream.case_randomization, CASE)
    _check_bounds(config.upstream)
    _check_choice("log.level", config.log.level, LEVELS)


def _check_bootstrap(upstream: Upstream) -> None:
    """Check what makes upstreams with names and certificates work."""
    _check_list("upstream.bootstrap", upstream.bootstrap)
    for index, resolver in enumerate(upstream.bootstrap):
        if resolver.named:
            raise ConfigError(f"upstream.bootstrap[{index}]: expected an address, got {resolver}")
    try:
        Authorities(upstream.tls_ca)
    except ValueError as error:
        raise ConfigError(f"upstream.tls_ca: {error}") from None


def _check_certificate(server: Server) -> None:
    """Check that encrypted listeners have a certificate that they can show."""
    chain, key = server.tls_certificate, server.tls_key
    encrypted = [listener for listener in server.listen if listener.scheme]
    for name, path in (("tls_certificate", chain), ("tls_key", key)):
        if path is None and (encrypted or chain or key):
            because = f"{encrypted[0]} needs it" if encrypted else "one file needs the other"
            raise ConfigError(f"server.{name}: expected a PEM file: {because}")
    if chain is not None and key is not None:
        try:
            Certificate(chain, key, Journal(), time.time)
        except CertificateProblem as error:
            raise ConfigError(f"server.{error.key}: {error}") from None


def _check_bounds(upstream: Upstream) -> None:
    """Check numbers that belong between others."""
    racing, tries, health = upstream.racing, upstream.sequential, upstream.health
    for path, low, middle, high in (
        ("upstream.racing.delay", racing.min_delay, racing.delay, racing.max_delay),
        ("upstream.sequential.timeout", tries.min_timeout, tries.timeout, tries.max_timeout),
    ):
        if not low <= middle <= high:
            raise ConfigError(
                f"{path}: expected a value between its min and its max, "
                f"got {low:g}s, {middle:g}s, {high:g}s"
            )
    if health.unhealthy_after < health.degraded_after:
        raise ConfigError("upstream.health.unhealthy_after: expected at least degraded_after")
    if health.max_open_for < health.open_for:
        raise ConfigError("upstream.health.max_open_for: expected at least open_for")


def _check_choice(path: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{path}: expected {' or '.join(choices)}, got {value!r}")


def _check_list(path: str, items: tuple[Hashable, ...]) -> None:
    if not items:
        raise ConfigError(f"{path}: expected at least one item")
    for index, item in enumerate(items):
        if item in items[:index]:
            raise ConfigError(f"{path}[{index}]: {item} is there already")
