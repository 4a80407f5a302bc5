"""A collector as Golioth, with devices "a" and "b", in the loop of a test."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from coaplet import CoapError, Node
from coaplet_tools.collector import devices
from coaplet_tools.collector.cli import main
from coaplet_tools.collector.serve import Collector
from coaplet_tools.collector.show import Quiet
from coaplet_tools.collector.text import Paint

GET, POST, PUT, DELETE = 1, 2, 3, 4


class Case:
    """run(use) gives use(case) a collector on coaps and coap; a and b are the devices' Remotes, plain one over coap."""

    collector: Collector
    client: Node
    a: Any
    b: Any
    plain: Any

    def __init__(self, database: Path) -> None:
        self.database = database
        self.keys = {name: devices.add(database, name) for name in ("a", "b")}
        self.faults: list[str] = []  # what handlers have raised that is no answer

    def run(self, use: Callable[["Case"], Coroutine[Any, Any, None]], seconds: float = 20) -> None:
        async def serve() -> None:
            listen = ["coaps://127.0.0.1:0", "coap://127.0.0.1:0"]
            async with (
                asyncio.timeout(seconds),
                Collector(listen, self.database, Quiet(Paint(False)), rate=0) as self.collector,
                Node() as self.client,
            ):
                self.collector.node.server.on_error = lambda resource, error: self.faults.append(
                    f"{resource.path}: {error!r}"
                )
                self.plain = await self.client.connect(self.collector.uris[1])
                self.a = await self.client.connect(self.collector.uris[0], psk=("a", self.keys["a"]))
                async with Node() as other:
                    self.b = await other.connect(self.collector.uris[0], psk=("b", self.keys["b"]))
                    await use(self)

        asyncio.run(serve())
        assert not self.faults

    async def command(self, *words: str) -> int:
        """Run a command beside the collector. Returns its exit code."""

        def run() -> int:
            try:
                return main([words[0], "--db", str(self.database), *words[1:]])
            except SystemExit as end:  # wrong usage
                return int(end.code or 0)

        return await asyncio.to_thread(run)


async def ask(
    remote: Any, method: int, path: str, payload: bytes | None = None, ct: int | None = None, *options: tuple[int, Any]
) -> Any:
    """Send a request. Returns the reply, also one that is an error."""
    try:
        return await remote.request(method, path, payload, ct=ct, options=options)
    except CoapError as error:
        assert error.reply is not None, error
        return error.reply


def wire(reply: Any) -> bytes:
    """Return a message as it was on the wire, from its code on, without Message ID and token."""
    return bytes(reply.data[1:2]) + bytes(reply.data[4 + reply.tkl : reply.end])


def encoded(code: str, options: Sequence[tuple[int, Any]], payload: bytes) -> bytes:
    """Write what wire() is to be (RFC 7252 3.1), for option values of up to 12 bytes."""
    parts = [bytes([int(code[0]) << 5 | int(code[2:])])]
    before = 0
    for number, value in options:
        delta = number - before
        parts.append(bytes([delta << 4 | len(value)] if delta < 13 else [0xD0 | len(value), delta - 13]) + value)
        before = number
    return b"".join(parts) + (b"\xff" + payload if payload else b"")
