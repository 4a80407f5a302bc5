"""Runs on MicroPython and CPython: coaplet with one resource, PORT loop|node [KEY], until it is ended. All limits are
the defaults. With a key it serves coaps, too, at the port above.
"""

import sys

from coaplet import Loop, Node

port = int(sys.argv[1])
key = sys.argv[3:]
uris = ("coap://127.0.0.1:%d" % port, "coaps://127.0.0.1:%d" % (port + 1))
driver = (Loop if sys.argv[2] == "loop" else Node)(*uris[: 1 + len(key)], psk=key and {"bench": key[0]})


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
