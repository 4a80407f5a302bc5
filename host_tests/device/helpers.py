"""What several test modules share: expecting errors, CoAP messages written by hand, sockets on loopback."""

import json
import os
from array import array

try:
    import asyncio
except ImportError:  # a bare machine (bare.py)
    asyncio = None
try:
    import socket
except ImportError:  # a board without a network
    socket = None

from coaplet import wire
from coaplet.port import resolve
from coaplet.wire import HEAD, find_path, option_table
from harness import BOARD, Skip

CON, NON, ACK, RST = 0, 1, 2, 3
BOUNDARIES = (0, 1, 12, 13, 14, 267, 268, 269, 270, 524, 525, 1000)  # of an option's delta and length


def raises(kind, function, *args, **kwargs):
    """Call function and return the error of that kind that it has to raise."""
    try:
        function(*args, **kwargs)
    except kind as error:
        return error
    raise AssertionError("%s was not raised" % kind.__name__)


async def raises_async(kind, awaitable):
    try:
        await awaitable
    except kind as error:
        return error
    raise AssertionError("%s was not raised" % kind.__name__)


def vectors(name):
    here = __file__.rsplit("/", 1)[0] if "/" in __file__ else "."
    with open(here + "/vectors/" + name + ".json") as f:
        return json.load(f)


def nibble(n):
    """The four bits and the extension bytes of an option's delta or length (RFC 7252 3.1)."""
    if n < 13:
        return n, b""
    if n < 269:
        return 13, bytes((n - 13,))
    return 14, bytes(((n - 269) >> 8, (n - 269) & 255))


def option(delta, value):
    d, more_d = nibble(delta)
    n, more_n = nibble(len(value))
    return bytes((d << 4 | n,)) + more_d + more_n + bytes(value)


def message(kind, code, mid, token=b"", options=(), payload=b""):
    """A whole message; options: (number, bytes) in ascending order."""
    data = bytes((0x40 | kind << 4 | len(token), code, mid >> 8, mid & 255)) + token
    last = 0
    for number, value in options:
        data += option(number - last, value)
        last = number
    return data + (b"\xff" + payload if payload else b"")


def path(text):
    return [(11, segment.encode()) for segment in text.split("/")]


def read(data):
    """Take a message apart: (type, code, mid, token, [(number, value)], payload); None for a format error."""
    tkl = data[0] & 15
    pos = 4 + tkl
    if len(data) < pos or tkl > 8:
        return None
    found = []
    number = 0
    payload = b""
    while pos < len(data):
        if data[pos] == 0xFF:
            payload = data[pos + 1 :]
            if not payload:
                return None
            break
        sizes = [data[pos] >> 4, data[pos] & 15]
        pos += 1
        for i in (0, 1):
            if sizes[i] == 15:
                return None
            extra = max(0, sizes[i] - 12)
            if len(data) - pos < extra:
                return None
            if extra:
                sizes[i] = (13 if extra == 1 else 269) + int.from_bytes(data[pos : pos + extra], "big")
            pos += extra
        number += sizes[0]
        if number > 65535 or len(data) - pos < sizes[1]:
            return None
        found.append((number, data[pos : pos + sizes[1]]))
        pos += sizes[1]
    return data[0] >> 4 & 3, data[1], data[2] << 8 | data[3], data[4 : 4 + tkl], found, payload


def parse(data, capacity=24, pos=0):
    """Parse data, with bytes behind its end that must not be looked at; returns (result, [(number, value)], table)."""
    table = option_table(capacity)
    result = wire.parse(bytes(data), pos, len(data), table, 0)  # CPython tells who reads past the end
    assert wire.parse(bytes(data) + b"\x11\x22\x33\xff\xff", pos, len(data), table, 0) == result
    found = []
    if result >= 0:
        for i in range(table[1]):
            number, at, n = table[HEAD + 3 * i : HEAD + 3 * i + 3]
            found.append((number, bytes(data[at : at + n])))
    return result, found, table


def fill(m, data):
    """Make a Message of a datagram, with the payload that an endpoint would ignore; returns the payload's offset."""
    m.data = data
    table = m.table
    table[5], table[6], table[7], table[8] = data[0] >> 4 & 3, data[1], data[2] << 8 | data[3], data[0] & 15
    table[9] = len(data)
    return wire.parse(data, 4 + (data[0] & 15), len(data), table, 0)


def path_matches(data, table, key, n):
    """Whether a path is just the one of a key; and for True, or "above", whether one is that begins with the key's."""
    exact = find_path(data, table, table[4], array("i", (1, table[4], 0, n)), key) == 0
    above = find_path(data, table, 65536, array("i", (1, 65536, 0, n)), key) == 0
    assert not (exact and above)
    return True if exact else "above" if above else False


def hash_of(options):
    value = 0
    for number, text in options:
        if number == 11 and len(text) < 256:
            for b in bytes((len(text),)) + text:
                value = (value * 33 ^ b) % 65536
    return value


def ipv6_or_skip():
    try:
        raw_socket(0, "::1").close()
    except OSError as error:
        raise Skip("no IPv6 on loopback: %s" % error)


_next_port = 0 if BOARD else int(os.getenv("TEST_PORTS") or 9600)


def free_port(host="127.0.0.1"):
    """A port nobody listens at, each given once: the next of those that runtimes.py keeps for this process."""
    global _next_port
    for _ in range(400):
        port = _next_port
        _next_port += 1
        try:
            raw_socket(port, host).close()
            return port
        except OSError:
            pass
    raise Skip("no UDP port of %s can be bound" % host)


def free_uri(host="127.0.0.1"):
    return ("coap://[%s]:%d" if ":" in host else "coap://%s:%d") % (host, free_port(host))


def raw_socket(port, host="127.0.0.1"):
    if socket is None:
        raise Skip("this board has no network")
    family, address = resolve(host, port)[0]
    s = socket.socket(family, socket.SOCK_DGRAM)
    try:
        s.bind(address)
    except OSError:
        s.close()
        raise
    s.setblocking(False)
    return s


class RawPeer:
    """A bare socket that says what the test wants, at .uri."""

    def __init__(self):
        self.port = free_port()
        self.uri = "coap://127.0.0.1:%d" % self.port
        self._socket = raw_socket(self.port)
        self.peer = None

    def try_receive(self):
        try:
            data, self.peer = self._socket.recvfrom(2000)
            return data
        except OSError:
            return None

    async def receive(self):
        """The next datagram, taken apart by read()."""
        for _ in range(3000):
            data = self.try_receive()
            if data is not None:
                return read(data)
            await asyncio.sleep(0.001)
        raise AssertionError("nothing arrived")

    def send(self, data, uri=None):
        peer = self.peer
        if uri:
            host, _, port = uri[7:].rpartition(":")
            peer = resolve(host, int(port))[0][1]
        self._socket.sendto(data, peer)

    def close(self):
        self._socket.close()


def random_options(random, most, longest):
    options = []
    number = 0
    for _ in range(random.below(most + 1)):
        number += (0, 0, 1, 4, 13, 260, 269, 1000)[random.below(8)]
        if number:
            n = (0, 1, 5, 12, 13, 14)[random.below(6)] if random.below(8) else random.below(longest)
            options.append((number, bytes([random.bits(8) for _ in range(n)])))
    return options
