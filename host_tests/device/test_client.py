"""Requests between two nodes on loopback: what a user calls, and what it comes to (RFC 7252 5)."""

import asyncio

from coaplet import CoapError, Node
from coaplet.codes import Reset, Timeout
from helpers import ACK, CON, NON, RST, RawPeer, free_uri, message, raises_async


class Pair:
    """async with Pair() as p: p.node serves at p.uri, p.client asks."""

    def __init__(self, **limits):
        self.uri = free_uri()
        self.node = Node(self.uri)
        self.client = Node(**limits)
        self.seen = []

        @self.node.resource("echo", methods="GET POST PUT DELETE FETCH PATCH IPATCH")
        def echo(request, response):
            self.seen.append((request.method, request.path, request.query, request.payload, request.content_format))
            response.payload(request.payload, request.content_format)

        @self.node.resource("all/*", methods="GET")
        def everything(request, response):
            self.seen.append(request.path)
            response.json({"path": request.path, "query": request.query})

        @self.node.resource("refused")
        def refused(request, response):
            raise CoapError(131, "not you")

        @self.node.resource("slow")
        async def slow(request, response):
            await asyncio.sleep(0.3)
            response.text("at last")

    async def __aenter__(self):
        await self.node.start()
        await self.client.start()
        self.remote = await self.client.connect(self.uri)
        return self

    async def __aexit__(self, *_):
        await self.client.stop()
        await self.node.stop()


async def test_each_method_arrives_with_its_payload():
    async with Pair() as p:
        assert (await p.remote.get("echo")).code == 69
        reply = await p.remote.post("echo", "text", ct=0)
        assert reply.code == 68 and reply.text() == "text" and reply.content_format == 0
        assert (await p.remote.put("echo", b"\0\xff")).payload == b"\0\xff"
        assert (await p.remote.delete("echo")).code == 66
        assert (await p.remote.request(5, "echo", memoryview(b"fetch"))).payload == b"fetch"
        assert (await p.remote.post("echo", json={"a": [1, None]})).json() == {"a": [1, None]}
        assert [seen[0] for seen in p.seen] == [1, 2, 3, 4, 5, 2]
        assert p.seen[1][3:] == (b"text", 0) and p.seen[2][3:] == (b"\0\xff", None) and p.seen[5][4] == 50


async def test_query_and_path_arrive_decoded():
    async with Pair() as p:
        reply = await p.remote.get("all/a%2Fb/%C3%A4?x=1&y=%26")
        assert reply.json() == {"path": "all/a/b/\u00e4", "query": ["x=1", "y=&"]}
        base = await p.client.connect(p.uri + "/all")
        await base.get("/x")
        assert p.seen[-1] == "all/x"


async def test_a_non_request_gets_its_answer():
    async with Pair() as p:
        assert (await p.remote.get("echo", confirmable=False)).code == 69


async def test_an_error_response_is_raised_with_its_text():
    async with Pair() as p:
        error = await raises_async(CoapError, p.remote.get("nothing"))
        assert error.code == 132 and str(error).startswith("4.04 Not Found")
        error = await raises_async(CoapError, p.remote.get("refused"))
        assert error.code == 131 and error.text == "not you" and error.reply.payload == b"not you"
        assert not isinstance(error, (Timeout, Reset))
        assert (await raises_async(CoapError, p.remote.post("refused", "x"))).code == 133


async def test_a_separate_response_is_waited_for():
    async with Pair() as p:
        assert (await p.remote.get("slow")).text() == "at last"
        assert p.client.counters.responses == 1


async def test_silence_is_a_timeout_that_names_the_peer():
    peer = RawPeer()
    async with Node() as client:
        remote = await client.connect(peer.uri)
        for confirmable in (True, False):
            error = await raises_async(Timeout, remote.get("x", confirmable=confirmable, timeout_ms=50))
            assert peer.uri[7:] in str(error)
        await raises_async(Timeout, remote.ping(timeout_ms=50))
        await raises_async(ValueError, remote.get("x", timeout_ms=0))
    peer.close()


async def test_a_node_that_serves_nothing_rejects_requests():
    async with Pair() as p:
        uri = free_uri()
        async with Node(uri):
            remote = await p.client.connect(uri)
            error = await raises_async(Reset, remote.get("x"))
            assert uri[7:] in str(error)
            await raises_async(Timeout, remote.get("x", confirmable=False, timeout_ms=100))
            assert await remote.ping() >= 0


async def test_a_reset_of_a_non_request_is_known():
    peer = RawPeer()
    async with Node() as client:
        remote = await client.connect(peer.uri)
        task = asyncio.create_task(remote.get("x", confirmable=False, timeout_ms=3000))
        asked = await peer.receive()
        assert asked[0] == NON
        peer.send(message(RST, 0, asked[2]))
        await raises_async(Reset, task)
    peer.close()


async def test_ping_is_answered():
    async with Pair() as p:
        assert 0 <= await p.remote.ping() < 3000


async def test_what_cannot_be_written_is_a_value_error_and_costs_no_slot():
    async with Pair() as p:
        for _ in range(6):
            error = await raises_async(ValueError, p.remote.once(2, "echo", bytes(1200)))
            assert "mtu=1152" in str(error)
            await raises_async(ValueError, p.remote.get("x" * 256))
            await raises_async(ValueError, p.remote.get("x%zz"))
            await raises_async(ValueError, p.remote.get("x", options=((70000, b""),)))
        assert (await p.remote.get("echo")).code == 69


async def test_a_response_larger_than_mtu_is_an_error_that_says_so():
    async with Pair(mtu=200) as p:
        peer = RawPeer()
        remote = await p.client.connect(peer.uri)
        task = asyncio.create_task(remote.get("x"))
        asked = await peer.receive()
        peer.send(message(ACK, 69, asked[2], asked[3], [], bytes(300)))
        error = await raises_async(CoapError, task)
        assert "mtu=200" in str(error)
        peer.close()


async def test_a_response_with_an_unknown_critical_option_is_rejected():
    peer = RawPeer()
    async with Node() as client:
        remote = await client.connect(peer.uri)
        task = asyncio.create_task(remote.get("x", timeout_ms=5000))
        asked = await peer.receive()
        peer.send(message(CON, 69, 7, asked[3], [(19, b"")]))
        assert (await peer.receive())[:3] == (RST, 0, 7)
        error = await raises_async(CoapError, task)
        assert error.code == 0 and "critical option" in str(error)
        task = asyncio.create_task(remote.get("x", timeout_ms=5000))
        asked = await peer.receive()
        peer.send(message(CON, 69, 8, asked[3], [(20, b"")], b"good"))
        assert (await task).payload == b"good"
        assert (await peer.receive())[:3] == (ACK, 0, 8)
    peer.close()


async def test_accept_and_options_are_sent():
    peer = RawPeer()
    async with Node() as client:
        remote = await client.connect(peer.uri + "/base")
        task = asyncio.create_task(remote.put("x?q", "p", ct=0, accept=50, options=((1, b"tag"), (60, 300))))
        asked = await peer.receive()
        assert asked[0] == CON and asked[1] == 3 and len(asked[3]) == 8 and asked[5] == b"p"
        assert asked[4] == [
            (1, b"tag"), (11, b"base"), (11, b"x"), (12, b""), (15, b"q"), (17, b"\x32"), (60, b"\x01\x2c"),
        ]  # fmt: skip
        peer.send(message(ACK, 68, asked[2], asked[3]))
        assert (await task).code == 68
    peer.close()


async def test_tokens_and_message_ids_are_new_for_each_request():
    peer = RawPeer()
    tokens = set()
    mids = set()
    async with Node() as client:
        for _ in range(2):
            remote = await client.connect(peer.uri)
            for _ in range(5):
                task = asyncio.create_task(remote.get("x"))
                asked = await peer.receive()
                tokens.add(asked[3])
                mids.add(asked[2])
                peer.send(message(ACK, 69, asked[2], asked[3]))
                await task
    assert len(tokens) == len(mids) == 10
    peer.close()


async def test_an_answer_with_a_foreign_token_or_from_a_stranger_is_none():
    peer = RawPeer()
    stranger = RawPeer()
    uri = free_uri()
    async with Node(uri) as client:
        remote = await client.connect(peer.uri)
        task = asyncio.create_task(remote.get("x", timeout_ms=5000))
        asked = await peer.receive()
        peer.send(message(NON, 69, 1, b"12345678", (), b"bad"))
        peer.send(message(NON, 69, 2, asked[3][:7], (), b"bad"))
        peer.send(message(ACK, 69, asked[2] ^ 1, asked[3], (), b"bad"))
        stranger.send(message(ACK, 69, asked[2], asked[3], (), b"bad"), uri)
        await asyncio.sleep(0.05)
        assert not task.done()
        peer.send(message(ACK, 69, asked[2], asked[3], (), b"good"))
        assert (await task).payload == b"good"
    peer.close()
    stranger.close()
