"""Observation and blocks over a DTLS session and over a serial line, both on the virtual network: the same calls.

What a session does by itself is tested in test_dtls_*.py, what a line does in test_serial.py.
"""

from coaplet.codes import CoapError, SecurityError, Timeout
from coaplet.secure import _on_change, over
from coaplet.serial import Serial
from dtls_net import KEYS, PSK
from helpers import CON, message, path, raises
from net import Network
from node_net import NetNode, pattern
from test_serial import Stream, frame


class Layered(NetNode):
    """A node whose transport lies over the link."""

    def __init__(self, name, network, **kwargs):
        super().__init__(name, network, **kwargs)
        self.layer = self.transports[0]


class Secure(Layered):
    def over(self, link):
        from coaplet.dtls.layer import Dtls

        self.inbox = []
        link.receive = lambda: self.inbox.pop(0) if self.inbox else None
        layer = Dtls(link, 1152, KEYS.get if self.name == "s" else None)
        layer.now = lambda: self.network.now
        layer.changed = lambda session: _on_change(self, layer, session)
        return layer

    def __init__(self, name, network, **kwargs):
        super().__init__(name, network, **kwargs)
        self.layer.arm = self.endpoint.arm
        self.timed += (self.layer,)

    def take(self, data, source):
        self.inbox.append((data, source))
        while self.inbox or self.layer.more:
            self._receive(self.layer)

    def to(self, peer):
        """A Remote on a new session."""
        session = self.layer.connect(peer, PSK)
        self.endpoint.arm(self.now())
        self.network.collect(self)
        self.network.run(lambda: session.up)
        return self.remote(self.layer, session)


class End(Stream):
    """A serial line's end: what is written arrives at the other one."""

    def __init__(self, node):
        super().__init__()
        self._node = node

    def write(self, buf, offset=0, n=None):
        data = bytes(buf)[offset : None if n is None else offset + n]
        self._node.link.send(data, "c" if self._node.name == "s" else "s")
        return len(data)


class Serially(Layered):
    def over(self, link):
        self.end = End(self)
        return Serial(self.end, 1152)

    def take(self, data, source):
        self.end.portions.append(data)
        while self.end.portions or self.layer.more:
            self._receive(self.layer)

    def to(self, peer):
        return self.remote(self.layer, self.layer.peer)


class Ends:
    def __init__(self, kind):
        self.network = Network()
        self.client = kind("c", self.network)
        self.server = kind("s", self.network)
        self.state = b"0"
        self.taken = []
        server = self.server

        @server.resource("state", observe=True)
        def state(request, response):
            response.payload(self.state, 0)

        @server.resource("body", methods="GET PUT POST", body=bytearray(5000))
        def body(request, response):
            if request.method != 1:
                self.taken.append(request.payload)
            response.payload(pattern(4000, request.method))

    def change(self, state):
        self.state = state
        self.server.changed("state")

    def go(self):
        """Blocks each way, then an observation, whose notifications are larger than a block at the end."""
        c = self.client
        remote = c.to("s")
        assert c.call(remote.get("body")).payload == pattern(4000, 1)
        assert c.call(remote.put("body", pattern(3000))).code == 68
        assert c.call(remote.post("body", pattern(5000))).payload == pattern(4000, 2)
        assert self.taken == [pattern(3000), pattern(5000)]
        observation = c.to("s").observe("state") if isinstance(c, Serially) else remote.observe("state")
        assert c.call(observation.next()).payload == b"0"
        assert self.server.server.observers.count() == 1
        for state in (b"1", b"2", pattern(3000)):
            self.change(state)
            assert c.call(observation.next()).payload == state
        assert self.server.counters.retransmissions == c.counters.retransmissions == 0
        return observation


def test_observation_and_blocks_work_over_a_session():
    ends = Ends(Secure)
    observation = ends.go()
    c = ends.client
    assert c.call(observation.cancel()) is not None
    assert ends.server.server.observers.count() == 0
    # all of it was sealed: nothing that was said is on the wire
    said = pattern(4000, 1)[100:140]
    assert not [data for _, _, _, data in ends.network.log if said in data]


def test_who_has_lost_its_session_is_told_nothing():
    ends = Ends(Secure)
    observation = ends.go()
    session = observation.peer
    ends.server.layer.end(list(ends.server.layer.sessions.values())[0], "test")
    ends.network.collect(ends.server)
    ends.network.run_for(10)
    assert not session.up
    ends.change(b"lost")
    ends.network.run_for(10)
    assert ends.server.server.observers.count() == 0
    task = ends.client.start(observation.next())
    ends.network.run_for(400000)
    assert not observation.registered and (not task.done or isinstance(task.error, (CoapError, SecurityError, Timeout)))


def test_observation_and_blocks_work_over_a_serial_line():
    ends = Ends(Serially)
    observation = ends.go()
    observation.close()
    ends.change(b"unwanted")
    ends.network.run_for(10)
    assert ends.server.server.observers.count() == 0
    assert raises(CoapError, ends.client.call, observation.next()).code == 0


class SecureLine(Secure):
    """DTLS alone on a serial line."""

    def over(self, link):
        self.end = End(self)
        self.line = Serial(self.end, 1222)
        from coaplet.dtls.layer import Dtls

        layer = Dtls(self.line, 1152, KEYS.get)
        layer.now = lambda: self.network.now
        layer.changed = lambda session: _on_change(self, layer, session)
        return layer

    def take(self, data, source):
        self.end.portions.append(data)
        while self.end.portions or self.line.more or self.layer.more:
            self._receive(self.layer)


class Both(Serially):
    """A client on a serial line whose transport stands for its other end, "s"."""

    def over(self, link):
        self.end = End(self)
        return Serial(self.end, 1222, "s")


class LineEnds(Ends):
    def __init__(self):
        super().__init__(Both)
        network = self.network
        self.server = SecureLine("s", network)
        self.asked = []
        self.server.resource("state")(lambda request, response: response.payload(b"5", 0))
        self.server.resource("body")(lambda request, response: response.payload(pattern(4000)))
        self.client.resource("own")(lambda request, response: self.asked.append(request.transport.secure))


def test_a_line_carries_a_session_and_what_is_in_the_clear_beside_it():
    ends = LineEnds()
    c = ends.client
    remote = c._remote("coaps://s", PSK)
    assert c.call(remote.get("state")).payload == b"5"
    assert c.call(remote.get("body")).payload == pattern(4000)
    assert pattern(4000)[100:140] not in b"".join([data for _, _, _, data in ends.network.log])
    # a request in the clear is served meanwhile, and is known as one
    network = ends.network
    End(ends.server).write(frame(message(CON, 1, 77, b"t", path("own"))))
    network.collect(ends.server)
    network.run_for(10)
    assert ends.asked == [False]
    assert c.call(remote.get("state")).payload == b"5" and remote.peer.up
    remote.close()
    assert not [t for t in c.timed if t is remote]


def test_a_line_has_one_session_with_one_key():
    ends = LineEnds()
    c = ends.client
    first = c._remote("coaps://s", PSK)
    assert c.call(first.get("state")).payload == b"5"
    assert "has the line" in str(raises(OSError, c._remote, "coaps://s", (b"other", b"key")))
    assert c._remote("coaps://s", PSK).peer is first.peer


def test_records_on_a_line_without_a_session_are_no_requests():
    network = Network()
    c = Both("c", network)
    c.take(frame(b"\x16\xfe\xfd" + bytes(30)), "s")
    c.take(frame(b"\x40\x00\x1d\x0f"), "s")
    assert c.counters.ignored + c.counters.malformed == 1 and len(c.sent()) == 1


def test_a_uri_whose_host_is_a_lines_other_end_is_reached_there():
    ends = Ends(Both)
    assert ends.client.call(ends.client._remote("coap://s/").get("state")).payload == b"0"


def test_what_was_read_along_with_a_record_is_not_left_lying():
    network = Network()
    c = Both("c", network)
    over(c, c.layer)
    c.end.portions.append(frame(b"\x16\xfe\xfd" + bytes(20)) + frame(b"\x40\x00\x1d\x0f"))
    c._receive(c.layer)
    assert len(c.sent()) == 1
