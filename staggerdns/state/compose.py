"""The saved state of a program, put together."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec.structs import replace
from twisted.internet.interfaces import IReactorTime

from staggerdns.journal import Journal
from staggerdns.settings.sections import Config, StateSettings
from staggerdns.state.contents import Contents
from staggerdns.state.directory import find_directory
from staggerdns.state.metrics import StateMetrics
from staggerdns.state.state import SavedState
from staggerdns.worker import Worker


def make_state(
    settings: StateSettings,
    contents: Contents,
    *,
    reactor: Any,
    clock: IReactorTime,
    metrics: StateMetrics,
    journal: Journal,
    settle: Callable[[], object],
) -> SavedState | None:
    """Return what keeps ``contents`` over restarts and has yet to be started, `None` if nothing is
    kept. ``settle``: see `SavedState`.
    """
    if settings.directory is None:
        return None
    return SavedState(
        settings.directory,
        settings,
        contents,
        make_worker=partial(Worker, reactor.callFromThread, "state"),
        clock=clock,
        metrics=metrics,
        journal=journal,
        settle=settle,
    )


def state_settings(config: Config) -> StateSettings:
    """Return the settings of the saved state, with the directory that systemd may have made."""
    directory = find_directory(config.state.directory, os.environ)
    return replace(config.state, directory=directory)
