"""What is done with Deferreds in several rooms."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure


def ignore_cancellation(failure: Failure) -> None:
    """End the errbacks of a Deferred that was cancelled; any other failure goes on."""
    failure.trap(CancelledError)
