"""A connection to a store: txredisapi's protocol, which logs in and pairs commands with replies.

Replies are read by `ReplyReader`, since txredisapi's own reader has no bounds, makes numbers of
values that look like some, and takes one turn of the reactor for each string of an array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure
from txredisapi import BaseRedisProtocol, ResponseError

from staggerdns.settings.stores import StoreAddress
from staggerdns.shared.replies import Garbage, Refusal, Reply, ReplyReader


class StoreConnection(BaseRedisProtocol):  # type: ignore[misc]  # it has no annotations
    """One connection. `run` a script when ``ready`` was called."""

    def __init__(self, factory: StoreConnectionFactory) -> None:
        address = factory.address
        super().__init__(
            charset=None,
            convertNumbers=False,
            username=address.user or None,
            password=factory.password or None,
            dbid=address.database or None,
        )
        self.factory = factory
        self._replies = ReplyReader()
        self.whenConnected().addCallback(lambda _: factory.ready(self))

    def run(
        self, script: str, keys: Sequence[bytes], arguments: Sequence[Any] = ()
    ) -> Deferred[Any]:
        """Return a Deferred of what a script returns."""
        result: Deferred[Any] = self.eval(script, keys, arguments)
        return result

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:  # noqa: FBT002 (as it is)
        """Hand replies to whoever waits for them."""
        try:
            for reply in self._replies.feed(data):
                self._hand_over(reply)
        except Garbage as problem:
            self.factory.connectionError(str(problem))
            self.transport.abortConnection()

    def _hand_over(self, reply: Reply) -> None:
        if not self.replyQueue.waiting:
            raise Garbage("a reply to nothing")
        refused = isinstance(reply, Refusal)
        self.replyReceived(ResponseError(str(reply)) if refused else reply)

    def connectionLost(self, why: Failure = connectionDone) -> None:
        """Have everything fail that waits for a reply."""
        super().connectionLost(why)
        self.factory.lost(self, why)


class StoreConnectionFactory(Factory):
    """Makes connections to the store at ``address``; ``password``: the one that counts.

    ``ready`` is called with one that can be used, ``lost`` with one that is closed, and why.
    """

    noisy = False
    isLazy = False  # for txredisapi: there is nothing to log

    def __init__(
        self,
        address: StoreAddress,
        password: str,
        ready: Callable[[StoreConnection], None],
        lost: Callable[[StoreConnection, Failure], None],
    ) -> None:
        self.address = address
        self.password = password
        self.ready = ready
        self.lost = lost
        self.problem = ""

    def buildProtocol(self, addr: IAddress | None) -> StoreConnection:
        """Return the protocol of a new connection."""
        self.problem = ""
        return StoreConnection(self)

    def stopTrying(self) -> None:
        """Do nothing: called by txredisapi before `connectionError`."""

    def connectionError(self, why: str) -> None:
        """Note what is wrong with a connection; called by txredisapi as well."""
        self.problem = why
