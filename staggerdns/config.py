"""The configuration: YAML text to a frozen, validated `Config` (docs/configuration.rst).

Whatever is wrong ends in one `ConfigError` that has all of it: each problem names the path, as in
``upstream.servers[1]``, and what was expected.
"""

from __future__ import annotations

import os
import re
import time
from typing import Any

import msgspec

from staggerdns.configerrors import sift
from staggerdns.configfamilies import check_families
from staggerdns.configgroups import check_groups, fill_groups
from staggerdns.configroutes import (
    check_choice,
    check_list,
    check_routes,
    fill_routes,
    read_auto,
)
from staggerdns.files import MAX_SOCKET_PATH, Unreadable, read_file
from staggerdns.journal import LEVELS, Journal
from staggerdns.logformat import FORMATS
from staggerdns.policy.blocking import ANSWERS
from staggerdns.policy.lists.checks import check_lists
from staggerdns.querylog.checks import check_query_log
from staggerdns.ranking.probes import check_probe
from staggerdns.server.hostheader import check_hosts
from staggerdns.server.tls import Certificate, CertificateProblem
from staggerdns.settings.document import ConfigError, Problems, read_document
from staggerdns.settings.policy import AddressSettings
from staggerdns.settings.records import Records, read_records
from staggerdns.settings.section import default_of
from staggerdns.settings.sections import Config, ControlSettings, ServerSettings
from staggerdns.settings.upstreams import ASK, PROFILES, UpstreamSettings
from staggerdns.settings.values import AUTO, read_value
from staggerdns.shared.checks import check_shared
from staggerdns.strategy.strategies import NAMES as STRATEGIES
from staggerdns.upstream.tls import Authorities

_STEP = re.compile(r"[.\[]")
CASE = (AUTO, "never")
"""Values of ``upstream.case_randomization``."""


def load_config(path: str) -> Config:
    """Read the configuration file at ``path``, which may be a pipe: ``/dev/stdin``, ``<(...)``.

    Raises `ConfigError`, which names the file.
    """
    try:
        return parse_config(read_text(path))
    except ConfigError as error:
        raise ConfigError(*[f"{path}: {problem}" for problem in error.problems]) from None


def read_text(path: str) -> str:
    """Return the text of the file at ``path``. Raises `ConfigError`."""
    try:
        return read_file(path, pipes=True).decode("utf-8")
    except Unreadable as error:
        raise ConfigError(str(error)) from None
    except UnicodeDecodeError:
        raise ConfigError("expected UTF-8 text") from None


def parse_config(text: str) -> Config:
    """Return the configuration that YAML ``text`` means. Raises `ConfigError` with all that is
    wrong.
    """
    document = read_document(text)
    if not isinstance(document, dict):
        raise ConfigError("expected keys and values, at least upstream.servers")
    if document.get("upstream") is None:
        document["upstream"] = {}
    problems = Problems()
    problems.of(_apply_profile, document["upstream"])
    # What routes repeat of it is read, and complained of, where it is given first.
    document = {"upstream": document["upstream"], **document}
    problems.of(fill_routes, document.get("routes"), "routes", document["upstream"])
    problems.of(fill_groups, document.get("groups"), document["upstream"])
    config = msgspec.convert(_sound_part(document, problems), Config, dec_hook=_read)
    if not problems:
        _check(config, problems)
    else:
        more = Problems()
        _check(config, more)
        # What is about a value that was left out, or about what is in it or around it, may be due
        # to that.
        wrong = {_places(problem)[0] for problem in problems}
        around = {place for problem in problems for place in _places(problem)}
        problems += [
            problem
            for problem in more
            if _places(problem)[0] not in around and wrong.isdisjoint(_places(problem))
        ]
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    return config


def _sound_part(document: dict[str, Any], problems: Problems) -> Any:
    """Return what of a document is right by itself; add what is wrong to ``problems``."""
    found: list[str] = []
    sound = sift(Config, document, _read, found)
    said: set[str] = set()  # what routes repeat of the section before is told once
    for problem in found:
        path, _, what = problem.partition(": ")
        if path.startswith("upstream."):
            said.add(what)
        elif what in said:
            continue
        problems.append(problem)
    return sound


def _places(problem: str) -> list[str]:
    """Return the path that a problem is about, and those of all that is around it."""
    path = problem.partition(": ")[0]
    return [path, *(path[: match.start()] for match in _STEP.finditer(path))]


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


def _check(config: Config, problems: Problems) -> None:
    """Check what no single value shows."""
    for check in (_check_upstream, _check_server, _check_rest, _check_lists):
        check(config, problems)
    check_groups(config, problems)
    check_routes(config, problems)


def _check_upstream(config: Config, problems: Problems) -> None:
    upstream = config.upstream
    problems.of(check_list, "upstream.servers", upstream.servers)
    problems.of(check_list, "upstream.bootstrap", upstream.bootstrap)
    for index, resolver in enumerate(upstream.bootstrap):
        if resolver.named:
            problems.append(f"upstream.bootstrap[{index}]: expected an address, got {resolver}")
    try:
        Authorities(upstream.tls_ca)
    except ValueError as error:
        problems.append(f"upstream.tls_ca: {error}")
    problems.of(check_choice, "upstream.strategy", upstream.strategy, STRATEGIES)
    problems.of(check_choice, "upstream.profile", upstream.profile, tuple(PROFILES))
    problems.of(check_choice, "upstream.parallel.ask", upstream.parallel.ask, ASK)
    problems.of(check_choice, "upstream.case_randomization", upstream.case_randomization, CASE)
    _check_bounds(upstream, problems)


def _check_server(config: Config, problems: Problems) -> None:
    problems.of(check_list, "server.listen", config.server.listen)
    problems.of(_check_certificate, config.server)


def _check_rest(config: Config, problems: Problems) -> None:
    hosts = config.local.hosts
    if hosts is not None and (not hosts or "\0" in hosts):
        problems.append("local.hosts: expected a path, or null for none")
    cache = config.cache
    if cache.max_ttl and cache.min_ttl > cache.max_ttl:
        problems.append("cache.min_ttl: expected at most cache.max_ttl")
    problems.of(check_list, "ranking.probes", config.ranking.probes)
    for index, name in enumerate(config.ranking.probes):
        try:
            check_probe(name)
        except ValueError as error:
            problems.append(f"ranking.probes[{index}]: {error}")
    problems.of(check_choice, "log.level", config.log.level, LEVELS)
    problems.of(check_choice, "log.format", config.log.format, tuple(FORMATS))
    directory = config.state.directory
    if directory is not None and (not directory or "\0" in directory):
        problems.append("state.directory: expected a path, or null for none")
    problems.of(_check_control, config.control)
    check_query_log(config.query_log, problems)
    check_shared(cache.shared, problems)
    check_hosts(config.page, problems)
    problems.of(_check_addresses, config.addresses)
    check_families(config, problems)


def _check_control(control: ControlSettings) -> None:
    path = control.socket
    if path is not None and (not path.startswith("/") or "\0" in path):
        raise ConfigError("control.socket: expected a path that begins with /, or null for none")
    if path is not None and len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise ConfigError(
            f"control.socket: expected a path of at most {MAX_SOCKET_PATH} octets, which is what a "
            "socket can have"
        )
    if control.group is not None and not control.group.strip():
        raise ConfigError("control.group: expected the name of a group, or null for none")


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


def _check_lists(config: Config, problems: Problems) -> None:
    check_lists(config.lists, problems)
    for name, settings in config.lists.items():
        problems.of(check_choice, f"lists.{name}.answer", settings.answer, ANSWERS)


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


def _check_bounds(upstream: UpstreamSettings, problems: Problems) -> None:
    """Check numbers that belong between others."""
    racing, tries, health = upstream.racing, upstream.sequential, upstream.health
    for path, low, middle, high in (
        ("upstream.racing.delay", racing.min_delay, racing.delay, racing.max_delay),
        ("upstream.sequential.timeout", tries.min_timeout, tries.timeout, tries.max_timeout),
    ):
        if not low <= middle <= high:
            problems.append(
                f"{path}: expected a value between its min and its max, "
                f"got {low:g}s, {middle:g}s, {high:g}s"
            )
    if health.unhealthy_after < health.degraded_after:
        problems.append("upstream.health.unhealthy_after: expected at least degraded_after")
    if health.max_open_for < health.open_for:
        problems.append("upstream.health.max_open_for: expected at least open_for")
