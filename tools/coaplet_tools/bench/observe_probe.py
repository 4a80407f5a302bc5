"""Runs on MicroPython: coaplet.Loop with a resource "o" whose state is another each time it is told: PORT, until it is
ended. Each notification is a CON; the next one goes to an observer as soon as it has acknowledged the one before.
"""

import sys

from coaplet import Loop

loop = Loop("coap://127.0.0.1:" + sys.argv[1])
state = 0


@loop.resource("o", observe=True)
def changing(request, response):
    global state
    state += 1
    response.text(str(state))
    loop.changed("o")


loop.open()
loop.run_forever()
