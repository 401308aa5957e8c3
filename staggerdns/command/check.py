"""``staggerdns check``: all that is wrong with a configuration file, before it is used."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from yaml import YAMLError

from staggerdns.config import parse_config, read_text
from staggerdns.configwarnings import config_warnings
from staggerdns.journal import Journal
from staggerdns.server.tls import Certificate
from staggerdns.settings.document import ConfigError, lines_of
from staggerdns.settings.sections import Config

_PLACE = re.compile(r"(?:line (?P<line>[0-9]+)|(?P<path>[^\s:]+)): (?P<what>.*)", re.DOTALL)
_LAST = re.compile(r"(?:^|\.)[^.\[]*$|\[[0-9]+\]$")


class Remark(NamedTuple):
    """What is wrong, or surely not meant: where in the file, the ``path`` of the key, as far as
    there are any, and what was expected.
    """

    line_number: int | None
    path: str
    what: str


class Findings(NamedTuple):
    """What there is to say about a file; it can be used if there are no ``errors``."""

    errors: list[Remark]
    warnings: list[Remark]


def check_file(path: str) -> Findings:
    """Return what is wrong with the file at ``path``, and what it surely does not mean."""
    errors: tuple[str, ...] = ()
    warnings: list[str] = []
    lines: dict[str, int] = {}
    try:
        text = read_text(path)
    except ConfigError as error:
        return Findings([Remark(None, "", problem) for problem in error.problems], [])
    try:
        config = parse_config(text)
    except ConfigError as error:
        errors = error.problems
    else:
        warnings = [*config_warnings(config), *_certificate_warnings(config)]
    with suppress(YAMLError, RecursionError):  # then the error has the line, or all are wrong
        lines = lines_of(text)
    return Findings(
        sorted([_remark(one, lines) for one in errors], key=_place),
        sorted([_remark(one, lines) for one in warnings], key=_place),
    )


def _certificate_warnings(config: Config) -> Iterator[str]:
    path, key_path = config.server.tls_certificate, config.server.tls_key
    if path is not None and key_path is not None:
        concern = Certificate(path, key_path, Journal(), time.time).concern(datetime.now(UTC))
        if concern:
            yield f"server.tls_certificate: the certificate in {path} {concern}"


def _remark(text: str, lines: dict[str, int]) -> Remark:
    """Return a line of text as a remark; ``lines``: where the values stand, by path."""
    match = _PLACE.fullmatch(text)
    if match is None:
        return Remark(None, "", text)
    if match["line"]:
        return Remark(int(match["line"]), "", match["what"])
    place = match["path"]
    while place and place not in lines:  # what is missing is missing in what is around it
        place = _LAST.sub("", place)
    return Remark(lines.get(place), match["path"], match["what"])


def _place(remark: Remark) -> tuple[int, str]:
    return remark.line_number or 0, remark.path
