# What differs between interpreters and boards: the one file that knows the platform.
#
# Everything above it is the same source on MicroPython and on CPython. Time is in ticks: milliseconds that wrap, at
# 2**30 on a board, and compare only within half of that; ticks_add and ticks_diff do all arithmetic on them.

import sys
import time

# random_bytes(n): from the operating system's or the chip's own source. Allocates them.
from os import urandom as random_bytes  # noqa: F401

try:
    import socket
    from socket import AF_INET as AF_INET
except ImportError:  # a board without a network: resolve() says so; transports of one's own work
    socket = None

MICROPYTHON = sys.implementation.name == "micropython"

# A datagram of no bytes leaves a UDP socket of this port reading as closed for ever
EMPTY_CLOSES = sys.platform == "esp32"

if MICROPYTHON:
    from random import getrandbits
    from time import ticks_add, ticks_diff, ticks_ms

    import micropython
    from micropython import const

    # (level, option) that keeps an IPv6 socket from taking IPv4's port; MicroPython has no names for them
    V6ONLY = (41, 26) if sys.platform == "linux" else (41, 27)

    def print_line(line):
        print(line, file=sys.stderr)

else:
    from random import SystemRandom

    class micropython:
        """The decorators of MicroPython's native emitters, which leave the function as it is here."""

        @staticmethod
        def viper(f):
            return f

        native = viper

    def const(x):
        return x

    def ticks_ms():
        """Now, in ms that wrap at 2**30 as on a 32-bit board."""
        return time.monotonic_ns() // 1000000 & 0x3FFFFFFF

    def ticks_add(ticks, delta):
        return (ticks + delta) & 0x3FFFFFFF

    def ticks_diff(end, start):
        """Milliseconds from start to end, between -2**29 and 2**29 - 1."""
        return ((end - start + 0x20000000) & 0x3FFFFFFF) - 0x20000000

    getrandbits = SystemRandom().getrandbits
    V6ONLY = (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)

    def print_line(line):
        print(line, file=sys.stderr, flush=True)


def ptr8(buf):
    """Stand in for viper's cast where a viper function runs as bytecode or on CPython."""
    return buf.encode() if isinstance(buf, str) else buf


def ptr16(buf):
    """Stand in for viper's cast; buf is an array('H')."""
    return buf


def ptr32(buf):
    """Stand in for viper's cast; buf is an array('i'), or that of counters.py."""
    return buf


def uint(buf):
    """Stand in for viper's cast of a pointer to its address: an odd one, at which there are no words."""
    return 1


async def _coroutine():
    pass


def is_async(f):
    """Tell whether calling f makes a coroutine. A bound method or a closure of MicroPython does not show it."""
    if MICROPYTHON:
        return type(f) is type(_coroutine)
    code = getattr(f, "__code__", None)
    return code is not None and code.co_flags & 0x80 != 0


def resolve(host, port, last=None):
    """Look up a host's UDP addresses. Returns a list of (family, address). Blocks; raises OSError.

    last: the address that did not answer; the list begins behind it.
    """
    if socket is None:
        raise OSError("this board has no network: give transports=")
    found = []
    first = 0
    for entry in socket.getaddrinfo(host, port, 0, socket.SOCK_DGRAM):
        address = entry[-1]
        # MicroPython's unix port gives a bytearray, which has no hash
        found.append((entry[0], bytes(address) if isinstance(address, bytearray) else address))
        if address == last:
            first = len(found)
    found = found[first:] + found[:first]
    if not found:
        raise OSError("no address of " + host)
    return found


def format_address(address):
    """Write a socket's address as host:port. address: as recvfrom() gave it, packed or a tuple."""
    if not isinstance(address, tuple):  # MicroPython's unix port: a packed sockaddr
        parts = socket.sockaddr(address)
        host = socket.inet_ntop(parts[0], parts[1])
        port = parts[2]
    else:
        host, port = address[0], address[1]
    return "[%s]:%d" % (host, port) if ":" in host else "%s:%d" % (host, port)
