"""Rules of the message layer that mutation found untested (RFC 7252 3, 4, 5.2-5.4, 8.2): limits, counts, slots."""

from coaplet.codes import CoapError
from coaplet.endpoint import REFUSED, REQUEST, RESET, RESPONSE, TIMEOUT, Endpoint
from helpers import ACK, CON, NON, RST, message, option, path, raises, read
from net import Host, Link, Network

GET, POST = 1, 2
CONTENT, CHANGED, BAD_OPTION = 69, 68, 130


def server(**limits):
    """A host that serves "get", "post" (short), "long" (too long to be kept) and "slow" (an async handler)."""
    host = Host("s", Network(), **limits)
    host.calls = []

    def get(request, response):
        host.calls.append("get")
        response.text("21.5")

    def post(request, response):
        host.calls.append("post")
        response.text("ok")

    def long(request, response):
        host.calls.append("long")
        response.payload(request.payload * 90)

    async def slow(request, response):
        host.calls.append(request.payload)
        if request.payload == b"!":
            raise CoapError(128, "as you say")
        response.payload(request.payload * 90)

    host.serve("get", get)
    host.serve("post", post, "POST PUT DELETE FETCH PATCH IPATCH")
    host.serve("long", long, "POST")
    host.serve("slow", slow, "GET POST")
    return host


def client(**limits):
    return Host("c", Network(), **limits)


def mid_of(data):
    return data[2] << 8 | data[3]


# What arrives


def test_every_code_is_a_request_a_response_or_reserved():
    # RFC 7252 12.1: class 0 requests, 2, 4 and 5 responses; 4.2: a reserved class is a format error
    for code in range(1, 256):
        c = client()
        sent = c.receive(message(CON, code, 7))
        counters = c.endpoint.counters
        responses = code >> 5 in (2, 4, 5)
        assert counters.requests == (code < 32), code
        assert counters.unexpected == responses, code
        assert counters.malformed == (code > 31 and not responses), code
        assert sent == [(message(RST, 0, 7), "raw")], code


def test_a_token_of_8_bytes_is_taken_and_one_of_9_is_a_format_error():
    # RFC 7252 3: lengths 9-15 MUST be processed as a message format error
    s = server()
    for tkl in (0, 1, 8):
        ((reply, _),) = s.receive(message(CON, GET, tkl + 1, b"x" * tkl, path("get")))
        assert reply[:1] == bytes((0x60 | tkl,)) and reply[4 : 4 + tkl] == b"x" * tkl
    for tkl in range(9, 16):
        assert s.receive(bytes((0x40 | tkl, GET, 0, 99)) + b"x" * tkl + option(11, b"get")) == [
            (message(RST, 0, 99), "raw")
        ]
    assert s.calls == ["get"] * 3


def test_each_datagram_is_counted_once_as_what_it_is():
    names = "received requests responses duplicates ignored malformed unexpected oversized resets".split()
    for name, data, multicast in (
        ("ignored", b"\x40\x01\x00", False),
        ("ignored", b"\x80\x01\x00\x01", False),
        ("malformed", b"\x40\x01\x00\x01\xff", False),  # RFC 7252 3: a marker without payload
        ("malformed", b"\x50\x20\x00\x01", False),
        ("malformed", b"\x60\x01\x00\x01", False),  # 4.2: a request as ACK
        ("malformed", b"\x70\x01\x00\x01", False),
        ("malformed", b"\x40\x01\x00\x01", True),  # 8.1: a group is asked with NON only
        ("malformed", b"\x70\x45\x00\x01", False),  # 4.2: a response as RST
        ("malformed", b"\x50\x00\x00\x01", False),  # 4.3: NON and Empty
        ("malformed", b"\x60\x00\x00\x01\xff", False),  # 4.1: bytes after the Message ID
        ("unexpected", b"\x60\x00\x00\x01", False),
        ("unexpected", b"\x70\x00\x00\x01", False),
        ("unexpected", b"\x50\x45\x00\x01", False),
        ("requests", b"\x40\x01\x00\x01", False),
        ("requests", b"\x50\x1f\x00\x01", True),
        (None, b"\x40\x00\x00\x01", False),  # a ping
    ):
        c = client()
        c.receive(data, multicast=multicast)
        for other in names:
            expected = other == "received" or other == name
            assert getattr(c.endpoint.counters, other) == expected, (data, other)


def test_resets_and_repeated_responses_are_counted():
    c = client()
    for count in (1, 2):
        c.receive(message(RST, 0, c.get("s", "t").mid), "s")
        assert c.endpoint.counters.resets == count
    ex = c.get("s", "t")
    response = message(CON, CONTENT, 9, bytes(ex.token))
    c.receive(response, "s")
    for count in (1, 2):
        assert c.receive(response, "s") == [(message(ACK, 0, 9), "s")]
        assert c.endpoint.counters.duplicates == count
    assert c.endpoint.counters.responses == 1 and c.endpoint.counters.unexpected == 0


def test_a_datagram_of_exactly_mtu_is_whole():
    s = server(mtu=100)
    data = message(CON, POST, 1, b"", path("post"), bytes(100 - 4 - 5 - 1))
    assert len(data) == 100
    ((reply, _),) = s.receive(data)
    assert reply[1] == CHANGED and s.endpoint.counters.oversized == 0
    s.receive(data + b"x")
    assert s.calls == ["post"] and s.endpoint.counters.oversized == 1


def test_of_a_datagram_that_was_cut_the_options_count_to_their_last_byte():
    # RFC 7252 4.6, 5.9.2.9: 4.13 as long as the options can be read. One byte more than mtu is ever received
    s = server(mtu=100)
    for mid, size, tail in ((1, 90, b""), (2, 89, b"\xff"), (3, 88, b"\xff!")):
        data = message(CON, POST, mid, b"", path("post") + [(15, b"q" * size)]) + tail
        assert len(data) == 101
        ((reply, _),) = s.receive(data)
        assert reply[1] == 141, size
        assert s.endpoint.rx.payload_size == len(s.endpoint.rx.payload) == (tail[1:] != b""), size
    assert s.calls == []


def test_only_get_and_fetch_run_again_for_a_repeat():
    # RFC 7252 4.5, 5.1; RFC 8132 2: GET and FETCH are safe, all others are not
    for code in range(1, 8):
        s = server()
        data = message(CON, code, 5, b"t", path("get" if code == GET else "post"))
        assert s.receive(data) == s.receive(data)
        assert len(s.calls) == (2 if code in (1, 5) else 1), code


def test_a_message_id_is_free_again_at_the_end_of_its_lifetime_to_the_ms():
    # RFC 7252 4.8.2: EXCHANGE_LIFETIME 247 s, NON_LIFETIME 145 s
    for kind, lifetime in ((CON, 247000), (NON, 145000)):
        s = server()
        s.receive(message(kind, POST, 5, b"", path("post")))
        s.network.advance(lifetime - 1)
        s.receive(message(kind, POST, 5, b"", path("post")))
        assert s.calls == ["post"]
        s.network.advance(1)
        s.receive(message(kind, POST, 5, b"", path("post")))
        assert s.calls == ["post"] * 2


def test_a_peer_is_one_object_however_often_it_writes():
    # what is noted of a peer refers to its address: an equal one a message would be kept once each
    endpoint = Endpoint()
    link = Link()
    first = tuple(["host", 5683])
    endpoint.handle_datagram(0, message(CON, 0, 1), first, link)
    assert endpoint.poll_transmit(link) and endpoint.tx_peer is first
    for mid in (2, 3):
        endpoint.handle_datagram(0, message(CON, GET, mid), tuple(["host", 5683]), link)
        assert endpoint.poll_event() == REQUEST and endpoint.rx.peer is first
        endpoint.reject()
        assert endpoint.poll_transmit(link) and endpoint.tx_peer is first
        endpoint.take_rx()


def test_the_default_limits_are_the_documented_ones():
    s = server()
    for count, code in ((16, CONTENT), (17, BAD_OPTION)):
        ((reply, _),) = s.receive(message(CON, GET, count, b"", path("get") + [(14, b"")] * (count - 1)))
        assert reply[1] == code, count
    for mid in range(100, 109):  # 8 are remembered
        s.receive(message(CON, POST, mid, b"", path("post")))
    for mid, calls in ((101, 9), (108, 9), (100, 10)):
        s.receive(message(CON, POST, mid, b"", path("post")))
        assert s.calls.count("post") == calls, mid


def test_a_reply_of_80_bytes_is_kept_and_one_of_81_is_not():
    for size, datagrams in ((80, 1), (81, 2)):
        s = server()
        s.serve("size", lambda request, response, size=size: response.write("x" * (size - 5)), "POST")
        assert len(s.receive(message(CON, POST, 5, b"", path("size")))) == datagrams, size


def test_all_attributes_are_there_before_the_first_datagram():
    s = server()
    before = sorted(s.endpoint.__dict__)
    s.receive(message(CON, POST, 5, b"", path("long"), b"x"))
    s.get("peer", "t")
    s.receive(message(RST, 0, mid_of(s.network.log[-1][3])), "peer")
    s.network.run_for(100000)
    assert sorted(s.endpoint.__dict__) == before


# Separate responses


def test_a_separate_response_ends_with_a_reset_as_with_an_ack():
    # RFC 7252 4.2: retransmission ends when an ACK or a Reset comes
    for kind in (ACK, RST):
        s = server(tx_slots=2)
        for mid in range(5):
            con = s.receive(message(CON, POST, mid, b"", path("long"), b"x"))[1][0]
            assert s.receive(message(kind, 0, mid_of(con))) == []
        s.network.run_for(100000)
        assert s.network.log == [] and s.results == []
        assert s.endpoint.counters.resets == (5 if kind == RST else 0)


def test_separate_responses_have_a_buffer_each():
    s = server(tx_slots=4, exchanges=4)
    first = [
        s.receive(message(CON, POST, mid, b"%d" % mid, path("long"), b"%d" % mid), "p%d" % mid) for mid in (1, 2, 3)
    ]
    cons = [sent[1][0] for sent in first]
    assert [con[5:][-90:] for con in cons] == [b"1" * 90, b"2" * 90, b"3" * 90]
    s.receive(message(CON, GET, 9, b"", path("get")))
    s.network.run_for(3500)
    assert sorted(data for _, _, _, data in s.network.log) == sorted(cons)
    # and a NON of ours is a NON, though its buffer was a CON's
    s.request("other", GET, ("t",), confirmable=False)
    assert s.network.log[-1][3][0] >> 4 == 5


def test_an_async_separate_response_ends_with_its_own_ack_only():
    for kind in (ACK, RST):
        s = server()
        for mid in (1, 2):
            s.receive(message(CON, GET, mid, b"", path("slow"), b"x"), "p%d" % mid)
        s.network.run_for(300)
        s.finish_task()
        s.finish_task()
        first, second = [data for _, _, _, data in s.network.log[2:]]
        for data, peer in (
            (message(kind, 0, mid_of(first)), "p2"),
            (message(kind, 0, mid_of(second)), "p1"),
            (message(kind, 0, mid_of(second) + 1 & 0xFFFF), "p1"),
        ):
            assert s.receive(data, peer) == []
        s.endpoint.handle_datagram(s.network.now, message(kind, 0, mid_of(first)), "p1", Link())
        assert s.endpoint.counters.unexpected == 4
        s.receive(message(kind, 0, mid_of(second)), "p2")
        s.network.run_for(4000)
        assert [data for _, _, _, data in s.network.log[4:]] == [first]
        s.receive(message(kind, 0, mid_of(first)), "p1")
        s.network.run_for(100000)
        assert len(s.network.log) == 5


def test_a_long_async_reply_before_its_ack_is_acknowledged_and_sent_as_a_con():
    s = server()
    s.receive(message(CON, POST, 5, b"t", path("slow"), b"x"))
    s.finish_task()
    (_, _, to, ack), (_, _, _, con) = s.network.log
    assert to == "raw" and ack == message(ACK, 0, 5)
    assert con[0] == 0x41 and con[1] == CHANGED and con[-90:] == b"x" * 90
    s.network.run_for(3500)
    assert s.network.log[2][3] == con
    s.receive(message(ACK, 0, mid_of(con)))
    assert s.receive(message(CON, POST, 5, b"t", path("slow"), b"x")) == [(message(ACK, 0, 5), "raw")]
    assert s.calls == [b"x"]


def test_a_request_at_work_is_not_begun_again_though_its_note_was_pushed_out():
    # RFC 7252 4.5: the recipient of a repeated request acknowledges it, and processes it once
    for kind in (CON, NON):
        s = server(duplicates=1)
        data = message(kind, POST, 5, b"t", path("slow"), b"x")
        s.receive(data)
        s.receive(message(CON, POST, 6, b"", path("post")))  # which takes its place
        assert s.receive(data) == [] and len(s.tasks) == 1 and s.endpoint.counters.duplicates == 1
        s.network.run_for(300)
        assert s.receive(data) == ([(message(ACK, 0, 5), "raw")] if kind == CON else [])
        assert s.endpoint.counters.duplicates == 2
        # another's, or another one: the Message ID of what has been at work for long may come again
        for token in (b"u", b"", b"tt"):
            s.receive(message(NON, GET, 5, token, path("get")))
            s.receive(message(NON, GET, 6, token, path("get")))
        assert s.calls.count("get") == 6
        s.calls = ["post"]
        s.receive(message(NON, POST, 5, b"t", path("post")), "other")
        s.endpoint.handle_datagram(s.network.now, message(NON, POST, 5, b"t", path("post")), "raw", Link())
        s.events()
        assert len(s.tasks) == 1 and s.calls == ["post"] * 3
        s.finish_task()
        assert s.calls[3:] == [b"x"]


def test_whatever_an_ack_carries_it_acknowledges_a_separate_response():
    # RFC 7252 5.2.2: by its type and Message ID
    for kind, sends in ((ACK, 0), (NON, 4)):
        s = server()
        con = s.receive(message(CON, POST, 5, b"t", path("long"), b"x"))[1][0]
        assert s.receive(message(kind, CONTENT, mid_of(con), b"t")) == []
        s.network.run_for(100000)
        assert len(s.network.log) == sends
        assert s.endpoint.counters.unexpected == (kind == NON)
    c = client()
    ex = c.get("s", "t")  # a request's ACK needs its token as well (5.3.2)
    c.receive(message(ACK, CONTENT, ex.mid, b"other"), "s")
    assert c.endpoint.counters.unexpected == 1
    c.network.run_for(3500)
    assert len(c.network.log) == 2


def test_an_async_get_that_was_answered_runs_again_for_a_repeat():
    s = server()
    for count in (1, 2):
        assert s.receive(message(CON, GET, 5, b"t", path("slow"))) == []
        s.finish_task()
        assert s.calls == [b""] * count and s.network.log[-1][3][:2] == b"\x61\x45"


def test_a_repeat_that_runs_again_is_remembered_as_at_work():
    s = server()
    data = message(CON, GET, 5, b"t", path("slow"), b"x")
    s.receive(data)
    s.finish_task()
    s.receive(message(CON, POST, 6, b"", path("post")))
    for _ in range(3):
        assert s.receive(data) == []
    assert len(s.tasks) == 1


def test_an_async_handler_s_request_is_its_own():
    s = server()
    s.receive(message(CON, POST, 1, b"", path("slow"), b"first"))
    ((reply, _),) = s.receive(message(CON, GET, 2, b"", path("get") + [(14, b"")] * 10))  # as many options as ever
    assert reply[1] == CONTENT
    s.receive(message(CON, GET, 3, b"", path("get")))
    s.finish_task()
    assert s.calls == ["get", "get", b"first"]


def test_an_async_response_may_have_as_many_options_as_a_message():
    s = server(max_options=4)

    async def many(request, response):
        for i in range(4):
            response.option(8, b"%d" % i)

    s.serve("many", many)
    s.receive(message(CON, GET, 1, b"", path("many")))
    s.finish_task()
    assert read(s.network.log[-1][3])[4] == [(8, b"%d" % i) for i in range(4)]


def test_the_empty_ack_is_sent_at_200_ms_and_not_when_something_else_is_due():
    # RFC 7252 5.2.2
    s = server()
    s.receive(message(CON, GET, 1, b"", path("slow"), b"x"))
    for ms in (0, 100, 199):
        s.network.advance(ms - s.network.elapsed)
        now = s.network.now
        s.endpoint.handle_timeout(now)
        assert s.sent() == [] and s.endpoint.poll_timeout(now) == 200 - ms
    s.network.advance(1)
    s.endpoint.handle_timeout(s.network.now)
    assert s.sent() == [(message(ACK, 0, 1), "raw")]


def test_nothing_is_due_for_an_async_non():
    s = server()
    s.receive(message(NON, GET, 1, b"", path("slow"), b"x"))
    assert s.endpoint.poll_timeout(s.network.now) > 200


# Groups


def test_a_group_s_request_is_answered_with_success_only_and_costs_no_slot():
    # RFC 7252 8.2
    s = server()
    for mid in range(1, 6):
        assert s.receive(message(NON, POST, mid, b"", path("slow"), b"!"), multicast=True) == []
        s.finish_task()
    assert s.network.log == [] and s.calls == [b"!"] * 5
    code = 0

    def coded(request, response):
        response.code = code

    s.serve("coded", coded)
    for code in (64, 69, 95, 128, 132, 160, 191):
        sent = s.receive(message(NON, GET, code, b"", path("coded")), multicast=True)
        assert [data[1] for data, _ in sent] == ([code] if code < 96 else []), code


def test_what_is_no_response_code_is_not_sent():
    c = client()
    for code in range(256):
        c.endpoint.handle_datagram(c.network.now, message(CON, GET, code), "raw", c.link)
        assert c.endpoint.poll_event() == REQUEST
        c.endpoint.reply(code)
        if code >> 5 in (2, 4, 5):
            c.endpoint.send_reply(c.network.now)
            assert [data[1] for data, _ in c.sent()] == [code]
        else:
            assert str(code) in str(raises(ValueError, c.endpoint.send_reply, c.network.now)), code
            assert c.sent() == []


# Requests of ours


def test_the_round_trip_is_taken_from_the_first_answer_to_a_con():
    # RFC 6298 3, as RFC 7252 4.8.1 leaves it: not from what was sent twice, nor from the time that a server takes
    c = client()
    ex = c.get("s", "t")
    c.network.advance(50)
    c.receive(message(ACK, 0, ex.mid), "s")
    assert c.endpoint.rtt_ms == 50
    c.network.advance(5000)
    c.receive(message(CON, CONTENT, 9, bytes(ex.token)), "s")
    assert c.endpoint.rtt_ms == 50 and c.results[-1][0] == RESPONSE
    c = client()
    for answer in (lambda ex: message(RST, 0, ex.mid), lambda ex: message(NON, CONTENT, 9, bytes(ex.token))):
        ex = c.request("s", GET, ("t",), confirmable=False)
        c.network.advance(700)
        c.receive(answer(ex), "s")
        assert c.endpoint.rtt_ms is None
    assert [result[0] for result in c.results] == [RESET, RESPONSE]


def test_the_ack_of_a_separate_response_tells_the_round_trip_too():
    s = server()
    con = s.receive(message(CON, POST, 5, b"", path("long"), b"x"))[1][0]
    s.network.advance(300)
    s.receive(message(ACK, 0, mid_of(con)))
    assert s.endpoint.rtt_ms == 300


def test_an_ack_to_a_non_changes_nothing():
    # RFC 7252 4.3: a NON is never acknowledged; it stays outstanding, under NSTART (4.7)
    c = client()
    ex = c.request("s", GET, ("t",), confirmable=False)
    token = bytes(ex.token)
    assert c.receive(message(ACK, 0, ex.mid), "s") == []
    assert c.get("s", "u") is None
    assert c.receive(message(ACK, CONTENT, ex.mid, token), "s") == [] and c.results == []  # nor is it answered by one
    c.receive(message(NON, CONTENT, 1, token), "s")
    assert c.results[-1][0] == RESPONSE


def test_an_acknowledged_request_may_be_reset_still():
    c = client()
    ex = c.get("s", "t")
    token = bytes(ex.token)
    c.receive(message(ACK, 0, ex.mid), "s")
    assert c.receive(message(ACK, CONTENT, ex.mid + 1 & 0xFFFF, token), "s") == [] and c.results == []
    c.receive(message(RST, 0, ex.mid), "s")
    assert [result[0] for result in c.results] == [RESET]


def test_acks_and_resets_match_by_message_id_and_peer_and_transport():
    # RFC 7252 4.2, 4.4
    for kind in (ACK, RST):
        c = client()
        ex = c.get("s", "t")
        c.get("other", "t")
        c.receive(message(kind, 0, ex.mid + 2 & 0xFFFF), "s")
        c.receive(message(kind, 0, ex.mid), "other")
        c.endpoint.handle_datagram(c.network.now, message(kind, 0, ex.mid), "s", Link())
        c.events()
        assert c.results == [] and c.endpoint.counters.unexpected == 3
        c.network.run_for(3500)
        assert len(c.network.log) == 4  # both retransmitted


def test_a_late_reset_does_not_end_a_request_that_is_being_written():
    c = client()
    ex = c.get("s", "t")
    mid = ex.mid
    c.receive(message(ACK, CONTENT, mid, bytes(ex.token)), "s")
    for _ in range(3):
        again = c.endpoint.open(c.network.now, "s", c.link)  # not sent yet
        again.mid = mid if again is ex else again.mid
        c.receive(message(RST, 0, mid), "s")
        c.network.advance(100000)
        c.endpoint.handle_timeout(c.network.now)
        c.events()
        assert len(c.results) == 1
        c.endpoint.release(again)


def test_a_response_s_token_matches_in_its_last_byte_too():
    c = client()
    ex = c.get("s", "t")
    token = bytes(ex.token)
    for i in range(8):
        other = bytearray(token)
        other[i] ^= 1
        c.receive(message(ACK, CONTENT, ex.mid, bytes(other)), "s")
        assert c.results == [], i
    c.receive(message(ACK, CONTENT, ex.mid, token), "s")
    assert c.results[0][0] == RESPONSE


def test_an_answered_request_holds_no_buffer_and_gets_no_second_event():
    # RFC 7252 4.7: it is not outstanding any more, whenever its owner gives the exchange back
    c = client(tx_slots=1)
    ex = c.get("s", "t")
    answer = message(NON, CONTENT, 7, bytes(ex.token))
    endpoint = c.endpoint
    for events in ([RESPONSE, 0], [0, 0]):
        endpoint.handle_datagram(c.network.now, answer, "s", c.link)
        assert [endpoint.poll_event(), endpoint.poll_event()] == events
    c.network.advance(100000)
    endpoint.handle_timeout(c.network.now)
    assert endpoint.poll_event() == 0
    assert c.get("s", "u") is not None


def test_each_event_is_its_own_exchange_s():
    c = client(exchanges=4, tx_slots=4)
    answered = c.get("answered", "t")
    waiting = c.get("waiting", "t")
    gone = c.request("gone", GET, ("t",), timeout_ms=1000)
    reset = c.get("reset", "t")
    endpoint = c.endpoint
    endpoint.handle_datagram(c.network.now, message(ACK, 0, waiting.mid), "waiting", c.link)
    endpoint.handle_datagram(
        c.network.now, message(ACK, CONTENT, answered.mid, bytes(answered.token)), "answered", c.link
    )
    assert endpoint.poll_event() == RESPONSE and endpoint.exchange is answered  # which is not released yet
    c.network.advance(1000)
    endpoint.handle_timeout(c.network.now)
    assert endpoint.poll_event() == TIMEOUT and endpoint.exchange is gone
    assert endpoint.poll_event() == 0
    endpoint.handle_datagram(c.network.now, message(RST, 0, reset.mid), "reset", c.link)
    assert endpoint.poll_event() == RESET and endpoint.exchange is reset
    assert endpoint.poll_event() == 0 and endpoint.ended == 0


# Responses to us


def answered(c, options):
    """What a response with these options comes to."""
    ex = c.get("s", "t")
    c.receive(message(ACK, CONTENT, ex.mid, bytes(ex.token), options, b"x"), "s")
    return c.results[-1][0]


def test_an_unknown_critical_option_rejects_a_response_wherever_it_stands():
    # RFC 7252 5.4.1
    c = client()
    elective = [(4, b"e"), (6, b""), (12, b""), (14, b"\x3c")]
    malformed = 0
    for number in (1, 5, 9, 11, 13, 15, 21, 65535):  # Uri-Path and Uri-Query are a request's alone
        for n in range(5):
            malformed += 1
            assert answered(c, sorted(elective[:n] + [(number, b"v")])) == REFUSED, (number, n)
            assert c.endpoint.counters.malformed == malformed
    assert answered(c, [(23, b"")]) == RESPONSE  # what an earlier message left in the table is not looked at
    assert answered(c, elective) == answered(c, elective + [(23, b"")]) == RESPONSE
    assert c.endpoint.counters.malformed == malformed


def test_a_block_option_is_known_once_and_of_at_most_three_bytes():
    # RFC 7959 2.1
    c = client()
    for number in (23, 27):
        for value, event in (
            (b"", RESPONSE), (b"\7", RESPONSE), (b"\0\0\6", RESPONSE), (b"\x08", RESPONSE), (b"\x09", RESPONSE),
            (b"\x10", RESPONSE), (b"\1\0", RESPONSE), (b"\0\0\0\0", REFUSED),
        ):  # fmt: skip
            assert answered(c, [(number, value)]) == event, value
        assert answered(c, [(12, b""), (number, b"\6"), (28, b"")]) == RESPONSE
        assert answered(c, [(number, b"\6"), (number, b"\6")]) == REFUSED  # RFC 7252 5.4.5: it is not repeatable
    assert answered(c, [(23, b"\6"), (27, b"\6")]) == RESPONSE


def test_a_notification_that_nobody_waits_for_is_rejected():
    # RFC 7641 3.6; a CON anyway (RFC 7252 4.2), a group's nothing (RFC 7252 8.1)
    c = client()
    token, news = b"unknown!", [(6, b"\1")]
    for kind, options, multicast, wanted in (
        (NON, news, False, True), (NON, [], False, False), (NON, news, True, False), (CON, news, False, True),
        (ACK, news, False, False),
    ):  # fmt: skip
        sent = c.receive(message(kind, CONTENT, 7, token, options, b"x"), "s", multicast)
        assert sent == ([(message(RST, 0, 7), "s")] if wanted else []), (kind, options, multicast)
    assert c.results == []


def test_a_response_with_more_options_than_the_table_holds_is_refused():
    # what did not fit may be critical
    c = client(max_options=3)
    assert answered(c, [(4, b"e")] * 3) == RESPONSE
    assert answered(c, [(4, b"e")] * 4) == REFUSED
    assert answered(c, [(4, b"e")] * 3 + [(5, b"")]) == REFUSED


def test_what_has_expired_is_forgotten_though_other_deadlines_came_between():
    # no tick may be compared across half the clock's period
    s = server()
    s.receive(message(CON, POST, 1, b"", path("post")))
    c = client()
    ex = c.get("s", "t")
    c.receive(message(CON, CONTENT, 7, bytes(ex.token)), "s")
    for host in (s, c):
        host.request("gone", GET, ("t",), timeout_ms=1000)
        host.network.run_for(8000000)
        assert host.endpoint.poll_timeout(host.network.now) == -1
        assert not any(host.endpoint._duplicates._peers)
