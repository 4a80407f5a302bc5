"""A thermostat: /status is the temperature and whether it heats, /set-point what it should be. Both can be observed."""

import asyncio

from coaplet import BAD_REQUEST, PUT, CoapError, Node

room = {"temperature": 18.0, "set-point": 20.0, "heating": False}
node = Node("coap://0.0.0.0")


# Each fifth notification is confirmed, so that who has gone is noticed; the others may get lost, since more follow.
@node.resource("status", rt="thermostat.status", ct=50, observe=5)
def status(request, response):
    response.json({"temperature": round(room["temperature"], 1), "heating": room["heating"]})


@node.resource("set-point", methods="GET PUT", rt="thermostat.set-point", ct=0, observe=True)
def set_point(request, response):
    if request.method == PUT:
        try:
            wanted = float(request.text())
        except ValueError:
            raise CoapError(BAD_REQUEST, "a number, degrees Celsius")
        if not 5 <= wanted <= 30:
            raise CoapError(BAD_REQUEST, "5 to 30 degrees Celsius")
        room["set-point"] = wanted
        node.changed("set-point")
    else:
        response.text("%.1f" % room["set-point"])


async def main():
    async with node:
        while True:  # a room that cools down, and a heater that warms it
            room["heating"] = room["temperature"] < room["set-point"]
            room["temperature"] += 0.5 if room["heating"] else -0.1
            node.changed("status")
            await asyncio.sleep(1)


asyncio.run(main())
