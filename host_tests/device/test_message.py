"""Messages as an application reads and writes them (RFC 7252 3, 3.2, 5.10), and RFC 7252 Appendix A's, byte by byte."""

from binascii import unhexlify

from coaplet.codes import CoapError
from coaplet.message import Message, Outgoing
from coaplet.wire import option_table
from helpers import fill, message, option, raises, read, vectors

BAD_REQUEST = 128
KINDS = ("CON", "NON", "ACK", "RST")


def received(options=(), payload=b"", token=b"tok", code=2):
    m = Message(24)
    assert fill(m, message(0, code, 7, token, options, payload)) >= 0
    return m


def outgoing(mtu=200, options=24, token=b"12345678", code=2):
    out = Outgoing(mtu, option_table(options), [None] * options)
    out.reset(code, token, 0, len(token))
    return out


def test_appendix_a_parses_and_is_written_again_to_the_same_bytes():
    count = 0
    for exchange in vectors("coap_rfc7252")["exchanges"]:
        for vector in exchange["messages"]:
            data = unhexlify(vector["hex"])
            token = unhexlify(vector["token"])
            kind = KINDS.index(vector["type"])
            code = int(vector["code"][0]) << 5 | int(vector["code"][2:])
            if not code:
                out = outgoing(code=code)
                out.empty(kind, vector["mid"])
                assert bytes(out.view()) == data
                continue
            m = Message(4)
            assert fill(m, data) >= 0
            assert (m.kind, m.code, m.mid, m.tkl) == (kind, code, vector["mid"], len(token))
            assert m.payload == unhexlify(vector["payload"])
            out = outgoing(token=token, code=code)
            for number, value in vector["options"]:
                assert m.option(number) == unhexlify(value)
                out.option(number, unhexlify(value))
            if vector["payload"]:
                out.payload(unhexlify(vector["payload"]))
            out.finish(kind, vector["mid"])
            assert bytes(out.view()) == data
            count += 1
    assert count > 12


def test_payload_and_options_are_read():
    m = received([(4, b"e1"), (4, b""), (11, b"a"), (15, b"q")], b"\0\xffpay")
    assert m.payload == b"\0\xffpay" and m.payload_size == 5
    assert m.option(4) == b"e1" and m.options(4) == [b"e1", b""] and m.option(15) == b"q"
    assert m.option(12) is None and m.options(12) == [] and m.content_format is None
    assert m.method == m.code == 2
    m = received()
    assert m.payload == b"" and m.payload_size == 0 and m.path == "" and m.query == []


def test_integers_are_read_in_any_length_up_to_four_bytes():
    for value, expected in (
        (b"", 0), (b"\0", 0), (b"\0\0\0\x2a", 42), (b"\x2a", 42), (b"\xff\xff", 65535), (b"\0\1\0", 256),
        (b"\x3f\xff\xff\xff", 0x3FFFFFFF), (b"\x80\0\0\0", 0x80000000), (b"\xff\xff\xff\xff", 0xFFFFFFFF),
    ):  # fmt: skip
        assert received([(14, value)]).uint(14) == expected, value
    assert received([(14, b"\0\0\0\0\1")]).uint(14) is None
    assert received([(14, b"\0\0\0\0\1")]).uint(14, 60) == 60
    assert received().uint(14) is None and received().uint(14, 60) == 60
    assert received([(14, b"\1"), (14, b"\2")]).uint(14) == 1


def test_content_format_of_a_length_out_of_range_counts_as_absent():
    # RFC 7252 5.4.3, 5.10: it has 0 to 2 bytes; as an elective option that is not recognized it is ignored
    assert received([(12, b"")]).content_format == 0
    assert received([(12, b"\x2d\x16")]).content_format == 11542
    assert received([(12, b"\0\0\x32")]).content_format is None


def test_copy_into_stays_within_the_buffer():
    m = received([], b"payload")
    buf = bytearray(b"..........")
    assert m.copy_into(buf, 2) == 7 and buf == b"..payload."
    assert m.copy_into(buf, 3) == 7 and buf == b"..ppayload"
    raises(ValueError, m.copy_into, buf, 4)
    raises(ValueError, m.copy_into, bytearray(6))
    assert buf == b"..ppayload" and len(buf) == 10
    assert received().copy_into(bytearray(0)) == 0


def test_path_and_query_never_raise():
    m = received([(11, b"s\xc3\xa4"), (11, b"\xff\xfe"), (11, b""), (15, b"a=\x80"), (15, b"b")])
    assert m.path == "s\u00e4/\ufffd\ufffd/" and m.query == ["a=\ufffd", "b"]


def test_text_that_is_none_is_a_bad_request():
    assert received([], "\u20ac".encode()).text() == "\u20ac"
    error = raises(CoapError, received([], b"\xff").text)
    assert error.code == BAD_REQUEST and "UTF-8" in error.text


def test_json_that_is_none_is_a_bad_request():
    assert received([], b'{"a": [1, null]}').json() == {"a": [1, None]}
    for payload in (b"", b"\xff", b"nothing", b"nul", b"'a'"):
        error = raises(CoapError, received([], payload).json)
        assert error.code == BAD_REQUEST, payload


def test_options_are_written_ascending_whatever_the_order():
    out = outgoing()
    out.option(15, "b=2")
    out.option(11, b"x")
    out.option(65535, b"")
    out.option(12, 50)
    out.option(11, memoryview(b"y"))
    out.option(1, bytearray(b"m"))
    out.option(15, "\u00e4")
    out.finish(0, 1)
    assert read(bytes(out.view()))[4] == [
        (1, b"m"), (11, b"x"), (11, b"y"), (12, b"\x32"), (15, b"b=2"), (15, b"\xc3\xa4"), (65535, b""),
    ]  # fmt: skip


def test_an_option_that_cannot_be_written_is_a_value_error():
    out = outgoing(mtu=150, options=2)
    for number, value in ((0, b""), (-1, b""), (65536, b""), (12, -1), (12, 1 << 32), (11, bytes(151))):
        assert str(raises(ValueError, out.option, number, value))
    out.option(1, b"")
    out.option(1, b"")
    assert "2" in str(raises(ValueError, out.option, 1, b""))
    out.finish(0, 1)
    assert read(bytes(out.view()))[4] == [(1, b""), (1, b"")]


HEADROOM = 64


def longest(options, mtu, token):
    """The most payload: header, token and options take what they need, 64 bytes at least."""
    return mtu - max(HEADROOM, len(message(0, 2, 1, token, options)) + 1)


def write(out, options, payload, payload_first):
    if payload_first:
        out.payload(payload)
    for number, value in options:
        out.option(number, value)
    if not payload_first:
        out.payload(payload)
    return out.finish(1, 1)


def test_a_payload_may_fill_mtu_beside_the_headroom_and_not_a_byte_more():
    cases = (
        [],
        [(11, b"a")],
        [(11, b"sensors"), (11, b"t" * 13), (12, b"\x32")],
        [(11, bytes(100))],
        [(35, bytes(300))],
    )
    for mtu in (400, 401, 1152):
        for token in (b"", b"1", b"12345678"):
            for options in cases:
                n = longest(options, mtu, token)
                for payload_first in (True, False):
                    out = outgoing(mtu, token=token)
                    expected = message(1, 2, 1, token, options, b"p" * n)
                    assert write(out, options, b"p" * n, payload_first) == len(expected) <= mtu
                    assert bytes(out.view()) == expected
                    error = raises(
                        ValueError, write, outgoing(mtu, token=token), options, b"p" * (n + 1), payload_first
                    )
                    assert "mtu=%d" % mtu in str(error)


def test_many_options_leave_the_payload_all_of_the_rest():
    mtu = 400
    for count in range(1, 25):
        for size in (0, 1, 2, 3, 4, 5, 8, 12):
            options = [(11, bytes(size))] * count
            n = longest(options, mtu, b"12345678")
            if n > 0:
                out = outgoing(mtu)
                assert write(out, options, b"p" * n, count & 1), (count, size)
                assert bytes(out.view()) == message(1, 2, 1, b"12345678", options, b"p" * n), (count, size)


def test_options_alone_may_fill_mtu_exactly():
    for mtu in (150, 400):
        n = mtu - 4 - 8 - (2 if mtu == 150 else 3)
        out = outgoing(mtu)
        out.option(11, bytes(n))
        assert out.finish(0, 1) == mtu
        assert bytes(out.view()) == message(0, 2, 1, b"12345678", [(11, bytes(n))])
        out = outgoing(mtu)
        out.option(11, bytes(n + 1))
        raises(ValueError, out.finish, 0, 1)


def test_an_mtu_without_room_for_the_headroom_is_refused():
    # a shorter buffer would be written past its end: viper checks no bounds
    for mtu in (0, 4, 30, 63):
        raises(ValueError, Outgoing, mtu, option_table(4), [None] * 5)


def test_a_refused_write_changes_nothing():
    out = outgoing(400)
    out.write("a" * 200)
    error = raises(ValueError, out.write, b"b" * 200)
    assert "400" in str(error) and "mtu=400" in str(error)
    raises(ValueError, out.write, "\u20ac" * 70)  # 70 characters, 210 bytes
    assert out.write("b" * 4) == 4
    out.finish(0, 1)
    assert read(bytes(out.view()))[5] == b"a" * 200 + b"bbbb"


def test_the_last_payload_and_its_content_format_count():
    out = outgoing()
    for write, ct, payload in (
        (lambda: out.json({"a": 1}), b"\x32", b'{"a":1}'),
        (lambda: out.text("text"), b"", b"text"),
        (lambda: out.text("other"), b"", b"other"),
        (lambda: out.payload(b"\0\1", 42), b"\x2a", b"\0\1"),
        (lambda: out.payload(b"cbor", 11542), b"\x2d\x16", b"cbor"),
        (lambda: out.json([]), b"\x32", b"[]"),
    ):
        write()
        out.finish(0, 1)
        assert read(bytes(out.view()))[4:] == ([(12, ct)], payload)


def test_a_content_format_beyond_16_bits_is_refused():
    raises(ValueError, outgoing().payload, b"x", 65536 + 50)
    raises(ValueError, outgoing().payload, b"x", -1)


def test_a_code_beyond_8_bits_is_refused():
    # "response.code = 404" is an easy mistake, and must not become another type and token length
    out = outgoing()
    out.code = 404
    raises(ValueError, out.finish, 2, 1)


def test_text_is_written_as_utf_8():
    for text in ("", "plain", "\u00e4", "a\u20ac", "\u20aca", "a" * 50 + "\u00e9", "\U0001f321"):
        out = outgoing()
        out.text(text)
        out.finish(0, 1)
        assert read(bytes(out.view()))[5] == text.encode(), text
    out = outgoing()
    assert out.write("a\u20ac") == 4 and out.write("b") == 1
    out.finish(0, 1)
    assert read(bytes(out.view()))[5] == "a\u20acb".encode()


def test_clear_forgets_options_and_payload_but_not_the_token():
    out = outgoing()
    out.option(12, 50)
    out.write("wrong")
    out.clear(160)
    out.write("why")
    out.finish(2, 9)
    assert bytes(out.view()) == message(2, 160, 9, b"12345678", (), b"why")


def test_views_of_the_same_place_are_the_same_object():
    out = outgoing()
    out.text("21.5")
    out.finish(2, 1)
    first = out.view()
    out.reset(69, b"abcdefgh", 0, 8)
    out.text("21.6")
    out.finish(2, 2)
    assert out.view() is first and bytes(first) == message(2, 69, 2, b"abcdefgh", [(12, b"")], b"21.6")
    for n in range(100):  # more places than are kept
        out.payload(b"x" * n)
        out.finish(2, 2)
        assert bytes(out.view()) == message(2, 69, 2, b"abcdefgh", [(12, b"")], b"x" * n)
        assert len(out.views) <= 32


def test_the_reader_of_these_tests_reads_what_the_writer_writes():
    data = message(1, 69, 5, b"t", [(1, b""), (300, bytes(300)), (300, b"x")], b"pay")
    assert read(data) == (1, 69, 5, b"t", [(1, b""), (300, bytes(300)), (300, b"x")], b"pay")
    assert option(300, bytes(300))[:5] == b"\xee\x00\x1f\x00\x1f"


def test_a_content_format_given_as_bytes_is_replaced_too():
    out = outgoing()
    out.option(12, b"\x2a")
    out.json({})
    out.option(4, b"e")
    out.finish(0, 1)
    assert read(bytes(out.view()))[4:] == ([(4, b"e"), (12, b"\x32")], b"{}")
