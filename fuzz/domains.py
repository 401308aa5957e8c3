"""Files of domains: each is read or refused as a whole, and what is in it is found again."""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.internet.task import Clock

from staggerdns.config import parse_config
from staggerdns.journal import Journal
from staggerdns.policy.domainfiles import DomainFiles
from staggerdns.policy.domains import DomainFile, finish
from staggerdns.policy.routes import Routes
from staggerdns.policy.scope import NO_SUCH_NAMES, Scopes, default_scope
from staggerdns.settings.document import ConfigError
from staggerdns.settings.policy import RouteSettings
from staggerdns.wire.names import read_name, to_text

_DIRECTORY = tempfile.TemporaryDirectory()  # of this process alone
_PATH = Path(_DIRECTORY.name) / "domains"
_SCOPE = default_scope(parse_config("upstream: {servers: [192.0.2.1]}"))
_ROUTES = [RouteSettings(domain_files=(str(_PATH),), servers=())]
_BELOW = b"\1*"


def check(data: bytes) -> None:
    """Check one file; raises `AssertionError`, or anything else, for a defect."""
    _PATH.write_bytes(data)
    file = DomainFile(str(_PATH))
    read = finish(file.read()) is not None
    assert read != bool(file.problem)
    assert file.problem.isprintable(), file.problem
    assert len(file.problem) < 1000
    try:
        routes = Routes(_ROUTES, Scopes(_SCOPE), DomainFiles(Clock(), Journal("error")))
        finish(routes.load())
    except ConfigError:
        assert not read
        assert file.domains == []
        return
    assert read
    for domain in file.domains:
        assert read_name(bytes(12) + domain, 12) == (domain, 12 + len(domain))
        assert domain == domain.lower()
        below = domain.startswith(_BELOW)
        name = b"\1x" + domain[len(_BELOW) :] if below else domain
        assert routes.find(name) == NO_SUCH_NAMES, name
    _PATH.write_text("\r\n".join(map(to_text, file.domains)) + "#")
    again = DomainFile(str(_PATH))
    assert finish(again.read()) == []
    assert again.domains == file.domains
