"""The routes of a configuration: what they inherit, and what no single value of them shows."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from twisted.internet.task import Clock

from staggerdns.journal import Journal
from staggerdns.policy.domains import finish
from staggerdns.policy.groups import GroupRoutes
from staggerdns.policy.scope import Scopes, default_scope
from staggerdns.settings.addresses import UpstreamAddress
from staggerdns.settings.document import ConfigError, Problems
from staggerdns.settings.policy import DEFAULT_SERVERS, RouteSettings
from staggerdns.settings.sections import Config
from staggerdns.settings.upstreams import ASK, PRESET, PROFILES
from staggerdns.settings.values import AUTO, SecondsOrAuto, read_value
from staggerdns.strategy.strategies import NAMES as STRATEGIES
from staggerdns.wire.names import to_text


def fill_routes(routes: Any, path: str, upstream: Any) -> None:
    """Put what plain values of ``upstream`` say under what each of the plain ``routes`` does.

    ``path``: where they stand. Raises `ConfigError`. What has not the form that it should have is
    left alone.
    """
    if not isinstance(routes, list) or not isinstance(upstream, dict):
        return
    for index, route in enumerate(routes):
        if not isinstance(route, dict):
            continue
        if route.get("servers") == DEFAULT_SERVERS:
            route["servers"] = upstream.get("servers")
        given, profile = route.get("parallel"), route.get("profile")
        common = upstream.get("parallel")
        if (given is None and profile is None) or not isinstance(common, dict):
            continue
        if given is not None and not isinstance(given, dict):
            continue
        given = dict(given or {})
        read_auto(given, f"{path}[{index}].parallel", "fallback_timeout")
        if profile is not None:  # in the place of that of the program: its numbers do not count
            common = {key: value for key, value in common.items() if key not in PRESET}
        route["parallel"] = {**common, **PROFILES.get(str(profile), {}), **given}


def read_auto(section: dict[str, object], path: str, key: str) -> None:
    """Put `None` where ``auto`` stands. msgspec would take null for it, which nobody means so."""
    if section.get(key) == AUTO:
        section[key] = None
    elif key in section and section[key] is None:
        try:
            read_value(SecondsOrAuto, None)
        except ValueError as error:
            raise ConfigError(f"{path}.{key}: {error}") from None


def all_routes(config: Config) -> Iterator[tuple[str, RouteSettings]]:
    """Yield all routes, those of groups too, each behind its path."""
    places = {"routes": config.routes}
    places |= {f"groups.{name}.routes": group.routes or () for name, group in config.groups.items()}
    for place, routes in places.items():
        for index, route in enumerate(routes):
            yield f"{place}[{index}]", route


def check_routes(config: Config, problems: Problems) -> None:
    """Check all routes, the files that they name included."""
    pins = {str(one): one.pins for one in config.upstream.servers}
    before = len(problems)
    for path, route in all_routes(config):
        _check_route(route, path, pins, problems)
    if len(problems) == before:
        problems.of(make_routes, config)


def make_routes(config: Config) -> tuple[GroupRoutes, Scopes]:
    """Return the routes of all groups as they are now, with the scopes that they lead to.

    Raises `ConfigError`.
    """
    scopes = Scopes(default_scope(config))
    routes = GroupRoutes(config, scopes, Clock(), Journal("error"))
    finish(routes.load())
    return routes, scopes


def _check_route(
    route: RouteSettings, path: str, pins: dict[str, frozenset[bytes]], problems: Problems
) -> None:
    for key, items in (
        ("servers", route.servers),
        ("domains", route.domains),
        ("domain_files", route.domain_files),
    ):
        problems.of(check_list, f"{path}.{key}", items, empty=True)
    if not (route.domains or route.domain_files or route.single_label):
        problems.append(
            f"{path}: no names go there: it needs domains, domain_files or single_label"
        )
    for position, file in enumerate(route.domain_files):
        if not file or "\0" in file:
            problems.append(f"{path}.domain_files[{position}]: expected a path")
    if route.strategy is not None:
        problems.of(check_choice, f"{path}.strategy", route.strategy, STRATEGIES)
    if route.profile is not None:
        problems.of(check_choice, f"{path}.profile", route.profile, tuple(PROFILES))
    if route.parallel is not None:
        problems.of(check_choice, f"{path}.parallel.ask", route.parallel.ask, ASK)
    if route.fallback and not route.servers:
        problems.append(f"{path}.fallback: nobody is asked, so nobody can fail: leave it out")
    for position, server in enumerate(route.servers):
        problems.of(_check_pins, f"{path}.servers[{position}]", server, pins)


def _check_pins(path: str, server: UpstreamAddress, pins: dict[str, frozenset[bytes]]) -> None:
    """Check that a server that is named before is the same one in every respect."""
    if pins.setdefault(str(server), server.pins) != server.pins:
        raise ConfigError(f"{path}: {server} is given elsewhere with other pins: use the same ones")


def check_choice(path: str, value: str, choices: tuple[str, ...]) -> None:
    """Check that ``value`` is one of the ``choices``. Raises `ConfigError`."""
    if value not in choices:
        raise ConfigError(f"{path}: expected {' or '.join(choices)}, got {value!r}")


def check_list(path: str, items: tuple[Hashable, ...], *, empty: bool = False) -> None:
    """Check that there are items, unless it may be ``empty``, none of them twice.

    Raises `ConfigError`.
    """
    if not items and not empty:
        raise ConfigError(f"{path}: expected at least one item")
    seen: set[str] = set()
    for index, item in enumerate(items):
        text = _text(item)
        if text in seen:
            raise ConfigError(f"{path}[{index}]: {text} is there already")
        seen.add(text)


def _text(item: Hashable) -> str:
    return to_text(item).removesuffix(".") if isinstance(item, bytes) else str(item)
