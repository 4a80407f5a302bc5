"""One run of the collector: the database, the node that listens, the stop.

`Collector` is what `coaplet-collector serve` and `make run` start; both use it as a context manager in their loop.
"""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from coaplet import Node
from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.collector.resources import Display, Resources
from coaplet_tools.collector.writer import Writer

# Requests that wait for a commit; the next one gets 5.03. Requests remembered: what comes twice within 247 s while
# fewer others came is answered from there, and all the rest by UNIQUE(node, boot, seq).
_LIMITS = {"async_slots": 256, "duplicates": 10_000, "exchanges": 256, "tx_slots": 64}


class Collector:
    """`async with Collector(...) as collector`: it listens, and stores until the block ends.

    listen: URIs such as "coap://0.0.0.0:5683". Entering raises CollectorError.
    After that: addresses (texts such as "127.0.0.1:5683"), counts, node.
    """

    def __init__(self, listen: Sequence[str], database: Path, display: Display) -> None:
        self._listen = listen
        self._writer = Writer(database)
        try:
            self.node = Node(*listen, **_LIMITS)
        except ValueError as error:
            raise CollectorError(f"--listen: {error}") from error
        self._resources = Resources(self.node, self._writer, display)
        self.counts = self._resources.counts
        self.addresses: list[str] = []

    async def __aenter__(self) -> Self:
        await self._writer.__aenter__()
        try:
            await self.node.start()
        except OSError as error:
            await self._writer.__aexit__()
            places = " ".join(self._listen)
            raise CollectorError(f"cannot listen on {places}: {error.strerror or error}") from error
        self.addresses = [self.node.address(i) for i in range(len(self._listen))]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening, commit what waits, close the database."""
        await self.node.stop()
        await self._writer.__aexit__()


def stop_event() -> asyncio.Event:
    """Return an event that Ctrl-C and the signals that ask a process to end set, instead of what they do otherwise."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
