"""The door for twistd and twist: ``twistd -n staggerdns --config FILE``."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from functools import partial
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from staggerdns.config import load_config
from staggerdns.document import ConfigError
from staggerdns.journal import limit_log
from staggerdns.logoutput import LogOutput
from staggerdns.service import StaggerService
from staggerdns.settings import Config

COLLECTOR_THRESHOLDS = (20_000, 20, 100)
"""For `gc.set_threshold`; Python's own cost a fifth of the time of a never-seen name."""


class Options(usage.Options):
    """Command line of the plugin; ``config`` is the validated configuration afterwards."""

    synopsis = "[options]"
    longdesc = "A DNS forwarding server that asks its upstreams in two paced tiers."
    optParameters = (
        ("config", "c", "/etc/staggerdns/staggerdns.yaml", "Path of the configuration file."),
    )

    config: Config
    parent: Any = None
    """The runner's own options, `None` when there is no runner."""

    def postOptions(self) -> None:
        """Load the configuration; what is wrong with it ends the program in one line."""
        _fill_standard_streams()
        try:
            self.config = load_config(self["config"])
        except ConfigError as error:
            raise SystemExit(f"staggerdns: {error}") from None


def makeService(options: Options) -> IService:
    """Return the service that runs what ``options`` say.

    When twistd or twist has asked for it, all that can fail has been done by then: before a daemon
    leaves its terminal, and whether the runner calls ``privilegedStartService`` or not.
    """
    from twisted.internet import reactor  # noqa: PLC0415 (nobody else may, and not before now)

    # Nobody can set this clock: timers and TTLs outlive a step of the system's. It goes on while
    # the machine sleeps, as TTLs do.
    reactor.seconds = partial(  # type: ignore[method-assign]
        time.clock_gettime, time.CLOCK_BOOTTIME
    )
    # What lives long is made by now, and what is made per query is freed without the cyclic
    # collector: let it look rarely.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    service = StaggerService(options.config, reactor, os.urandom)
    if options.parent is not None:
        _prepare_process(service, options, reactor)
    made: IService = service
    return made


def _prepare_process(service: StaggerService, options: Options, reactor: Any) -> None:
    """Set up what belongs to the process, as opposed to the service, and open the listeners."""
    service.bind()
    limit_log(options.config.log.level)
    printed, runner = sys.stdout, options.parent
    if printed is not None:
        sys.stdout = LogOutput(printed, reactor, service.lost_lines)
        if runner.get("logFile") is printed:  # twist's; twistd will look at sys.stdout
            runner["logFile"] = sys.stdout

    def reread(*_: object) -> None:
        reactor.callFromThread(service.reread)

    signal.signal(signal.SIGHUP, reread)


def _fill_standard_streams() -> None:
    """Let no socket have one of the first three descriptors, if whoever started us closed them.

    A daemon puts ``/dev/null`` in the place of these.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
