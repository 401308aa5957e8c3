"""The configuration: YAML text to a frozen, validated `Config` (docs/configuration.rst).

Whatever is wrong ends in one `ConfigError` that names the path, as in ``upstream.servers[1]``, and
what was expected.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import msgspec

from staggerdns.configerrors import explain
from staggerdns.configgroups import check_groups, fill_groups
from staggerdns.configroutes import (
    check_choice,
    check_list,
    check_routes,
    fill_routes,
    read_auto,
)
from staggerdns.files import Unreadable, read_file
from staggerdns.journal import LEVELS, Journal
from staggerdns.policy.blocking import ANSWERS
from staggerdns.policy.lists.checks import check_lists
from staggerdns.ranking.probes import check_probe
from staggerdns.server.tls import Certificate, CertificateProblem
from staggerdns.settings.document import ConfigError, read_document
from staggerdns.settings.policy import AddressSettings
from staggerdns.settings.records import Records, read_records
from staggerdns.settings.section import default_of, sections_in
from staggerdns.settings.sections import Config, ServerSettings
from staggerdns.settings.upstreams import PROFILES, UpstreamSettings
from staggerdns.settings.values import AUTO, read_value
from staggerdns.strategy.strategies import NAMES as STRATEGIES
from staggerdns.upstream.tls import Authorities

CASE = (AUTO, "never")
"""Values of ``upstream.case_randomization``."""


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
    # What routes repeat of it is read, and complained of, where it is given first.
    document = {"upstream": document["upstream"], **document}
    fill_routes(document.get("routes"), "routes", document["upstream"])
    fill_groups(document.get("groups"), document["upstream"])
    try:
        config = msgspec.convert(document, Config, dec_hook=_read)
    except msgspec.ValidationError as error:
        raise ConfigError(explain(str(error), partial(_bad_item, document))) from None
    _check(config)
    return config


def _bad_item(document: dict[str, Any], place: str) -> str:
    """Return which item of the map at ``place`` is the first that cannot be read."""
    (field,) = (field for field in msgspec.structs.fields(Config) if field.name == place)
    ((_, kind),) = sections_in(field.type)
    for name, item in document[place].items():
        try:
            msgspec.convert(item, kind, dec_hook=_read)
        except msgspec.ValidationError:
            return str(name)
    raise AssertionError(f"{place} can be read")


def _read(kind: type, value: object) -> object:
    """Return what a plain value means where one of a kind of our own belongs."""
    return read_records(value) if kind is Records else read_value(kind, value)


def _apply_profile(upstream: Any) -> None:
    """Put the numbers of the profile under those that are given."""
    given = upstream.get("parallel", {}) if isinstance(upstream, dict) else None
    if isinstance(given, dict):
        profile = upstream.get("profile", default_of(UpstreamSettings, "profile"))
        preset = PROFILES.get(str(profile), {})
        upstream["parallel"] = {**preset, **given}
        read_auto(upstream["parallel"], "upstream.parallel", "fallback_timeout")


def _check(config: Config) -> None:
    """Check what no single value shows."""
    check_list("upstream.servers", config.upstream.servers)
    _check_bootstrap(config.upstream)
    check_list("server.listen", config.server.listen)
    _check_certificate(config.server)
    hosts = config.local.hosts
    if hosts is not None and (not hosts or "\0" in hosts):
        raise ConfigError("local.hosts: expected a path, or null for none")
    _check_addresses(config.addresses)
    cache = config.cache
    if cache.max_ttl and cache.min_ttl > cache.max_ttl:
        raise ConfigError("cache.min_ttl: expected at most cache.max_ttl")
    check_list("ranking.probes", config.ranking.probes)
    for index, name in enumerate(config.ranking.probes):
        try:
            check_probe(name)
        except ValueError as error:
            raise ConfigError(f"ranking.probes[{index}]: {error}") from None
    check_choice("upstream.strategy", config.upstream.strategy, STRATEGIES)
    check_choice("upstream.profile", config.upstream.profile, tuple(PROFILES))
    check_choice("upstream.case_randomization", config.upstream.case_randomization, CASE)
    _check_bounds(config.upstream)
    check_choice("log.level", config.log.level, LEVELS)
    _check_lists(config)
    check_groups(config)
    check_routes(config)


def _check_addresses(addresses: AddressSettings) -> None:
    """Check that each address has one rule at most. One network is within another, or apart."""
    keys = {"ignore": addresses.ignore, "bogus_nxdomain": addresses.bogus_nxdomain}
    ranges = []
    for key, networks in keys.items():
        check_list(f"addresses.{key}", networks, empty=True)
        for index, network in enumerate(networks):
            ranges.append((*network.bounds, key, index))
    reach: dict[str, tuple[tuple[int, int], int]] = {}  # the farthest of each key, and which it is
    for first, last, key, index in sorted(ranges):
        for other, (end, others_index) in reach.items():
            if other != key and first <= end:
                places = {key: index, other: others_index}
                one, two = places["bogus_nxdomain"], places["ignore"]
                raise ConfigError(
                    f"addresses.bogus_nxdomain[{one}]: {addresses.bogus_nxdomain[one]} and "
                    f"addresses.ignore[{two}], {addresses.ignore[two]}, have addresses in common"
                )
        reach[key] = max(reach.get(key, (last, index)), (last, index))


def _check_lists(config: Config) -> None:
    """Check all lists, and where they are kept."""
    check_lists(config.lists)
    for name, settings in config.lists.items():
        check_choice(f"lists.{name}.answer", settings.answer, ANSWERS)
    directory = config.state.directory
    if directory is not None and (not directory or "\0" in directory):
        raise ConfigError("state.directory: expected a path, or null for none")


def _check_bootstrap(upstream: UpstreamSettings) -> None:
    """Check what makes upstreams with names and certificates work."""
    check_list("upstream.bootstrap", upstream.bootstrap)
    for index, resolver in enumerate(upstream.bootstrap):
        if resolver.named:
            raise ConfigError(f"upstream.bootstrap[{index}]: expected an address, got {resolver}")
    try:
        Authorities(upstream.tls_ca)
    except ValueError as error:
        raise ConfigError(f"upstream.tls_ca: {error}") from None


def _check_certificate(server: ServerSettings) -> None:
    """Check that encrypted listeners have a certificate that they can show."""
    certificates, key = server.tls_certificate, server.tls_key
    encrypted = [listener for listener in server.listen if listener.scheme]
    for name, path in (("tls_certificate", certificates), ("tls_key", key)):
        if path is None and (encrypted or certificates or key):
            because = f"{encrypted[0]} needs it" if encrypted else "one file needs the other"
            raise ConfigError(f"server.{name}: expected a PEM file: {because}")
    if certificates is not None and key is not None:
        try:
            Certificate(certificates, key, Journal(), time.time)
        except CertificateProblem as error:
            raise ConfigError(f"server.{error.key}: {error}") from None


def _check_bounds(upstream: UpstreamSettings) -> None:
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
