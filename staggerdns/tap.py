"""The door for twistd and twist: ``twistd -n staggerdns --config FILE``.

What takes long to import is imported only when SIGHUP is taken care of.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.python import usage

from staggerdns.hangups import Hangups
from staggerdns.settings import DEFAULT_CONFIG

if TYPE_CHECKING:
    from twisted.application.service import IService

    from staggerdns.settings.sections import Config


class Options(usage.Options):
    """Command line of the plugin; ``config`` is the validated configuration afterwards, and
    ``path`` its file, `None` if it cannot be read again.
    """

    synopsis = "[options]"
    longdesc = "A DNS forwarding server that asks its upstreams in two paced tiers."
    optParameters = (("config", "c", DEFAULT_CONFIG, "Path of the configuration file."),)

    config: Config
    path: str | None
    parent: Any = None
    """The runner's own options, `None` when there is no runner."""

    def __init__(self) -> None:
        super().__init__()
        self.hangups = Hangups()

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line; if it is a runner's, SIGHUP no longer ends the process."""
        if self.parent is not None:
            self.hangups.take()
        super().parseOptions(options)

    def postOptions(self) -> None:
        """Load the configuration; what is wrong with it ends the program in one line, with a status
        of its own: to start again is of no use then.
        """
        from staggerdns.config import load_config  # noqa: PLC0415 (takes long)
        from staggerdns.settings.document import ConfigError  # noqa: PLC0415

        _fill_standard_streams()
        try:
            self.config = load_config(self["config"])
            self.path = _lasting(self["config"])
        except ConfigError as error:
            print(f"staggerdns: {error}", file=sys.stderr)  # noqa: T201 (there is no log yet)
            raise SystemExit(os.EX_CONFIG) from None


def makeService(options: Options) -> IService:
    """Return the service that runs what ``options`` say.

    When twistd or twist has asked for it, all that can fail has been done by then: before a daemon
    leaves its terminal, and whether the runner calls ``privilegedStartService`` or not.
    """
    from staggerdns.process import make_service  # noqa: PLC0415 (takes long)

    return make_service(options.config, options.path, options.parent, options.hangups)


def _lasting(path: str) -> str | None:
    """Return the path of a regular file wherever the process goes later, `None` for a pipe."""
    absolute = Path(path).absolute()
    is_regular = absolute.is_file() and absolute.parts[1] not in ("dev", "proc")
    return str(absolute) if is_regular else None


def _fill_standard_streams() -> None:
    """Let no socket have one of the first three descriptors, if whoever started us closed them.

    A daemon puts ``/dev/null`` in the place of these.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
