"""The option codec, byte by byte (RFC 7252 3.1), against a decoder and an encoder written for the tests alone."""

import sys

from coaplet.wire import (
    HEAD,
    find_option,
    option_table,
    path_hash,
    path_key,
)
from harness import rounds
from helpers import BOUNDARIES, hash_of, message, option, parse, path, path_matches, raises, random_options, read
from net import Random

MICROPYTHON = sys.implementation.name == "micropython"
FORMAT_ERROR = -1
MACHINE_CODE = "parse path_hash find_path find_option encode copy same copy_ascii move_up".split()


def test_every_boundary_of_delta_and_length_is_decoded():
    for delta in BOUNDARIES + (65535 - 269, 65534, 65535):
        for n in BOUNDARIES:
            value = bytes(range(256)) * 4
            data = option(delta, value[:n])
            assert parse(data)[:2] == (len(data), [(delta, value[:n])]), (delta, n)
            assert parse(data + b"\xffP")[:2] == (len(data) + 1, [(delta, value[:n])]), (delta, n)


def test_a_value_may_fill_the_largest_datagram():
    value = bytes(65000)
    result, found, _ = parse(option(2000, value))
    assert result == 65005 and found == [(2000, value)]


def test_option_numbers_end_at_65535():
    assert parse(option(65535, b"x"))[1] == [(65535, b"x")]
    assert parse(b"\xe0" + bytes((0xFE, 0xF3)))[0] == FORMAT_ERROR  # 65536
    assert parse(b"\xe0\xff\xff")[0] == FORMAT_ERROR  # 65804
    assert parse(option(65535, b"") + option(0, b""))[1] == [(65535, b""), (65535, b"")]
    assert parse(option(65535, b"") + option(1, b""))[0] == FORMAT_ERROR
    assert parse(option(65535, b"") * 30)[0] == FORMAT_ERROR


def test_nibble_15_is_a_format_error_except_in_the_marker():
    for other in range(15):
        assert parse(bytes((0xF0 | other,)) + bytes(400))[0] == FORMAT_ERROR
        assert parse(bytes((other << 4 | 15,)) + bytes(400))[0] == FORMAT_ERROR
    assert parse(b"\xff\x00")[0] == 1


def test_an_option_cut_at_any_byte_is_a_format_error():
    for delta in (5, 100, 1000):
        for n in (3, 40, 300):
            data = option(delta, bytes(n))
            for cut in range(1, len(data)):
                assert parse(data[:cut])[0] == FORMAT_ERROR, (delta, n, cut)
            assert parse(data)[0] == len(data)


def test_a_marker_needs_a_payload():
    assert parse(b"\xff")[0] == FORMAT_ERROR
    assert parse(option(11, b"a") + b"\xff")[0] == FORMAT_ERROR
    assert parse(b"\xff\xff")[0] == 1
    assert parse(b"")[:2] == (0, [])


def test_bytes_before_the_options_are_passed_over():
    data = message(0, 1, 7, b"\xff\xff", [(11, b"a")], b"\xff!")
    result, found, _ = parse(data, pos=6)
    assert data[result:] == b"\xff!" and found == [(11, b"a")]


def test_one_option_more_than_the_table_holds_is_too_many():
    for capacity in (0, 1, 2, 24):
        data = option(1, b"") * capacity
        assert parse(data, capacity)[0] == len(data)
        assert parse(data + b"\xffpay", capacity)[0] == len(data) + 1
        for more in range(1, 4):
            result, found, table = parse(data + option(1, b"") * more, capacity)
            assert result == len(data) + len(option(1, b"")) * more and table[3] & 2
            assert len(found) == capacity and len(table) == HEAD + 3 * capacity
        assert not parse(data, capacity)[2][3] & 2
        assert parse(data + b"\xf0", capacity)[0] == FORMAT_ERROR


def test_empty_and_repeated_options_are_found_in_order():
    result, found, table = parse(message(0, 1, 1, b"", [(11, b""), (11, b"a"), (11, b""), (15, b""), (15, b"q")])[4:])
    assert found == [(11, b""), (11, b"a"), (11, b""), (15, b""), (15, b"q")]
    k = find_option(table, 11, HEAD)
    assert k == HEAD
    k = find_option(table, 11, k + 3)
    assert k == HEAD + 3 and table[k + 2] == 1
    k = find_option(table, 11, k + 3)
    assert k == HEAD + 6 and table[k + 2] == 0
    assert find_option(table, 11, k + 3) == 0
    assert find_option(table, 15, HEAD) == HEAD + 9
    assert find_option(table, 12, HEAD) == 0
    assert find_option(option_table(3), 0, HEAD) == 0  # a cell of no option


def test_a_rare_critical_option_calls_for_a_look_and_a_common_one_does_not():
    for number, n, look in (
        (1, 0, 1), (3, 1, 1), (5, 0, 1), (7, 2, 1), (9, 0, 1), (17, 1, 1), (35, 9, 1), (65535, 0, 1),
        (4, 8, 0), (12, 1, 0), (14, 1, 0), (60, 1, 0), (65534, 0, 0),
        (11, 255, 0), (11, 256, 1), (15, 255, 0), (15, 256, 1),
    ):  # fmt: skip
        assert parse(option(number, bytes(n)))[2][3] == look, (number, n)
        assert (
            parse(message(0, 1, 1, b"", [(4, b"e"), (number, bytes(n))] if number > 4 else [(number, bytes(n))])[4:])[
                2
            ][3]
            == look
        )


def test_paths_match_when_all_their_segments_do():
    for text in ("a", "a/b", "sensors/temperature", "a/", "/", "a//b", "\u00e4/\u20ac", "x" * 255):
        options = path(text)
        data = message(0, 1, 1, b"", [(3, b"host")] + options + [(15, b"q=1")])[4:]
        table = parse(data)[2]
        key = path_key(("/" if text.startswith("/") else "") + text)
        assert table[4] == path_hash(key, len(key)) == hash_of(options), text
        assert path_matches(data, table, key, len(key)) is True, text
        for other in ("b", "a/c", "a/b/c", "sensors/temperaturf", "sensors", "sensors/temperature/", "ab"):
            if other != text:
                key = path_key(other)
                assert path_matches(data, table, key, len(key)) is not True, (text, other)
    data = b""
    assert path_matches(data, parse(data)[2], b"", 0) is True and parse(data)[2][4] == 0


def test_a_key_that_ends_with_a_segment_is_a_prefix():
    data = message(0, 1, 1, b"", path("files/a/b"))[4:]
    table = parse(data)[2]
    for text, matches in (("files", True), ("files/a", True), ("", True), ("file", False), ("files/b", False)):
        key = path_key(text)
        assert (path_matches(data, table, key, len(key)) == "above") == matches, text
    key = path_key("files/a/b")
    assert path_matches(data, table, key, len(key)) is True
    key = path_key("files/a/b/c")
    assert path_matches(data, table, key, len(key)) is False


def test_paths_that_share_a_hash_do_not_match_each_other():
    seen = {}
    pairs = []
    for a in "abcd":
        for b in range(48, 127):
            text = a + chr(b)
            key = path_key(text)
            at = path_hash(key, len(key))
            if at in seen:
                pairs.append((seen[at], text))
            seen[at] = text
    assert pairs
    for one, other in pairs:
        data = option(11, one.encode())
        table = parse(data)[2]
        key = path_key(other)
        assert path_matches(data, table, path_key(one), 3) is True
        assert path_matches(data, table, key, 3) is False


def test_a_segment_beyond_255_bytes_is_no_path():
    raises(ValueError, path_key, "a/" + "x" * 256)
    raises(ValueError, path_key, "\u20ac" * 86)
    data = message(0, 1, 1, b"", [(11, b"a"), (11, bytes(256))])[4:]
    table = parse(data)[2]
    assert path_matches(data, table, b"\1a", 1 + 1) == "above"
    assert table[3] == 1


def mutate(random, data):
    data = bytearray(data)
    for _ in range(1 + random.below(3)):
        what = random.below(5)
        at = random.below(len(data)) if data else 0
        if what == 0 and data:
            data[at] = random.bits(8)
        elif what == 1 and data:
            data[at] ^= 1 << random.below(8)
        elif what == 2:
            data = data[:at] + bytes((random.bits(8),)) + data[at:]
        elif what == 3:
            data = data[:at] + data[at + 1 :]
        else:
            data = (
                data[:at] + (b"\xff", b"\xd0", b"\x0d", b"\xe0", b"\x0e", b"\xdd", b"\xee")[random.below(7)] + data[at:]
            )
    return bytes(data)


def test_mutated_datagrams_are_accepted_and_refused_as_the_reference_does():
    random = Random(2024)
    seeds = [message(0, 1, 1, b"", random_options(random, 12, 20), b"pay"[: random.below(4)])[4:] for _ in range(40)]
    accepted = 0
    for i in range(rounds(2000)):
        data = mutate(random, seeds[i % 40])
        expected = read(b"\x40\x01\x00\x00" + data)
        result, found, table = parse(data)
        if expected and len(expected[4]) > 24:
            assert table[3] & 2 and found == expected[4][:24], data
        elif expected is None:
            assert result == FORMAT_ERROR, data
        else:
            accepted += 1
            assert result >= 0 and found == expected[4] and data[result:] == expected[5], data
            assert table[4] == hash_of(found), data
    assert rounds(200) < accepted < rounds(1800)


def test_what_should_be_machine_code_is():
    # Written literally: an aliased decorator silently gives bytecode
    module = sys.modules["coaplet.wire"]
    if module.__file__.endswith(".py"):
        with open(module.__file__) as f:
            lines = [line.strip() for line in f]
        decorated = []
        for i in range(1, len(lines)):
            if lines[i].startswith("def ") and lines[i - 1] == "@micropython.viper":
                decorated.append(lines[i][4:].split("(")[0])
        assert sorted(decorated) == sorted(MACHINE_CODE)
    if MICROPYTHON:
        for name in MACHINE_CODE:
            assert type(getattr(module, name)) is not type(parse), name
        assert type(path_key) is type(parse)
