"""Runs on the 32-bit unix port: heap that a request allocates beyond what recvfrom does. Prints JSON.

alloc_per_request: served by a plain loop on a real socket, against a bare loop of recvfrom and sendto with the same
datagrams. alloc_per_request_sent: written, sent and answered, in the endpoint. Both are bytes, rounded to whole ones,
over 1,000 requests after 50 to warm up.
"""

import gc
import json
import select
import socket
import sys

from coaplet import Loop
from coaplet.endpoint import Endpoint

PORT = int(sys.argv[1])
N = 1000


def requests(n):
    return [b"\x44\x01" + bytes((i >> 8, i & 255)) + b"tokn\xb7sensors\x0btemperature" for i in range(n)]


def per_request(step):
    datagrams = requests(N + 50)
    for datagram in datagrams[:50]:
        step(datagram)
    rest = datagrams[50:]
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    for datagram in rest:
        step(datagram)
    after = gc.mem_alloc()
    gc.enable()
    return (after - before) / N


def main():
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect(socket.getaddrinfo("127.0.0.1", PORT, 0, socket.SOCK_DGRAM)[0][-1])
    client.setblocking(False)  # a stream read would wait for more datagrams until buf is full
    buf = bytearray(200)

    # recvfrom and sendto alone
    bare = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bare.bind(socket.getaddrinfo("127.0.0.1", PORT, 0, socket.SOCK_DGRAM)[0][-1])
    poller = select.poll()
    poller.register(bare, select.POLLIN)

    def echo(datagram):
        client.write(datagram)
        for ready in poller.ipoll(1000):
            found = ready[0].recvfrom(1153)
            ready[0].sendto(found[0], found[1])
        client.readinto(buf)

    floor = per_request(echo)
    bare.close()

    loop = Loop("coap://127.0.0.1:%d" % PORT)

    @loop.resource("sensors/temperature")
    def temperature(request, response):
        response.text("21.5")

    loop.open()

    def serve(datagram):
        client.write(datagram)
        loop.poll(1000)
        client.readinto(buf)

    served = per_request(serve)
    assert loop.counters.requests == N + 50
    loop.close()

    endpoint = Endpoint()
    answer = bytearray(b"\x68\x45\0\0\0\0\0\0\0\0\0\0\xc0\xff21.5")

    def ask(_):
        ex = endpoint.open(1, "peer", loop)
        ex.token[7] = (ex.token[7] + 1) & 255
        endpoint.begin(ex, 2)
        ex.out.add(11, b"logs", 0, 4)
        ex.out.payload(b'{"level":"info"}', 50)
        endpoint.send(1, ex)
        endpoint.poll_transmit(loop)
        answer[2] = ex.mid >> 8
        answer[3] = ex.mid & 255
        answer[11] = ex.token[7]
        endpoint.handle_datagram(2, answer, "peer", loop)
        assert endpoint.poll_event() == 2
        endpoint.release(ex)

    print(json.dumps({"alloc_per_request": round(served - floor), "alloc_per_request_sent": round(per_request(ask))}))


main()
