"""A thread for what may wait for a disk, so that the reactor does not."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

P = ParamSpec("P")
T = TypeVar("T")

Job = Callable[[], object]


class Runs(Protocol):
    """Whoever does jobs one after the other."""

    def run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Return a Deferred of what ``job`` returns or raises. To cancel it changes nothing."""

    def stop(self) -> None:
        """Do what there is to do, and no more after that."""


class Worker:
    """A thread that ends when it is stopped; the program does not wait for it in the end. ``name``
    is what debuggers show.

    ``call_back`` calls something in the thread of the reactor (`IReactorFromThreads`).
    """

    def __init__(self, call_back: Callable[..., object], name: str) -> None:
        self._call_back = call_back
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        # A thread of the reactor's pool would keep the process alive while a disk hangs.
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Have a job done behind those that wait: see `Runs`."""
        done: Deferred[T] = Deferred(lambda _: None)

        def work() -> None:
            try:
                result: Any = job(*args, **kwargs)
            except Exception:  # noqa: BLE001 (whatever it is, it is the caller's)
                failure = Failure()
                failure.cleanFailure()  # no frames of another thread
                self._call_back(_fire, done.errback, done, failure)
            else:
                self._call_back(_fire, done.callback, done, result)

        self._jobs.put(work)
        return done

    def stop(self) -> None:
        """End the thread when it has done what waits."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def _fire(fire: Callable[[Any], object], done: Deferred[Any], result: object) -> None:
    if not done.called:
        fire(result)
