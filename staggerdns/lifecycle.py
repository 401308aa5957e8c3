"""Whether this server wants queries: what balancers in front of it are told.

    starting  --serve-->  serving  --drain-->  draining  --stop-->  stopping
                             ^------resume-------'

It is ready while it is serving, whatever upstreams do: a balancer that took queries away because of
an outage at the upstreams would take them from all servers at once. Queries that come all the same
are answered in every phase. What an operator has drained stays so when it starts to serve, and
nothing brings a server back that is being stopped.
"""

from __future__ import annotations

from typing import Final

from staggerdns.journal import Journal

STARTING: Final = "starting"
SERVING: Final = "serving"
DRAINING: Final = "draining"
STOPPING: Final = "stopping"


class Lifecycle:
    """The phase in which the server is; an operator's changes of it are logged to ``journal``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._serving = False
        self._drained = False
        self._stopping = False

    @property
    def phase(self) -> str:
        """One of `STARTING`, `SERVING`, `DRAINING` and `STOPPING`."""
        if self._stopping:
            return STOPPING
        if self._drained:
            return DRAINING
        return SERVING if self._serving else STARTING

    @property
    def ready(self) -> bool:
        """Whether balancers shall send queries here."""
        return self.phase == SERVING

    def serve(self) -> None:
        """Note that queries are answered from now on."""
        self._serving = True

    def drain(self) -> None:
        """Have balancers send their queries elsewhere, until `resume`."""
        if not self._drained:
            self._drained = True
            self._journal.announce("draining: balancers are told to send queries elsewhere")

    def resume(self) -> None:
        """Undo `drain`."""
        if self._drained:
            self._drained = False
            self._journal.announce("draining is over: balancers are told to send queries again")

    def stop(self) -> None:
        """Note that the server is about to end."""
        self._stopping = True
