"""A collector on loopback for tests, over coap and over coaps, with a client of ours and with bare datagrams."""

import asyncio
import contextlib
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from coaplet import Node
from coaplet_tools.collector import devices, schema
from coaplet_tools.collector.limits import RATE
from coaplet_tools.collector.query import Filter, rows
from coaplet_tools.collector.serve import Collector
from coaplet_tools.collector.show import Quiet
from coaplet_tools.collector.text import Paint

TOKEN = b"\1\2"


class Told(Quiet):
    """A display that keeps what it says."""

    def __init__(self) -> None:
        super().__init__(Paint(False))
        self.told: list[str] = []

    def tell(self, text: str, colour: str = "") -> None:
        self.told.append(text)


class Serving:
    """A collector that listens on coap and on coaps, with a device "a", and a client."""

    collector: Collector
    client: Node
    plain: Any  # a Remote over coap
    layer: Any  # the DTLS layer

    def __init__(self, database: Path, rate: int = RATE) -> None:
        self.database = database
        self.rate = rate
        self.display = Told()
        self.key = devices.add(database, "a")

    def run(self, use: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(30), self.serving(), Node() as self.client:
                self.plain = await self.client.connect(self.collector.uris[0])
                await use()

        asyncio.run(main())

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        listen = ["coap://127.0.0.1:0", "coaps://127.0.0.1:0"]
        async with Collector(listen, self.database, self.display, self.rate) as self.collector:
            self.layer = self.collector.node.transports[1]
            yield

    async def connect(self, identity: str = "a", key: bytes | None = None, client: Node | None = None) -> Any:
        psk = (identity, key or self.key)
        return await (client or self.client).connect(self.collector.uris[1], psk=psk, timeout_ms=10_000)

    async def exchange(self, *datagrams: bytes) -> list[bytes]:
        """Send datagrams from one socket, each after the answer to the one before. Returns the answers."""
        with self.socket() as s:
            return await asyncio.to_thread(lambda: [_exchange(s, datagram) for datagram in datagrams])

    def socket(self) -> socket.socket:
        """Return a socket that sends to the collector."""
        host, _, port = self.collector.addresses[0].partition(":")
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(10)
        s.connect((host, int(port)))
        return s

    def rows(self) -> list[sqlite3.Row]:
        with closing(schema.open_to_read(self.database)) as connection:
            return list(rows(connection, Filter()))


def _exchange(s: socket.socket, datagram: bytes) -> bytes:
    s.send(datagram)
    return s.recv(2000)


def request(mid: int, options: Sequence[tuple[int, bytes]], payload: bytes = b"", code: int = 2) -> bytes:
    """Write a CON with TOKEN, a POST by default, and options in the order of their numbers."""
    return message(0x42, code, mid, options, payload)


def ack(mid: int, code: int, options: Sequence[tuple[int, bytes]] = (), payload: bytes = b"") -> bytes:
    """Write the ACK with a response that a CON with TOKEN gets."""
    return message(0x62, code, mid, options, payload)


def message(head: int, code: int, mid: int, options: Sequence[tuple[int, bytes]], payload: bytes) -> bytes:
    data = bytes((head, code)) + mid.to_bytes(2, "big") + TOKEN
    last = 0
    for number, value in options:
        delta, rest = _nibble(number - last)
        size, more = _nibble(len(value))
        data += bytes((delta << 4 | size,)) + rest + more + value
        last = number
    return data + (b"\xff" + payload if payload else b"")


def _nibble(n: int) -> tuple[int, bytes]:
    return (n, b"") if n < 13 else (13, bytes((n - 13,))) if n < 269 else (14, (n - 269).to_bytes(2, "big"))
