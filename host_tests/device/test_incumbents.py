"""What the CoAP libraries that MicroPython has today get wrong, one test each."""

import asyncio

from coaplet import Node
from helpers import ACK, CON, RST, RawPeer, free_uri, message, path, raises_async


class Bench:
    """A node at .uri with a counting resource, connected to a bare peer."""

    def __init__(self):
        self.uri = free_uri()
        self.node = Node(self.uri)
        self.calls = []

        @self.node.resource("count", methods="POST")
        def count(request, response):
            self.calls.append(request.payload)
            response.text("%d" % len(self.calls))

        @self.node.resource("echo", methods="POST")
        def echo(request, response):
            response.payload(request.payload)

    async def __aenter__(self):
        await self.node.start()
        self.peer = RawPeer()
        self.remote = await self.node.connect(self.peer.uri)
        return self

    async def __aexit__(self, *_):
        await self.node.stop()
        self.peer.close()

    async def ask(self, data):
        self.peer.send(data, self.uri)
        return await self.peer.receive()


async def test_a_duplicate_post_runs_its_handler_once():
    async with Bench() as b:
        data = message(CON, 2, 7, b"tk", path("count"), b"x")
        replies = []
        for mid in range(3):
            replies.append(await b.ask(data))
            await b.ask(message(CON, 2, mid, b"tk", path("echo"), b"another"))
        assert b.calls == [b"x"]
        assert replies == [(ACK, 68, 7, b"tk", [(12, b"")], b"1")] * 3
        assert (await b.ask(message(CON, 2, 8, b"tk", path("count"), b"x")))[5] == b"2"


async def test_twelve_and_more_options_leave_the_payload_alone():
    async with Bench() as b:
        for count in (11, 12, 13, 15):
            options = path("echo") + [(15, b"q%d" % i) for i in range(count)]
            reply = await b.ask(message(CON, 2, count, b"t", options, b"the payload"))
            assert reply[1] == 68 and reply[5] == b"the payload", count
        task = asyncio.create_task(b.remote.post("/".join("abcdefg") + "?" + "&".join("hijklmn"), b"the payload"))
        asked = await b.peer.receive()
        assert len(asked[4]) == 14 and asked[5] == b"the payload"
        b.peer.send(message(ACK, 68, asked[2], asked[3]))
        await task


async def test_option_values_of_269_bytes_and_more_are_read_and_written():
    async with Bench() as b:
        for n in (268, 269, 270, 600):
            value = bytes([i & 255 for i in range(n)])
            reply = await b.ask(message(CON, 2, n, b"t", path("echo") + [(2000, value)], b"p"))
            assert reply[1] == 68 and reply[5] == b"p", n
            task = asyncio.create_task(b.remote.post("x", b"p", options=((2000, value),)))
            asked = await b.peer.receive()
            assert asked[4] == [(11, b"x"), (2000, value)] and asked[5] == b"p", n
            b.peer.send(message(ACK, 68, asked[2], asked[3], [(2000, value)], b"r"))
            reply = await task
            assert reply.option(2000) == value and reply.payload == b"r", n


async def test_a_separate_response_is_acknowledged_with_its_own_message_id():
    async with Bench() as b:
        task = asyncio.create_task(b.remote.get("x"))
        asked = await b.peer.receive()
        b.peer.send(message(ACK, 0, asked[2]))
        await asyncio.sleep(0.02)
        assert not task.done()
        answer = message(CON, 69, asked[2] ^ 0x5555, asked[3], (), b"late")
        b.peer.send(answer)
        assert await b.peer.receive() == (ACK, 0, asked[2] ^ 0x5555, b"", [], b"")
        assert (await task).payload == b"late"
        b.peer.send(answer)  # our ACK was lost
        assert await b.peer.receive() == (ACK, 0, asked[2] ^ 0x5555, b"", [], b"")


async def test_a_separate_response_may_overtake_its_empty_ack():
    async with Bench() as b:
        task = asyncio.create_task(b.remote.get("x"))
        asked = await b.peer.receive()
        b.peer.send(message(CON, 69, 1234, asked[3], (), b"early"))
        assert (await b.peer.receive())[:3] == (ACK, 0, 1234)
        assert (await task).payload == b"early"
        b.peer.send(message(ACK, 0, asked[2]))
        await asyncio.sleep(0.02)
        assert b.peer.try_receive() is None


async def test_two_gets_at_a_time_get_their_own_answers():
    async with Bench() as b:
        b.node.endpoint.parameters.nstart = 2
        first = asyncio.create_task(b.remote.get("first"))
        second = asyncio.create_task(b.remote.get("second"))
        asked = [await b.peer.receive()]
        asked.append(await b.peer.receive())
        assert asked[0][4] == path("first") and asked[1][4] == path("second")
        for which in (1, 0):  # in the other order
            b.peer.send(message(ACK, 69, asked[which][2], asked[which][3], (), b"%d" % which))
        assert (await first).payload == b"0" and (await second).payload == b"1"


async def test_a_ping_gets_a_reset():
    async with Bench() as b:
        assert await b.ask(message(CON, 0, 99)) == (RST, 0, 99, b"", [], b"")


async def test_a_request_too_large_for_a_datagram_goes_out_in_blocks():
    # RFC 7959 2.5: Block1 0/1/1024 with Size1, then 1/0/1024
    async with Bench() as b:
        payload = bytes([i % 251 for i in range(2000)])
        task = asyncio.create_task(b.remote.post("x", payload))
        asked = await b.peer.receive()
        assert asked[:2] == (CON, 2) and asked[4] == path("x") + [(27, b"\x0e"), (60, b"\x07\xd0")]
        assert asked[5] == payload[:1024]
        b.peer.send(message(ACK, 95, asked[2], asked[3], [(27, b"\x0e")]))
        asked = await b.peer.receive()
        assert asked[:2] == (CON, 2) and asked[4] == path("x") + [(27, b"\x16")] and asked[5] == payload[1024:]
        b.peer.send(message(ACK, 68, asked[2], asked[3], [(27, b"\x16")]))
        assert (await task).code == 68


async def test_one_message_too_large_is_refused_with_an_error_that_says_why():
    async with Bench() as b:
        error = await raises_async(ValueError, b.remote.once(2, "x", bytes(2000)))
        assert "2000" in str(error) and "mtu=1152" in str(error)
        assert b.peer.try_receive() is None


async def test_garbage_does_not_stop_the_server():
    async with Bench() as b:
        for data in (b"", b"\x40", b"\x4f\x01\x00\x01", b"\x40\x01\x00\x01\xff", b"\x40\x01\x00\x02\xdd", bytes(1400)):
            b.peer.send(data, b.uri)
        await asyncio.sleep(0.02)
        while b.peer.try_receive():
            pass
        assert (await b.ask(message(CON, 2, 9, b"tk", path("count"), b"x")))[5] == b"1"
