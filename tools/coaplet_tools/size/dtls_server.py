"""The server that dtls_probe.py asks: prints its port, and serves until its standard input ends."""

import asyncio
import sys

from coaplet import Node
from coaplet.message import Message, Outgoing


async def main() -> None:
    node = Node("coaps://127.0.0.1:0", psk={"probe": b"the key of the probe"})

    @node.resource("t")
    def temperature(request: Message, response: Outgoing) -> None:  # pyright: ignore[reportUnusedFunction]
        response.text("21.5")

    async with node:
        print(node.address().rpartition(":")[2], flush=True)
        await asyncio.to_thread(sys.stdin.read)


asyncio.run(main())
