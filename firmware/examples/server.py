"""The ten-line server: coap://HOST/hello says hello, and who asked."""

import asyncio

from coaplet import Node

node = Node("coap://0.0.0.0")


@node.resource("hello", title="Says hello", ct=0)
def hello(request, response):
    response.text("hello, " + request.remote)


async def main():
    async with node:
        await asyncio.Event().wait()  # for ever


asyncio.run(main())
