"""The ten-line client: client.py [URI [PATH]] prints what a GET brings, by default from server.py."""

import asyncio
import sys

from coaplet import Node

uri = sys.argv[1] if len(sys.argv) > 1 else "coap://127.0.0.1"
path = sys.argv[2] if len(sys.argv) > 2 else "hello"


async def main():
    async with Node() as node:
        server = await node.connect(uri)
        reply = await server.get(path)
        print(reply.text())


asyncio.run(main())
