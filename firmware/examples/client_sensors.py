"""Read all sensors of a node: client_sensors.py [URI] asks what it serves and GETs each that is a sensor."""

import asyncio
import sys

from coaplet import CoapError, Node

uri = sys.argv[1] if len(sys.argv) > 1 else "coap://127.0.0.1"


async def main():
    async with Node() as client:
        node = await client.connect(uri)
        links = (await node.get(".well-known/core")).text()
        for link in links.split(",<"):
            path, _, attributes = link.partition(">;")
            if 'if="sensor"' not in attributes or not path.startswith("/sensors/"):
                continue
            try:
                print(path, (await node.get(path)).text())
            except CoapError as e:
                print(path, e)


asyncio.run(main())
