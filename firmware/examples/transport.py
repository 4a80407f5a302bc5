"""A home-made transport: CoAP over lines of text, on any stream. transport.py serve | ask [PORT] tries it over TCP."""

import asyncio
import socket
import sys
from binascii import hexlify, unhexlify

from coaplet import Node


class Lines:
    """Each datagram is a line in hexadecimal. stream: a machine.UART, or another one whose read does not block."""

    secure = multicast = more = False
    family = None
    mtu = 512

    def __init__(self, stream):
        self.pollable = stream
        self._line = b""

    def open(self):
        pass

    def receive(self):
        while True:
            c = self.pollable.read(1)  # no more than this line: what poll cannot see would wait for ever
            if not c:
                return None
            if c != b"\n":
                self._line = self._line[-2 * self.mtu :] + c
                continue
            line, self._line = self._line, b""
            try:
                return unhexlify(line), "the other end"
            except ValueError:
                pass  # noise on the line

    def send(self, buf, peer):
        return self.pollable.write(hexlify(buf) + b"\n") is not None

    def close(self):
        self.pollable.close()

    def format(self, peer):
        return peer


def tcp(serve, port):
    """The stream of a TCP connection on this machine."""
    s = socket.socket()
    address = socket.getaddrinfo("127.0.0.1", port)[0][-1]
    if serve:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(address)
        s.listen(1)
        print("listening on port %d" % port)
        s = s.accept()[0]
    else:
        s.connect(address)
    s.setblocking(False)
    return s if hasattr(s, "read") else s.makefile("rwb", buffering=0)  # pyright: ignore


async def main(serve, port=5699):
    line = Lines(tcp(serve, port))
    node = Node(transports=(line,))

    @node.resource("hello")
    def hello(request, response):
        response.text("hello, " + request.remote)

    async with node:
        if serve:
            await asyncio.sleep(3600)
        reply = await node.remote(line, "the other end").get("hello")
        print(reply.text())


asyncio.run(main(sys.argv[1] == "serve", *[int(n) for n in sys.argv[2:]]))
