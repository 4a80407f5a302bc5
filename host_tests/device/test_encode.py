"""The option encoder (RFC 7252 3.1, 3.2) against one written for the tests alone; the loops that are machine code."""

from coaplet import wire
from coaplet.message import Outgoing
from coaplet.wire import HEAD, TAKES_STR, copy, encode, move_up, option_table, same
from harness import rounds
from helpers import BOUNDARIES, hash_of, message, parse, random_options, read
from net import Random


def encoded(options, room, token=b"", offset=0, kind=0, code=1, mid=0x1234):
    """Encode sorted (number, int or bytes) up against byte `room`; returns the bytes, or None."""
    table = option_table(len(options))
    values = []
    table[1] = len(options)
    table[7] = mid
    table[8] = len(token) - offset
    table[11] = offset
    k = HEAD
    for number, value in options:
        table[k] = number
        if isinstance(value, int):
            n = 0
            while value >> 8 * n:
                n += 1
            table[k + 1] = 0xFFFF
            table[k + 2] = n
        else:
            table[k + 2] = len(value)
        values.append(value)
        k += 3
    buf = bytearray(b"\xee" * (room + 4))
    place = encode(buf, table, values, table, token, room << 16 | (0x40 | kind << 4) << 8 | code)
    assert bytes(buf[room:]) == b"\xee" * 4
    if place == -1:
        return None
    start = place >> 16 & 0xFFFF
    assert place & 0xFFFF == room and bytes(buf[:start]) == b"\xee" * start
    return bytes(buf[start:room])


def test_every_boundary_of_delta_and_length_is_encoded():
    for delta in BOUNDARIES[1:] + (65535 - 269, 65534, 65535):
        for n in BOUNDARIES:
            value = (bytes(range(256)) * 4)[:n]
            assert encoded([(delta, value)], 1100) == message(0, 1, 0x1234, b"", [(delta, value)]), (delta, n)
    value = bytes(65000)
    assert encoded([(11, value)], 65100) == message(0, 1, 0x1234, b"", [(11, value)])


def test_integers_are_written_in_their_shortest_form():
    for value, wire_bytes in (
        (0, b""), (1, b"\1"), (255, b"\xff"), (256, b"\1\0"), (65535, b"\xff\xff"), (65536, b"\1\0\0"),
        (0x00FFFFFF, b"\xff\xff\xff"), (0x01000000, b"\1\0\0\0"), (0x3FFFFFFF, b"\x3f\xff\xff\xff"),
        (0x40000000, b"\x40\0\0\0"), (0x7FFFFFFF, b"\x7f\xff\xff\xff"), (0x80000000, b"\x80\0\0\0"),
        (0xFFFFFFFF, b"\xff\xff\xff\xff"),
    ):  # fmt: skip
        assert encoded([(14, value)], 50) == message(0, 1, 0x1234, b"", [(14, wire_bytes)]), value
        out = Outgoing(100, option_table(2), [None] * 2)
        out.reset(1, b"", 0, 0)
        out.option(14, value)
        out.finish(0, 1)
        assert read(bytes(out.view()))[4] == [(14, wire_bytes)]


def test_header_and_token_are_written_in_front():
    for tkl in range(9):
        token = bytes(range(0xF0, 0xF0 + tkl))
        assert encoded([], 40, b"abc" + token, 3, 2, 0x45, 0xFEDC) == message(2, 0x45, 0xFEDC, token)


def test_encode_writes_nothing_before_the_buffer():
    options = [(11, b"abc"), (300, bytes(20))]
    whole = message(0, 1, 0x1234, b"12345678", options)
    fits = 0
    for room in range(0, 80):
        found = encoded(options, room, b"12345678")
        assert found is None or found == whole
        fits += found is not None
    assert fits >= 80 - len(whole) - 17


def shuffle(random, items):
    """Mix items but keep equal numbers in their order."""
    mixed = []
    left = list(items)
    while left:
        number, value = left[random.below(len(left))]
        for i in range(len(left)):
            if left[i][0] == number:
                mixed.append(left.pop(i))
                break
    return mixed


def test_what_is_written_in_any_order_is_read_back_ascending_and_stable():
    random = Random(7)
    out = Outgoing(1100, option_table(24), [None] * 24)
    long = 0
    for _ in range(rounds(300)):
        options = random_options(random, 20, 60)
        payload = bytes([random.bits(8) for _ in range(random.below(40))])
        out.reset(2, b"x-tokens", 2, 6)
        if random.below(2):
            out.payload(payload)
        for number, value in shuffle(random, options):
            out.option(number, value)
        out.payload(payload)
        n = out.finish(1, 0xABCD)
        data = bytes(out.view())
        assert n == len(data) and data == message(1, 2, 0xABCD, b"tokens", options, payload)
        result, found, table = parse(data, pos=10)
        assert found == options and data[result:] == payload
        assert table[4] == hash_of(options)
        long += len(data) - len(payload) > 96
    assert long > rounds(50)  # so many did not fit the headroom


def test_the_loops_copy_compare_and_move():
    buf = bytearray(b"0123456789")
    copy(buf, 2, b"abcd", 1, 3)
    assert buf == b"01bcd56789"
    move_up(buf, 2, 3, 2)
    assert buf == b"01bcbcd789"
    assert same(b"bcd", buf, 4, 3) == 1 and same(b"bcx", buf, 4, 3) == 0 and same(b"", buf, 0, 0) == 1
    buf = bytearray(4)
    if TAKES_STR:  # only viper sees a str's bytes
        copy_ascii = wire.copy_ascii
        assert copy_ascii(3, "abc", buf, 1) == 3 and buf == b"\0abc"
        assert copy_ascii(3, "ab\u00e9", buf, 0) == -1 and copy_ascii(1, "\u20ac", buf, 0) == -1
