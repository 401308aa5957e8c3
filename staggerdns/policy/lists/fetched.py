"""What comes of fetching a list. Apart from who fetches, so that only lists with URLs load treq."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred

from staggerdns.errors import StaggerDNSError


class FetchProblem(StaggerDNSError):
    """A list that cannot be had; the text goes behind its URL."""


class Validators(NamedTuple):
    """What a server said of the content that it sent, for conditional requests (RFC 9110 section
    13.1): ``ETag`` and ``Last-Modified``, empty if it did not.
    """

    etag: str = ""
    modified: str = ""


class Fetches(Protocol):
    """Fetches lists: `staggerdns.policy.lists.fetch.Fetcher`."""

    def fetch(self, url: str, path: Path, known: Validators) -> Deferred[Validators | None]:
        """Write what is at ``url`` to ``path``, unless it is what the server called ``known``."""
