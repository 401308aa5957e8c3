"""A program with its scripted upstreams, and what the tests ask of them together."""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Any, Self

from tests.kit import behaviours as b
from tests.kit.clients import eventually
from tests.kit.ports import Endpoint, free_endpoints
from tests.kit.program import Program
from tests.kit.scripted import Behaviour, Query, ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from tests.kit.clients import Reply
    from tests.kit.scripted import Action

_numbers = itertools.count(1)

SOON = 2.0
"""Seconds in which something comes that waits for nothing, on a machine that is busy as well."""
PATIENT = {"upstream": {"parallel": {"fallback_timeout": "5s", "total_collect_timeout": "20s"}}}
"""Settings with which it would be seen that the staggered tier waits for the active one."""


def unique_name(label: str) -> str:
    """A name that no other test asks for, in lower case, with its final dot."""
    return f"{label}-{next(_numbers)}.example."


def own_set(index: int, size: int = 2) -> tuple[str, ...]:
    """The addresses (A) that only upstream number ``index`` knows."""
    return tuple(f"203.0.{index}.{host + 1}" for host in range(size))


def own_answer(index: int, after: float = 0.0, size: int = 2, ttl: int = 300) -> Behaviour:
    """Answer with the upstream's own set."""
    return b.answers(*own_set(index, size), after=after, ttl=ttl)


def all_sets(indexes: Iterable[int], size: int = 2) -> set[str]:
    """All the addresses of these upstreams."""
    return {text for index in indexes for text in own_set(index, size)}


def most_in_window(times: Iterable[float], width: float) -> int:
    """How many of ``times`` lie at most within one window of ``width`` seconds."""
    ordered = sorted(times)
    return max(
        (sum(start <= time < start + width for time in ordered) for start in ordered), default=0
    )


class Testbed:
    """Scripted upstreams and one program that asks them: a context manager.

    ``behaviours``: one for each upstream; None stands for a closed port, where nobody listens.
    Each upstream behaves so for every name that `route` has not given away.
    """

    __test__ = False  # pytest would collect it for its name

    def __init__(
        self,
        directory: Path,
        behaviours: Sequence[Behaviour | None],
        settings: Mapping[str, Any] | None = None,
        *,
        scheme: str = "",
        listen: Endpoint | None = None,
    ) -> None:
        self.endpoints = free_endpoints(len(behaviours))
        self.upstreams: dict[int, ScriptedUpstream] = {}
        self._routes: list[dict[str, Behaviour]] = []
        for index, behaviour in enumerate(behaviours):
            self._routes.append({})
            if behaviour is not None:
                routed = self._routed(self._routes[index], behaviour)
                self.upstreams[index] = ScriptedUpstream(routed, self.endpoints[index])
        self.program = Program(
            directory, [scheme + str(end) for end in self.endpoints], settings, listen=listen
        )
        self._stack = contextlib.ExitStack()

    @staticmethod
    def _routed(routes: Mapping[str, Behaviour], default: Behaviour) -> Behaviour:
        def behave(query: Query) -> Sequence[Action]:
            return routes.get(query.name, default)(query)

        return behave

    def __enter__(self) -> Self:
        with self._stack as stack:
            for upstream in self.upstreams.values():
                stack.enter_context(upstream)
            stack.enter_context(self.program)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def get_known(self) -> None:
        """Have each upstream answer one question, so that the program knows that it copes with
        EDNS and random case: what it denies or does not answer after that has other reasons.
        """
        behaviours = [own_answer(index, 0.02 * (index + 1)) for index in range(len(self._routes))]
        name = self.route("getting-to-know", *behaviours)
        self.ask(name)
        self.complete(name)
        time.sleep(0.02 * (len(behaviours) + 2))

    def route(self, label: str, *behaviours: Behaviour, name: str | None = None) -> str:
        """Give a new name to ``behaviours``, one for each upstream or one for all; the name."""
        name = name or unique_name(label)
        for index, routes in enumerate(self._routes):
            routes[name] = behaviours[index % len(behaviours)]
        return name

    def ask(self, name: str, rdtype: str = "A", **keywords: Any) -> Reply:
        """Ask the program one question: see `clients.ask`."""
        return self.program.ask(name, rdtype, **keywords)

    def asked(self, name: str, rdtype: str | None = None) -> list[list[Query]]:
        """For each upstream, the queries for ``name`` that it got."""
        return [upstream.asked(name, rdtype) for upstream in self.upstreams.values()]

    def counts(self, name: str, rdtype: str | None = None) -> list[int]:
        """For each upstream, how many queries for ``name`` it got."""
        return [len(queries) for queries in self.asked(name, rdtype)]

    def times(self, name: str) -> list[float]:
        """When the queries for ``name`` arrived, in order, in seconds after the first one."""
        times = sorted(query.at for queries in self.asked(name) for query in queries)
        return [time - times[0] for time in times]

    def complete(self, name: str, timeout: float = 5.0, rounds: int = 1) -> list[int]:
        """Wait until every upstream was asked ``rounds`` times for ``name``; the counts."""
        return eventually(
            lambda: self.counts(name),
            lambda counts: all(count >= rounds for count in counts),
            timeout,
        )

    def pool(self, name: str, wanted: set[str], timeout: float = 5.0) -> Reply:
        """Ask the program for A until the answer holds exactly ``wanted``."""
        return self.program.pool(name, wanted, timeout=timeout)
