"""Configuration files: each gives settings or one line that says what is wrong."""

from __future__ import annotations

from staggerdns.config import parse_config
from staggerdns.settings.addresses import parse_endpoint, parse_upstream
from staggerdns.settings.document import ConfigError


def check(data: bytes) -> None:
    """Check one file; raises `AssertionError`, or anything else, for a defect."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return  # load_config says so
    try:
        config = parse_config(text)
    except ConfigError as error:
        said = str(error)
        assert said
        assert said.isprintable(), said
        return
    for address in config.upstream.servers:
        assert parse_upstream(str(address)) == address
    for endpoint in config.server.listen:
        assert parse_endpoint(str(endpoint)) == endpoint
