"""Whether there can be a test internet here."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

from tests.kit.internet.world import NoInternet, World

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def possible_world() -> Iterator[World | str]:
    """The test internet, or the reason why there cannot be one here, which fails a run in CI that
    could have one.
    """
    with contextlib.ExitStack() as stack:
        made: World | str
        try:
            made = stack.enter_context(World())
        except NoInternet as reason:
            if os.geteuid() == 0 and os.environ.get("CI"):
                pytest.fail(f"root, and no test internet: {reason}")
            made = str(reason)
        yield made
