"""One save: everything into a new file, in slices, which then takes the place of the old one.

Cache and table go on changing meanwhile. Each entry is encoded as it stands when its turn comes, by
one step; what has gone by then is left out, and what comes may be. So the file never was the state
of one moment, which nobody needs: entries are independent of each other, and all ages in the file
count from one time.

There are never more than two blocks in memory: the next one is encoded while a thread writes the
one before.
"""

from __future__ import annotations

from collections.abc import Callable
from io import FileIO

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from staggerdns.state.answers import AnswersOut
from staggerdns.state.blocks import Block, Head, RoundTripsBlock, encode
from staggerdns.state.contents import Contents
from staggerdns.state.directory import StateDirectory
from staggerdns.state.file import BlockWriter
from staggerdns.state.measurements import save_rtt, save_upstreams
from staggerdns.state.slices import Slices
from staggerdns.worker import Runs

STEP = 16
"""Entries from one look at the time to the next."""
BLOCK_ADDRESSES = 512
"""Round-trip times of one block."""


class Save:
    """A save of ``contents`` into ``directory``; `run` it once.

    ``wall`` returns seconds since 1970.
    """

    def __init__(
        self,
        contents: Contents,
        directory: StateDirectory,
        worker: Runs,
        slices: Slices,
        clock: IReactorTime,
        wall: Callable[[], float],
    ) -> None:
        self._contents = contents
        self._directory = directory
        self._worker = worker
        self._slices = slices
        self._clock = clock
        self._wall = wall
        self._writing: Deferred[None] | None = None
        self._file: FileIO | None = None
        self._writer: BlockWriter | None = None

    async def run(self) -> int:
        """Save, and return the octets of the file. Raises `OSError`.

        When it is cancelled, or something is wrong, the old file stays.
        """
        done = False
        try:
            octets = await self._save()
            done = True
        finally:
            if self._writing is not None:
                self._writing.addErrback(lambda _: None)  # nobody waits for it any more
            if not done:
                self._worker.run(self._discard)
        return octets

    async def _save(self) -> int:
        writer = await self._worker.run(self._begin)
        contents, slices = self._contents, self._slices
        slices.begin()
        now = self._clock.seconds()
        await self._put(Head(self._wall()))
        upstreams = save_upstreams(contents.members, contents.awake.seconds())
        await self._put(upstreams)
        await self._save_round_trips(now)
        await self._save_answers(now)
        await self._written()
        await self._worker.run(self._end, writer)
        return writer.octets

    async def _save_round_trips(self, now: float) -> None:
        table = self._contents.round_trips
        if table is None:
            return
        block = []
        addresses = table.addresses()
        while addresses:
            address = addresses.pop()
            rtt = table.get(address)
            if rtt is not None:
                block.append(save_rtt(address, rtt, now))
            if len(block) >= BLOCK_ADDRESSES or (block and not addresses):
                await self._put(RoundTripsBlock(block))
                block = []
            if not len(addresses) % STEP and self._slices.is_over:
                await self._slices.rest()

    async def _save_answers(self, now: float) -> None:
        cache = self._contents.cache
        digests = self._contents.digests
        answers = AnswersOut(digests, now)
        for keys in cache.names.walk():
            if self._contents.digests is not digests:  # numbers may stand for other scopes now
                await self._put_answers(answers)
                digests = self._contents.digests
                answers = AnswersOut(digests, now)
            for key in keys:
                entry = cache.held(key)
                if (
                    entry is not None
                    and cache.freshness.is_servable(entry, self._clock.seconds())
                    and cache.changes.spare(key, entry)
                ):
                    answers.add(key, entry)
                    if answers.is_full:
                        await self._put_answers(answers)
            if self._slices.is_over:
                await self._slices.rest()
        await self._put_answers(answers)

    async def _put_answers(self, answers: AnswersOut) -> None:
        block = answers.take()
        if block is not None:
            await self._put(block)

    async def _put(self, block: Block) -> None:
        """Have a block written when the one before has been."""
        octets = encode(block)
        await self._written()
        assert self._writer is not None
        self._writing = self._worker.run(self._writer.write, octets)

    async def _written(self) -> None:
        """Wait for the block before."""
        writing, self._writing = self._writing, None
        if writing is not None:
            is_late = not writing.called
            await writing
            if is_late:
                self._slices.begin()

    # In the thread.

    def _begin(self) -> BlockWriter:
        self._directory.open()
        self._file = self._directory.create()
        self._writer = BlockWriter(self._file)
        return self._writer

    def _end(self, writer: BlockWriter) -> None:
        writer.end()
        self._directory.commit(writer.file)

    def _discard(self) -> None:
        if self._file is not None:
            self._directory.discard(self._file)
