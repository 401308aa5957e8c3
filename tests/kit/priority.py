"""Running before whatever else a busy machine does, for tests that look at milliseconds."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from tests.kit.forkserver import fork_server

if TYPE_CHECKING:
    from collections.abc import Iterator

_NICE = -15


def prefer(process: int) -> None:
    """Have a process, or with 0 this thread, run before others, if that is allowed."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, process, _NICE)


@contextlib.contextmanager
def preferred() -> Iterator[None]:
    """Have this thread, and what it starts, run before others for a while. A program does not: the
    fork server starts it, which is there already then.
    """
    fork_server()
    before = os.getpriority(os.PRIO_PROCESS, 0)
    prefer(0)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)
