"""RFC 7641's appendix A message by message, figures 3 to 6, with our server and with our client; section 3.4's cases.

Figures 7 and 8 are left out: they are those of a proxy. Our server's messages are the figures' to the byte, given their
Message IDs and sequence numbers; our client chooses tokens of 8 bytes, and keeps the one that it has (3.3.1).
"""

from coaplet.observation import is_newer
from helpers import ACK, CON, NON, RST, message, read
from net import Network
from node_net import NetNode, number_of, values
from rfc7641_fixture import FIGURE_3, FIGURE_4, FIGURE_5, FIGURE_6, FRESHNESS, of

PATH = (11, b"temperature")
TAG = b"xyzzy"


class Thermometer(NetNode):
    """The server of the figures: what it says next is .state, (code, ETag, payload)."""

    def __init__(self, name="s", network=None):
        super().__init__(name, network or Network())
        self.state = None

        @self.resource("temperature", observe=100)
        def temperature(request, response):
            code, tag, payload = self.state
            response.code = code
            if tag:
                response.option(4, tag)
            response.option(14, 15)
            response.payload(payload)

    def like(self, data):
        """Have the next message be that of a figure, but for its type."""
        _, code, mid, _, _, payload = m = read(data)
        self.state = code, values(m, 4)[0] if values(m, 4) else None, payload
        self.server.observers._sequence = number_of(m, 6) - 1
        self.endpoint.mid = mid - 1

    def notify(self, data):
        """Have a figure's notification sent; returns what is sent."""
        self.network.run_for(4000)  # the peer of a NON is left alone for 3 s (4.5.1)
        assert self.take() == []
        self.like(data)
        self.server.resources[1].observe = 1 if data[0] >> 4 & 3 == CON else 100
        self.changed("temperature")
        self.network.run_for(1)
        return self.sent() + [(data, to) for _, who, to, data in self.take()]

    def take(self):
        log = self.network.log
        found = list(log)
        del log[:]
        return found


def follow(s, figure):
    """Be the client of a figure."""
    for who, data in of(figure):
        if who == "s":
            if data[0] >> 4 & 3 != ACK:
                assert s.notify(data) == [(data, "raw")], data
            continue
        answer = [one for side, one in of(figure) if side == "s" and one[2:4] == data[2:4] and one[0] >> 4 & 3 == ACK]
        for one in answer:
            s.like(one)
        assert s.receive(data) == [(one, "raw") for one in answer]


def test_our_server_is_that_of_figures_3_and_4():
    s = Thermometer()
    follow(s, FIGURE_3)
    follow(s, FIGURE_4)
    assert s.server.observers.count() == 2  # each token is a registration


def test_our_server_is_that_of_figures_5_and_6():
    s = Thermometer()
    follow(s, FIGURE_5)
    follow(s, FIGURE_6)
    assert s.server.observers.count() == 0
    s.changed("temperature")
    s.network.run_for(100000)
    assert s.take() == []  # no further notifications


class Client:
    """Our client, whose server are the figures."""

    def __init__(self):
        self.network = Network()
        self.node = NetNode("c", self.network)
        self.observation = None

    def observe(self, **kwargs):
        self.observation = self.node.to("s").observe("temperature", **kwargs)
        return self.node.start(self.observation.next())

    def sent(self):
        found = [data for _, who, _, data in self.network.log if who == "c"]
        del self.network.log[:]
        return found

    def asks_as(self, data):
        """See that the one message that was sent is a figure's, but for MID and token; returns it."""
        (found,) = self.sent()
        mine, figure = read(found), read(data)
        assert mine[:2] == figure[:2] and mine[4:] == figure[4:], mine
        assert mine[3] == bytes(self.observation.token)
        return mine

    def told(self, data, mid=None):
        """A figure's message arrives, with our token, and with our MID where it is an ACK; returns what we answer."""
        kind, code, its, _, options, payload = read(data)
        data = message(kind, code, its if mid is None else mid, self.observation.token, options, payload)
        return self.node.receive(data, "s")

    def next(self):
        return self.node.start(self.observation.next())


def said(task, data):
    """See that a figure's message is what a caller was given."""
    reply = task.get()
    figure = read(data)
    assert (reply.code, reply.payload) == (figure[1], figure[5])
    assert reply.max_age == 15 and reply.uint(6) == number_of(figure, 6)


def test_our_client_is_that_of_figures_3_and_4():
    c = Client()
    network = c.network
    first, answer, news = [data for _, data in of(FIGURE_3)]
    task = c.observe()
    asked = c.asks_as(first)
    assert c.told(answer, asked[2]) == []
    said(task, answer)
    network.run_for(16000 - network.elapsed)
    task = c.next()
    assert c.told(news) == []
    said(task, news)
    _, again, answer = [data for _, data in of(FIGURE_4)]
    task = c.next()
    assert c.sent() == []
    while network.elapsed < 50000 and not network.log:  # the notification is lost
        network.step()
    assert 16000 + 15000 + 5000 <= network.elapsed <= 16000 + 15000 + 15300  # 3.3.1: 5 to 15 s after Max-Age
    asked = c.asks_as(again)
    assert c.told(answer, asked[2]) == []
    said(task, answer)
    assert task.get().option(4) == TAG


def test_our_client_is_that_of_figures_5_and_6():
    c = Client()
    first, answer, news = [data for _, data in of(FIGURE_5)]
    task = c.observe(options=((4, TAG),))
    asked = c.asks_as(first)
    assert c.told(answer, asked[2]) == []
    said(task, answer)
    task = c.next()
    assert c.told(news) == []
    said(task, news)  # 2.03: what was stored is fresh again
    assert task.get().option(4) == TAG
    unwanted, reset = [data for _, data in of(FIGURE_6)]
    c.observation.close()
    assert c.told(unwanted) == [(reset, "s")]
    assert read(reset)[0] == RST
    c.network.run_for(200000)
    assert c.sent() == []


def test_the_newer_notification_is_told_by_number_and_time():
    # 3.4
    for before, value, seconds, newer in FRESHNESS:
        assert is_newer(before, value, 1000 * seconds) == newer, (before, value, seconds)


def test_our_client_passes_on_what_is_newer():
    # 3.4: the same cases, as they arrive; the type says nothing about it
    for i, (before, value, seconds, newer) in enumerate(FRESHNESS):
        c = Client()
        task = c.observe()
        (asked,) = [read(data) for data in c.sent()]
        long = (14, b"\x03\xe8")
        number = [(6, before.to_bytes(3, "big")), long]
        c.node.receive(message(ACK, 69, asked[2], c.observation.token, number, b"first"), "s")
        assert task.get().payload == b"first"
        c.network.run_for(1000 * seconds)
        task = c.next()
        kind = (NON, CON)[i & 1]
        number = [(6, value.to_bytes(3, "big")), long]
        sent = c.node.receive(message(kind, 69, 77, c.observation.token, number, b"second"), "s")
        assert sent == ([(message(ACK, 0, 77), "s")] if kind == CON else [])
        assert task.done == newer, (before, value, seconds)
