"""Runs on MicroPython: what viper brings to the codec alone, wire.parse and wire.encode. Prints JSON.

Each turn reads a GET of 37 bytes with four options and writes a response's header, a token of 8 bytes and four options;
calls and loop are in the time, as they are for a user. coaplet is the source, compiled with viper when it is imported;
coaplet_bytecode the same without. They alternate; the figures are microseconds a turn, a list of rounds.
"""

import json
from array import array
from time import ticks_diff, ticks_us

import coaplet.wire

bytecode = __import__("coaplet_bytecode.wire").wire

ROUNDS = 9
TURNS = 5000
REQUEST = b"\x44\x01\x12\x34tokn\xb7sensors\x0btemperature\x46unit=c\x21\x32"
TOKEN = b"8 bytes."
WORD = 64 << 16 | 0x6045  # a 2.05 as ACK, in front of what lies at 64
# ETag, Content-Format, Max-Age, Size1: number, value, offset (0xFFFF: an integer), length
OPTIONS = ((4, b"\x12\x34\x56\x78", 0, 4), (12, 50, 0xFFFF, 1), (14, 60, 0xFFFF, 1), (60, 512, 0xFFFF, 2))


def response(wire):
    """Returns table and values of a response, as message.Outgoing leaves them to encode()."""
    table = wire.option_table(16)
    values = [option[1] for option in OPTIONS]
    for i, option in enumerate(OPTIONS):
        k = wire.HEAD + 3 * i
        table[k], _, table[k + 1], table[k + 2] = option
    table[1] = 4
    table[7] = 0x1234
    table[8] = len(TOKEN)
    return table, values


def round_us(parse, encode, received, sent):
    table, values = sent
    request = REQUEST
    end = len(request)
    buf = bytearray(64)
    n = TURNS
    start = ticks_us()
    while n:
        parse(request, 8, end, received, 0)
        encode(buf, table, values, table, TOKEN, WORD)
        n -= 1
    return ticks_diff(ticks_us(), start) / TURNS


def main():
    written = []
    builds = []
    for name, wire in ("viper", coaplet.wire), ("bytecode", bytecode):
        received = wire.option_table(16)
        table, values = response(wire)
        buf = bytearray(64)
        parsed = wire.parse(REQUEST, 8, len(REQUEST), received, 0)
        start = wire.encode(buf, table, values, table, TOKEN, WORD) >> 16
        assert parsed == len(REQUEST) and received[1] == 4
        written.append((bytes(received[: wire.HEAD + 12]), bytes(buf[start:])))
        builds.append((name, (wire.parse, wire.encode, received, (table, values)), array("d")))
    assert written[0] == written[1]
    assert type(coaplet.wire.encode) is not type(main) and type(bytecode.encode) is type(main)
    for _ in range(ROUNDS):
        for _, arguments, times in builds:
            times.append(round_us(*arguments))
    print(json.dumps({name + "_us": list(times) for name, _, times in builds}))


main()
