"""Runs on the 32-bit unix port, in a small heap: PORT N. Serves N requests as a CLASS1 node, and prints "served"."""

import asyncio
import gc
import sys

gc.threshold(1000)  # what an import leaves behind is collected before what stays is scattered among it

from coaplet import CLASS1, Node  # noqa: E402


async def main(port, n):
    node = Node("coap://127.0.0.1:%d" % port, **CLASS1)

    @node.resource("t", rt="temperature", ct=0)
    def temperature(request, response):
        response.text("21.5")

    async with node:
        print("up")
        while node.counters.requests < n:
            await asyncio.sleep_ms(1)
        print("served")


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
