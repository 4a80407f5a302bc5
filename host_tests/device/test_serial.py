"""CoAP over a serial line: slipmux frames (draft-bormann-t2trg-slipmux), on a stream made of bytes.

What arrives is compared with an oracle that takes a whole stream apart at its ENDs, and knows the FCS as RFC 1662 C.1
describes it: bit by bit.
"""

import gc

from coaplet.port import MICROPYTHON
from coaplet.serial import Serial
from helpers import CON, message, path
from net import Random
from test_heap import emulated, heap_lock, heap_unlock, make

MTU = 64
END, ESC = b"\xc0", b"\xdb"
NASTY = bytes((0xC0, 0xDB, 0xDC, 0xDD, 0xA9, 0, 0xC0, 0xC0, 0xDB, 0xDB))


def fcs(data):
    value = 0xFFFF
    for b in data:
        for _ in range(8):
            value = value >> 1 ^ (0x8408 if (value ^ b) & 1 else 0)
            b >>= 1
    return value ^ 0xFFFF


def escape(data):
    return data.replace(ESC, b"\xdb\xdd").replace(END, b"\xdb\xdc")


def frame(datagram, first=b"\xa9"):
    data = first + datagram
    check = fcs(data)
    return END + escape(data + bytes((check & 255, check >> 8))) + END


def taken_apart(stream, mtu=MTU):
    """The datagrams of a stream that begins and ends between frames; and how many are damaged, overlong, others."""
    found, damaged, overlong, other = [], 0, 0, 0
    for part in stream.split(END)[:-1]:
        data = b""
        verdict = None  # the first thing that is wrong, but an escape that is none makes any frame a damaged one
        i = 0
        escaped = False
        while i < len(part):
            b = part[i : i + 1]
            i += 1
            if b == ESC and not escaped:
                escaped = True
                continue
            if escaped:
                escaped = False
                if b not in (b"\xdc", b"\xdd"):
                    verdict = "damaged"
                    continue
                b = END if b == b"\xdc" else ESC
            if not data and b != b"\xa9":
                verdict = verdict or "other"
            data += b
            if len(data) > mtu + 3:
                verdict = verdict or "overlong"
        if verdict is None and data:
            check = data[-2:]
            good = len(data) > 3 and not escaped and fcs(data[:-2]) == check[0] | check[1] << 8
            verdict = "good" if good else "damaged"
        if verdict == "good":
            found.append(data[1:-2])
        damaged += verdict == "damaged"
        overlong += verdict == "overlong"
        other += verdict == "other"
    return found, damaged, overlong, other


class Stream:
    """A stream that has what it is given, in these portions, and takes as much as there is room for."""

    def __init__(self, *portions, room=100000):
        self.portions = list(portions)
        self.room = room
        self.written = b""
        self.error = None

    def readinto(self, buf, n=None):
        if self.error:
            raise OSError(self.error)
        if not self.portions:
            return None
        n = len(buf) if n is None else n
        data = self.portions.pop(0)
        if len(data) > n:
            self.portions.insert(0, data[n:])
            data = data[:n]
        buf[: len(data)] = data
        return len(data)

    def write(self, buf, offset=0, n=None):
        if self.error:
            raise OSError(self.error)
        data = bytes(buf)[offset : None if n is None else offset + n][: self.room]
        self.room -= len(data)
        self.written += data
        return len(data) or None


class Uart(Stream):
    """Would wait for what it is asked for and does not have, as machine.UART does."""

    def any(self):
        return len(self.portions[0]) if self.portions else 0

    def readinto(self, buf, n=None):
        assert n is not None and n <= self.any(), "it waits"
        return Stream.readinto(self, buf, min(n, len(buf)))


def received(line):
    """All that a line has, until it has no more: as bytes."""
    found = []
    while line.more or line.pollable.portions:
        datagram = line.receive()
        if datagram is not None:
            assert datagram[1] == line.peer
            found.append(bytes(datagram[0]))
    assert line.receive() is None
    return found


def counts(line):
    return line.damaged, line.overlong, line.other


def arriving(*portions, mtu=MTU):
    """What comes of a stream's portions, and the line."""
    line = Serial(Stream(*portions), mtu)
    return received(line), line


def test_the_oracle_knows_the_fcs():
    assert fcs(b"123456789") == 0x906E  # the check value of CRC-16/X-25, which RFC 1662's FCS-16 is
    assert fcs(b"coap is cool!") == 0x2624  # aiocoap's example
    data = b"\xa9data" + bytes((fcs(b"\xa9data") & 255, fcs(b"\xa9data") >> 8))
    assert fcs(data) ^ 0xFFFF == 0xF0B8  # RFC 1662 C.2: the good final value


# Frames that aiocoap's transport wrote for these messages
WRITTEN_BY_AIOCOAP = (
    ("420112340102b773656e736f727302c39c", "c0a9420112340102b773656e736f727302c39cf772c0"),
    (
        "4403c0dbc0dbdcddb773656e736f727302c39cffc0dba90ac0dba90ac0dba90a",
        "c0a94403dbdcdbdddbdcdbdddcddb773656e736f727302c39cffdbdcdbdda90adbdcdbdda90adbdcdbdda90a5f28c0",
    ),
    ("7000c0db", "c0a97000dbdcdbdd668cc0"),
    ("4000004c82", "c0a94000004c82dbdcdbddc0"),  # its FCS is END and ESC
)


def test_a_message_is_framed_as_aiocoap_frames_it():
    for datagram, framed in WRITTEN_BY_AIOCOAP:
        datagram, framed = bytes.fromhex(datagram), bytes.fromhex(framed)
        stream = Stream()
        assert Serial(stream, MTU).send(datagram, "serial") and stream.written == framed
        assert arriving(framed)[0] == [datagram]


def test_each_length_is_framed_and_arrives():
    for fill in (b"\xc0", b"\xdb", b"\xdc", b"\x00", b"\xa9"):
        stream = Stream()
        line = Serial(stream, MTU)
        sent = [fill * n for n in range(1, MTU + 1)]
        for datagram in sent:
            stream.written = b""
            assert line.send(memoryview(datagram), line.peer) and line.lost == 0
            assert stream.written == frame(datagram)
            assert arriving(stream.written)[0] == [datagram]


def test_each_byte_is_framed_and_arrives():
    data = bytes(range(256))
    stream = Stream()
    assert Serial(stream, 256).send(data, "serial") and stream.written == frame(data)
    assert arriving(stream.written, mtu=256)[0] == [data]


def test_each_fcs_is_framed_and_arrives():
    # among these are an END and an ESC at both places of the FCS
    random = Random(5)
    seen = set()
    for _ in range(3000):
        data = bytes((random.bits(8), random.bits(8)))
        check = fcs(b"\xa9" + data)
        seen.add((check & 255, 0))
        seen.add((check >> 8, 1))
        if 0xC0 in (check & 255, check >> 8) or 0xDB in (check & 255, check >> 8):
            stream = Stream()
            Serial(stream, MTU).send(data, "serial")
            assert stream.written == frame(data) and arriving(stream.written)[0] == [data]
    assert {(0xC0, 0), (0xDB, 0), (0xC0, 1), (0xDB, 1)} <= seen if not MICROPYTHON else True


def test_frames_arrive_however_they_are_split():
    datagrams = [b"first", NASTY, b"x" * MTU]
    stream = b"".join([frame(d) for d in datagrams])
    for i in range(len(stream)):
        found, line = arriving(stream[:i], stream[i:])
        assert found == datagrams and counts(line) == (0, 0, 0), i
    assert arriving(*[stream[i : i + 1] for i in range(len(stream))])[0] == datagrams


def test_one_read_may_bring_several_frames_and_each_call_returns_one():
    datagrams = [b"%d" % i for i in range(30)]
    line = Serial(Stream(b"".join([frame(d) for d in datagrams])), MTU)
    found = []
    reads = 0
    while line.more or line.pollable.portions:
        if not line.more:
            reads += 1
        datagram = line.receive()
        if datagram is None:  # a read ended within a frame
            assert not line.more
        else:
            found.append(bytes(datagram[0]))
    assert found == datagrams and reads < 4 and line.receive() is None


def test_frames_may_share_an_end_and_empty_ones_are_nothing():
    stream = END * 5 + frame(b"one")[:-1] + frame(b"two") + END * 5
    assert arriving(stream)[0] == [b"one", b"two"]
    stream = END + frame(b"one")[1:] + frame(b"two")[1:]
    found, line = arriving(stream)
    assert found == [b"one", b"two"] and counts(line) == (0, 0, 0)


def test_a_lone_end_within_a_read_is_not_the_end_of_reading():
    line = Serial(Stream(END, frame(b"data")), MTU)
    assert line.receive() is None
    assert bytes(line.receive()[0]) == b"data"


def test_other_frames_are_passed_over():
    # a diagnostic text, IPv4, IPv6 (the draft's 3 and 4), and what nobody has defined
    for first in (b"\x0a", b"\x45", b"\x4f", b"\x60", b"\x6f", b"\x00", b"\xa8", END, ESC):
        other = END + escape(first + b"\xa9 text") + END
        found, line = arriving(other + frame(b"data") + other + other)
        assert found == [b"data"] and counts(line) == (0, 0, 3), first
    found, line = arriving(END + b"\x0a" + bytes(5000) + END + frame(b"data"))
    assert found == [b"data"] and counts(line) == (0, 0, 1)


def test_noise_before_between_and_after_frames_is_passed_over():
    for noise in (
        b"\xff\x00\xfe",
        b"rst:0x1 (POWERON_RESET)\r\n",
        b"\xa9",
        b"\xa9noise",
        b"\xdb",
        b"\xdb\xdb\xdb",
        bytes(999),
    ):
        found, line = arriving(noise + frame(b"one") + noise + frame(b"two") + noise)
        assert found == [b"one", b"two"], noise
        assert sum(counts(line)) == (0 if noise == b"\xdb" else 2), noise


def test_an_aborted_frame_is_dropped():
    # ESC END, the draft's 6: even where the FCS is right
    found, line = arriving(frame(b"data")[:-1] + ESC + END + frame(b"next"))
    assert found == [b"next"] and counts(line) == (1, 0, 0)


def test_an_escape_of_another_byte_makes_a_frame_a_damaged_one():
    for b in range(256):
        if b in (0xDC, 0xDD):
            continue
        found, line = arriving(END + b"\xa9data" + ESC + bytes((b,)) + frame(b"data")[2:] + frame(b"next"))
        assert found[-1:] == [b"next"], b
        assert counts(line)[0] >= 1, b


def test_frames_that_are_too_short_are_damaged():
    for data in (b"\xa9", b"\xa9\x00", frame(b"")[1:-1]):
        found, line = arriving(END + data + END + frame(b"next"))
        assert found == [b"next"] and counts(line) == (1, 0, 0), data


def test_a_flipped_bit_anywhere_costs_its_frame_and_no_other():
    for datagram in (message(CON, 1, 0x1234, b"token", path("sensors/temperature")), NASTY, b"\xc0", b"\x80\xd3\x9b"):
        good = frame(datagram)
        for i in range(8 * len(good)):
            bad = bytearray(good)
            bad[i >> 3] ^= 1 << (i & 7)
            found, line = arriving(frame(b"before") + bytes(bad) + frame(b"after"))
            # END in front is not needed when it becomes something else that ends the frame before
            assert found == [b"before", b"after"], (datagram, i)
            assert sum(counts(line)), (datagram, i)


def test_bytes_missing_anywhere_cost_their_frame_and_no_other():
    datagram = message(CON, 2, 0xC0DB, b"\xc0\xdb", path("a"), b"payload\xc0\xdb")
    good = frame(datagram)
    for i in range(len(good)):
        for j in range(i + 1, len(good) + 1):
            found, line = arriving(frame(b"before") + good[:i] + good[j:] + frame(b"after"))
            # without an END of its own it ends, or begins, with that of a neighbour
            whole = [datagram] if j - i == 1 and i in (0, len(good) - 1) else []
            assert found == [b"before"] + whole + [b"after"], (i, j)


def test_a_frame_longer_than_mtu_is_dropped_and_counted():
    for n in (MTU + 1, MTU + 2, MTU + 3, 1000, 70000):
        found, line = arriving(frame(bytes(n)) + frame(b"next"))
        assert found == [b"next"] and counts(line) == (0, 1, 0), n
    found, line = arriving(frame(b"\xc0" * MTU))
    assert found == [b"\xc0" * MTU] and line.overlong == 0


def test_streams_of_anything_come_to_what_the_oracle_says():
    random = Random(1662)
    for i in range(500 if MICROPYTHON and emulated() else 20000):
        mtu = 1 + random.below(12)
        stream = b""
        for _ in range(1 + random.below(6)):
            kind = random.below(4)
            if kind == 0:
                stream += bytes([random.bits(8) for _ in range(random.below(8))])
            elif kind == 1:
                stream += bytes([NASTY[random.below(len(NASTY))] for _ in range(random.below(8))])
            else:
                data = bytearray(frame(bytes([NASTY[random.below(len(NASTY))] for _ in range(random.below(mtu + 3))])))
                if kind == 2 and random.below(2):
                    data[random.below(len(data))] = random.bits(8)
                stream += data
        stream += END
        at = random.below(len(stream))
        line = Serial(Stream(stream[:at], stream[at:]), mtu)
        found = received(line)
        assert (found,) + counts(line) == taken_apart(stream, mtu), (i, mtu, stream)


def test_reading_never_raises():
    line = Serial(Stream(), MTU)
    assert line.receive() is None
    for errno in (5, 11, 104):
        line.pollable.error = errno
        assert line.receive() is None and line.send(b"data", line.peer) in (True, False)
    line.pollable.error = None
    line.pollable.portions = [b"", frame(b"data")]
    assert line.receive() is None  # a stream at its end, or one that says so when it has nothing
    assert bytes(line.receive()[0]) == b"data"


def test_a_uart_is_asked_for_no_more_than_it_has():
    stream = frame(b"one") + frame(b"two" * 20) + frame(b"three")
    line = Serial(Uart(*[stream[i : i + 7] for i in range(0, len(stream), 7)]), MTU)
    assert received(line) == [b"one", b"two" * 20, b"three"]
    line.pollable.portions = [frame(b"x" * MTU) * 5]
    assert received(line) == [b"x" * MTU] * 5


def test_what_a_stream_does_not_take_at_once_goes_on_later_and_no_frame_begins_within_another():
    first = NASTY * 3
    for room in range(len(frame(first)) + 1):
        stream = Stream(room=room)
        line = Serial(stream, MTU)
        assert line.send(first, line.peer) and stream.written == frame(first)[:room]
        left = len(frame(first)) - room
        if left > 1:
            for _ in range(left - 1):
                stream.room = 1
                assert not line.send(b"lost", line.peer)
        assert line.lost == max(left - 1, 0)
        stream.room = 1
        if room & 1:
            assert line.receive() is None  # which sends, too
            assert stream.written == frame(first)
        stream.room = 100
        assert line.send(b"second", line.peer)
        assert stream.written == frame(first) + frame(b"second")


def test_a_stream_that_fails_loses_datagrams_and_begins_anew_where_it_stopped():
    stream = Stream(room=3)
    line = Serial(stream, MTU)
    assert line.send(b"first", line.peer)
    stream.error = 5
    assert not line.send(b"second", line.peer) and line.lost == 1
    stream.error = None
    stream.room = 1000
    assert line.send(b"third", line.peer)
    assert arriving(stream.written)[0] == [b"first", b"third"]


def test_a_datagram_longer_than_mtu_is_lost():
    longest = bytes.fromhex("dbdbc0dbc0dbc0c0c0dbc0dbdbdbdbdb")  # each byte is escaped, the FCS's, too
    stream = Stream()
    assert Serial(stream, 16).send(longest, "serial") and len(stream.written) == 2 * 16 + 7
    assert arriving(stream.written, mtu=16)[0] == [longest]
    stream = Stream()
    line = Serial(stream, MTU)
    assert not line.send(bytes(MTU + 1), line.peer)
    assert line.lost == 1 and stream.written == b""
    assert line.send(bytes(MTU), line.peer) and line.send(END * MTU, line.peer)
    assert stream.written == frame(bytes(MTU)) + frame(END * MTU)


def test_a_line_has_what_a_driver_asks_a_transport_for():
    stream = Stream()
    line = Serial(stream, MTU, "left")
    line.open()
    assert line.pollable is stream and line.mtu == MTU
    assert not line.secure and not line.multicast and line.family is None and not line.more
    assert line.address() == line.format(line.peer) == "left"
    line.close()
    line.open()  # again
    assert line.send(b"data", line.peer)


class Prepared:
    """A stream that allocates nothing: the same bytes at each read, and what is written is counted."""

    def __init__(self, data):
        self.data = data
        self.there = False
        self.written = 0

    def readinto(self, buf, n=0):
        if not self.there:
            return None
        self.there = False
        i = 0
        while i < len(self.data):
            buf[i] = self.data[i]
            i += 1
        return i

    def write(self, buf, offset=0, n=0):
        self.written += n or len(buf)
        return n or len(buf)


def test_a_frame_received_and_answered_allocates_nothing():
    s = make()
    datagrams = [bytearray(message(1, 1, 0, b"tokens", path("t"))), bytearray(message(0, 1, 0, b"to\xc0", path("t")))]
    stream = Prepared(bytearray(100))
    line = Serial(stream, MTU)
    s.link = line
    served = [0]
    n = 0
    frames = []
    for mid in range(60):
        datagram = datagrams[mid & 1]
        datagram[3] = mid
        frames.append(frame(bytes(datagram)) * 2)  # two in one read, the second a repeat
    for mid in range(60):
        stream.data = frames[mid]
        stream.there = True
        if mid == 20:
            gc.collect()
            heap_lock()
        while True:
            found = line.receive()
            if found is None:
                break
            endpoint = s.endpoint
            endpoint.handle_datagram(s.network.now, found[0], found[1], line)
            event = endpoint.poll_event()
            if event:
                s.server.handle(s.network.now)
                served[0] += 1
            while endpoint.poll_transmit(line):
                line.send(endpoint.tx_buf, endpoint.tx_peer)
                n += 1
            if not line.more:
                break
    heap_unlock()
    assert served[0] == 90 and n == 90, (served, n)  # a NON's repeat is not answered, a CON's GET runs again
    assert counts(line) == (0, 0, 0) and line.lost == 0 and stream.written > n


def test_no_more_than_a_few_lengths_are_kept_ready():
    line = Serial(Stream(*[frame(bytes(n)) for n in range(1, MTU + 1)]), MTU)
    most = 0
    while line.pollable.portions:
        line.receive()
        most = max(most, len(line._found))
    assert most == 32


class Full(list):
    """In place of the datagrams kept ready: there is no memory for another one."""

    def get(self, n):
        return None

    def __setitem__(self, n, found):
        raise MemoryError


def test_without_memory_for_a_datagram_it_is_dropped_and_counted():
    line = Serial(Stream(frame(b"one") + frame(b"two")), MTU)
    ready, line._found = line._found, Full()
    assert line.receive() is None and line.no_memory == 1
    line._found = ready
    assert bytes(line.receive()[0]) == b"two" and line.no_memory == 1


def test_errors_of_a_line_allocate_nothing():
    stream = Prepared(END + b"\x0atext" + END + frame(b"damaged")[:-2] + END + END + b"\xa9" + bytes(70) + END)
    line = Serial(stream, MTU)
    line.receive()
    stream.there = True
    gc.collect()
    heap_lock()
    for _ in range(20):
        stream.there = True
        line.receive()
    heap_unlock()
    assert counts(line) == (20, 20, 20)
