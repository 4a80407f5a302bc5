"""Rules of the option codec that mutation found untested (RFC 7252 3.1): what is returned at a boundary, and why."""

from coaplet import wire
from coaplet.message import Outgoing
from coaplet.wire import HEAD, encode, option_table, path_key, same
from helpers import message, option, parse, path, path_matches, raises


def test_too_many_elective_options_are_too_many_and_nothing_else():
    # RFC 7252 5.4.1: an elective option may be ignored; that it did not fit the table does not make it critical
    assert parse(option(4, b"e") * 2, 1)[2][3] == 2
    assert parse(option(4, b"e") + option(1, b""), 1)[2][3] == 3  # number 5, which is critical, did not fit
    assert parse(option(1, b"") * 2, 2)[2][3] == 1


def test_a_path_that_differs_does_not_match_in_a_length_as_in_a_letter():
    data = message(0, 1, 1, b"", path("ab/c"))[4:]
    table = parse(data)[2]
    for other in ("a", "abc", "ab/cd", "ab/d", "xb/c"):
        key = path_key(other)
        assert not path_matches(data, table, key, len(key)), other


def header_table(tkl, count=0):
    table = option_table(2)
    table[1] = count
    table[7] = 0x1234
    table[8] = tkl
    return table


def encode_get(buf, room, table, values, token=b""):
    place = encode(buf, table, values, table, token, room << 16 | 0x4001)
    return place if place == -1 else place >> 16


def test_header_and_token_are_not_begun_where_they_do_not_fit():
    for tkl in (0, 1, 8):
        for room in range(4 + tkl):
            buf = bytearray(b"\xee" * (room + 30))
            assert encode_get(buf, room, header_table(tkl), [], b"12345678") == -1
            assert buf == b"\xee" * (room + 30)
        buf = bytearray(b"\xee" * (4 + tkl))
        assert encode_get(buf, 4 + tkl, header_table(tkl), [], b"12345678") == 0
        assert bytes(buf) == message(0, 1, 0x1234, b"12345678"[:tkl])


def test_an_option_is_not_begun_where_it_does_not_fit():
    for number, value in ((1, b""), (300, b"x" * 20), (13, b"x" * 13), (269, b"x" * 269)):
        whole = message(0, 1, 0x1234, b"", [(number, value)])
        for room in range(len(whole)):
            table = header_table(0, 1)
            table[HEAD], table[HEAD + 1], table[HEAD + 2] = number, 0, len(value)
            buf = bytearray(b"\xee" * (room + 8))
            assert encode_get(buf, room, table, [value]) == -1
            assert bytes(buf[room:]) == b"\xee" * 8  # below 0 is, on CPython, the end
        buf = bytearray(len(whole) + 8)
        start = encode_get(buf, len(buf), table, [value])
        assert bytes(buf[start:]) == whole


def test_tokens_that_differ_in_any_one_byte_are_not_the_same():
    # RFC 7252 5.3.2: the response's token has to match, all of it
    token = b"\1\2\3\4\5\6\7\x08"
    assert same(token, b"head" + token + b"tail", 4, 8) == 1
    for i in range(8):
        other = bytearray(b"head" + token + b"tail")
        other[4 + i] ^= 0x80
        assert same(token, other, 4, 8) == 0, i
    assert same(token, b"head" + token[:7] + b"?", 4, 7) == 1


def test_ascii_ends_at_127():
    out = Outgoing(200, option_table(4), [None] * 4)
    for text in ("\0~\x7f", "\0~\x80", "\x81", "\xc2", "\xff\u20ac"):
        out.clear(69)
        out.text(text)
        assert bytes(out.buf[64 : 64 + out.table[5]]) == text.encode(), text
    if wire.TAKES_STR:
        buf = bytearray(3)
        assert wire.copy_ascii(3, b"\0~\x7f", buf, 0) == 3 and buf == b"\0~\x7f"
        for b in (0x80, 0x81, 0xC2, 0xFF):
            assert wire.copy_ascii(1, bytes((b,)), buf, 0) == -1, b


def test_a_segment_that_is_too_long_is_named():
    # RFC 7252 5.10.1: a Uri-Path has 0 to 255 bytes
    assert path_key("a/" + "x" * 255)[:3] == b"\1a\xff"
    text = "a/" + "\u20ac" * 85 + "x"
    error = raises(ValueError, path_key, text)
    assert "255 bytes" in str(error) and text in str(error)
