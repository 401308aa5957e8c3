"""``python -m bench.soak.world SERVER UPSTREAM...``: upstreams and clients, in another process.

Each line of standard input is an order: ``load``, ``rest``, ``end``. It is answered with one
line of JSON: what clients have seen so far.
"""

from __future__ import annotations

import asyncio
import json
import sys

from bench.soak.clients import SoakClients
from bench.soak.upstreams import serve


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


async def _obey(clients: SoakClients) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while (order := (await reader.readline()).strip()) not in (b"end", b""):
        if order == b"load":
            clients.settle()
            clients.resume()
        else:
            clients.pause()
        sys.stdout.write(json.dumps(clients.counts.as_dict()) + "\n")
        sys.stdout.flush()
    clients.settle()
    sys.stdout.write(json.dumps(clients.counts.as_dict()) + "\n")
    sys.stdout.flush()


async def _main(server: str, *upstreams: str) -> None:
    clients = SoakClients(_address(server))
    tasks = [
        asyncio.create_task(serve([_address(upstream) for upstream in upstreams])),
        asyncio.create_task(clients.run()),
        asyncio.create_task(_obey(clients)),
    ]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
