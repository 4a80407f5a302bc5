"""Runs on the 32-bit unix port: the heap of a node with a DTLS session, PORT SERVER'S PORT [class1]. Prints JSON.

heap_node_coaps: a running node that has asked a server for something over coaps, less the modules. heap_dtls_session:
what ending the session gives back. heap_dtls_handshake: the most that there was in use during the handshake, beyond
what a node without a session has.
"""

import asyncio
import gc
import json
import sys

PSK = ("probe", b"the key of the probe")


def used():
    gc.collect()
    gc.collect()
    return gc.mem_alloc()


def forget(node, remote):
    """End a session, and leave nothing that refers to it."""
    remote.close()
    remote.peer = None
    for ex in node.endpoint.exchanges:
        ex.peer = None
    node.endpoint.change_peer(None, None)


async def main(port):
    from coaplet import CLASS1, Node

    for name in "linkformat", "server", "udp", "client", "secure", "dtls.client", "dtls.gcm":
        __import__("coaplet." + name)
    limits = CLASS1 if len(sys.argv) > 3 else {}
    limits["dtls"] = {"sessions": 2}
    uri = "coaps://127.0.0.1:%d" % port
    await asyncio.sleep_ms(1)
    before = used()
    node = Node("coap://127.0.0.1:" + sys.argv[1], **limits)

    @node.resource("t", rt="temperature", ct=0)
    def temperature(request, response):
        response.text("21.5")

    await node.start()
    first = await node.connect(uri, PSK)
    layer = first.transport
    forget(node, first)
    first = None
    await asyncio.sleep_ms(1)
    idle = used()
    most = [0]
    send, work = layer.lower.send, layer.handle_timeout

    def sent(buf, peer):
        most[0] = max(most[0], used())
        return send(buf, peer)

    def worked(now):
        work(now)
        most[0] = max(most[0], used())

    layer.lower.send, layer.handle_timeout = sent, worked
    spent = used() - idle
    remote = await node.connect(uri, PSK)
    figures = {"heap_dtls_handshake": most[0] - idle - spent}
    layer.lower.send, layer.handle_timeout = send, work
    send = work = sent = worked = None
    for _ in range(3):  # what the last one left on the C stack is pushed off it
        reply = await remote.get("t")
        assert reply.payload == b"21.5"
        reply = None
        await asyncio.sleep_ms(1)
    figures["heap_node_coaps"] = used() - before
    forget(node, remote)
    figures["heap_dtls_session"] = figures["heap_node_coaps"] - (used() - before)
    await node.stop()
    print(json.dumps(figures))


asyncio.run(main(int(sys.argv[2])))
