"""The groups of a configuration: who belongs to which, and what no single value of them shows."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

from staggerdns.configroutes import check_list, fill_routes
from staggerdns.settings.document import ConfigError, Problems, one_line
from staggerdns.settings.policy import DEFAULT_GROUP, GroupSettings
from staggerdns.settings.sections import Config

MAX_GROUPS = 100
"""Groups of one program: each has replies of its own that are ready, and labels in the metrics."""
_NAME = re.compile("[A-Za-z0-9_-]{1,64}")


def fill_groups(groups: Any, upstream: Any) -> None:
    """Put what plain values of ``upstream`` say under what each route of the plain ``groups`` does.

    Raises `ConfigError`. What has not the form that it should have is left alone.
    """
    if not isinstance(groups, dict):
        return
    for name, group in groups.items():
        if isinstance(group, dict):
            fill_routes(group.get("routes"), f"groups.{one_line(str(name))}.routes", upstream)


def check_groups(config: Config, problems: Problems) -> None:
    """Check the groups, all but their routes."""
    if len(config.groups) > MAX_GROUPS:
        problems.append(f"groups: at most {MAX_GROUPS}, got {len(config.groups)}")
    networks: dict[Hashable, str] = {}
    listeners: dict[Hashable, str] = {}
    for name, group in config.groups.items():
        problems.of(check_name, "groups", name)
        path = f"groups.{name}"
        problems.of(_check_members, name, group)
        _check_lists(path, group, config, problems)
        for index, network in enumerate(group.clients):
            problems.of(_claim, f"{path}.clients[{index}]", network, name, networks)
        for index, listener in enumerate(group.listeners):
            place = f"{path}.listeners[{index}]"
            if listener not in config.server.listen:
                problems.append(
                    f"{place}: we do not listen on {listener}: expected one of server.listen, or "
                    "add it there"
                )
            problems.of(_claim, place, listener, name, listeners)


def check_name(path: str, name: str) -> None:
    """Check that a name that the operator gives may be a label of metrics. Raises `ConfigError`."""
    if _NAME.fullmatch(name) is None:
        raise ConfigError(
            f"{path}: expected names of 1 to 64 letters, digits, - and _, got {name!r}"
        )


def _check_members(name: str, group: GroupSettings) -> None:
    """Check that somebody belongs to a group, and to the default one everybody else."""
    path = f"groups.{name}"
    for key, items in (("clients", group.clients), ("listeners", group.listeners)):
        check_list(f"{path}.{key}", items, empty=True)
        if items and name == DEFAULT_GROUP:
            raise ConfigError(
                f"{path}.{key}: everybody who is in no other group is in this one: leave it out, "
                "or give the group another name"
            )
    if name != DEFAULT_GROUP and not group.clients and not group.listeners:
        raise ConfigError(f"{path}: nobody belongs to it: it needs clients or listeners")


def _check_lists(path: str, group: GroupSettings, config: Config, problems: Problems) -> None:
    """Check that the lists exist that a group names."""
    for key, names in (("block", group.block or ()), ("allow", group.allow or ())):
        problems.of(check_list, f"{path}.{key}", names, empty=True)
        for index, name in enumerate(names):
            if name not in config.lists:
                known = f": expected {' or '.join(config.lists)}" if config.lists else ""
                problems.append(f"{path}.{key}[{index}]: there is no list {one_line(name)}{known}")


def _claim(path: str, item: Hashable, name: str, claimed: dict[Hashable, str]) -> None:
    """Note which group an item belongs to. Raises `ConfigError` if it is another's."""
    other = claimed.setdefault(item, name)
    if other != name:
        raise ConfigError(f"{path}: {item} belongs to groups.{other} already")
