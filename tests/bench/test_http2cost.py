"""What the HTTP/2 library takes by itself: measured only if everything is answered."""

from __future__ import annotations

import pytest

from bench import http2cost
from bench.client import question
from bench.load import LoadError

QUERY = question("name.bench.example", 0)


def test_every_request_is_answered() -> None:
    """More than one batch, each with its streams on the same connection."""
    assert http2cost.microseconds(QUERY, bytes(49), 5 * http2cost.TOGETHER) > 0


def test_requests_that_nobody_sends_are_not_answered() -> None:
    """A figure of fewer requests than it is divided by would be too good."""
    with pytest.raises(LoadError, match="h2 answered 10 of 11"):
        http2cost.microseconds(QUERY, bytes(49), http2cost.TOGETHER + 1)
