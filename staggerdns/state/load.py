"""Reading what was saved, after the listeners are up and while hits are served.

    checked, all of it, before anything is used --> round trips and upstreams
        --> the wall clock is not before the time of the file --> answers, in slices

TTLs have gone on while the program was down, by the wall clock. A machine without a battery may
start with a clock that stands before the time of the file: then nobody knows how old anything is.
Round trips order answers all the same; answers wait unread until the clock is right, or until they
would be of no use any more. Once read, nothing goes by the wall clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from staggerdns.state.answers import AnswersIn
from staggerdns.state.blocks import AnswersBlock, Block, RoundTripsBlock, UpstreamsBlock
from staggerdns.state.contents import Contents
from staggerdns.state.directory import StateDirectory
from staggerdns.state.file import Unusable, check, read_blocks
from staggerdns.state.measurements import LONG_AGO, restore_rtt, restore_upstreams
from staggerdns.state.save import STEP
from staggerdns.state.slices import Slices
from staggerdns.worker import Runs

LOOK_EVERY = 1.0
"""Seconds between two looks at a wall clock that is before the time of the file."""
PATIENCE = 3_600.0
"""Seconds for which answers wait for the clock; nothing is saved meanwhile."""


@dataclass
class Loaded:
    """What a load has brought: ``age`` is that of the file in seconds, and what was taken of the
    ``answers`` and addresses with their ``round_trips`` in it.
    """

    age: float
    answers: int = 0
    round_trips: int = 0


class Load:
    """Reads the file of ``directory`` into ``contents``; `run` it once.

    ``wall`` returns seconds since 1970. ``waits`` is called when answers wait for the clock.
    ``settle`` is called now and then when much has been made that will live long.
    """

    def __init__(
        self,
        contents: Contents,
        directory: StateDirectory,
        worker: Runs,
        slices: Slices,
        clock: IReactorTime,
        wall: Callable[[], float],
        *,
        waits: Callable[[float], object],
        settle: Callable[[], object],
    ) -> None:
        self._contents = contents
        self._directory = directory
        self._worker = worker
        self._slices = slices
        self._clock = clock
        self._wall = wall
        self._waits = waits
        self._settle = settle
        self._file: FileIO | None = None
        self._blocks: Iterator[Block] = iter(())
        self._ahead: Deferred[Block | None] | None = None

    async def run(self) -> Loaded | None:
        """Read the file, and return what that has brought, `None` if there is none.

        Raises `Unusable` when nothing of it was used, and `OSError`.
        """
        try:
            time = await self._worker.run(self._open)
            return None if time is None else await self._load(time)
        finally:
            if self._ahead is not None:
                self._ahead.addErrback(lambda _: None)  # nobody waits for it any more
            self._worker.run(self._close)

    async def _load(self, time: float) -> Loaded:
        loaded = Loaded(self._wall() - time)
        block = await self._measurements(loaded)
        if block is not None and loaded.age < 0:
            self._waits(-loaded.age)
            await self._right_clock(time)
            loaded.age = self._wall() - time
        if loaded.age >= 0:
            await self._answers(block, loaded)
        return loaded

    async def _measurements(self, loaded: Loaded) -> Block | None:
        """Use what is there of upstreams and addresses, and return the block behind that."""
        contents, slices = self._contents, self._slices
        elapsed = max(loaded.age, 0.0)
        while (block := await self._next()) is not None:
            if isinstance(block, UpstreamsBlock):
                upstreams = {upstream.name: upstream for upstream in contents.members}
                restore_upstreams(block, upstreams, contents.awake.seconds(), elapsed)
            elif isinstance(block, RoundTripsBlock):
                table = contents.round_trips
                if table is None:
                    continue
                # What may be of any age orders answers, and is measured anew.
                age = elapsed if loaded.age >= 0 else LONG_AGO
                now = self._clock.seconds()
                for place, saved in enumerate(block.addresses, 1):
                    loaded.round_trips += restore_rtt(saved, table, now, age)
                    if not place % STEP and slices.is_over:
                        await slices.rest()
                self._settle()
            elif isinstance(block, AnswersBlock):
                break
        return block

    async def _right_clock(self, time: float) -> None:
        """Wait until the wall clock is not before ``time``, for as long as that may be of use."""
        waited = 0.0
        while self._wall() < time and waited < PATIENCE:
            await deferLater(self._clock, LOOK_EVERY)
            waited += LOOK_EVERY

    async def _answers(self, block: Block | None, loaded: Loaded) -> None:
        contents, slices = self._contents, self._slices
        since = self._clock.seconds() - loaded.age
        while block is not None:
            if isinstance(block, AnswersBlock):
                scopes = {digest: number for number, digest in contents.digests.items()}
                answers = AnswersIn(contents.cache, scopes, since, self._clock.seconds(), block)
                for place, saved in enumerate(block.entries, 1):
                    loaded.answers += answers.restore(saved)
                    if not place % STEP and slices.is_over:
                        await slices.rest()
                self._settle()
            block = await self._next()

    async def _next(self) -> Block | None:
        """Return the next block, `None` behind the last; the one after it is read meanwhile."""
        ahead, self._ahead = self._ahead, None
        block = await (self._worker.run(self._read) if ahead is None else ahead)
        if block is not None:
            self._ahead = self._worker.run(self._read)
        self._slices.begin()
        return block

    # In the thread.

    def _open(self) -> float | None:
        self._directory.open()
        self._file = self._directory.read()
        if self._file is None:
            return None
        try:
            time = check(self._file)
        except OSError as error:
            raise Unusable(f"cannot be read: {error.strerror}") from None
        self._blocks = read_blocks(self._file)
        return time

    def _read(self) -> Block | None:
        try:
            return next(self._blocks, None)
        except OSError as error:
            raise Unusable(f"cannot be read: {error.strerror}") from None

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
