"""Rules of messages that mutation found untested: limits to the byte, what a new one holds, where a payload lies."""

from coaplet.codes import CoapError
from coaplet.endpoint import Endpoint
from coaplet.message import Message, Outgoing
from coaplet.wire import option_table
from helpers import CON, fill, message, raises, read

HEADROOM = 64


def received(options=(), payload=b""):
    m = Message(8)
    assert fill(m, message(0, 2, 7, b"", options, payload)) >= 0
    return m


def outgoing(mtu=200, code=2):
    out = Outgoing(mtu, option_table(8), [None] * 8)
    out.reset(code, b"12345678", 0, 8)
    return out


def finished(out):
    out.finish(0, 1)
    return read(bytes(out.view()))


def test_a_new_message_is_an_empty_one():
    m = Message(4)
    assert (m.code, m.kind, m.mid, m.tkl, m.end) == (0, 0, 0, 0, 0)
    assert m.data == b"" and m.peer is None and m.transport is None and not m.multicast and not m.truncated
    assert m.options(11) == [] and m.option(11) is None


def test_no_attribute_is_made_by_a_datagram_or_a_message_that_is_sent():
    # An instance that grows moves its attributes to a larger table: garbage where nothing is to be allocated
    endpoint = Endpoint()
    before = sorted(endpoint.rx.__dict__)
    endpoint.handle_datagram(0, message(CON, 1, 7, b"tk", [(11, b"a")], b"x"), "peer", None)
    assert sorted(endpoint.rx.__dict__) == before
    out = Outgoing(200, option_table(8), [None] * 8)
    before = sorted(out.__dict__)
    out.reset(69, b"12345678", 0, 8)
    out.text("21.5")
    finished(out)
    assert sorted(out.__dict__) == before


def test_a_new_outgoing_has_no_code_no_token_and_no_payload():
    out = Outgoing(96, option_table(1), [b"", None])
    assert out.start == out.end == 0 and out.next is None
    raises(ValueError, out.finish, 0, 1)
    out.code = 69
    assert out.finish(1, 0x0203) == 4
    assert bytes(out.view()) == message(1, 69, 0x0203)


def test_the_sender_is_read_as_text_and_what_is_none_is_an_attribute_error():
    class Link:
        def format(self, peer):
            return "<" + peer + ">"

    m = received([(15, b"q")])
    m.peer = "somebody"
    m.transport = Link()
    assert m.remote == "<somebody>" and m.query == ["q"]
    assert not hasattr(m, "remotes") and not hasattr(m, "Query")
    assert "sender" in str(raises(AttributeError, lambda: m.sender))


def test_max_age_is_60_seconds_unless_it_says_otherwise():
    # RFC 7252 5.10.5
    assert received().max_age == 60 and received([(13, b"\7"), (15, b"\7")]).max_age == 60
    for value, seconds in ((b"", 0), (b"\1", 1), (b"\xff\xff\xff\xff", 0xFFFFFFFF), (b"\0\0\0\0\1", 60)):
        assert received([(14, value)]).max_age == seconds, value


def test_json_is_whole_whatever_its_last_value_is():
    for payload, obj in (
        (b'{"a": 1}', {"a": 1}),
        (b"[1]", [1]),
        (b" [] \n", []),
        (b"{}", {}),
        (b"7", 7),
        (b'"x"', "x"),
    ):
        assert received([], payload).json() == obj, payload
    for payload in (b'{"a": 1', b"[1", b'["]"', b"[1,"):
        assert raises(CoapError, received([], payload).json).code == 128, payload


def test_of_text_that_is_no_utf_8_all_that_is_ascii_is_read():
    assert received([(11, b"\0~\x7f\x80\xff")]).path == "\0~\x7f\ufffd\ufffd"


def test_an_mtu_has_room_for_the_headroom_and_32_bytes():
    raises(ValueError, Outgoing, 95, option_table(1), [None] * 2)
    assert len(Outgoing(96, option_table(1), [None] * 2).buf) == 96
    # and no more than a table's cells can tell
    assert len(Outgoing(65535, option_table(1), [None] * 2).buf) == 65535
    raises(ValueError, Outgoing, 65536, option_table(1), [None] * 2)


def test_a_content_format_is_written_in_its_shortest_form_up_to_65535():
    # RFC 7252 3.2, 5.10.3: 0 to 2 bytes
    for ct, value in ((0, b""), (1, b"\1"), (254, b"\xfe"), (255, b"\xff"), (256, b"\1\0"), (257, b"\1\1"),
                      (65534, b"\xff\xfe"), (65535, b"\xff\xff")):  # fmt: skip
        out = outgoing()
        out.payload(b"x", ct)
        assert finished(out)[4] == [(12, value)], ct
    for ct in (-1, 65536, 65537):
        assert "65535" in str(raises(ValueError, outgoing().payload, b"x", ct))


def test_a_content_format_is_replaced_where_it_stands():
    out = outgoing()
    for number in (60, 4, 11, 8):
        out.option(number, b"%d" % number)
    out.json({})
    out.payload(b"x", 300)
    assert finished(out)[4] == [(4, b"4"), (8, b"8"), (11, b"11"), (12, b"\x01\x2c"), (60, b"60")]


def test_the_content_format_that_was_set_is_told():
    out = outgoing()
    assert out.format() is None
    for number in range(1, 9):  # as many as there is room for
        out.option(20 + number, b"x")
    assert out.format() is None
    for before in range(4):
        out.reset(2, b"12345678", 0, 8)
        for number in range(before):
            out.option(1 + number, 7)
        out.json({})
        assert out.format() == 50
        out.payload(b"x", 300)
        assert out.format() == 300


def test_a_content_format_given_as_bytes_is_no_number_that_is_told():
    out = outgoing()
    assert not out.has(12)
    out.option(12, b"\x32")
    assert out.format() is None and out.has(12) and not out.has(11)


def test_a_code_lies_between_1_and_255():
    for code in (1, 254, 255):
        assert finished(outgoing(code=code))[1] == code
    for code in (-1, 0, 256, 257):
        assert str(code) in str(raises(ValueError, outgoing(code=code).finish, 0, 1))


def test_a_payload_stays_at_its_place_unless_the_options_need_more_than_the_headroom():
    # 4 bytes of header, 8 of token, the marker, and an option of 2 + n bytes; 49 fill the headroom
    for n in (40, 48, 49):
        out = outgoing()
        out.option(11, bytes(n))
        out.payload(b"pay")
        out.finish(0, 1)
        assert (out.start, out.end) == (49 - n, HEADROOM + 3), n
    out = outgoing()
    out.option(11, bytes(50))
    out.payload(b"pay")
    assert finished(out) == (0, 2, 1, b"12345678", [(11, bytes(50))], b"pay")
    assert out.end == 200  # it has moved to the end


def test_an_empty_message_is_empty_whatever_the_buffer_held():
    # RFC 7252 4.1: code 0.00, no token, nothing after the Message ID
    out = outgoing(code=69)
    out.option(11, bytes(49))
    out.finish(2, 0xABCD)
    assert out.start == 1
    out.option(11, b"")
    out.finish(2, 0xABCD)
    assert out.start == 0 and out.buf[1] == 69
    out.empty(3, 0x1234)
    assert bytes(out.view()) == b"\x70\x00\x12\x34"


def test_a_view_is_never_another_place_s():
    # the key of a view is of start and end: with a datagram beyond 32 KiB no bit may be shared
    out = outgoing(40000)
    for n in (48, 49, 48):
        out.reset(2, b"12345678", 0, 8)
        out.option(11, bytes(n))
        out.payload(bytes(40000 - HEADROOM))
        assert out.finish(0, 1) == len(out.view()) == 40000 - 49 + n


def test_the_views_of_32_places_are_kept():
    out = outgoing()

    def view(n):
        out.payload(bytes(n))
        out.finish(0, 1)
        return out.view()

    first = [view(n) for n in range(32)]
    for n in range(32):
        assert view(n) is first[n], n
    view(32)
    assert view(0) is not first[0] and len(view(0)) == len(first[0])
