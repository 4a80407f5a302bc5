# CBOR of what JSON can say, against the examples of RFC 8949, appendix A.

from helpers import raises
from node.cbor import encode


def test_the_examples_of_the_rfc():
    for value, text in (
        (0, "00"),
        (10, "0a"),
        (23, "17"),
        (24, "1818"),
        (100, "1864"),
        (1000, "1903e8"),
        (1000000, "1a000f4240"),
        (1000000000000, "1b000000e8d4a51000"),
        (18446744073709551615, "1bffffffffffffffff"),
        (-1, "20"),
        (-10, "29"),
        (-100, "3863"),
        (-1000, "3903e7"),
        (-18446744073709551616, "3bffffffffffffffff"),
        (False, "f4"),
        (True, "f5"),
        (None, "f6"),
        ("", "60"),
        ("a", "6161"),
        ("IETF", "6449455446"),
        ("\u00fc", "62c3bc"),
        ("\u6c34", "63e6b0b4"),
        ([], "80"),
        ([1, 2, 3], "83010203"),
        ([1, [2, 3], [4, 5]], "8301820203820405"),
        ({}, "a0"),
        (("a", {"b": "c"}), "826161a161626163"),
    ):
        assert encode(value).hex() == text, value
    assert encode(list(range(1, 26))).hex() == "98190102030405060708090a0b0c0d0e0f101112131415161718181819"


def test_numbers_with_a_point_have_the_boards_own_size():
    assert encode(1.5).hex() in ("fa3fc00000", "fb3ff8000000000000")


def test_what_json_cannot_say_is_refused():
    for value in (b"bytes", object(), {1, 2}, 1 << 64):
        raises(TypeError, encode, value)
