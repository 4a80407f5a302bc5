"""UDP sockets with every board's peculiarities (PLATFORM.md 2) on a fake socket, and real ones on loopback."""

import sys
import time

from coaplet.udp import Udp
from helpers import free_port, ipv6_or_skip, raises

EAGAIN, ENOMEM, ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH = 11, 12, 111, 110, 113
UDP = sys.modules["coaplet.udp"]


class FakeSocket:
    """A socket as the worst of the ports has it: a script of what recvfrom and sendto come to."""

    def __init__(self, net):
        self.net = net
        self.closed = False
        self.dead = False  # an empty datagram has come: reads as closed from now on (ESP32)
        self.blocking = True
        self.bound = None
        self.options = []

    def setsockopt(self, *option):
        if self.net.refuses_options:
            raise OSError(109)
        self.options.append(option)

    def setblocking(self, flag):
        self.blocking = flag

    def bind(self, address):
        if self.net.bind_error:
            raise OSError(self.net.bind_error)
        self.bound = address

    def recvfrom(self, n):
        assert not self.blocking and not self.closed
        self.net.asked.append(n)
        if self.dead:
            return b"", None
        if not self.net.incoming:
            raise OSError(EAGAIN)
        what = self.net.incoming.pop(0)
        if isinstance(what, Exception):
            raise what
        data, peer = what
        self.dead = self.net.empty_closes and not data
        return data[:n], peer  # what is longer is cut in silence

    def sendto(self, data, peer):
        assert not self.closed
        if self.net.send_errors:
            raise OSError(self.net.send_errors.pop(0))
        self.net.sent.append((bytes(data), peer))
        return len(data)

    def close(self):
        self.closed = True

    # recv, read and readinto are missing: some ports' merge datagrams, and the library must not call them


class FakeNet:
    AF_INET, AF_INET6, SOCK_DGRAM = 2, 10, 2

    def __init__(self, peer=("192.0.2.1", 5683), family=2):
        self.peer = peer
        self.family = family
        self.incoming = []
        self.asked = []
        self.sent = []
        self.send_errors = []
        self.sockets = []
        self.bind_error = None
        self.empty_closes = False
        self.refuses_options = False

    def socket(self, family, kind):
        assert family == self.family and kind == 2
        self.sockets.append(FakeSocket(self))
        return self.sockets[-1]

    def resolve(self, host, port):
        return [(self.family, (host, port))]

    def open(self, mtu=100, **kwargs):
        original = UDP.socket, UDP.resolve
        UDP.socket, UDP.resolve = self, self.resolve
        try:
            udp = Udp("0.0.0.0", 5683, mtu, **kwargs)
            udp.open()
        finally:
            UDP.socket, UDP.resolve = original
        return udp

    def call(self, function, *args):
        original = UDP.socket, UDP.resolve
        UDP.socket, UDP.resolve = self, self.resolve
        try:
            return function(*args)
        finally:
            UDP.socket, UDP.resolve = original


def test_a_socket_is_bound_and_never_blocks():
    net = FakeNet()
    udp = net.open()
    (s,) = net.sockets
    assert s.bound == ("0.0.0.0", 5683) and not s.blocking and udp.pollable is s and udp.family == 2
    assert s.options == []
    udp.close()
    assert s.closed and udp.pollable is None
    udp.close()


def test_an_ipv6_socket_leaves_ipv4_its_port():
    net = FakeNet(family=10)
    net.open()
    assert len(net.sockets[0].options) == 1 and net.sockets[0].options[0][2] == 1
    net.refuses_options = True  # some ports have no such option
    assert net.open().pollable is net.sockets[1]


def test_a_port_that_is_taken_is_an_error_and_leaves_no_socket():
    net = FakeNet()
    net.bind_error = 98
    assert raises(OSError, net.open).args[0] == 98
    assert net.sockets[0].closed


def test_a_datagram_arrives_with_its_sender_as_it_is():
    for peer in (("192.0.2.1", 5683), b"\x02\x00\x16\x33\x7f\x00\x00\x01", ("2001:db8::1", 5683, 0, 0)):
        net = FakeNet()
        net.incoming = [(b"one", peer), (b"two", peer)]
        udp = net.open()
        assert udp.receive() == (b"one", peer) and udp.receive() == (b"two", peer) and udp.receive() is None


def test_news_of_datagrams_sent_earlier_is_no_datagram():
    for errno in (EAGAIN, ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, 104, -110):
        net = FakeNet()
        net.incoming = [OSError(errno), (b"data", net.peer)]
        udp = net.open()
        assert udp.receive() is None, errno
        assert udp.receive() == (b"data", net.peer), errno


def test_a_byte_more_than_mtu_is_asked_for_so_that_a_cut_shows():
    net = FakeNet()
    net.incoming = [(bytes(100), net.peer), (bytes(101), net.peer), (bytes(500), net.peer)]
    udp = net.open(100)
    assert [len(udp.receive()[0]) for _ in range(3)] == [100, 101, 101]
    assert net.asked == [101, 101, 101]


def test_without_memory_for_a_datagram_it_is_dropped_and_counted():
    net = FakeNet()
    net.incoming = [MemoryError(), (b"the one that was too much", net.peer), (b"next", net.peer)]
    udp = net.open()
    assert udp.receive() is None and udp.no_memory == 1
    assert udp.receive() == (b"next", net.peer) and udp.no_memory == 1
    net.incoming = [MemoryError(), MemoryError(), (b"next", net.peer)]
    assert udp.receive() is None and udp.no_memory == 2
    net.incoming = [MemoryError(), OSError(EAGAIN)]
    assert udp.receive() is None and udp.no_memory == 3


def test_an_empty_datagram_reopens_the_socket_where_it_would_read_as_closed():
    net = FakeNet()
    net.empty_closes = True
    udp = net.open(reopen=True)
    net.incoming = [(b"", net.peer), (b"data", net.peer)]
    found = net.call(udp.receive)
    assert found is None or not found[0]
    assert udp.empty == 1 and len(net.sockets) == 2 and net.sockets[0].closed
    assert udp.pollable is net.sockets[1] and net.sockets[1].bound == ("0.0.0.0", 5683)
    assert udp.receive() == (b"data", net.peer) and udp.empty == 1


def test_a_socket_that_cannot_be_reopened_is_tried_again():
    # e.g. ENOMEM or EADDRINUSE for a moment: whoever drives the transport must not be stuck with none at all
    net = FakeNet()
    net.empty_closes = True
    udp = net.open(reopen=True)
    net.incoming = [(b"", net.peer), (b"data", net.peer)]
    net.bind_error = 98
    found = net.call(udp.receive)
    assert found is None or not found[0]
    net.bind_error = None
    for _ in range(3):
        found = net.call(udp.receive)
        if found and found[0]:
            break
    assert found == (b"data", net.peer)


def test_an_empty_datagram_is_just_that_elsewhere():
    net = FakeNet()
    udp = net.open(reopen=False)
    net.incoming = [(b"", net.peer), (b"data", net.peer)]
    found = udp.receive()
    assert found is None or not found[0]
    assert udp.receive() == (b"data", net.peer) and len(net.sockets) == 1 and udp.empty == 1


def test_a_failed_send_is_a_lost_datagram():
    for errno in (EAGAIN, ENOMEM, EHOSTUNREACH, ECONNREFUSED, ETIMEDOUT, 118, 119, -110, 22):
        net = FakeNet()
        udp = net.open()
        net.send_errors = [errno]
        assert udp.send(b"lost", net.peer) is False, errno
        assert udp.send(memoryview(b"sent"), net.peer) is True
        assert net.sent == [(b"sent", net.peer)]


def test_a_tuple_address_is_written_as_host_and_port():
    udp = Udp("0.0.0.0", 5683, 100)
    assert udp.format(("192.0.2.1", 5683)) == "192.0.2.1:5683"
    assert udp.format(("2001:db8::1", 61616, 0, 0)) == "[2001:db8::1]:61616"


def arrived(udp):
    """The next datagram of a real socket: loopback takes a moment."""
    for _ in range(1000):
        found = udp.receive()
        if found:
            return found
        time.sleep(0.001)
    raise AssertionError("nothing arrived")


def exchange(host):
    port = free_port(host)
    a = Udp(host, port, 100)
    b = Udp(host, 0, 100)
    a.open()
    b.open()
    try:
        peer = sys.modules["coaplet.port"].resolve(host, port)[0][1]
        assert b.receive() is None
        # no merging: datagrams keep their boundaries
        for data in (b"four", b"abc", b"de"):
            assert b.send(data, peer)
        assert [arrived(a)[0] for _ in range(3)] == [b"four", b"abc", b"de"]
        b.send(b"", peer)
        b.send(bytes(100), peer)
        b.send(bytes(300), peer)
        sizes = [len(arrived(a)[0]) for _ in range(3)]
        assert sizes == [0, 100, 101] and a.empty == 1
        b.send(b"request", peer)
        data, sender = arrived(a)
        assert a.send(memoryview(b"reply"), sender)
        data, other = arrived(b)
        assert data == b"reply" and other == peer
        assert a.address() == a.format(peer) == ("[%s]:%d" if ":" in host else "%s:%d") % (host, port)
        assert a.format(sender).rpartition(":")[0] == a.format(peer).rpartition(":")[0]
        raises(OSError, Udp(host, port, 100).open)
    finally:
        a.close()
        b.close()
    a.open()  # again, at the same port
    a.close()


def test_ipv4_on_loopback():
    exchange("127.0.0.1")


def test_ipv6_on_loopback():
    ipv6_or_skip()
    exchange("::1")


def test_ipv4_and_ipv6_share_a_port_number():
    ipv6_or_skip()
    port = free_port()
    a = Udp("::", port, 100)
    b = Udp("0.0.0.0", port, 100)
    a.open()
    try:
        b.open()
        b.close()
    finally:
        a.close()
