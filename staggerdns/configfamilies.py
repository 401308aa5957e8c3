"""What is said of families of addresses, globally and in routes and groups: its errors."""

from __future__ import annotations

from collections.abc import Iterator

from staggerdns.configroutes import all_routes, check_choice
from staggerdns.ranking.probes import connects
from staggerdns.settings.document import Problems
from staggerdns.settings.sections import Config
from staggerdns.settings.values import AUTO

PREFERENCES = ("none", AUTO)
"""What ``families.prefer`` may be."""


def check_families(config: Config, problems: Problems) -> None:
    """Check what is preferred, and that it can be measured where it has to be."""
    for path, prefer in _said(config):
        problems.of(check_choice, path, prefer, PREFERENCES)
        if prefer == AUTO and not connects(config.ranking.probes):
            problems.append(
                f"{path}: auto goes by connections: name one in ranking.probes, such as tcp:443"
            )
    if config.families.prefer == AUTO and not config.ranking.enabled:
        problems.append("families.prefer: auto goes by round trips: it needs ranking.enabled")


def _said(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the path of each preference that is given, and the preference."""
    yield "families.prefer", config.families.prefer
    own = [(path, route.families) for path, route in all_routes(config)]
    own += [(f"groups.{name}", group.families) for name, group in config.groups.items()]
    for path, families in own:
        if families.prefer is not None:
            yield f"{path}.families.prefer", families.prefer
