"""Nodes that talk over a serial line: slipmux frames on TCP, a stream that any machine has."""

import asyncio
import socket

from coaplet import Loop, Node
from coaplet.serial import Serial
from helpers import ACK, CON, RST, free_port, message, path, read
from test_serial import END, NASTY, counts, frame, taken_apart


def tcp_pair():
    """Two ends of a TCP connection on loopback that do not block."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    address = socket.getaddrinfo("127.0.0.1", free_port())[0][-1]
    listening.bind(address)
    listening.listen(1)
    one = socket.socket()
    one.connect(address)
    other = listening.accept()[0]
    listening.close()
    for s in (one, other):
        s.setblocking(False)
    return one, other


def serve(driver):
    seen = []

    @driver.resource("echo", methods="GET POST")
    def echo(request, response):
        seen.append((request.remote, request.payload))
        response.payload(request.payload)

    return seen


class Raw:
    """A bare end of a TCP connection, which reads and writes frames as it likes."""

    def __init__(self, s):
        self.socket = s
        self.data = b""

    def send(self, data):
        self.socket.send(data)

    def datagrams(self):
        try:
            self.data += self.socket.recv(10000)
        except OSError:
            pass
        return taken_apart(self.data, 1152)[0]


async def test_nodes_talk_over_tcp():
    one, other = tcp_pair()
    left, right = Serial(one, 1152, "left"), Serial(other, 1152, "right")
    async with Node(transports=(left,)) as server, Node(transports=(right,)) as client:
        seen = serve(server)
        remote = client.remote(right, right.peer)
        for payload in (b"x", NASTY * 30, END * 1000):
            assert (await remote.post("echo", payload)).payload == payload
        replies = await asyncio.gather(*[remote.post("echo", b"%d" % i) for i in range(10)])
        assert [reply.payload for reply in replies] == [b"%d" % i for i in range(10)]
        assert await remote.ping() >= 0
        assert seen[0] == ("left", b"x") and len(seen) == 13
        assert client.counters.retransmissions == 0 and counts(left) == counts(right) == (0, 0, 0)
        assert server.address() == "left"
    async with Node(transports=(left,)) as server, Node(transports=(right,)) as client:  # again, on the same streams
        serve(server)
        assert (await client.remote(right, right.peer).post("echo", b"again")).payload == b"again"
    one.close()
    other.close()


async def test_a_node_serves_all_frames_that_one_wake_brings():
    one, other = tcp_pair()
    raw = Raw(other)
    async with Node(transports=(Serial(one, 1152),)):
        # 40 pings, more than a burst; the last byte of each read may be anywhere
        raw.send(b"".join([frame(message(CON, 0, i)) for i in range(40)]))
        for _ in range(1000):
            if len(raw.datagrams()) == 40:
                break
            await asyncio.sleep(0.001)
    assert raw.datagrams() == [message(RST, 0, i) for i in range(40)]
    one.close()
    other.close()


def test_a_loop_talks_to_itself_over_tcp():
    one, other = tcp_pair()
    left, right = Serial(one, 1152), Serial(other, 1152)
    loop = Loop(transports=(left, right))
    seen = serve(loop)
    loop.open()
    for payload in (b"x", NASTY * 30):
        assert loop.run(loop.remote(left, left.peer).post("echo", payload)).payload == payload
    assert len(seen) == 2
    loop.close()
    one.close()
    other.close()


def test_a_loop_serves_all_frames_that_one_wake_brings():
    one, other = tcp_pair()
    raw = Raw(other)
    loop = Loop(transports=(Serial(one, 1152),))
    serve(loop)
    loop.open()
    n = 12  # as many as one read takes
    raw.send(b"".join([frame(message(CON, 0, i)) for i in range(n)]))
    assert loop.poll(1000)
    for _ in range(1000):
        if len(raw.datagrams()) == n:
            break
    assert raw.datagrams() == [message(RST, 0, i) for i in range(n)]
    raw.send(frame(message(CON, 2, 99, b"t", path("echo"), b"x")) + END + b"\x0atext" + END)
    assert loop.poll(1000)
    for _ in range(1000):
        if len(raw.datagrams()) == n + 1:
            break
    assert read(raw.datagrams()[n]) == (ACK, 68, 99, b"t", [], b"x")
    loop.close()
    one.close()
    other.close()
