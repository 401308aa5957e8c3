"""What belongs to the process, as opposed to the service: clock, collector, log and SIGHUP."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from twisted.application.service import IService, MultiService
from twisted.internet.error import ReactorNotRunning
from twisted.logger import LogLevel

from staggerdns.hangups import Hangups
from staggerdns.logoutput import LogOutput
from staggerdns.server.cannotbind import CannotBind
from staggerdns.server.passedsockets import PassedSockets, WrongSocket, take_passed_sockets
from staggerdns.service import StaggerService
from staggerdns.settings.sections import Config
from staggerdns.supervision import Supervision

COLLECTOR_THRESHOLDS = (20_000, 20, 100)
"""For `gc.set_threshold`; Python's own cost a fifth of the time of a never-seen name."""


def make_service(config: Config, path: str | None, runner: Any, hangups: Hangups) -> IService:
    """Return the service, in a process that is made ready for it.

    ``path``: the file that ``config`` was read from, if it can be read again.
    ``runner`` is the options of twistd or twist, if one of them runs it: then listeners are open.
    """
    from twisted.internet import reactor as common  # noqa: PLC0415 (nobody else may, nor sooner)

    reactor: Any = common
    # Nobody can set this clock: timers and TTLs outlive a step of the system's. It goes on while
    # the machine sleeps, as TTLs do.
    reactor.seconds = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    # What lives long is made by now, and what is made per query is freed without the cyclic
    # collector: let it look rarely.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    passed = None if runner is None else _passed_sockets()
    service = StaggerService(config, reactor, os.urandom, path, gc.freeze, passed)
    if runner is not None:
        _bind(service)
        service.log_shape.begin()
        _keep_log(service, runner, reactor)
        hangups.forward_to(partial(reactor.callFromThread, service.hang_up))
        reactor.stop = partial(_stop, reactor.stop)
    if not os.environ.get("NOTIFY_SOCKET"):
        made: IService = service
        return made
    # The last to start and the first to stop: it says that the other is up.
    both = MultiService()
    service.setServiceParent(both)
    Supervision(os.environ, os.getpid(), reactor, service.answered).setServiceParent(both)
    return both


def _passed_sockets() -> PassedSockets:
    """Return what a supervisor has passed in. What nothing can be made of ends the program as a
    wrong configuration does: to start again is of no use.
    """
    try:
        return take_passed_sockets(os.environ, os.getpid())
    except WrongSocket as error:
        _end(error, os.EX_CONFIG)


def _bind(service: StaggerService) -> None:
    """Open the listeners. One that cannot be had ends the program with a status of its own: who has
    the port may give it back, so a supervisor may try again.
    """
    try:
        service.bind()
    except CannotBind as error:
        _end(error, os.EX_UNAVAILABLE)


def _end(error: Exception, status: int) -> NoReturn:
    print(f"staggerdns: {error}", file=sys.stderr)  # noqa: T201 (there is no log yet)
    raise SystemExit(status) from None


def _stop(stop: Callable[[], None]) -> None:
    """Stop the reactor, unless an earlier signal has had it stop already."""
    with suppress(ReactorNotRunning):
        stop()


def _keep_log(service: StaggerService, runner: Any, reactor: Any) -> None:
    """Keep the program going while nobody reads its log from standard output."""
    printed = sys.stdout
    if printed is not None:
        sys.stdout = LogOutput(printed, reactor, service.lost_lines)
        if runner.get("logFile") is printed:  # twist's; twistd will look at sys.stdout
            runner["logFile"] = sys.stdout
    if "fileLogObserverFactory" in runner:  # twist's; what its own options say would count as well
        runner["fileLogObserverFactory"] = service.log_shape.observer
        runner["logLevel"] = LogLevel.debug
