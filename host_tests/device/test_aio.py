"""The asyncio driver: callers that wait, are cancelled or stopped; nodes started again; names and address families."""

import asyncio
import sys

from coaplet import CoapError, Node
from coaplet.codes import Timeout
from harness import Skip
from helpers import ACK, CON, RawPeer, free_port, free_uri, ipv6_or_skip, message, path, raises, raises_async

PORT = sys.modules["coaplet.port"]


def serving(uri, **limits):
    node = Node(uri, **limits)

    @node.resource("echo", methods="GET POST")
    def echo(request, response):
        response.payload(request.query[0] if request.query else request.payload)

    @node.resource("slow", methods="GET POST")
    async def slow(request, response):
        await asyncio.sleep(0.05)
        response.text("slow")

    return node


async def test_ten_callers_of_one_remote_get_their_own_answers():
    async with serving(free_uri()) as node, Node() as client:
        remote = await client.connect("coap://" + node.address())
        for nstart in (1, 2):
            client.endpoint.parameters.nstart = nstart
            replies = await asyncio.gather(*[remote.get("echo?%d" % i) for i in range(10)])
            assert [reply.text() for reply in replies] == [str(i) for i in range(10)]
        assert client.counters.waits > 0 and client.counters.retransmissions == 0


async def test_ten_callers_with_a_timeout_get_their_own_answers_too():
    async with serving(free_uri()) as node, Node() as client:
        remote = await client.connect("coap://" + node.address())
        replies = await asyncio.gather(*[remote.get("echo?%d" % i, timeout_ms=20000) for i in range(10)])
        assert [reply.text() for reply in replies] == [str(i) for i in range(10)]


async def test_no_more_than_nstart_requests_are_outstanding():
    peer = RawPeer()
    async with Node() as client:
        remote = await client.connect(peer.uri)
        tasks = [asyncio.create_task(remote.get("x")) for _ in range(3)]
        for i in range(3):
            asked = await peer.receive()
            await asyncio.sleep(0.02)
            assert peer.try_receive() is None
            assert [task.done() for task in tasks].count(True) == i
            peer.send(message(ACK, 69, asked[2], asked[3]))
            await asyncio.sleep(0.02)
        await asyncio.gather(*tasks)
    peer.close()


async def test_a_caller_that_waits_too_long_for_a_slot_times_out():
    peer = RawPeer()
    async with Node(probing_rate=0) as client:
        remote = await client.connect(peer.uri)
        first = asyncio.create_task(remote.get("x", timeout_ms=1000))
        await peer.receive()
        error = await raises_async(Timeout, remote.get("y", timeout_ms=50))
        assert "slot" in str(error)
        assert peer.try_receive() is None
        await raises_async(Timeout, first)
        task = asyncio.create_task(remote.get("z", timeout_ms=1000))
        asked = await peer.receive()
        assert asked[4] == path("z")
        peer.send(message(ACK, 69, asked[2], asked[3]))
        await task
    peer.close()


async def cancelled(task):
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
    raise AssertionError("not cancelled")


async def test_a_cancelled_request_frees_its_slot_at_once():
    peer = RawPeer()
    async with Node(exchanges=1, tx_slots=1, probing_rate=0) as client:
        remote = await client.connect(peer.uri)
        for confirmable in (True, False, True):
            task = asyncio.create_task(remote.get("x", confirmable=confirmable))
            await peer.receive()
            waiting = asyncio.create_task(remote.get("y", confirmable=confirmable))
            await asyncio.sleep(0)
            await cancelled(task)
            asked = await peer.receive()
            assert asked[4] == path("y")
            peer.send(message(ACK if confirmable else 1, 69, asked[2], asked[3]))
            await waiting
    peer.close()


async def test_a_request_given_up_by_wait_for_frees_its_slot():
    peer = RawPeer()
    async with Node(exchanges=1, tx_slots=1, probing_rate=0) as client:
        remote = await client.connect(peer.uri)
        await raises_async(asyncio.TimeoutError, asyncio.wait_for(remote.get("x"), 0.05))
        await peer.receive()
        task = asyncio.create_task(remote.get("y"))
        asked = await peer.receive()
        peer.send(message(ACK, 69, asked[2], asked[3]))
        await task
    peer.close()


async def test_a_cancelled_waiter_leaves_the_others_their_turn():
    peer = RawPeer()
    async with Node() as client:
        remote = await client.connect(peer.uri)
        tasks = [asyncio.create_task(remote.get(name)) for name in "abc"]
        asked = await peer.receive()
        await cancelled(tasks[1])
        peer.send(message(ACK, 69, asked[2], asked[3]))
        await tasks[0]
        asked = await peer.receive()
        assert asked[4] == path("c")
        peer.send(message(ACK, 69, asked[2], asked[3]))
        await tasks[2]
    peer.close()


async def test_a_slot_freed_in_the_moment_a_caller_begins_to_wait_is_not_missed():
    peer = RawPeer()
    async with Node(probing_rate=0) as client:
        remote = await client.connect(peer.uri)
        first = asyncio.create_task(remote.get("a"))
        await peer.receive()
        second = asyncio.create_task(remote.get("b", timeout_ms=700))
        first.cancel()  # runs right after the second has begun to wait
        asked = await peer.receive()
        assert asked[4] == path("b")
        peer.send(message(ACK, 69, asked[2], asked[3]))
        await second
    peer.close()


async def test_stop_gives_whoever_waits_an_error():
    peer = RawPeer()
    client = Node()
    await client.start()
    remote = await client.connect(peer.uri)
    tasks = [asyncio.create_task(remote.get("x", confirmable=c)) for c in (True, False)]
    tasks += [asyncio.create_task(remote.get("y")), asyncio.create_task(remote.get("z", timeout_ms=9000))]
    await peer.receive()
    await client.stop()
    await client.stop()  # a second time does nothing
    await raises_async(CoapError, tasks[0])
    for task in tasks[1:]:  # these wait for NSTART
        try:
            await asyncio.wait_for(task, 1)
            raise AssertionError("no error")
        except (CoapError, RuntimeError):
            pass
    await raises_async(RuntimeError, remote.get("x"))
    await raises_async(RuntimeError, client.connect(peer.uri))
    peer.close()


async def test_stop_gives_whoever_observes_an_error():
    async with serving(free_uri()) as node:

        @node.resource("state", observe=True)
        def state(request, response):
            response.text("state")

        client = Node()
        await client.start()
        observation = (await client.connect("coap://" + node.address())).observe("state")
        assert (await observation.next()).text() == "state"
        waiting = asyncio.create_task(observation.next())
        await asyncio.sleep(0.02)
        assert not waiting.done()
        await client.stop()
        error = await raises_async(CoapError, asyncio.wait_for(waiting, 1))
        assert "stopped" in str(error)


async def test_observers_are_told_in_their_own_time():
    async with serving(free_uri()) as node, Node() as client:
        state = [0]

        @node.resource("state", observe=True)
        async def slow(request, response):
            await asyncio.sleep(0.01)
            response.text("%d" % state[0])

        remote = await client.connect("coap://" + node.address())
        seen = []
        async with remote.observe("state") as observation:
            async for reply in observation:
                seen.append(reply.text())
                state[0] += 1
                node.changed("state")
                if len(seen) == 5:
                    break
        assert seen == ["0", "1", "2", "3", "4"]
        assert node.server.observers.count() == 0


async def test_a_stopped_node_can_be_started_again():
    uri = free_uri()
    node = serving(uri)
    client = Node()
    await client.start()
    remote = await client.connect(uri)
    for i in range(3):
        async with node:
            await raises_async(RuntimeError, node.start())
            assert (await remote.get("echo?%d" % i)).text() == str(i)
            assert (await remote.post("slow")).text() == "slow"
    await client.stop()
    await client.start()
    async with node:
        assert (await remote.get("echo?again")).text() == "again"
    await client.stop()


async def test_a_restarted_node_retransmits_and_times_out():
    peer = RawPeer()
    client = Node(ack_timeout_ms=50, max_retransmit=2)
    for _ in range(2):
        async with client:
            remote = await client.connect(peer.uri)
            await raises_async(Timeout, remote.get("x"))
            first = await peer.receive()
            assert await peer.receive() == first and await peer.receive() == first and peer.try_receive() is None
    peer.close()


async def test_a_timer_moves_forward_for_an_earlier_deadline():
    peer = RawPeer()
    async with Node() as client:
        remote = await client.connect(peer.uri)
        late = asyncio.create_task(remote.get("x", confirmable=False, timeout_ms=60000))
        await peer.receive()
        client.endpoint.parameters.nstart = 2
        await asyncio.wait_for(raises_async(Timeout, remote.get("y", confirmable=False, timeout_ms=50)), 2)
        await cancelled(late)
    peer.close()


async def test_stop_frees_async_slots_even_of_handlers_that_have_not_begun():
    uri = free_uri()
    node = serving(uri, async_slots=1)
    peer = RawPeer()
    for steps in range(4):
        await node.start()
        peer.send(message(CON, 1, 10 + steps, b"t", path("slow")), uri)
        for _ in range(100):  # until the request is in, and `steps` turns of the loop more
            await asyncio.sleep(0)
            if node.endpoint.handlers[0].state:
                break
        for _ in range(steps):
            await asyncio.sleep(0)
        await node.stop()
        await asyncio.sleep(0)
        assert node.endpoint.handlers[0].state == 0, steps
    peer.close()


async def test_a_handler_may_stop_its_own_node():
    uri = free_uri()
    node = serving(uri)

    @node.resource("off", methods="POST")
    async def off(request, response):
        await node.stop()

    await node.start()
    peer = RawPeer()
    peer.send(message(CON, 2, 1, b"t", path("off")), uri)
    for _ in range(300):
        if node.transports[0].pollable is None:
            break
        await asyncio.sleep(0.001)
    assert node.transports[0].pollable is None
    async with serving(uri):  # the port is free
        pass
    peer.close()


async def test_a_node_asks_while_it_serves():
    front = serving(free_uri())
    back = serving(free_uri())

    @front.resource("through")
    async def through(request, response):
        remote = await front.connect("coap://" + back.address())
        response.text((await remote.get("echo?from-behind")).text())

    async with front, back, Node() as client:
        remote = await client.connect("coap://" + front.address())
        replies = await asyncio.gather(remote.get("through"), remote.get("echo?x"), remote.get("through"))
        assert [reply.text() for reply in replies] == ["from-behind", "x", "from-behind"]


async def test_a_fault_of_a_transport_ends_nothing():
    uri = free_uri()
    async with serving(uri) as node, Node() as client:
        transport = node.transports[0]
        receive = transport.receive

        def broken():
            transport.receive = receive
            raise KeyError("broken once")

        transport.receive = broken
        remote = await client.connect(uri)
        assert (await remote.get("echo?x")).text() == "x"
        assert node.counters.faults == 1


async def test_a_name_is_connected_to():
    uri = free_uri()
    async with serving(uri) as node, Node() as client:
        try:
            found = PORT.resolve("localhost", 1)
        except OSError as error:
            raise Skip("localhost has no address: %s" % error)
        if found[0][0] == 2:
            remote = await client.connect(uri.replace("127.0.0.1", "localhost"))
            assert (await remote.get("echo?x")).text() == "x"
            assert node.counters.requests == 1
        await raises_async(OSError, client.connect("coap://does-not-exist.invalid"))


async def test_ipv6_is_served_and_connected_to():
    ipv6_or_skip()
    uri = free_uri("::1")
    async with serving(uri), Node() as client:
        remote = await client.connect(uri)
        assert (await remote.get("echo?x")).text() == "x"
        assert repr(remote) == "<Remote %s>" % uri[7:]


async def test_a_name_with_an_ipv6_address_gets_an_ipv6_socket():
    ipv6_or_skip()
    port = free_port("::1")
    resolve = PORT.resolve
    PORT.resolve = lambda host, number, last=None: resolve("::1" if host == "six.example" else host, number)
    try:
        async with serving("coap://[::1]:%d" % port), Node() as client:
            for _ in range(2):
                remote = await client.connect("coap://six.example:%d" % port)
                assert (await remote.get("echo?x", timeout_ms=3000)).text() == "x"
            assert len(client.transports) == 1
    finally:
        PORT.resolve = resolve


async def test_what_cannot_be_listened_at_or_connected_to_is_a_value_error():
    for uri in ("coaps://127.0.0.1", "coap://127.0.0.1/path", "127.0.0.1"):
        raises(ValueError, Node, uri)
    async with Node() as client:
        for uri in ("http://127.0.0.1", "coap://127.0.0.1?q", "127.0.0.1"):
            await raises_async(ValueError, client.connect(uri))


async def test_a_taken_port_is_an_error_and_closes_what_was_opened():
    free, taken = free_uri(), free_uri()
    async with Node(taken):
        await raises_async(OSError, Node(free, taken).start())
    async with Node(free, taken):
        pass


async def test_a_duplicate_of_a_running_request_starts_nothing():
    uri = free_uri()
    async with serving(uri, async_slots=2) as node:
        peer = RawPeer()
        data = message(CON, 2, 5, b"t", path("slow"))
        for _ in range(3):
            peer.send(data, uri)
        reply = await peer.receive()
        assert reply[:4] == (ACK, 68, 5, b"t") and node.counters.requests == 1
        peer.close()
