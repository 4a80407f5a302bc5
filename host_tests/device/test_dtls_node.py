"""coaps:// of a Node and a Loop on loopback: the same handlers and calls, sessions lost and had again, sleep.

RFC 7252 9.1. What a session does by itself is tested in virtual time (test_dtls_*.py); here it is what users see.
"""

import asyncio

from coaplet import Loop, Node
from coaplet.codes import SecurityError, Timeout
from dtls_net import CCM, CCM_8
from helpers import RawPeer, free_port, free_uri, raises, raises_async

PSK = ("id", b"secret")
KEYS = {"id": b"secret", "other": b"another"}


def coaps():
    return "coaps://127.0.0.1:%d" % free_port()


def serving(*uris, kind=Node, **kwargs):
    kwargs.setdefault("psk", KEYS)
    node = kind(*uris, **kwargs)
    node.posts = 0

    @node.resource("echo", methods="GET POST")
    def echo(request, response):
        if request.method == 2:
            node.posts += 1
        response.payload(request.query[0] if request.query else request.payload)

    if kind is Node:

        @node.resource("slow", methods="GET POST")
        async def slow(request, response):
            node.posts += 1
            await asyncio.sleep(0.1)
            response.text("slow")

    return node


async def until(done):
    for _ in range(1000):
        if done():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came")


def session_of(node):
    (session,) = node.transports[0].sessions.values()
    return session


def impatient(node, ms):
    node.endpoint.parameters.ack_timeout_ms = ms
    node.endpoint.parameters.jitter_ms = ms // 2


def soon(remote):
    """Let the next attempt come in 20 ms rather than in 1,000."""
    remote._backoff_ms = 20


async def test_the_same_handlers_serve_coap_and_coaps():
    uri = coaps()
    async with serving(uri, free_uri()) as node, Node() as client:
        secure = await client.connect(uri, psk=PSK)
        plain = await client.connect("coap://" + node.address(1))
        for i in range(3):
            assert (await secure.get("echo?%d" % i)).text() == (await plain.get("echo?%d" % i)).text() == str(i)
            assert (await secure.post("echo", b"x%d" % i)).payload == b"x%d" % i
            assert (await secure.get("slow")).text() == (await plain.get("slow")).text() == "slow"
        assert await secure.ping() >= 0
        assert session_of(node).identity == b"id"


async def test_ten_callers_of_one_session_get_their_own_answers():
    uri = coaps()
    async with serving(uri), Node() as client:
        remote = await client.connect(uri, psk=PSK)
        replies = await asyncio.gather(*[remote.get("echo?%d" % i) for i in range(10)])
        assert [reply.text() for reply in replies] == [str(i) for i in range(10)]


async def test_requests_are_served_on_sessions_that_the_server_did_not_open():
    uri = coaps()
    async with serving(uri) as node, serving() as client:
        await client.connect(uri, psk=PSK)
        await until(lambda: node.transports[0].sessions)
        back = node.remote(node.transports[0], session_of(node))
        assert (await back.get("echo?back")).text() == "back"


async def test_a_lost_session_is_had_again_and_who_waits_is_served():
    uri = coaps()
    async with serving(uri) as node, Node() as client:
        remote = await client.connect(uri, psk=PSK)
        assert (await remote.get("echo?1")).text() == "1"
        for _ in range(2):
            before = remote.peer
            token = bytes(remote._token)
            soon(remote)
            node.transports[0].end(session_of(node), "test")
            await until(lambda: not before.up)
            assert remote.error == before.error == "the peer ended the session: close_notify"
            replies = await asyncio.gather(remote.get("echo?2"), remote.post("echo", b"3"))
            assert [reply.payload for reply in replies] == [b"2", b"3"]
            assert remote.peer is not before and remote.error == ""
            # a fresh random prefix (RFC 7252 5.3.1, 9.1.1)
            assert bytes(remote._token[:5]) != token[:5]
            await until(lambda: session_of(node).handshake is None)  # it was resumed
        assert client.transports[-1].succeeded == 3


async def test_a_session_is_had_again_without_anybody_asking():
    uri = coaps()
    async with serving(uri) as node, Node() as client:
        remote = await client.connect(uri, psk=PSK)
        soon(remote)
        node.transports[0].end(session_of(node), "test")
        await until(lambda: client.transports[-1].succeeded == 2)
        assert remote.peer.up


async def test_an_observation_goes_on_with_another_session():
    # RFC 7641 3.3.1; RFC 7252 9.1.1: the registration was that of the session
    uri = coaps()
    async with serving(uri) as node, Node() as client:

        @node.resource("state", observe=True)
        def state(request, response):
            response.text("%d" % node.posts)

        remote = await client.connect(uri, psk=PSK)
        async with remote.observe("state") as observation:
            assert (await observation.next()).text() == "0"
            for i in range(1, 4):
                before = remote.peer
                waiting = asyncio.create_task(observation.next())
                await asyncio.sleep(0)
                soon(remote)
                node.posts = i
                node.transports[0].end(session_of(node), "test")
                await until(lambda before=before: not before.up)
                assert (await asyncio.wait_for(waiting, 5)).text() == str(i)
                assert remote.peer is not before and observation.registered
                assert node.server.observers.count() == 1
        assert node.server.observers.count() == 0


async def test_what_was_on_its_way_fails_and_a_get_is_asked_again():
    # RFC 7252 9.1.1: an answer belongs to the session of its request
    uri = coaps()
    async with serving(uri, async_slots=4) as node, Node() as client:
        remote = await client.connect(uri, psk=PSK)
        for again in (False, True):
            node.posts = 0
            soon(remote)
            task = asyncio.create_task(remote.get("slow") if again else remote.post("slow"))
            await until(lambda: node.posts == 1)
            node.transports[0].end(session_of(node), "test")
            if again:
                assert (await task).text() == "slow" and node.posts == 2
            else:
                error = await raises_async(SecurityError, task)
                assert str(error) == "the peer ended the session: close_notify"
                await remote.ready()
                assert node.posts == 1


async def test_a_server_that_forgot_its_session_is_found_out():
    uri = coaps()
    async with serving(uri) as node, Node() as client:
        remote = await client.connect(uri, psk=PSK)
        layer = node.transports[0]
        impatient(client, 10)
        layer.forget(session_of(node), "power cut")
        soon(remote)
        await raises_async(Timeout, remote.post("echo", b"1"))
        assert (await remote.post("echo", b"2")).payload == b"2"
        assert node.posts == 1 and layer.unknown > 0


async def test_a_server_that_restarts_is_reached_again():
    uri = coaps()
    async with Node() as client:
        async with serving(uri):
            remote = await client.connect(uri, psk=PSK)
            soon(remote)
        await until(lambda: not remote.peer.up)
        async with serving(uri):
            assert (await remote.get("echo?again", timeout_ms=20000)).text() == "again"


async def test_attempts_come_less_and_less_often():
    uri = coaps()
    async with serving(uri), Node() as client:
        remote = await client.connect(uri, psk=PSK)
        client.now = lambda: 1000
        for ms in (1000, 2000, 4000, 8000, 16000, 32000, 64000, 128000, 256000, 300000, 300000):
            for _ in range(3):
                remote._backoff_ms = ms
                remote._later(ms)
                assert ms * 3 // 4 <= remote.deadline - 1000 <= ms
            assert remote._backoff_ms == min(2 * ms, 300000)
        remote.deadline = None


async def test_what_is_wrong_is_said_in_a_users_words():
    uri = coaps()
    async with serving(uri, dtls={"suites": (CCM_8,)}), Node() as client, Node(dtls={"suites": (CCM,)}) as other:
        where = "no session with %s: " % uri[8:]
        for psk in ("id", b"wrong"), ("nobody", b"secret"):
            error = await raises_async(SecurityError, client.connect(uri, psk=psk))
            assert str(error) == where + "the peer refused: wrong key, or unknown identity (decrypt_error)"
        error = await raises_async(SecurityError, other.connect(uri, psk=PSK))
        assert str(error) == where + "the peer refused: it takes none of our cipher suites (handshake_failure)"
        peer = RawPeer()
        error = await raises_async(SecurityError, client.connect("coaps" + peer.uri[4:], psk=PSK, timeout_ms=50))
        assert str(error) == "no session with %s: no answer" % peer.uri[7:]
        peer.close()
        assert client.timed[1:] == () == other.timed[1:]  # nobody goes on trying
        for wrong in (None, ("id", b""), ("", b"key"), ("id", bytes(65)), ("i" * 129, b"key")):
            await raises_async(ValueError, client.connect(uri, psk=wrong))
        await raises_async(ValueError, client.connect("coaps://224.0.1.187", psk=PSK))
    raises(ValueError, Node, coaps())


async def test_a_closed_remote_ends_its_session_and_has_no_other():
    uri = coaps()
    async with serving(uri) as node, Node() as client:
        remote = await client.connect(uri, psk=PSK)
        remote.close()
        await until(lambda: not node.transports[0].sessions)
        error = await raises_async(SecurityError, remote.get("echo?1"))
        assert "it was closed" in str(error) and remote.deadline is None
        again = await client.connect(uri, psk=PSK)
        assert (await again.get("echo?2")).text() == "2"


async def test_keys_may_come_from_a_function():
    asked = []

    def find(identity):
        asked.append(identity)
        return b"secret" if identity == b"id" else None

    uri = coaps()
    async with serving(uri, psk=find), Node() as client:
        assert (await (await client.connect(uri, psk=PSK)).get("echo?1")).text() == "1"
        await raises_async(SecurityError, client.connect(uri, psk=("who", b"secret")))
    assert asked == [b"id", b"who"]


async def test_a_fault_in_a_session_is_counted_and_the_node_goes_on():
    uri = coaps()
    async with serving(uri), Node() as client:
        remote = await client.connect(uri, psk=PSK)
        layer = client.transports[-1]

        def fail(now, session):
            del layer._do_due
            raise KeyError("ours")

        layer._do_due = fail
        soon(remote)
        layer.later(client.now(), 0)
        client._arm()
        await until(lambda: client.counters.faults)
        assert (await remote.get("echo?again", timeout_ms=20000)).text() == "again"
        assert client.counters.faults == 1 and layer.succeeded == 2 and layer.failed == 1


class Store:
    data = None

    def load(self):
        return self.data

    def save(self, data):
        self.data = data


async def test_a_node_that_slept_goes_on_with_session_mid_and_token():
    uri = coaps()
    store = Store()
    async with serving(uri, dtls={"cid": 4}) as node:
        layer = node.transports[0]
        mids = []
        prefixes = []
        for _ in range(3):
            async with Node() as client:
                impatient(client, 50)  # the answer goes to the address of before, until the new one has been asked
                remote = await client.connect(uri, psk=PSK, store=store)
                before = client.endpoint.mid
                assert not mids or before == mids[-1]
                assert (await remote.post("echo", b"1")).payload == b"1"
                prefixes.append(bytes(remote._token[:5]))
                mids.append(client.endpoint.mid)
                assert mids[-1] == (before + 1) & 0xFFFF
                remote.sleep(store)
                await raises_async(SecurityError, remote.get("echo"))
        assert layer.succeeded == 1 and node.posts == 3 and len(layer.sessions) == 1
        assert prefixes[1:] == prefixes[:-1]
        async with Node() as client:  # this one does not sleep: what it had is used up
            await client.connect(uri, psk=PSK, store=store)
        async with Node() as client:
            remote = await client.connect(uri, psk=PSK, store=store)
            assert layer.succeeded == 2 and (await remote.get("echo?2")).text() == "2"


async def test_two_remotes_of_one_server_have_sessions_of_their_own():
    uri = coaps()
    async with serving(uri), Node() as first, Node() as second:
        a = await first.connect(uri, psk=PSK)
        b = await second.connect(uri, psk=("other", b"another"))
        replies = await asyncio.gather(*[(a, b)[i % 2].get("echo?%d" % i) for i in range(6)])
        assert [reply.text() for reply in replies] == [str(i) for i in range(6)]


def both(client, server, coroutine):
    """Run a call of one Loop, serving with another one meanwhile."""
    try:
        for _ in range(2000):
            coroutine.send(None)
            client.poll(1)
            server.poll(0)
    except StopIteration as stop:
        return stop.value
    finally:
        coroutine.close()
    raise AssertionError("it never came")


def test_a_loop_asks_and_serves_over_coaps():
    uri = coaps()
    plain = free_uri()
    server = serving(uri, plain, kind=Loop)
    client = Loop()
    server.open()
    client.open()
    remote = client.connect(uri, psk=PSK)
    for i in range(3):
        assert both(client, server, remote.post("echo", b"%d" % i)).payload == b"%d" % i
    assert both(client, server, client.connect(plain).get("echo?plain")).text() == "plain"
    soon(remote)
    server.transports[0].end(session_of(server), "test")
    assert both(client, server, remote.get("echo?again", timeout_ms=20000)).text() == "again"
    remote.close()
    bad = client.connect(uri, psk=("id", b"wrong"))
    error = raises(SecurityError, both, client, server, bad.get("echo", timeout_ms=300))
    assert "wrong key, or unknown identity" in str(error)
    client.close()
    server.close()
