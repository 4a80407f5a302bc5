# Runs on a board, in the REPL: what coaplet costs there, in the board's own microseconds and bytes. Each function
# prints a line of JSON. board.py sends this file with the call of one of them behind it.
#
# Times are of loops of TURNS turns, less those of the same loop with nothing in it. No interrupt comes meanwhile: the
# console costs nothing.

import gc
import json
import time

import machine
import micropython

TURNS = 200
PATHS = ("sensors", "battery", "led", "config", "logs", "info", "time", "signal", "reset", "firmware")
SHORT = bytearray(b"\x42\x01\0\0\0\0\xb1t")
LONG = bytearray(b"\x42\x01\0\0\0\0\xb7sensors\x04room\x0btemperature")
REPLY = b"\x62\x45\0\0\0\0\xc0\xff0123456789abcdef"


class Wire:
    """A transport that nobody listens to."""

    multicast = False


class Stream:
    """A serial line that has the same bytes each time it is rewound."""

    def __init__(self, data):
        from io import BytesIO

        self.bytes = BytesIO(data + bytes(300))
        self.readinto = self.bytes.readinto
        self.write = self.bytes.write
        self.seek = self.bytes.seek
        self.n = len(data)

    def any(self):
        return self.n


def timed(turns, step, argument):
    """Returns the us that turns of a function of (turns, argument) take, and the bytes it allocates."""
    step(5, argument)
    gc.collect()
    gc.disable()
    heap = gc.mem_alloc()
    interrupts = machine.disable_irq()
    start = time.ticks_us()
    step(turns, argument)
    us = time.ticks_diff(time.ticks_us(), start)
    machine.enable_irq(interrupts)
    heap = gc.mem_alloc() - heap
    gc.enable()
    return us, heap


def over(loop, empty, argument=None):
    """Returns what a turn of one loop costs more than one of another: us, bytes."""
    us, heap = timed(TURNS, loop, argument)
    rest = timed(TURNS, empty, argument)
    return round((us - rest[0]) / TURNS, 1), round((heap - rest[1]) / TURNS, 2)


def served():
    """Make an endpoint and a server with a few resources, two of which answer with 16 bytes."""
    from coaplet.endpoint import Endpoint
    from coaplet.server import Server

    endpoint = Endpoint()
    server = Server(endpoint, None, 2)

    def handler(request, response):
        response.text("0123456789abcdef")

    for path in ("t", "sensors/room/temperature") + PATHS:
        server.add(path, handler, "GET", 0, (), "")
    return endpoint


def get():
    """A GET: parse, duplicates, dispatch, handler, reply written; and its way to a transport."""
    from coaplet.endpoint import take
    from coaplet.server import serve

    endpoint = served()
    poll = type(endpoint).poll_transmit
    taking, serving, counts = endpoint.taking, endpoint.serving, endpoint.counts
    wire = Wire()
    peer = b"the peer's address"

    @micropython.native
    def empty(turns, data):
        while turns:
            data[2] = data[4] = turns >> 8
            data[3] = data[5] = turns & 255
            turns -= 1

    @micropython.native
    def take_alone(turns, data):
        while turns:
            data[2] = data[4] = turns >> 8
            data[3] = data[5] = turns & 255
            take(taking, 5, data, peer, wire)
            turns -= 1

    @micropython.native
    def answered(turns, data):
        while turns:
            data[2] = data[4] = turns >> 8
            data[3] = data[5] = turns & 255
            take(taking, 5, data, peer, wire)
            serve(serving, 5)
            counts[22] = 0  # it is not sent
            turns -= 1

    @micropython.native
    def cleared(turns, data):
        while turns:
            data[2] = data[4] = turns >> 8
            data[3] = data[5] = turns & 255
            counts[22] = 0
            turns -= 1

    @micropython.native
    def sent(turns, data):
        while turns:
            data[2] = data[4] = turns >> 8
            data[3] = data[5] = turns & 255
            take(taking, 5, data, peer, wire)
            serve(serving, 5)
            poll(endpoint, wire)
            turns -= 1

    figures = {}
    for name, data in ("get", SHORT), ("get_3", LONG):
        figures[name + "_take_us"] = over(take_alone, empty, data)[0]
        figures[name + "_us"] = over(answered, cleared, data)[0]
        figures[name + "_sent_us"], figures[name + "_alloc_bytes"] = over(sent, empty, data)
        assert bytes(endpoint.tx_buf)[2:4] == bytes(data[2:4]) and bytes(endpoint.tx_buf)[-16:] == REPLY[-16:]
    print(json.dumps(figures))


def wire():
    """The codec alone, and an option written by a handler."""
    from coaplet.wire import encode, option_table, parse

    out = served().reply(69)
    table = option_table(16)
    long = bytes(LONG)

    @micropython.native
    def empty(turns, _):
        while turns:
            turns -= 1

    @micropython.native
    def parsing(turns, _):
        while turns:
            parse(long, 6, 31, table, 0)
            turns -= 1

    @micropython.native
    def clearing(turns, _):
        while turns:
            out.clear(69)
            turns -= 1

    @micropython.native
    def option(turns, _):
        while turns:
            out.clear(69)
            out.option(14, 300)
            turns -= 1

    figures = {"parse_us": over(parsing, empty)[0], "option_us": over(option, clearing)[0]}
    out.clear(69)
    for number, value in ((4, b"\x12\x34\x56\x78"), (12, 50), (14, 300), (60, 512)):
        out.option(number, value)
    buf, options, values = out.buf, out.table, out.values

    @micropython.native
    def encoding(turns, _):
        while turns:
            encode(buf, options, values, options, long, 64 << 16 | 0x6045)
            turns -= 1

    figures["encode_us"] = over(encoding, empty)[0]
    print(json.dumps(figures))


def uart():
    """A GET in a slipmux frame to its reply in one, in coaplet.Loop: all but the UART itself, 87 us a byte."""
    from coaplet.poll import Loop
    from coaplet.serial import Serial

    asked = Serial(Stream(b""), 100)
    asked.send(SHORT, None)
    data = asked.pollable.bytes.getvalue()
    frame = data[: data.rfind(b"\xc0") + 1]
    stream = Stream(frame)
    line = Serial(stream, 1152)
    loop = Loop(transports=(line,))

    @loop.resource("t")
    def handler(request, response):
        response.text("0123456789abcdef")

    loop.running = True
    receive = type(loop)._receive

    @micropython.native
    def empty(turns, _):
        while turns:
            stream.seek(0)
            turns -= 1

    @micropython.native
    def answered(turns, _):
        while turns:
            stream.seek(0)
            receive(loop, line)
            turns -= 1

    us, heap = over(answered, empty)
    assert line.pollable.bytes.getvalue()[len(frame) :].find(REPLY[-16:]) > 0
    print(json.dumps({"uart_us": us, "uart_alloc_bytes": heap, "uart_bytes": len(frame) + len(REPLY) + 5}))


def crypto():
    """Records sealed and opened, as they lie behind a header of DTLS of 21 bytes; the derivation of a master secret."""
    from coaplet.dtls.aead import Ccm, Work
    from coaplet.dtls.gcm import Gcm
    from coaplet.dtls.kdf import prf

    figures = {}
    work = Work(256)
    aad = bytearray(13)
    nonce = bytearray(12)
    for name, cipher, n in (
        ("ccm8", Ccm(bytes(16), 8), 64),
        ("ccm8", Ccm(bytes(16), 8), 256),
        ("gcm", Gcm(bytes(16)), 64),
    ):
        buf = bytearray(21 + n + cipher.tag)
        out = bytearray(n)
        cipher.seal(work, nonce, aad, 13, buf, 21, n)
        data = bytes(buf)
        assert cipher.open(work, nonce, aad, 13, data, 21, n, out)

        @micropython.native
        def empty(turns, _):
            while turns:
                turns -= 1

        @micropython.native
        def sealing(turns, given):
            cipher, n, buf, _, _ = given
            while turns:
                cipher.seal(work, nonce, aad, 13, buf, 21, n)
                turns -= 1

        @micropython.native
        def opening(turns, given):
            cipher, n, _, data, out = given
            while turns:
                cipher.open(work, nonce, aad, 13, data, 21, n, out)
                turns -= 1

        for what, loop in ("seal", sealing), ("open", opening):
            us, heap = over(loop, empty, (cipher, n, buf, data, out))
            figures["%s_%s_%d_us" % (name, what, n)] = us
            figures["aead_alloc_bytes"] = max(heap, figures.get("aead_alloc_bytes", 0))

    premaster = bytes(20)
    seed = bytes(64)

    @micropython.native
    def deriving(turns, _):
        while turns:
            prf(premaster, b"master secret", seed, 48)
            turns -= 1

    @micropython.native
    def keying(turns, kind):
        while turns:
            kind(seed[:16], 8) if kind is Ccm else kind(seed[:16])
            turns -= 1

    # These allocate, and nothing is collected meanwhile: few turns
    for name, loop, argument in ("prf_master", deriving, None), ("ccm_key", keying, Ccm), ("gcm_key", keying, Gcm):
        figures[name + "_us"] = round(timed(20, loop, argument)[0] / 20, 1)
    print(json.dumps(figures))


class End:
    """A transport with one other end, in memory."""

    more = False

    def __init__(self):
        self.came = []

    def send(self, buf, address):
        self.other.came.append((bytes(buf), "peer"))
        return True

    def receive(self):
        return self.came.pop(0) if self.came else None


def handshake():
    """A handshake between two ends on this board: the longest step, and what a client's cryptography takes; a record of
    64 bytes each way through a layer, header, number and window included."""
    from coaplet.dtls import handshake as shaken
    from coaplet.dtls import record
    from coaplet.dtls.layer import Dtls

    spent = [0]

    def timing(owner, name):
        inner = getattr(owner, name)

        def outer(*args):
            start = time.ticks_us()
            try:
                return inner(*args)
            finally:
                spent[0] += time.ticks_diff(time.ticks_us(), start)

        setattr(owner, name, outer)

    # Of the client: three derivations and its check, both keys, a record each way, the transcript's digest
    for owner, name in (shaken, "prf"), (record, "_aead"), (record.Keys, "seal"), (record.Keys, "open"):
        timing(owner, name)
    ends = End(), End()
    ends[0].other, ends[1].other = ends[1], ends[0]
    client = Dtls(ends[0], 1152)
    server = Dtls(ends[1], 1152, {b"id": b"secret"}.get)
    session = client.connect("peer", (b"id", b"secret"))
    longest = 0
    of_client = 0
    for _ in range(100):
        for end, layer in (ends[0], client), (ends[1], server):
            for step in layer.receive, layer.handle_timeout:
                if end.came if step == layer.receive else layer.deadline is not None:
                    gc.collect()
                    gc.disable()
                    before = spent[0]
                    start = time.ticks_us()
                    if step == layer.receive:
                        step()
                    elif time.ticks_diff(layer.deadline, time.ticks_ms()) <= 0:
                        step(time.ticks_ms())
                    longest = max(longest, time.ticks_diff(time.ticks_us(), start))
                    gc.enable()
                    if layer is client:
                        of_client += spent[0] - before
        if session.up and server.sessions:
            break
    assert session.up, session.error
    # To 50 us: what is drawn at random takes now more, now less to multiply and to find room for
    figures = {"handshake_step_us": longest // 50 * 50, "handshake_crypto_us": of_client // 50 * 50}
    print(json.dumps(figures))


def imports(modules):
    """What an import takes: ms, and bytes of heap that stay. asyncio, MicroPython's own, is there already."""
    import asyncio  # noqa: F401
    import select  # noqa: F401

    gc.collect()
    heap = gc.mem_alloc()
    start = time.ticks_us()
    for name in modules:
        __import__("coaplet." + name)
    us = time.ticks_diff(time.ticks_us(), start)
    gc.collect()
    print(json.dumps([round(us / 1000, 2), gc.mem_alloc() - heap]))


def node():
    """The heap of a node that has served and sent a request, on its UART, less that of its modules."""
    import asyncio

    import board
    import coaplet.aio
    import coaplet.client
    import coaplet.linkformat
    import coaplet.serial
    import coaplet.server

    async def main():
        gc.collect()
        heap = gc.mem_alloc()
        line = coaplet.serial.Serial(board.uart(), 1152)
        one = coaplet.aio.Node(transports=(line,))

        @one.resource("t")
        def handler(request, response):
            response.text("0123456789abcdef")

        async with one:
            print("ready")
            while not one.counters.requests:
                await asyncio.sleep_ms(10)
            reply = await one.remote(line, line.peer).get("x")
            assert reply.payload == b"y"
            del reply
            await asyncio.sleep_ms(10)
            gc.collect()
            print(json.dumps(gc.mem_alloc() - heap))

    asyncio.run(main())
