"""Callers that wait for an exchange: in order for each peer, cancelled in every moment, and nothing leaks.

First a Loop on a virtual clock and a virtual wire, whose callers are coroutines stepped by hand; then asyncio.
"""

import asyncio
import gc

from coaplet import CoapError, Node
from coaplet.client import Turn
from coaplet.codes import Timeout
from coaplet.poll import Loop
from coaplet.port import ticks_add
from helpers import ACK, CON, NON, RawPeer, free_uri, message, path, raises_async, read
from net import START, Host, Network, Random


class Wire:
    """A transport of the virtual world: .sent are (data, peer), .inbox is to be received."""

    mtu = 1152
    pollable = None
    secure = multicast = more = False
    family = None

    def __init__(self):
        self.sent = []
        self.inbox = []

    def open(self):
        pass

    close = open

    def receive(self):
        return self.inbox.pop(0) if self.inbox else None

    def send(self, buf, peer):
        self.sent.append((bytes(buf), peer))
        return True

    def format(self, peer):
        return str(peer)


class Virtual(Loop):
    """A Loop on one Wire whose clock moves when it would wait."""

    def __init__(self, **limits):
        self.wire = Wire()
        limits.setdefault("probing_rate", 0)  # test_probing.py is about that
        self.clock = START
        super().__init__(transports=(self.wire,), random=Random(1).bits, **limits)
        self.now = lambda: self.clock
        self.callers = []
        self._count = 0
        self._open()

    def advance(self, ms):
        self.clock = ticks_add(self.clock, ms)

    def _wait(self, ms):
        if self.wire.inbox:
            return self._receive(self.wire)
        assert ms >= 0, "nothing will happen any more"
        self.advance(ms)
        return False

    def call(self, peer, text, confirmable=True, timeout_ms=None):
        """Begin a GET; returns its Caller."""
        caller = Caller(self, self.remote(self.wire, peer).get(text, confirmable=confirmable, timeout_ms=timeout_ms))
        self.callers.append(caller)
        caller.step()
        return caller

    def step(self):
        """Let all callers go on as far as they can."""
        for caller in self.callers:
            caller.step()

    def run_for(self, ms):
        """Let the time pass as Loop.run() does, with all callers instead of one."""
        end = ticks_add(self.clock, ms)
        while True:
            self.step()
            left = (end - self.clock) & 0x3FFFFFFF
            if not left and not self.wire.inbox:
                self.poll(0)
                self.step()
                return
            waits = [caller.ms for caller in self.callers if not caller.done and caller.ms >= 0]
            self.poll(min(waits + [left]))

    def taken(self):
        """What was sent since the last time, as (path, peer); for an empty message (code, peer)."""
        found = []
        for data, peer in self.wire.sent:
            parts = read(data)
            found.append((parts[4][0][1].decode() if parts[4] else parts[1], peer))
        self.last = [data for data, _ in self.wire.sent]
        self.wire.sent.clear()
        return found

    def answer(self, data, peer):
        """Answer a request that was sent, piggybacked, or as NON."""
        kind, _, mid, token, _, _ = read(data)
        self._count += 1
        self.wire.inbox.append((message(ACK, 69, mid, token) if kind == CON else self.non(token), peer))
        self.run_for(0)

    def non(self, token):
        return message(NON, 69, self._count, token)

    def idle(self):
        """Nothing has leaked."""
        endpoint = self.endpoint
        assert self.turns == [] and not endpoint.due and not endpoint.counts[22] and not endpoint.ended
        assert not [ex for ex in endpoint.exchanges if ex.state or ex.waiter or ex.pooled or ex.out]
        count = 0
        ex = endpoint._idle
        while ex is not None:
            count += 1
            ex = ex.next
        return count == len(endpoint.exchanges)


class Caller:
    def __init__(self, loop, coroutine):
        self._loop = loop
        self._coroutine = coroutine
        self.done = False
        self.result = None
        self.ms = -1

    def step(self, error=None):
        if self.done:
            return
        try:
            self.ms = self._coroutine.throw(error) if error else self._coroutine.send(None)
        except StopIteration as stop:
            self.done = True
            self.result = stop.value
        except Exception as failed:
            self.done = True
            self.result = failed

    def cancel(self):
        self.step(Cancelled())
        assert self.done and isinstance(self.result, Cancelled)


class Cancelled(Exception):
    pass


def test_callers_of_one_peer_are_served_in_the_order_they_came():
    loop = Virtual()
    callers = [loop.call("s", "abcdefgh"[i], i % 3 != 1) for i in range(8)]
    for i in range(8):
        assert loop.taken() == [("abcdefgh"[i], "s")]
        assert [caller.done for caller in callers].count(True) == i
        loop.answer(loop.last[0], "s")
    assert loop.idle() and loop.counters.waits == 7


def test_a_peer_that_does_not_answer_does_not_keep_others_waiting():
    loop = Virtual()
    for text in ("a", "b", "c"):
        loop.call("gone", text)
    loop.call("s", "d")
    assert loop.taken() == [("a", "gone"), ("d", "s")]
    loop.call("s", "e")
    loop.answer(loop.last[1], "s")
    assert loop.taken() == [("e", "s")]


def test_a_con_that_waits_for_a_buffer_is_not_overtaken_by_a_non_to_the_same_peer():
    for equal in ("s", "".join(["s"])):  # who waits has come first, whatever he waits for
        loop = Virtual(tx_slots=1, exchanges=4)
        loop.call("other", "first")
        loop.call("s", "con")
        loop.call(equal, "non", False)
        loop.call("third", "x", False)
        assert loop.taken() == [("first", "other"), ("x", "third")]
        loop.answer(loop.last[0], "other")
        assert loop.taken() == [("con", "s")]
        loop.answer(loop.last[0], "s")
        assert loop.taken() == [("non", "s")]


def test_waiting_callers_keep_their_order_when_something_else_is_freed():
    # all three wait for the one buffer: the one that is freed without a buffer lets nobody overtake
    for peers in (("s", "s"), (("h", 1), tuple(["h", 1]))):
        loop = Virtual(tx_slots=1, exchanges=3)
        loop.call("other", "first")
        loop.call("third", "x", False)
        loop.call("fourth", "y", False)
        loop.call(peers[0], "con")
        loop.call("fifth", "con")
        loop.call(peers[1], "non", False)
        assert len(loop.taken()) == 3 and len(loop.turns) == 3
        x, first = loop.last[1], loop.last[0]
        loop.answer(x, "third")
        assert loop.taken() == []
        loop.answer(first, "other")
        assert loop.taken() == [("con", peers[0])]


def test_one_caller_after_the_other_gets_a_timeout_of_its_own_while_it_waits():
    loop = Virtual()
    loop.call("gone", "a")
    waiting = [loop.call("gone", "b", timeout_ms=ms) for ms in (300, 100, 200)]
    done = []
    for _ in range(3):
        loop.run_for(99)
        assert [caller.done for caller in waiting].count(True) == len(done)
        loop.run_for(1)
        done = [caller for caller in waiting if caller.done]
    assert len(done) == 3 and all(
        [isinstance(caller.result, Timeout) and "slot" in str(caller.result) for caller in done]
    )
    assert loop.taken() == [("a", "gone")] and loop.turns == []


def test_what_was_waited_for_counts_for_the_timeout():
    loop = Virtual(ack_timeout_ms=10000)
    loop.call("s", "a")
    second = loop.call("s", "b", timeout_ms=1000)
    loop.run_for(700)
    loop.taken()
    loop.answer(loop.last[0], "s")
    assert loop.taken() == [("b", "s")]
    loop.run_for(299)
    assert not second.done
    loop.run_for(1)
    assert isinstance(second.result, Timeout) and "no answer" in str(second.result)


def test_who_waits_without_a_timeout_waits_for_hours():
    loop = Virtual()
    loop.call("gone", "a", False, 20000000)
    second = loop.call("gone", "b", False, 100)
    third = loop.call("gone", "c")
    loop.run_for(19999999)
    assert isinstance(second.result, Timeout) and not third.done
    loop.taken()
    loop.run_for(1)
    assert loop.taken() == [("c", "gone")]


def held_by_a_separate_response():
    """A Loop with two buffers: a separate response to "s" holds one, a request to "other" the other; "x" waits."""
    loop = Virtual()

    @loop.resource("long", methods="POST")
    def long(request, response):
        response.payload(bytes(200))

    loop.wire.inbox.append((message(CON, 2, 1, b"t", path("long")), "s"))
    loop.run_for(0)
    assert len(loop.taken()) == 2
    mid = read(loop.last[1])[2]
    loop.call("other", "y")
    loop.call("third", "x")
    assert loop.taken() == [("y", "other")] and len(loop.turns) == 1
    return loop, mid


def test_a_slot_freed_by_the_clock_is_given_to_who_waits():
    loop, _ = held_by_a_separate_response()
    loop.run_for(46000)
    assert ("x", "third") not in loop.taken()
    loop.run_for(47000)  # until the separate response is given up
    assert ("x", "third") in loop.taken()


def test_a_slot_freed_by_a_datagram_is_given_to_who_waits():
    loop, mid = held_by_a_separate_response()
    loop.wire.inbox.append((message(ACK, 0, mid), "s"))
    loop.run_for(0)
    assert loop.taken() == [("x", "third")]


def test_a_separate_response_that_is_not_acknowledged_holds_no_request_back():
    # NSTART (RFC 7252 4.7) limits what a client does: a response is no interaction of ours
    host = Host("h", Network(), exchanges=4, tx_slots=4)
    host.serve("long", lambda request, response: response.payload(bytes(200)), "POST")

    async def slow(request, response):
        response.text("slow")

    host.serve("slow", slow)
    for text, code in (("long", 2), ("slow", 1)):
        host.receive(message(CON, code, 7, b"t", path(text)), text)
        host.network.run_for(300)
        if host.tasks:
            host.finish_task()
        assert host.get(text, "x") is not None, text
        assert host.get(text, "x") is None, text


def test_a_caller_cancelled_before_its_turn_leaves_the_others_theirs():
    for which in range(3):
        loop = Virtual()
        loop.call("s", "a")
        waiting = [loop.call("s", text) for text in ("b", "c", "d")]
        waiting[which].cancel()
        loop.taken()
        rest = [text for i, text in enumerate(("b", "c", "d")) if i != which]
        for text in rest:
            loop.answer(loop.last[0], "s")
            assert loop.taken() == [(text, "s")]
        loop.answer(loop.last[0], "s")
        assert loop.idle()


def test_a_caller_cancelled_when_its_turn_has_come_passes_it_on():
    for confirmable in (True, False):
        loop = Virtual(exchanges=1, tx_slots=1)
        first = loop.call("s", "a", confirmable)
        second = loop.call("s", "b", confirmable)
        third = loop.call("s", "c", confirmable)
        loop.taken()
        first.cancel() if confirmable else answered(loop, first)
        granted = [turn.ex for turn in loop.turns]
        assert granted[0] is not None and granted[1] is None
        second.cancel()
        assert len(loop.turns) == 1 and loop.turns[0].ex is not None
        loop.step()
        assert loop.taken() == [("c", "s")]
        loop.answer(loop.last[0], "s")
        assert third.done and loop.idle()


def answered(loop, caller):
    """Let a caller's response arrive, and let nobody but him go on."""
    loop.wire.inbox.append((loop.non(read(loop.last[0])[3]), "s"))
    loop.poll(0)
    caller.step()
    assert caller.done


def test_a_turn_that_came_in_the_last_moment_is_used_though_the_time_is_over():
    loop = Virtual()
    first = loop.call("s", "a")
    second = loop.call("s", "b", timeout_ms=500)
    loop.taken()
    first.cancel()
    assert loop.turns[0].ex is not None
    loop.advance(600)
    second.step()
    assert loop.turns == [] and second.done is False and loop.taken() == [("b", "s")]
    loop.run_for(2)
    assert isinstance(second.result, Timeout) and loop.idle()


def test_a_request_that_cannot_be_written_when_its_turn_comes_passes_it_on():
    loop = Virtual(exchanges=1, tx_slots=1)
    first = loop.call("s", "a")
    bad = [Caller(loop, loop.remote(loop.wire, "s").post("x" * 256)) for _ in range(2)]
    loop.callers += bad
    loop.step()
    loop.call("s", "c")
    loop.taken()
    loop.answer(loop.last[0], "s")
    loop.run_for(0)
    assert first.done and all([isinstance(caller.result, ValueError) for caller in bad])
    assert loop.taken() == [("c", "s")]
    loop.answer(loop.last[0], "s")
    assert loop.idle()


def test_a_non_whose_turn_has_come_leaves_the_scratch_to_replies_until_it_is_written():
    loop = Virtual()

    @loop.resource("x", methods="GET POST")
    def x(request, response):
        response.payload(request.payload or b"reply")

    first = loop.call("s", "a", False)
    loop.call("s", "b", False)
    loop.taken()
    answered(loop, first)
    assert loop.turns[0].ex is not None
    for mid in range(3):
        loop.wire.inbox.append((message(CON, 2, mid, b"tk", path("x"), b"%d" % mid), "other"))
        loop.poll(0)  # the caller does not go on meanwhile
        ((data, peer),) = loop.wire.sent
        assert peer == "other" and read(data) == (ACK, 68, mid, b"tk", [], b"%d" % mid)
        loop.wire.sent.clear()
    loop.step()
    assert loop.taken() == [("b", "s")]
    assert read(loop.last[0])[0] == NON and read(loop.last[0])[5] == b""
    answered(loop, loop.callers[1])
    assert loop.idle()


def test_a_stopped_loop_ends_who_waits():
    loop = Virtual()
    loop.call("s", "a")
    waiting = [loop.call("s", text) for text in ("b", "c")]
    loop.callers[0].cancel()  # the turn of "b" has come
    loop.close()
    for caller in waiting:
        caller.step()
        assert isinstance(caller.result, CoapError) and "stopped" in str(caller.result)
    assert loop.idle()


def storm(seed, **limits):
    """200 requests to five peers, of which one does not answer, with random cancellations and timeouts."""
    loop = Virtual(max_retransmit=1, **limits)
    random = Random(seed)
    begun = 0
    for _ in range(3000):
        choice = random.below(10)
        alive = [caller for caller in loop.callers if not caller.done]
        if choice < 4 and begun < 200:
            begun += 1
            timeout_ms = None if random.below(2) else 1 + random.below(9000)
            loop.call("peer%d" % random.below(5), str(begun), random.below(3) > 0, timeout_ms)
        elif choice < 6 and alive:
            alive[random.below(len(alive))].cancel()
        elif choice < 8:
            loop.run_for(random.below(900))
        elif choice == 8:
            loop.poll(0)  # nobody goes on
        loop.callers = [caller for caller in loop.callers if not caller.done]
        for data, peer in loop.wire.sent:
            asked = read(data)
            if peer != "peer0" and random.below(3):
                loop.wire.inbox.append((message(ACK, 69, asked[2], asked[3]), peer))
        loop.wire.sent.clear()
        if begun == 200 and not loop.callers:
            break
    loop.run_for(700000)  # 200 in line for one that does not answer
    loop.step()
    assert begun == 200 and not [caller for caller in loop.callers if not caller.done]
    assert loop.idle() and loop.endpoint.spare == limits.get("tx_slots", 2), seed


def test_a_storm_with_cancellations_leaves_every_slot_free():
    for seed in range(6):
        storm(seed)
        storm(seed, exchanges=1, tx_slots=1)
        storm(seed, exchanges=4, tx_slots=1, nstart=2)


# asyncio


async def cancelled(task):
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
    raise AssertionError("not cancelled")


def free(node):
    endpoint = node.endpoint
    assert node.turns == [] and not endpoint.due and not endpoint.counts[22] and not endpoint.ended
    assert not [ex for ex in endpoint.exchanges if ex.state or ex.waiter]
    return True


def reply(peer, asked):
    peer.send(message(ACK if asked[0] == CON else NON, 69, asked[2], asked[3]))


async def test_asyncio_callers_of_one_peer_are_served_in_the_order_they_came():
    peer = RawPeer()
    async with Node() as node:
        remote = await node.connect(peer.uri)
        tasks = [asyncio.create_task(remote.get("abcdef"[i], confirmable=i % 3 != 1)) for i in range(6)]
        for i in range(6):
            asked = await peer.receive()
            assert asked[4] == path("abcdef"[i]) and peer.try_receive() is None
            reply(peer, asked)
        await asyncio.gather(*tasks)
        assert free(node) and node.endpoint.spare == 2
    peer.close()


async def test_asyncio_a_caller_cancelled_before_it_ran_leaves_nothing():
    peer = RawPeer()
    async with Node() as node:
        remote = await node.connect(peer.uri)
        task = asyncio.create_task(remote.get("never"))
        await cancelled(task)
        task = asyncio.create_task(remote.get("a"))
        asked = await peer.receive()
        assert asked[4] == path("a")
        reply(peer, asked)
        await task
        assert free(node)
    peer.close()


class Granting(Node):
    """Calls .granted(turn) when a turn has come and its caller has not gone on yet."""

    granted = None

    def _wake(self, ex):
        super()._wake(ex)
        if self.granted and isinstance(ex, Turn):
            self.granted(ex)


async def test_asyncio_a_caller_cancelled_when_its_turn_has_come_passes_it_on():
    peer = RawPeer()
    for confirmable in (True, False):
        async with Granting(exchanges=1, tx_slots=1, probing_rate=0) as node:
            remote = await node.connect(peer.uri)
            tasks = [asyncio.create_task(remote.get(text, confirmable=confirmable)) for text in "abc"]
            asked = await peer.receive()
            granted = []

            def cancel(turn, tasks=tasks, granted=granted):
                granted.append(turn.ex)
                if len(granted) == 1:
                    tasks[1].cancel()

            node.granted = cancel
            reply(peer, asked)
            asked = await peer.receive()
            assert asked[4] == path("c") and granted[0] is granted[1] is not None
            reply(peer, asked)
            await tasks[0]
            await tasks[2]
            try:
                await tasks[1]
                raise AssertionError("not cancelled")
            except asyncio.CancelledError:
                pass
            assert free(node) and node.endpoint.spare == 1
    peer.close()


async def test_asyncio_a_caller_cancelled_just_before_its_turn_comes_passes_it_on():
    peer = RawPeer()
    async with Node(exchanges=1, tx_slots=1, probing_rate=0) as node:
        remote = await node.connect(peer.uri)
        tasks = [asyncio.create_task(remote.get(text)) for text in "abc"]
        await peer.receive()
        tasks[1].cancel()
        tasks[0].cancel()  # who goes on first is asyncio's affair
        asked = await peer.receive()
        assert asked[4] == path("c")
        reply(peer, asked)
        await tasks[2]
        await asyncio.sleep(0)
        assert free(node)
    peer.close()


async def test_asyncio_stop_when_a_turn_has_just_come_leaks_nothing():
    peer = RawPeer()
    node = Granting(exchanges=1, tx_slots=1, probing_rate=0)
    for _ in range(2):
        await node.start()
        remote = await node.connect(peer.uri)
        tasks = [asyncio.create_task(remote.get(text)) for text in "abc"]
        asked = await peer.receive()
        stopping = []
        node.granted = lambda turn, stopping=stopping: stopping or stopping.append(asyncio.create_task(node.stop()))
        reply(peer, asked)
        await tasks[0]
        for task in tasks[1:]:
            error = await raises_async(CoapError, asyncio.wait_for(task, 2))
            assert not isinstance(error, Timeout)
        await stopping[0]
        node.granted = None
        while peer.try_receive() is not None:
            pass
        assert free(node) and node.endpoint.spare == 1
    peer.close()


async def test_asyncio_stop_ends_who_waits_for_nobodys_slot():
    peer = RawPeer()
    async with Node(probing_rate=1) as node:
        remote = await node.connect(peer.uri)
        await raises_async(Timeout, remote.get("x", confirmable=False, timeout_ms=10))
        task = asyncio.create_task(remote.get("y"))  # PROBING_RATE holds it back: no other caller will pass anything on
        await asyncio.sleep(0.01)
        assert len(node.turns) == 1
        await node.stop()
        error = await raises_async(CoapError, asyncio.wait_for(task, 2))
        assert not isinstance(error, Timeout) and node.turns == []
    peer.close()


async def test_asyncio_a_storm_with_cancellations_leaves_every_slot_free():
    uris = (free_uri(), free_uri())
    servers = [Node(uri) for uri in uris]
    for server in servers:

        @server.resource("quick")
        def quick(request, response):
            response.payload(request.query[0])

        @server.resource("slow")
        async def slow(request, response):
            await asyncio.sleep(0.002)
            response.payload(request.query[0])

    random = Random(3)
    silent = RawPeer()
    done = {"right": 0, "lost": 0}

    async def ask(remote, i):
        text = ("slow?%d" if i % 3 == 0 else "quick?%d") % i
        try:
            answer = await remote.get(text, confirmable=i % 4 != 0, timeout_ms=2000)
            assert answer.payload == b"%d" % i
            done["right"] += 1
        except CoapError:
            done["lost"] += 1

    async with servers[0], servers[1], Node(probing_rate=0) as node:
        remotes = []
        for uri in uris + (silent.uri,):
            remotes.append(await node.connect(uri))
        tasks = []
        for i in range(200):
            which = random.below(9)
            tasks.append(asyncio.create_task(ask(remotes[2 if which == 8 else which & 1], i)))
            for _ in range(random.below(4)):
                await asyncio.sleep(0)
            if i % 16 == 0:
                await asyncio.sleep(0.005)
            if random.below(3) == 0:
                tasks[random.below(len(tasks))].cancel()
            elif random.below(8) == 0:
                tasks[-1].cancel()
        for task in tasks:
            try:
                await task
            except asyncio.CancelledError:
                pass
        await asyncio.sleep(0)
        assert done["right"] > 50, done
        assert free(node) and node.endpoint.spare == 2
        assert node.counters.faults == 0
        assert (await remotes[0].get("quick?again")).payload == b"again"
    silent.close()
    gc.collect()
