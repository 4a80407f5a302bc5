"""controller.py [URI [DEGREES [TIMES]]]: find a thermostat's resources, set it, and watch its status, TIMES times."""

import asyncio
import sys

from coaplet import CoapError, Node

uri = sys.argv[1] if len(sys.argv) > 1 else "coap://127.0.0.1"
degrees = sys.argv[2] if len(sys.argv) > 2 else "21.5"
times = int(sys.argv[3]) if len(sys.argv) > 3 else 10


async def find(host, rt):
    """Return the path of the first resource of a type (RFC 6690 4.1)."""
    links = (await host.get(".well-known/core?rt=" + rt)).text()
    path = links[1:].split(">")[0]
    if not path:
        raise CoapError(0, "there is no " + rt)
    return path


async def main():
    async with Node() as node:
        host = await node.connect(uri)
        status = await find(host, "thermostat.status")
        set_point = await find(host, "thermostat.set-point")
        await host.put(set_point, degrees)
        print(set_point, (await host.get(set_point)).text())
        async with host.observe(status) as changes:
            for _ in range(times):
                now = (await changes.next()).json()
                print(status, now["temperature"], "heating" if now["heating"] else "off")


asyncio.run(main())
