"""Many sockets behind one descriptor of the reactor.

Upstreams have dozens of sockets, and under load several are readable at once. What the reactor does
between its poll and each reader costs more than reading a reply. With an epoll set of our own,
which the reactor watches as one reader, it does that once for all of them.
"""

from __future__ import annotations

import select
from abc import abstractmethod

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from staggerdns.journal import Journal

BATCH = 64
"""Sockets served at one wake-up, so that clients and timers get their turn."""


class Reader:
    """A socket to watch. A class and no `typing.Protocol`: every reply comes this way."""

    __slots__ = ()

    @abstractmethod
    def fileno(self) -> int:
        """Return the open socket's descriptor."""

    @abstractmethod
    def read(self) -> None:
        """Read what is there; a socket with an error counts as readable."""


@implementer(IReadDescriptor)
class Readers:
    """Watches sockets for ``reactor``, which sees it only while there are any."""

    def __init__(self, reactor: IReactorFDSet, journal: Journal) -> None:
        self._reactor = reactor
        self._journal = journal
        self._poll = select.epoll()
        self._readers: dict[int, Reader] = {}
        self.fileno = self._poll.fileno

    def __len__(self) -> int:
        return len(self._readers)

    def add(self, reader: Reader) -> None:
        """Call ``reader.read`` from now on whenever there is something to read."""
        descriptor = reader.fileno()
        self._poll.register(descriptor, select.EPOLLIN)
        self._readers[descriptor] = reader
        if len(self._readers) == 1:
            self._reactor.addReader(self)

    def remove(self, reader: Reader) -> None:
        """Watch ``reader``, which is still open, no more."""
        descriptor = reader.fileno()
        self._poll.unregister(descriptor)
        del self._readers[descriptor]
        if not self._readers:
            self._reactor.removeReader(self)

    def doRead(self) -> None:
        """Serve what is readable; called by the reactor."""
        readers = self._readers
        for descriptor, _ in self._poll.poll(0, BATCH):
            reader = readers.get(descriptor)
            if reader is None:  # closed by the one before
                continue
            try:
                reader.read()
            except Exception:  # noqa: BLE001 (a defect must not cost the other sockets)
                self._journal.failure("an upstream's reply could not be read")

    def connectionLost(self, reason: Failure) -> None:
        """Do nothing: the set is no connection."""

    def logPrefix(self) -> str:
        """Name the set in the reactor's log."""
        return "upstreams"

    def close(self) -> None:
        """Give the descriptor back; all readers must have left."""
        self._poll.close()
