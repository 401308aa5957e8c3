"""Queries to one upstream over TCP, a connection each (RFC 7766, RFC 1035 section 4.2.2)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet import error
from twisted.internet.interfaces import IAddress, IConnector, IReactorTCP
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure

from staggerdns.upstream.address import Endpoint
from staggerdns.upstream.entropy import Entropy
from staggerdns.upstream.exchange import Exchange, error_word, mismatch


class StreamTransport:
    """Sends exchanges to ``endpoint``; ``rejected`` is told why a message was not accepted.

    ``timeout``: seconds that opening a connection may take.
    """

    def __init__(
        self,
        reactor: IReactorTCP,
        endpoint: Endpoint,
        entropy: Entropy,
        rejected: Callable[[str], None],
        timeout: float,
    ) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._entropy = entropy
        self._timeout = timeout
        self.rejected = rejected
        self._connectors: dict[Exchange, IConnector] = {}

    def send(self, exchange: Exchange) -> None:
        """Open a connection for the exchange and send its query there."""
        exchange.forget = self._forget
        factory = _Attempt(self, exchange, self._entropy.take())
        self._connectors[exchange] = self._reactor.connectTCP(
            self._endpoint.host, self._endpoint.port, factory, timeout=self._timeout
        )

    def close(self) -> None:
        """Drop every connection; exchanges still under way stay unanswered."""
        for exchange in list(self._connectors):
            self._forget(exchange)

    def ended(self, exchange: Exchange) -> bool:
        """Take an exchange out of the books; say whether it was still in them."""
        exchange.forget = None
        return self._connectors.pop(exchange, None) is not None

    def _forget(self, exchange: Exchange, *, timed_out: bool = False) -> None:
        connector = self._connectors.pop(exchange, None)
        if connector is not None:
            connector.disconnect()


class _Attempt(ClientFactory):
    """One connection for one exchange."""

    noisy = False

    def __init__(self, transport: StreamTransport, exchange: Exchange, message_id: bytes) -> None:
        self._transport = transport
        self.exchange = exchange
        self.message = message_id + exchange.query

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Return the protocol of the new connection."""
        return _OneQuery(self)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """End the exchange: no connection."""
        if reason.check(error.TimeoutError):
            self.failed("timeout")
        else:
            self.failed(error_word(getattr(reason.value, "osError", None)))

    def failed(self, reason: str) -> None:
        """End the exchange with a network error, unless it has ended."""
        if self._transport.ended(self.exchange):
            self.exchange.error(reason)

    def accept(self, message: bytes) -> bool:
        """Take a message from the connection; say whether it was the reply."""
        reason = "id"
        if message[:2] == self.message[:2]:
            reason = mismatch(message, self.exchange.question)
            if not reason:
                if self._transport.ended(self.exchange):
                    self.exchange.reply(message, final=True)
                return True
        self._transport.rejected(reason)
        return False


class _OneQuery(Protocol):
    """Sends the query, reads frames until one is the reply, and closes."""

    def __init__(self, attempt: _Attempt) -> None:
        self._attempt = attempt
        self._buffer = b""

    def connectionMade(self) -> None:
        """Send the query behind its length."""
        assert self.transport is not None
        message = self._attempt.message
        self.transport.write(len(message).to_bytes(2, "big") + message)

    def dataReceived(self, data: bytes) -> None:
        """Cut frames from the stream."""
        self._buffer += data
        while len(self._buffer) >= 2:
            end = 2 + int.from_bytes(self._buffer[:2], "big")
            if len(self._buffer) < end:
                return
            message, self._buffer = self._buffer[2:end], self._buffer[end:]
            # A second message on this connection answers nothing: one wrong one is enough.
            if not self._attempt.accept(message):
                self._attempt.failed("mismatch")
            assert self.transport is not None
            self.transport.loseConnection()
            return

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the exchange if its reply has not come."""
        self._attempt.failed("closed")
