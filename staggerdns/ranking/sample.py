"""One sample of one address: an echo, its repetitions, and the other ways of probing beside it.

    --budget--> sent --a quarter of ``timeout``--> repeated, and the next way begins --...
                  |--an answer--> decided              |--nothing left, all lost--> decided

A sample begins with the first way of probing. After a quarter of ``timeout`` without an answer it
is repeated, twice at most, and the next way begins as well. The first answer decides: what is
still under way is given up, and earlier echoes of the same way are lost. When every echo is lost,
the address is silent. So a sample counts as lost only with its repetitions.

At any time it waits either for the budget or, by its `Patience`, for answers; whoever runs samples
is its `Watcher`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from staggerdns.metrics import Metrics
from staggerdns.ranking.patience import Patience
from staggerdns.ranking.waiting import FIRST, Waiting

PATIENCE = 0.25
"""The part of ``timeout`` after which a sample is repeated and the next way of probing begins."""
REPETITIONS = 2
"""How often a sample is repeated before it counts as lost."""
ANY_PORT = "tcp"
"""What metrics call connections to the ports that records name, of which there may be many."""
_ROUNDING = 1e-6


class Probe(Protocol):
    """A way of probing. ``cheap``: it is repeated before it has ever answered."""

    name: str
    cheap: bool

    def usable(self, address: bytes) -> bool:
        """Return whether this way can reach the address."""

    def ping(self, address: bytes) -> Deferred[float]:
        """Send one echo: a Deferred of the seconds that cancelling gives up."""


class Way:
    """A probe and what is counted of it, under its own name if not under that ``label``."""

    __slots__ = ("probe", "sent", "lost", "seconds")

    def __init__(self, probe: Probe, metrics: Metrics, label: str = "") -> None:
        self.probe = probe
        label = label or probe.name
        self.sent = metrics.probes.cell(label)
        self.lost = metrics.probe_losses.cell(label)
        self.seconds = metrics.probe_seconds.distribution(label)


class Asker:
    """Whoever asks for samples."""

    __slots__ = ()

    @abstractmethod
    def sampled(self, address: bytes, now: float) -> None:
        """Hear that the sample is decided, and what came of it is in the table."""


class Watcher:
    """Whoever runs samples."""

    __slots__ = ()

    @abstractmethod
    def ready(self, sample: Sample) -> None:
        """Hear that the sample has something to send: `Sample.send` when the budget allows."""

    @abstractmethod
    def decided(self, sample: Sample, seconds: float | None, lost: int, way: str) -> None:
        """Hear how the sample has ended: `None` for silence, with echoes ``lost`` before that.

        ``way``: what brought the answer.
        """


class Sample(Waiting):
    """A sample of ``address`` by ``ways``, one at least; ``timeout``: seconds for each echo, of
    which ``patience`` is the part `PATIENCE`.

    ``known``: the one way has answered before, so it is repeated even if that is not cheap.
    ``askers``: who is to be told. ``further``: not the first of a measurement. ``begun``: the
    first echo has been sent.
    """

    __slots__ = (
        "address",
        "askers",
        "begun",
        "further",
        "_watcher",
        "_clock",
        "_timeout",
        "_ways",
        "_known",
        "_left",
        "_wanted",
        "_echoes",
        "_lost",
        "_patience",
        "_over",
    )

    def __init__(
        self,
        address: bytes,
        ways: Sequence[Way],
        watcher: Watcher,
        clock: IReactorTime,
        timeout: float,
        patience: Patience,
        *,
        known: bool,
        further: bool,
    ) -> None:
        super().__init__(FIRST)
        self.address = address
        self.askers: dict[Asker, None] = {}
        self.begun = False
        self.further = further
        self._watcher = watcher
        self._clock = clock
        self._timeout = timeout
        self._ways = list(ways)
        self._known = known
        self._left: dict[Way, int] = {}
        self._wanted: list[Way] = []
        self._echoes: dict[Deferred[float], tuple[Way, float]] = {}
        self._lost: dict[Way, int] = {}
        self._patience = patience
        self._over = False
        self._want_next()

    def send(self) -> None:
        """Send what is wanted next; called by the watcher when the budget allows."""
        self.begun = True
        way = self._wanted.pop(0)
        self._left[way] -= 1
        echo: Deferred[float] = maybeDeferred(way.probe.ping, self.address)
        if echo.called and isinstance(echo.result, Failure):
            # The system does not even send (no route, no right): nothing to repeat.
            echo.addErrback(_ignore)
            self._left[way] = 0
        else:
            way.sent.value += 1
            self._echoes[echo] = (way, self._clock.seconds())
            echo.addCallbacks(
                self._answered, self._failed, callbackArgs=(echo,), errbackArgs=(echo,)
            )
        if not self._over:
            self._go_on()

    def give_up(self) -> None:
        """End the sample without a result."""
        self._over = True
        self._patience.end(self._lose_patience)
        echoes, self._echoes = self._echoes, {}
        for echo in echoes:
            echo.cancel()

    def _go_on(self) -> None:
        """Wait for the budget, or for answers, or begin what comes next, or end."""
        if not self._wanted and not self._echoes:
            self._want_next()
        if self._wanted:
            self._watcher.ready(self)
        elif self._echoes:
            self._patience.begin(self._lose_patience)
        else:
            self._decide(None, sum(self._lost.values()), "")

    def _want_next(self) -> None:
        """Want the repetitions that are left, and the next way of probing."""
        self._wanted = [way for way, left in self._left.items() if left]
        if self._ways:
            way = self._ways.pop(0)
            self._left[way] = 1 + (REPETITIONS if way.probe.cheap or self._known else 0)
            self._wanted.append(way)

    def _lose_patience(self) -> None:
        oldest = self._clock.seconds() - self._timeout + _ROUNDING
        for echo in [echo for echo, (_, sent) in self._echoes.items() if sent <= oldest]:
            self._lose(echo)
        self._want_next()
        self._go_on()

    def _answered(self, seconds: float, echo: Deferred[float]) -> None:
        if echo not in self._echoes:
            return
        way, sent = self._echoes.pop(echo)
        way.seconds.observe(seconds)
        earlier = [e for e, (its, at) in self._echoes.items() if its is way and at < sent]
        for one in earlier:
            self._lose(one)
        self._decide(seconds, self._lost.get(way, 0), way.probe.name)

    def _failed(self, _: Failure, echo: Deferred[float]) -> None:
        if echo not in self._echoes:  # it was given up
            return
        self._lose(echo)
        if not self._echoes and self._patience.end(self._lose_patience):  # nothing to wait for
            self._go_on()

    def _lose(self, echo: Deferred[float]) -> None:
        way, _ = self._echoes.pop(echo)
        way.lost.value += 1
        self._lost[way] = self._lost.get(way, 0) + 1
        echo.cancel()

    def _decide(self, seconds: float | None, lost: int, way: str) -> None:
        self.give_up()
        self._watcher.decided(self, seconds, lost, way)


def _ignore(_: Failure) -> None:
    """Do nothing about a failure that has been noticed."""
