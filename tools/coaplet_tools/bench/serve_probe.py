"""Runs on MicroPython and CPython: coaplet with one resource, PORT loop|node, until it is ended. All limits are the
defaults.
"""

import sys

from coaplet import Loop, Node

driver = (Loop if sys.argv[2] == "loop" else Node)("coap://127.0.0.1:" + sys.argv[1])


@driver.resource("t", rt="temperature", ct=0)
def temperature(request, response):
    response.text("21.5")


async def serve():
    async with driver:
        await asyncio.Event().wait()


if sys.argv[2] == "loop":
    driver.open()
    driver.run_forever()
else:
    import asyncio

    asyncio.run(serve())
