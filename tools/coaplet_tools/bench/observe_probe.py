"""Runs on MicroPython: coaplet.Loop with a resource "o", until it is ended: PORT OBSERVERS. Each notification is a CON.

The state is another one when as many datagrams have come as there are observers: each of them is an acknowledgement,
once all have registered. aiocoap_observed.py does the same.
"""

import sys

from coaplet import Loop

OBSERVERS = int(sys.argv[2])

loop = Loop("coap://127.0.0.1:" + sys.argv[1])
state = 1


@loop.resource("o", observe=True)
def changing(request, response):
    response.text(str(state))


loop.open()
counts = loop.counters.counts
while True:
    until = counts[0] + OBSERVERS
    while counts[0] < until:
        loop.poll()
    state += 1
    loop.changed("o")
