"""What a request costs in heap: nothing beyond the datagram that arrived, under heap_lock, warmed up.

On CPython, which has no heap_lock, the same runs only show that the exchanges come out right.
"""

import gc
import sys

from harness import rounds
from net import Host, Network

try:
    from gc import mem_alloc

    from micropython import heap_lock, heap_unlock
except ImportError:
    heap_lock = heap_unlock = lambda: None

    def mem_alloc():
        return 0


def message(kind, code, mid, token=b"tokens", rest=b""):
    return bytes((0x40 | kind << 4 | len(token), code, mid >> 8, mid & 255)) + token + rest


def locked(function, datagrams):
    """Call function with each datagram, the first ten to warm up, the rest with the heap locked."""
    for datagram in datagrams[:10]:
        function(datagram)
    datagrams = datagrams[10:]
    gc.collect()
    heap_lock()
    try:
        for datagram in datagrams:
            function(datagram)
    finally:
        heap_unlock()


class Server(Host):
    """Takes in datagrams as a driver does, without keeping what it sends."""

    def __init__(self, network, **limits):
        super().__init__("s", network, **limits)
        self.transmitted = 0
        self.peer = "peer"

    def take(self, data):
        endpoint = self.endpoint
        network = self.network
        endpoint.handle_datagram(network.now, data, self.peer, self.link)
        event = endpoint.poll_event()
        while event:
            if event == 1:
                self.server.handle(network.now)
            else:
                endpoint.release(endpoint.exchange)
            event = endpoint.poll_event()
        while endpoint.poll_transmit(self.link):
            self.transmitted += 1
        endpoint.poll_timeout(network.now)


def make():
    s = Server(Network())

    def get(request, response):
        response.text("21.5")

    body = bytearray(64)

    def put(request, response):
        n = request.copy_into(body)
        request.uint(12)
        response.payload(body if n == 64 else b"short")
        response.option(4, b"\x01\x02")
        response.option(14, 60)

    s.serve("t", get)
    s.serve("sensors/temperature/indoor", get)
    s.serve("p", put, "PUT POST")
    return s


def test_a_get_allocates_nothing():
    s = make()
    locked(s.take, [message(0, 1, i, rest=b"\xb1t") for i in range(100)])
    assert s.transmitted == 100


def test_a_get_with_three_segments_and_a_query_allocates_nothing():
    s = make()
    path = b"\xb7sensors\x0btemperature\x06indoor\x43a=1"
    locked(s.take, [message(0, 1, i, rest=path) for i in range(100)])
    assert s.endpoint.counters.requests == 100


def test_a_non_get_allocates_nothing():
    s = make()
    locked(s.take, [message(1, 1, i, rest=b"\xb1t") for i in range(100)])
    assert s.transmitted == 100


def test_a_put_with_payload_and_options_allocates_nothing():
    s = make()
    locked(s.take, [message(0, 3, i, rest=b"\xb1p\x10\xff" + b"v" * 64) for i in range(100)])
    assert s.endpoint.counters.requests == 100


def test_a_duplicate_replay_allocates_nothing():
    s = make()
    locked(s.take, [message(0, 2, i // 2, rest=b"\xb1p\xffx") for i in range(100)])
    assert s.endpoint.counters.duplicates == 50 and s.transmitted == 100


def test_errors_pings_and_garbage_allocate_nothing():
    s = make()
    for datagram in (
        message(0, 1, 0, rest=b"\xb4nope"),  # 4.04
        message(0, 4, 0, rest=b"\xb1t"),  # 4.05
        message(0, 0, 0, b""),  # ping
        message(0, 1, 0, rest=b"\xff"),  # format error
        message(0, 0xE0, 0),  # reserved class
        message(2, 69, 0),  # an ACK nobody waits for
        message(0, 69, 0),  # a response nobody waits for
        b"\x00",
    ):
        datagrams = [datagram[:2] + bytes((i >> 8, i & 255)) + datagram[4:] for i in range(50)]
        locked(s.take, datagrams if len(datagram) >= 4 else [datagram] * 50)


def test_a_long_reply_in_two_messages_allocates_nothing():
    network = Network()
    s = Server(network)
    s.transmitted = 0
    text = "z" * 300

    def long(request, response):
        response.text(text)

    s.serve("l", long, "POST")
    acks = [bytearray(b"\x60\x00\x00\x00") for _ in range(60)]

    def take(i):
        s.take(posts[i])
        mid = 0
        for ex in s.endpoint.exchanges:
            if ex.state == 3:  # the separate response
                mid = ex.mid
        acks[i][2] = mid >> 8
        acks[i][3] = mid & 255
        s.take(acks[i])

    posts = [message(0, 2, i, rest=b"\xb1l") for i in range(60)]
    locked(take, list(range(60)))
    assert s.transmitted == 120 and s.endpoint.counters.not_kept == 0


def client_of(network):
    c = Server(network)
    c.peer = "s"
    return c


def test_a_request_and_its_piggybacked_response_allocate_nothing():
    network = Network()
    c = client_of(network)
    answers = [bytearray(message(2, 69, 0, b"12345678", b"\xc0\xff21.5")) for _ in range(100)]

    def ask(answer):
        endpoint = c.endpoint
        ex = endpoint.open(c.network.now, "s", c.link)
        ex.token[7] = (ex.token[7] + 1) & 255
        endpoint.begin(ex, 2)
        ex.out.add(11, b"sensors/temperature", 0, 7)
        ex.out.add(11, b"sensors/temperature", 8, 11)
        ex.out.option(17, 50)
        ex.out.payload(b"{}", 50)
        endpoint.send(network.now, ex, None)
        assert endpoint.poll_transmit(c.link)
        answer[2] = ex.mid >> 8
        answer[3] = ex.mid & 255
        i = 0
        while i < 8:
            answer[4 + i] = ex.token[i]
            i += 1
        c.take(answer)

    locked(ask, answers)
    assert c.endpoint.counters.responses == 100


def test_retransmission_and_timeout_allocate_nothing():
    network = Network()
    c = client_of(network)
    endpoint = c.endpoint

    def ask(_):
        ex = endpoint.open(c.network.now, "s", c.link)
        endpoint.begin(ex, 1)
        ex.out.add(11, b"t", 0, 1)
        endpoint.send(network.now, ex, None)
        while endpoint.poll_transmit(c.link):
            pass
        while ex.state:
            network.advance(endpoint.poll_timeout(network.now))
            endpoint.handle_timeout(network.now)
            while endpoint.poll_event():
                endpoint.release(endpoint.exchange)
            while endpoint.poll_transmit(c.link):
                c.transmitted += 1

    locked(ask, [None] * 20)
    assert c.transmitted == 80 and endpoint.counters.timeouts == 20


def test_the_path_of_a_request_given_as_bytes_allocates_nothing():
    from coaplet.client import _write_path
    from coaplet.message import Outgoing
    from coaplet.wire import option_table

    out = Outgoing(256, option_table(16), [None] * 17)

    def write(_):
        out.reset(1, b"token", 0, 5)
        _write_path(out, b"/sensors/temperature?unit=c&n=1")
        out.finish(0, 1)

    locked(write, [None] * 50)
    assert bytes(out.view())[9:] == b"\xb7sensors\x0btemperature\x46unit=c\x03n=1"


def test_a_hundred_thousand_exchanges_grow_the_heap_by_nothing():
    s = make()
    gets = [message(0, 1, i * 7, rest=b"\xb1t") for i in range(16)]
    puts = [message(0, 2, i * 7, rest=b"\xb1p\xff" + b"v" * i) for i in range(16)]

    def exchanges(n):
        # each its own MID, without making a datagram each: the MID's bytes are written into these
        mid = 0
        while n:
            for data in gets, puts:
                datagram = views[data is puts][n & 15]
                mid = (mid + 1) & 0xFFFF
                datagram[2] = mid >> 8
                datagram[3] = mid & 255
                s.take(datagram)
            s.network.advance(3)
            s.endpoint.handle_timeout(s.network.now)
            n -= 1

    views = ([bytearray(d) for d in gets], [bytearray(d) for d in puts])
    count = 50000 if sys.maxsize < 2**31 and sys.platform == "linux" and not emulated() else rounds(2000)
    exchanges(rounds(500))
    gc.collect()
    before = mem_alloc()
    exchanges(count)
    gc.collect()
    assert mem_alloc() - before == 0, mem_alloc() - before


def emulated():
    """Under qemu-user 100,000 exchanges take minutes; i386 is where the figure counts."""
    return sys.implementation._mpy >> 10 & 15 > 2  # an .mpy architecture that is no x86
