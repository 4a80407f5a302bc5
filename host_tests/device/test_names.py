"""A name is looked up anew when nothing has answered: the next of its addresses, else the last one (RFC 7252 6.1)."""

import asyncio
import sys

from coaplet import CoapError, Node
from coaplet.codes import Reset, Timeout
from coaplet.poll import Loop
from coaplet.port import AF_INET
from helpers import ACK, RST, RawPeer, free_uri, ipv6_or_skip, message, raises, raises_async

PORT = sys.modules["coaplet.port"]
REAL = PORT.resolve
NAME = "node.example"


class Names:
    """Answers look-ups of "node.example" from .ports of 127.0.0.1 in that order, as port.resolve does; others as ever.

    .asked counts; .fails makes them fail.
    """

    def __init__(self, *ports):
        self.ports = ports
        self.asked = 0
        self.fails = False

    def __enter__(self):
        # what is replaced is the system's answer, so that the order is resolve()'s own
        self._socket = PORT.socket
        PORT.socket = self
        return self

    def __exit__(self, *_):
        PORT.socket = self._socket

    def __getattr__(self, name):
        return getattr(self._socket, name)

    def getaddrinfo(self, host, port, *rest):
        if host != NAME:
            return self._socket.getaddrinfo(host, port, *rest)
        self.asked += 1
        if self.fails:
            raise OSError(-2, "no such name")
        found = []
        for number in self.ports:
            found += self._socket.getaddrinfo("127.0.0.1", number, *rest)
        return found


class Addresses:
    """Ports of 127.0.0.1: "dead" ones at which somebody listens and says nothing, and one that answers."""

    def __init__(self, dead):
        self.dead = [RawPeer() for _ in range(dead)]
        self.uri = free_uri()
        self.live = int(self.uri.split(":")[-1])
        self.node = Node(self.uri)

        @self.node.resource("x")
        def x(request, response):
            response.payload("here")

    def close(self):
        for peer in self.dead:
            peer.close()

    def heard(self):
        """Which of the dead ones were sent something since."""
        found = []
        for i, peer in enumerate(self.dead):
            data = None
            while True:
                more = peer.try_receive()
                if more is None:
                    break
                data = more
            if data is not None:
                found.append(i)
        return found


def ports(addresses, *order):
    return [addresses.live if i is None else addresses.dead[i].port for i in order]


async def lost(remote):
    await raises_async(Timeout, remote.get("x", timeout_ms=20))


async def test_after_a_timeout_the_name_is_looked_up_and_the_next_address_is_tried():
    a = Addresses(1)
    with Names(*ports(a, 0, None)) as names:
        async with a.node, Node(probing_rate=0) as client:
            remote = await client.connect("coap://%s" % NAME)
            assert names.asked == 1
            await lost(remote)
            assert a.heard() == [0] and names.asked == 1  # looked up when it is needed
            assert (await remote.get("x", timeout_ms=3000)).payload == b"here"
            assert names.asked == 2
            for _ in range(3):
                await remote.get("x", timeout_ms=3000)
            assert names.asked == 2 and a.heard() == []  # what answers is kept
    a.close()


async def test_each_of_three_addresses_gets_its_try():
    a = Addresses(2)
    with Names(*ports(a, 0, 1, None)):
        async with a.node, Node(probing_rate=0) as client:
            remote = await client.connect("coap://%s" % NAME)
            tried = []
            for _ in range(2):
                await lost(remote)
                tried += a.heard()
            assert sorted(tried) == [0, 1], tried
            assert (await remote.get("x", timeout_ms=3000)).payload == b"here"
    a.close()


async def test_when_all_were_tried_it_begins_again():
    a = Addresses(2)
    with Names(*ports(a, 0, 1)):
        async with Node(probing_rate=0) as client:
            remote = await client.connect("coap://%s" % NAME)
            tried = []
            for _ in range(4):
                await lost(remote)
                tried += a.heard()
            assert tried in ([0, 1, 0, 1], [1, 0, 1, 0]), tried
    a.close()


async def test_a_single_address_is_asked_again():
    a = Addresses(1)
    with Names(*ports(a, 0)) as names:
        async with Node(probing_rate=0) as client:
            remote = await client.connect("coap://%s" % NAME)
            for i in range(3):
                await lost(remote)
                assert a.heard() == [0] and names.asked == i + 1
    a.close()


async def test_a_name_that_means_another_address_now_is_followed():
    a = Addresses(1)
    with Names(*ports(a, 0)) as names:
        async with a.node, Node(probing_rate=0) as client:
            remote = await client.connect("coap://%s" % NAME)
            names.ports = ports(a, None)
            await lost(remote)
            assert (await remote.get("x", timeout_ms=3000)).payload == b"here"
    a.close()


async def test_a_look_up_that_fails_keeps_the_last_address():
    a = Addresses(1)
    with Names(*ports(a, 0, None)) as names:
        async with a.node, Node(probing_rate=0) as client:
            remote = await client.connect("coap://%s" % NAME)
            names.fails = True
            for i in range(3):
                await lost(remote)
                assert a.heard() == [0] and names.asked == i + 1  # it is tried each time
            names.fails = False
            assert (await remote.get("x", timeout_ms=3000)).payload == b"here"
            await raises_async(OSError, client.connect("coap://elsewhere.invalid"))
    a.close()


async def test_only_silence_is_a_reason_to_look_again():
    peer = RawPeer()
    with Names(peer.port) as names:
        async with Node(probing_rate=0) as client:
            remote = await client.connect("coap://%s" % NAME)
            for answer, kind in (((ACK, 132), CoapError), ((RST, 0), Reset)):
                task = asyncio.create_task(remote.get("x"))
                asked = await peer.receive()
                peer.send(message(answer[0], answer[1], asked[2], asked[3] if answer[1] else b""))
                await raises_async(kind, task)
            task = asyncio.create_task(remote.get("x"))
            await peer.receive()
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            first = asyncio.create_task(remote.get("x"))
            asked = await peer.receive()
            await raises_async(Timeout, remote.get("y", timeout_ms=10))  # it was never sent: NSTART
            peer.send(message(ACK, 69, asked[2], asked[3]))
            await first
            assert names.asked == 1
            peer.close()


async def test_a_ping_without_answer_is_a_reason_too():
    a = Addresses(1)
    with Names(*ports(a, 0, None)) as names:
        async with a.node, Node(probing_rate=0) as client:
            remote = await client.connect("coap://%s" % NAME)
            await raises_async(Timeout, remote.ping(timeout_ms=20))
            assert await remote.ping(timeout_ms=3000) >= 0
            assert names.asked == 2
    a.close()


async def test_an_address_is_not_looked_up_again():
    peer = RawPeer()
    asked = []

    def resolve(host, port, last=None):
        asked.append(host)
        return REAL(host, port, last)

    PORT.resolve = resolve
    try:
        async with Node(probing_rate=0) as client:
            remote = await client.connect(peer.uri)
            asked.clear()
            for _ in range(2):
                await raises_async(Timeout, remote.get("x", timeout_ms=10))
            assert asked == [] and remote.host is None
            data = await peer.receive()
            assert [number for number, _ in data[4]] == [11]  # nor is it an Uri-Host (RFC 7252 5.10.1)
    finally:
        PORT.resolve = REAL
    peer.close()


async def test_a_name_is_the_uri_host_at_every_address():
    a = Addresses(2)
    with Names(*ports(a, 0, 1)):
        async with Node(probing_rate=0) as client:
            remote = await client.connect("coap://%s" % NAME)
            seen = []
            for _ in range(2):
                await raises_async(Timeout, remote.get("x", timeout_ms=20))
                for peer in a.dead:
                    data = peer.try_receive()
                    if data is not None:
                        seen.append(NAME.encode() in data)
            assert seen == [True, True]
    a.close()


async def test_the_next_address_may_be_of_the_other_family():
    ipv6_or_skip()
    dead = RawPeer()
    six = free_uri("::1")

    def resolve(host, port, last=None):
        found = REAL("127.0.0.1", dead.port) + REAL("::1", int(six.split(":")[-1]))
        return [entry for entry in found if entry[1] != last] + [entry for entry in found if entry[1] == last]

    server = Node(six)

    @server.resource("x")
    def x(request, response):
        response.payload("six")

    PORT.resolve = resolve
    try:
        async with server, Node(probing_rate=0) as client:
            remote = await client.connect("coap://%s" % NAME)
            assert remote.transport.family == AF_INET
            await lost(remote)
            assert (await remote.get("x", timeout_ms=3000)).payload == b"six"
            assert remote.transport.family != AF_INET
    finally:
        PORT.resolve = REAL
    dead.close()


def test_resolve_puts_the_address_that_did_not_answer_last():
    with Names(7001, 7002, 7003):
        found = REAL(NAME, 0)
        assert len(found) == 3
        for family, address in found:
            again = REAL(NAME, 0, address)
            assert again[-1] == (family, address) and len(again) == 3


def test_a_loop_looks_again_too():
    a = Addresses(1)
    with Names(*ports(a, 0, None)) as names:
        loop = Loop(a.uri, probing_rate=0)

        @loop.resource("x")
        def x(request, response):
            response.payload("here")

        loop.open()
        remote = loop.connect("coap://%s" % NAME)
        raises(Timeout, loop.run, remote.get("x", timeout_ms=20))
        assert loop.run(remote.get("x", timeout_ms=3000)).payload == b"here"
        assert names.asked == 2
        loop.close()
    a.close()
