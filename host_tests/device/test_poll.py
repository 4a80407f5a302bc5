"""The driver without asyncio: a node in a plain loop serves, asks, and serves while it asks."""

import time

from coaplet.codes import CoapError, Reset, Timeout
from coaplet.poll import Loop
from coaplet.port import ticks_diff, ticks_ms
from helpers import ACK, CON, RST, RawPeer, free_uri, message, path, raises, read


class Bounded(Loop):
    """Fails where a Loop would wait and nothing comes."""

    def _wait(self, ms):
        bounded = 0 <= ms <= 3000
        found = super()._wait(ms if bounded else 3000)
        assert found or bounded, "nothing comes, and it would wait for %d ms" % ms
        return found


class Served:
    """A Loop that serves and asks itself, at .uri; a bare peer beside it."""

    def __init__(self, **limits):
        self.uri = free_uri()
        self.loop = Bounded(self.uri, **limits)
        self.peer = RawPeer()
        self.seen = []

        @self.loop.resource("echo", methods="GET POST")
        def echo(request, response):
            self.seen.append(request.path)
            response.payload(request.payload)

        @self.loop.resource("long", methods="POST")
        def long(request, response):
            response.payload(bytes(200))

        self.loop.open()

    def close(self):
        self.loop.close()
        self.peer.close()

    def turn(self):
        """Let the loop take in what has been sent to it; returns what the peer gets, read."""
        for _ in range(20):
            self.loop.poll(5)
            data = self.peer.try_receive()
            if data is not None:
                return read(data)
        return None


def test_a_request_is_served():
    s = Served()
    s.peer.send(message(CON, 2, 7, b"tk", path("echo"), b"hello"), s.uri)
    assert s.turn() == (ACK, 68, 7, b"tk", [], b"hello")
    s.peer.send(message(CON, 0, 8), s.uri)
    assert s.turn() == (RST, 0, 8, b"", [], b"")
    s.close()


def test_poll_says_whether_something_arrived_and_waits_no_longer_than_told():
    s = Served()
    start = ticks_ms()
    assert not s.loop.poll(20)
    assert 10 <= ticks_diff(ticks_ms(), start) < 2000
    assert not s.loop.poll(0)
    s.peer.send(b"\x40", s.uri)
    assert s.loop.poll(1000)
    s.close()


def test_a_request_is_sent_and_others_are_served_meanwhile():
    s = Served()
    remote = s.loop.connect(s.peer.uri)
    call = remote.get("x")
    call.send(None)
    s.loop.poll(0)
    asked = read(s.peer.try_receive())
    assert asked[4] == path("x")
    s.peer.send(message(CON, 1, 9, b"t", path("echo")), s.uri)
    assert s.turn()[:4] == (ACK, 69, 9, b"t")
    s.peer.send(message(ACK, 69, asked[2], asked[3], (), b"yes"))
    assert s.loop.run(call).payload == b"yes"
    s.close()


def test_a_node_that_asks_itself_answers_itself():
    s = Served()
    remote = s.loop.connect(s.uri)
    for i in range(5):
        assert s.loop.run(remote.post("echo", b"%d" % i)).payload == b"%d" % i
    error = raises(CoapError, s.loop.run, remote.get("nothing"))
    assert error.code == 132
    assert len(s.seen) == 5
    s.close()


def test_silence_is_a_timeout_and_the_loop_lives():
    s = Served()
    remote = s.loop.connect(s.peer.uri)
    for confirmable in (True, False):
        start = ticks_ms()
        raises(Timeout, s.loop.run, remote.get("x", confirmable=confirmable, timeout_ms=60))
        assert 40 <= ticks_diff(ticks_ms(), start) < 2000
    assert s.loop.run(s.loop.connect(s.uri).post("echo", "x")).payload == b"x"
    s.close()


def test_retransmissions_are_sent_until_the_answer_comes():
    s = Served(ack_timeout_ms=150, max_retransmit=2)  # long enough for a busy machine to wake in time
    remote = s.loop.connect(s.peer.uri)
    raises(Timeout, s.loop.run, remote.get("x"))
    got = [s.peer.try_receive() for _ in range(3)]
    assert got[0] and got[0] == got[1] == got[2] and s.peer.try_receive() is None
    s.close()


def test_a_loop_that_serves_nothing_rejects_requests():
    s = Served()
    uri = free_uri()
    other = Bounded(uri)
    other.open()
    call = s.loop.connect(uri).get("x")
    call.send(None)
    s.loop.poll(0)
    other.poll(1000)
    raises(Reset, s.loop.run, call)
    other.close()
    s.close()


def test_a_caller_that_waits_for_a_slot_times_out_in_time():
    # a separate response that the peer does not acknowledge keeps the place under NSTART
    s = Served()
    s.peer.send(message(CON, 2, 7, b"tk", path("long")), s.uri)
    assert s.turn() == (ACK, 0, 7, b"", [], b"")
    start = ticks_ms()
    raises(Timeout, s.loop.run, s.loop.connect(s.peer.uri).get("x", timeout_ms=100))
    assert ticks_diff(ticks_ms(), start) < 1000
    s.close()


def test_an_interrupted_request_frees_its_slot():
    s = Served(exchanges=1, tx_slots=1)
    remote = s.loop.connect(s.peer.uri)

    @s.loop.resource("interrupt")
    def interrupt(request, response):
        raise KeyboardInterrupt

    for i in range(2):
        call = remote.get("x")
        s.peer.send(message(CON, 1, 20 + i, b"t", path("interrupt")), s.uri)
        time.sleep(0.02)
        raises(KeyboardInterrupt, s.loop.run, call)
    del call
    assert s.loop.run(s.loop.connect(s.uri).get("echo", timeout_ms=1000)).code == 69
    s.close()


def test_an_async_handler_is_an_internal_error_that_says_what_it_needs():
    s = Served()
    errors = []

    async def handler(request, response):
        pass

    s.loop.resource("async", methods="GET POST")(handler)
    s.loop.server.on_error = lambda resource, error: errors.append(str(error))
    for code in (1, 2):
        for _ in range(2):  # a repeat gets the answer again
            s.peer.send(message(CON, code, 30 + code, b"t", path("async")), s.uri)
            assert s.turn()[:3] == (ACK, 160, 30 + code), code
    assert "Node" in errors[0]
    s.close()


def test_a_closed_loop_can_be_opened_again():
    s = Served()
    s.loop.connect(s.peer.uri)
    s.loop.close()
    raises(RuntimeError, s.loop.connect, s.peer.uri)
    s.loop.open()
    s.peer.send(message(CON, 1, 7, b"tk", path("echo")), s.uri)
    assert s.turn()[:2] == (ACK, 69)
    s.close()


def test_a_client_only_loop_asks():
    s = Served()
    client = Bounded()
    client.open()
    call = client.connect(s.uri).get("echo")
    call.send(None)
    s.turn()
    assert client.run(call).code == 69
    client.close()
    s.close()
