"""Runs on MicroPython: coaplet.Loop with 1 MB at "big", as an application writes it, and "t": PORT, until it is ended.
Or its client: PORT get, which prints JSON: what it took to get "big" from a server at that port, and how much came.
"""

import sys
import time

from coaplet import Loop

BIG = bytes(range(251)) * 4177  # no two neighbouring blocks of it alike
port = int(sys.argv[1])


class Sink:
    """A file that counts."""

    size = 0

    def write(self, part):
        self.size += len(part)


def get():
    loop = Loop()
    loop.open()
    remote = loop.connect("coap://127.0.0.1:%d" % port)
    sink = Sink()
    loop.run(remote.get("t"))  # what is imported when it is first needed
    start = time.ticks_us()
    loop.run(remote.get("big", into=sink))
    print('{"us": [%d], "bytes": [%d]}' % (time.ticks_diff(time.ticks_us(), start), sink.size))


def serve():
    loop = Loop("coap://127.0.0.1:%d" % port)

    @loop.resource("big", etag=lambda request: b"1", ct=42)
    def big(request, response):
        response.payload(BIG, 42)

    @loop.resource("t")
    def temperature(request, response):
        response.text("21.5")

    loop.open()
    loop.run_forever()


(get if sys.argv[2:] else serve)()
