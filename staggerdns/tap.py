"""The door for twistd: ``twistd -n staggerdns --config FILE``."""

from __future__ import annotations

import gc
import os
import time
from functools import partial

from twisted.application.service import IService
from twisted.python import usage

from staggerdns.config import load_config
from staggerdns.document import ConfigError
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

    def postOptions(self) -> None:
        """Load the configuration; what is wrong with it ends the program in one line."""
        try:
            self.config = load_config(self["config"])
        except ConfigError as error:
            raise SystemExit(f"staggerdns: {error}") from None


def makeService(options: Options) -> IService:
    """Return the service that runs what ``options`` say."""
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
    service: IService = StaggerService(options.config, reactor, os.urandom)
    return service
