"""Runs on the 32-bit unix port: the heap of a plain node, PORT [LIMITS as JSON | class1] [busy]. Prints JSON.

heap_import_mpy: all that importing the modules of a server and client leaves in use. heap_node: what a running node
adds to that, having served and sent one request (to itself, over its socket); busy: and while it has 8 observers and
2 uploads under way.
"""

import asyncio
import gc
import json
import sys


def used():
    gc.collect()
    gc.collect()
    return gc.mem_alloc()


async def main(port, bare):
    from coaplet import CLASS1, Node

    busy = sys.argv[-1] == "busy"
    names = "client,linkformat,server,udp"  # which a node would import at their first use
    for name in (names + ",block,observe" if busy else names).split(","):
        __import__("coaplet." + name)
    await asyncio.sleep_ms(1)
    figures = {"heap_import_mpy": used() - bare}
    limits = {}
    if len(sys.argv) > 2:
        limits = CLASS1 if sys.argv[2] == "class1" else json.loads(sys.argv[2])
    before = used()
    node = Node("coap://127.0.0.1:%d" % port, **limits)

    @node.resource("t", rt="temperature", ct=0)
    def temperature(request, response):
        response.text("21.5")

    if busy:

        @node.resource("o", observe=True)
        def observed(request, response):
            response.text("21.5")

        @node.resource("u", methods="PUT", body=True)
        def upload(request, response):
            pass

    if "async_slots" in limits:

        @node.resource("slow")
        async def slow(request, response):
            pass

    await node.start()
    remote = await node.connect("coap://127.0.0.1:%d" % port)
    for _ in range(3):  # what the last one left on the C stack is pushed off it
        reply = await remote.get("t")
        assert reply.payload == b"21.5"
        reply = None
        await asyncio.sleep_ms(1)
    if busy:
        for i in range(8):
            await remote.once(1, "o", options=((6, 0),), token=bytearray(b"observe%d" % i))
        for i in range(2):
            await remote.once(3, "u?%d" % i, bytes(64), options=((27, 8 | 2),))
        assert node.server.observers.count() == 8
        await asyncio.sleep_ms(1)
    figures["heap_node"] = used() - before
    await node.stop()
    print(json.dumps(figures))


asyncio.run(main(int(sys.argv[1]), used()))
