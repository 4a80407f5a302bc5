"""What the fuzz tests share: how many datagrams and which, random and mutated messages, memory that must not grow.

FUZZ_DATAGRAMS and FUZZ_SEED, in the environment, set how many datagrams and which.
"""

import gc
import os
import sys

from harness import BOARD, rounds
from helpers import BOUNDARIES, CON, message
from net import Host, Network

SEED = 7252 if BOARD else int(os.getenv("FUZZ_SEED") or 7252)

# 1 and 2 are MicroPython's i386 and amd64 unix ports; the others are emulated
ARCH = getattr(sys.implementation, "_mpy", 0) >> 10 & 15
EMULATED = ARCH > 2
DATAGRAMS = 4000 if EMULATED else (200000, 20000, 10000)[ARCH]
if BOARD:
    DATAGRAMS = rounds(DATAGRAMS)
elif os.getenv("FUZZ_DATAGRAMS"):
    DATAGRAMS = int(os.getenv("FUZZ_DATAGRAMS"))
allocated = getattr(gc, "mem_alloc", None) or sys.getallocatedblocks

PEERS = ("peer0", "peer1", "peer2")
# fmt: off
NUMBERS = (
    1, 3, 4, 5, 6, 7, 8, 11, 11, 11, 12, 14, 15, 15, 17, 17, 20, 23, 27, 35, 39, 60, 258, 2048, 2051, 65001, 65535,
)
# fmt: on
CODES = (0, 1, 1, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8, 31, 32, 63, 64, 69, 95, 96, 128, 132, 160, 191, 192, 225, 255)


class Wire(Network):
    """The network without its record: what a host sends is kept until the test takes it."""

    def __init__(self, seed):
        super().__init__(seed)
        self._sent = []

    def collect(self, host):
        self._sent += host.sent()

    def take(self):
        sent = self._sent
        self._sent = []
        return sent


class AnyHost(Host):
    """A host whose endpoint is of that kind."""

    def __init__(self, name, network, kind, **limits):
        super().__init__(name, network)
        self.endpoint = kind(random=network.random.bits, **limits)
        self.seen = []
        self.errors = []


def some_bytes(random, n):
    return bytes([random.bits(8) for _ in range(n)])


def mutate(random, data):
    data = bytearray(data)
    for _ in range(random.below(4)):
        what = random.below(5)
        at = random.below(len(data)) if data else 0
        if what == 0 and data:
            data[at] = random.bits(8)
        elif what == 1 and data:
            data[at] ^= 1 << random.below(8)
        elif what == 2:
            data = data[:at] + bytearray([random.bits(8)]) + data[at:]
        elif what == 3:
            data = data[:at] + data[at + 1 :]
        else:
            data = data[:at]
    return bytes(data)


def some_message(random):
    """A well-formed message of any type, code, token and options, or one whose token is too long."""
    options = []
    for _ in range(random.below(5)):
        n = (0, 1, 2, 3, 8, 9, 12, 13, 255, 256, 269)[random.below(11)] if random.below(8) == 0 else random.below(4)
        options.append((NUMBERS[random.below(len(NUMBERS))], b"abcdefghi"[:n] if n < 9 else bytes(n)))
    place = ((), (b"x",), (b"slow",), (b"below", b"y"), (b"formats",), (b"long",), (b"tagged",))[random.below(7)]
    options = [(11, segment) for segment in place] + options
    options = [pair for number in sorted({pair[0] for pair in options}) for pair in options if pair[0] == number]
    token = some_bytes(random, random.below(9) if random.below(16) else 9 + random.below(7))
    payload = (b"", b"", b"payload", b"!", bytes(40))[random.below(5)]
    return message(random.below(4), CODES[random.below(len(CODES))], 0, token, options, payload)


def in_use(judge, last):
    """Bytes (on CPython: blocks) in use when all has come to rest after the same last exchanges, made by last().

    What the test itself holds is dropped before, and the views of buffers, of which there are at most 32 each.
    """
    last()
    host = judge.host
    endpoint = host.endpoint
    outs = [endpoint._scratch, endpoint._outs] + [ex.out for ex in endpoint.handlers]
    while outs[1].next:
        outs.insert(1, outs[1].next)
    for out in outs:
        assert len(out.views) <= 32
        out.views.clear()
        out.buf[:] = bytes(len(out.buf))  # the collector would take what is left there for pointers
    host.receive(message(CON, 0, 0), PEERS[0])
    host.seen, host.tasks, host.results, host.errors, host.network._sent = [], [], [], [], []
    judge.forget()
    gc.collect()
    gc.collect()
    return allocated()


def assert_no_growth(sizes):
    """See that memory in use after each of five parts does not grow."""
    # MicroPython's collector keeps what any number looks like the address of, more so where addresses are low, under
    # emulation; CPython's blocks include the numbers in the list
    slack = 512 if EMULATED else 64
    assert min(sizes[3:]) <= max(sizes[:3]) + slack, sizes


def assert_all_free(host, exchanges, slots):
    """All slots can be had, from the first to the last."""
    endpoint = host.endpoint
    for n, confirmable in ((slots, True), (exchanges, False)):
        opened = [endpoint.open(host.network.now, "p%d" % i, host.link, confirmable) for i in range(n)]
        assert None not in opened, opened
        for ex in opened:
            endpoint.release(ex)


def some_options(random, most):
    """Up to `most` options in any order: (number, value as it is given, bytes on the wire)."""
    options = []
    for _ in range(random.below(most + 1)):
        number = NUMBERS[random.below(len(NUMBERS))] if random.below(2) else 1 + random.below(32767) * 2
        n = BOUNDARIES[random.below(len(BOUNDARIES))] if random.below(8) == 0 else random.below(20)
        which = random.below(4)
        if which == 0:  # RFC 7252 3.2: in its shortest form
            value = random.bits(16) << random.below(17) >> random.below(16)
            wire_bytes = value.to_bytes(4, "big")
            while wire_bytes[:1] == b"\0":
                wire_bytes = wire_bytes[1:]
        elif which == 1:
            value = "\u00e9" * (n // 2) + "x" * (n % 2)
            wire_bytes = value.encode()
        else:
            wire_bytes = value = bytes([random.bits(8)]) * n
        options.append((number, value, wire_bytes))
    return options


def in_order(options):
    """The options as they are on the wire: by number, equal ones as they came (MicroPython's sort is not stable)."""
    return [(number, o[2]) for number in sorted({o[0] for o in options}) for o in options if o[0] == number]
