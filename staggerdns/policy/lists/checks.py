"""What is wrong with the ``lists`` of a configuration, before anything is read or fetched."""

from __future__ import annotations

import re
from collections.abc import Mapping

from staggerdns.policy.lists.table import MAX_LISTS
from staggerdns.settings.document import ConfigError, Problems
from staggerdns.settings.policy import ListSettings

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Names of lists are labels of metrics, and told to clients."""


def check_lists(lists: Mapping[str, ListSettings], problems: Problems) -> None:
    """Check names, files and URLs of lists."""
    if len(lists) > MAX_LISTS:
        problems.append(f"lists: expected at most {MAX_LISTS} lists, got {len(lists)}")
    for name, settings in lists.items():
        if _NAME.fullmatch(name) is None:
            problems.append(
                f"lists: expected names of letters, digits, - and _, at most 64, got {name!a}"
            )
        for key, sources in (("files", settings.files), ("urls", settings.urls)):
            for index, source in enumerate(sources):
                place = f"lists.{name}.{key}[{index}]"
                if source in sources[:index]:
                    problems.append(f"{place}: {source} is there already")
                elif key == "urls":
                    problems.of(_check_url, place, source)
                elif not source or "\0" in source:
                    problems.append(f"{place}: expected a path")


def _check_url(place: str, url: str) -> None:
    from staggerdns.policy.lists.urls import problem_of  # noqa: PLC0415 (most have no URLs)

    problem = problem_of(url)
    if problem:
        raise ConfigError(f"{place}: {problem}")
