"""The server that dtls_probe.py and cloud_probe.py ask: prints its port, and serves until its standard input ends."""

import asyncio
import sys

from coaplet import Node
from coaplet.message import Message, Outgoing


async def main() -> None:
    node = Node("coaps://127.0.0.1:0", psk={"probe": b"the key of the probe"})

    @node.resource("t")
    def temperature(request: Message, response: Outgoing) -> None:  # pyright: ignore[reportUnusedFunction]
        response.text("21.5")

    # what Golioth has, and a node watches
    for path, value in ((".c", {"version": 0, "settings": None}), (".rpc", "OK"), (".d/desired", None)):

        @node.resource(path, observe=True)
        def watched(request: Message, response: Outgoing, value: object = value) -> None:  # pyright: ignore[reportUnusedFunction]
            response.json(value)

    @node.resource(".u/desired", observe=True)
    def manifest(request: Message, response: Outgoing) -> None:  # pyright: ignore[reportUnusedFunction]
        response.payload(b"null", 50)

    for path in (".d/reported", ".u/c/main"):

        @node.resource(path, methods="POST")
        def reported(request: Message, response: Outgoing) -> None:  # pyright: ignore[reportUnusedFunction]
            response.code = 68

    async with node:
        print(node.address().rpartition(":")[2], flush=True)
        await asyncio.to_thread(sys.stdin.read)


asyncio.run(main())
