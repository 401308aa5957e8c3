"""How an exchange ends: once, and who hears of it (`staggerdns.upstream.exchange`)."""

from __future__ import annotations

from unittest import mock

import pytest
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from staggerdns.upstream.exchange import AskedUpstream, Exchange, ExchangeOwner, Outcome
from staggerdns.wire.judge import Judge
from staggerdns.wire.verdict import NEGATIVE
from tests.kit.messages import ask


class Asked:
    """An exchange whose outcome a Deferred gives, if ``by_deferred``, and else a call."""

    def __init__(self, *, by_deferred: bool) -> None:
        self.owner = mock.create_autospec(ExchangeOwner)
        self.exchange = Exchange(self.owner, Judge(ask()), b"query", "active", 0.0)
        self.exchange.forget = self.forget = mock.Mock()
        self.outcome = Outcome(
            mock.create_autospec(AskedUpstream), NEGATIVE, None, None, "active", 0.0, 1.0, 1.0
        )
        self.heard: list[Outcome] = []
        self.failures: list[Failure] = []
        self._by_deferred = by_deferred

    def listen(self) -> None:
        """Want the outcome."""
        if self._by_deferred:
            self.exchange.deferred().addCallbacks(self.heard.append, self.failures.append)
        else:
            self.exchange.on_outcome(lambda outcome, _: self.heard.append(outcome))

    def check_abandoned(self) -> None:
        """It was given up once, and nobody has heard an outcome."""
        self.owner.abandoned.assert_called_once_with(self.exchange)
        self.forget.assert_called_once_with(self.exchange, timed_out=False)
        assert self.heard == []
        assert self.exchange.over


@pytest.fixture(params=[True, False], ids=["deferred", "call"])
def asked(request: pytest.FixtureRequest) -> Asked:
    """An exchange, and what somebody hears of it."""
    return Asked(by_deferred=request.param)


def test_an_outcome(asked: Asked) -> None:
    """It is heard when it comes."""
    asked.listen()
    assert not asked.exchange.over
    asked.exchange.conclude(asked.outcome)
    assert asked.heard == [asked.outcome]
    assert asked.exchange.over


def test_an_outcome_before_anybody_listens(asked: Asked) -> None:
    """What has ended already while it was asked is heard at once."""
    asked.exchange.conclude(asked.outcome)
    asked.listen()
    assert asked.heard == [asked.outcome]


def test_cancelled(asked: Asked) -> None:
    """The owner and the transport hear of it, once; a Deferred fails as cancelled ones do."""
    asked.listen()
    asked.exchange.cancel()
    asked.exchange.cancel()
    asked.check_abandoned()
    assert all(failure.check(CancelledError) for failure in asked.failures)


def test_cancelled_after_its_end(asked: Asked) -> None:
    """Then there is nothing to give up."""
    asked.listen()
    asked.exchange.conclude(asked.outcome)
    asked.exchange.cancel()
    asked.owner.abandoned.assert_not_called()


def test_cancelled_by_its_deferred() -> None:
    """To cancel the Deferred is to cancel the exchange."""
    asked = Asked(by_deferred=True)
    waiting = asked.exchange.deferred().addErrback(asked.failures.append)
    waiting.cancel()
    asked.check_abandoned()
    assert [failure.check(CancelledError) for failure in asked.failures] == [CancelledError]
