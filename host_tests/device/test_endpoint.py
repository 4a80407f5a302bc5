"""The message layer's rules, one by one, on a virtual clock (RFC 7252 4 and 5.2)."""

from coaplet.endpoint import REFUSED, RESET, RESPONSE, TIMEOUT
from net import Host, Network, pair

CON, NON, ACK, RST = 0, 1, 2, 3


def message(kind, code, mid, token=b"", rest=b""):
    return bytes((0x40 | kind << 4 | len(token), code, mid >> 8, mid & 255)) + token + rest


def server(**limits):
    network = Network()
    host = Host("s", network, **limits)
    host.calls = []

    def get(request, response):
        host.calls.append("get")
        response.text("21.5")

    def post(request, response):
        host.calls.append(request.payload)
        response.text("%d" % len(host.calls))

    def long(request, response):
        host.calls.append("long")
        response.text("x" * 200)

    async def slow(request, response):
        host.calls.append("slow")
        response.text("at last")

    host.serve("t", get)
    host.serve("p", post, "POST")
    host.serve("long", long, "POST")
    host.serve("slow", slow, "GET POST")
    return network, host


T = b"\xb1t"
P = b"\xb1p"
LONG = b"\xb4long"
SLOW = b"\xb4slow"


def test_get_is_answered_piggybacked_with_mid_and_token_echoed():
    _, s = server()
    assert s.receive(message(CON, 1, 0x1234, b"tok", T)) == [(message(ACK, 69, 0x1234, b"tok", b"\xc0\xff21.5"), "raw")]


def test_non_get_is_answered_non_with_a_mid_of_our_own():
    _, s = server()
    ((reply, _),) = s.receive(message(NON, 1, 0x1234, b"tok", T))
    assert reply[0] == 0x53 and reply[1] == 69 and reply[4:7] == b"tok"
    ((other, _),) = s.receive(message(NON, 1, 0x1235, b"tok", T))
    assert other[2:4] != reply[2:4]


def test_ping_is_answered_with_reset():
    _, s = server()
    assert s.receive(message(CON, 0, 7)) == [(message(RST, 0, 7), "raw")]


def test_empty_with_a_token_or_bytes_behind_is_a_format_error():
    _, s = server()
    assert s.receive(b"\x41\x00\x00\x07\x01") == [(message(RST, 0, 7), "raw")]
    assert s.receive(b"\x40\x00\x00\x08\xff") == [(message(RST, 0, 8), "raw")]
    assert s.receive(b"\x50\x00\x00\x08\xff") == []
    assert s.endpoint.counters.malformed == 3


def test_an_ack_with_a_token_is_a_format_error_and_changes_nothing():
    for first in (0x61, 0x71):
        network, c = client()
        ex = c.get("s", "t")
        assert c.receive(bytes((first, 0, ex.mid >> 8, ex.mid & 255)), "s") == []
        network.run_for(10000)
        assert len(network.log) == 3 and c.results == []  # still retransmitted


def test_the_same_mid_on_another_transport_is_no_duplicate():
    network, s = server()
    data = message(CON, 2, 70, b"a", P)
    s.receive(data)
    other = object()
    s.endpoint.handle_datagram(network.now, message(CON, 2, 70, b"b", P), "raw", other)
    s.events()
    assert s.endpoint.poll_transmit(other) and bytes(s.endpoint.tx_buf)[4:5] == b"b"
    assert len(s.calls) == 2


def test_a_request_cut_behind_its_payload_marker_gets_4_13():
    _, s = server(mtu=100)
    options = P + b"\x4d" + bytes((92 - 13,)) + b"q" * 92  # an Uri-Query that ends with byte 100
    assert len(message(CON, 2, 60, b"", options)) == 100
    for tail in (b"\xff", b"\xff!"):
        ((reply, _),) = s.receive((message(CON, 2, 60 + len(tail), b"", options) + tail)[:101])
        assert reply[1] == 141
    assert s.calls == [] and s.endpoint.counters.oversized == 2


def test_short_or_foreign_version_is_silently_ignored():
    _, s = server()
    for data in (b"", b"\x40", b"\x40\x01\x00", b"\x00\x01\x00\x01", b"\x80\x01\x00\x01", b"\xc0\x01\x00\x01"):
        assert s.receive(data) == []
    assert s.endpoint.counters.ignored == 6


def test_malformed_con_gets_reset_and_malformed_non_gets_silence():
    _, s = server()
    for tail in (b"\xf0", b"\x0f", b"\xff", b"\xb5abc", b"\xd0", b"\xe0\x01"):
        assert s.receive(message(CON, 1, 9, b"", tail)) == [(message(RST, 0, 9), "raw")], tail
        assert s.receive(message(NON, 1, 9, b"", tail)) == [], tail
    assert s.calls == []


def test_token_lengths_9_to_15_are_a_format_error():
    _, s = server()
    for tkl in range(9, 16):
        assert s.receive(bytes((0x40 | tkl, 1, 0, 5)) + b"x" * 20) == [(message(RST, 0, 5), "raw")]
    assert s.receive(b"\x48\x01\x00\x05abc") == [(message(RST, 0, 5), "raw")]


def test_reserved_classes_are_rejected():
    _, s = server()
    for code in (32, 0x21, 0x60, 0xC0, 0xE1, 0xFF):
        assert s.receive(message(CON, code, 3)) == [(message(RST, 0, 3), "raw")], code
        assert s.receive(message(NON, code, 3)) == []
        assert s.receive(message(ACK, code, 3)) == []


def test_acks_and_resets_are_never_answered():
    _, s = server()
    for code in (0, 1, 69, 0x21):
        for kind in (ACK, RST):
            assert s.receive(message(kind, code, 3, b"", b"" if code != 1 else T)) == []
    assert s.calls == []


def test_unexpected_con_response_gets_reset_and_unexpected_non_silence():
    _, s = server()
    assert s.receive(message(CON, 69, 3, b"abc")) == [(message(RST, 0, 3), "raw")]
    assert s.receive(message(NON, 69, 3, b"abc")) == []
    assert s.endpoint.counters.unexpected == 2


def test_multicast_is_never_rejected():
    _, s = server()
    assert s.receive(message(CON, 0, 7), multicast=True) == []
    assert s.receive(message(CON, 1, 7, b"", b"\xff"), multicast=True) == []
    assert s.receive(message(CON, 1, 7, b"", T), multicast=True) == []
    assert s.receive(message(NON, 1, 7, b"", b"\xb4nope"), multicast=True) == []
    assert s.calls == []
    assert len(s.receive(message(NON, 1, 8, b"", T), multicast=True)) == 1


def test_duplicate_post_runs_once_and_replays_the_reply():
    _, s = server()
    first = s.receive(message(CON, 2, 77, b"t", P + b"\xffhello"))
    again = s.receive(message(CON, 2, 77, b"t", P + b"\xffhello"))
    assert first == again and first[0][0][-1:] == b"1"
    assert s.calls == [b"hello"]
    assert s.endpoint.counters.duplicates == 1


def test_same_mid_from_another_peer_is_no_duplicate():
    _, s = server()
    s.receive(message(CON, 2, 77, b"t", P), "x")
    s.receive(message(CON, 2, 77, b"t", P), "y")
    assert len(s.calls) == 2


def test_duplicate_non_post_is_silently_ignored():
    _, s = server()
    assert len(s.receive(message(NON, 2, 77, b"t", P))) == 1
    assert s.receive(message(NON, 2, 77, b"t", P)) == []
    assert len(s.calls) == 1


def test_duplicate_get_simply_runs_again():
    _, s = server()
    assert s.receive(message(CON, 1, 77, b"t", T)) == s.receive(message(CON, 1, 77, b"t", T))
    assert s.calls == ["get", "get"]


def test_gets_do_not_push_out_a_post():
    _, s = server(duplicates=4)
    s.receive(message(CON, 2, 1, b"", P))
    for mid in range(100, 150):
        s.receive(message(CON, 1, mid, b"", T))
    assert len(s.receive(message(CON, 2, 1, b"", P))) == 1
    assert s.calls.count(b"") == 1


def test_early_eviction_is_counted():
    _, s = server(duplicates=4)
    for mid in range(6):
        s.receive(message(CON, 2, mid, b"", P))
    assert s.endpoint.counters.early == 2
    s.receive(message(CON, 2, 0, b"", P))  # pushed out: it runs again
    assert len(s.calls) == 7


def test_mid_is_forgotten_after_exchange_lifetime_and_non_lifetime():
    for kind, lifetime in ((CON, 247000), (NON, 145000)):
        network, s = server()
        s.receive(message(kind, 2, 5, b"", P))
        network.advance(lifetime - 1)
        s.receive(message(kind, 2, 5, b"", P))
        assert len(s.calls) == 1
        network.advance(2)
        s.receive(message(kind, 2, 5, b"", P))
        assert len(s.calls) == 2


def test_long_reply_to_a_post_goes_out_as_empty_ack_and_separate_con():
    _, s = server()
    (ack, _), (con, _) = s.receive(message(CON, 2, 9, b"tk", LONG))
    assert ack == message(ACK, 0, 9)
    assert con[0] == 0x42 and con[1] == 68 and con[4:6] == b"tk" and con[2:4] != b"\0\x09" and con[-200:] == b"x" * 200
    assert s.receive(message(CON, 2, 9, b"tk", LONG)) == [(message(ACK, 0, 9), "raw")]
    assert s.receive(message(ACK, 0, con[2] << 8 | con[3])) == []
    assert s.calls == ["long"]
    assert s.receive(message(CON, 1, 10, b"", T))[0][0][-4:] == b"21.5"  # scratch and slot have changed places


def test_separate_con_is_retransmitted_until_acknowledged_and_freed_when_it_never_is():
    network, s = server(tx_slots=3)
    con = s.receive(message(CON, 2, 9, b"tk", LONG))[1][0]
    network.run_for(100000)
    assert [entry[3] for entry in network.log] == [con] * 4
    for mid in (20, 21):  # both slots are free again
        assert len(s.receive(message(CON, 2, mid, b"", LONG))) == 2
    assert s.endpoint.counters.not_kept == 0


def test_long_reply_without_a_slot_to_spare_is_piggybacked_and_a_repeat_gets_its_code():
    _, s = server(tx_slots=2)
    assert len(s.receive(message(CON, 2, 1, b"", LONG))) == 2
    ((reply, _),) = s.receive(message(CON, 2, 2, b"tk", LONG))
    assert reply[0] == 0x62 and reply[1] == 68 and len(reply) > 200
    assert s.receive(message(CON, 2, 2, b"tk", LONG)) == [(message(ACK, 68, 2, b"tk"), "raw")]
    assert s.endpoint.counters.not_kept == 1 and len(s.calls) == 2
    # whoever acknowledges nothing does not keep us from sending requests of our own
    assert s.get("cloud", "t") is not None


def test_quick_async_handler_is_answered_piggybacked():
    network, s = server()
    assert s.receive(message(CON, 1, 5, b"t", SLOW)) == []
    network.run_for(150)
    s.finish_task()
    assert network.log[-1][3] == message(ACK, 69, 5, b"t", b"\xc0\xffat last")


def test_slow_async_handler_is_acknowledged_after_200_ms_and_answered_with_a_con():
    network, s = server()
    s.receive(message(CON, 1, 5, b"t", SLOW))
    network.run_for(1000)
    assert [(at, data) for at, _, _, data in network.log] == [(200, message(ACK, 0, 5))]
    s.finish_task()
    con = network.log[-1][3]
    assert con[0] == 0x41 and con[1] == 69 and con[4:] == b"t\xc0\xffat last"
    assert s.receive(message(ACK, 0, con[2] << 8 | con[3])) == []
    network.run_for(100000)
    assert len(network.log) == 2


def test_repeat_of_a_running_request_starts_nothing():
    network, s = server()
    for code in (1, 2):
        s.receive(message(CON, code, 50 + code, b"t", SLOW))
        assert s.receive(message(CON, code, 50 + code, b"t", SLOW)) == []  # too early for the ACK
        network.run_for(300)
        assert s.receive(message(CON, code, 50 + code, b"t", SLOW)) == [(message(ACK, 0, 50 + code), "raw")]
        assert len(s.tasks) == 1
        s.finish_task()
        con = network.log[-1][3]
        s.receive(message(ACK, 0, con[2] << 8 | con[3]))
    assert s.calls == ["slow", "slow"]


def test_async_non_is_answered_non():
    network, s = server()
    s.receive(message(NON, 1, 5, b"t", SLOW))
    network.run_for(1000)
    assert network.log == []
    s.finish_task()
    assert network.log[-1][3][0] == 0x51


def test_async_slots_taken_gives_5_03():
    _, s = server()
    for mid in (1, 2):
        assert s.receive(message(CON, 1, mid, b"", SLOW)) == []
    assert s.receive(message(CON, 1, 3, b"", SLOW)) == [(message(ACK, 163, 3, b"", b"\xd1\x01\5"), "raw")]
    assert s.endpoint.counters.refused == 1
    s.finish_task()
    assert s.receive(message(CON, 1, 4, b"", SLOW)) == []


def test_a_node_without_a_server_resets_requests():
    network = Network()
    host = Host("c", network)
    assert host.receive(message(CON, 1, 4, b"", T)) == [(message(RST, 0, 4), "raw")]
    assert host.receive(message(NON, 1, 5, b"", T)) == []


# Requests of ours


def client(**limits):
    network = Network()
    return network, Host("c", network, **limits)


def mid_of(data):
    return data[2] << 8 | data[3]


def test_con_is_retransmitted_with_doubled_timeouts_then_times_out():
    network, c = client()
    c.get("gone", "t")
    network.run(lambda: c.results, 50)
    times = [at for at, _, _, _ in network.log]
    assert len(times) == 5 and len(set(data for _, _, _, data in network.log)) == 1
    gaps = [times[i + 1] - times[i] for i in range(4)]
    assert 2000 <= gaps[0] <= 3000
    assert gaps[1:] == [gaps[0] * 2, gaps[0] * 4, gaps[0] * 8]
    assert times[4] <= 45000  # MAX_TRANSMIT_SPAN
    assert network.elapsed == gaps[0] * 31 and c.results[0][0] == TIMEOUT
    assert c.endpoint.counters.retransmissions == 4


def test_initial_timeouts_are_spread():
    network, c = client(exchanges=16, tx_slots=16)
    for i in range(16):
        c.get("peer%d" % i)
    waits = [ex.timeout_ms for ex in c.endpoint.exchanges]
    assert len(set(waits)) > 8 and min(waits) >= 2000 and max(waits) <= 3000


def test_timeout_ms_ends_the_exchange_early():
    network, c = client()
    c.request("gone", 1, ("t",), timeout_ms=5000)
    network.run(lambda: c.results, 50)
    assert network.elapsed == 5000 and c.results[0][0] == TIMEOUT


def test_who_sleeps_through_the_span_does_not_retransmit():
    network, c = client()
    c.get("gone", "t")
    network.advance(60000)
    network.step()
    assert len(network.log) == 1 and c.results[0][0] == TIMEOUT


def test_piggybacked_response_must_match_mid_and_token_and_peer():
    network, c = client()
    ex = c.get("s", "t")
    mid = ex.mid
    token = bytes(ex.token)
    for data, peer in (
        (message(ACK, 69, mid + 1 & 0xFFFF, token), "s"),
        (message(ACK, 69, mid, b"wrong..."), "s"),
        (message(ACK, 69, mid, token[:7]), "s"),
        (message(ACK, 69, mid, token), "other"),
        (message(RST, 69, mid, token), "s"),
    ):
        assert c.receive(data, peer) == [] and c.results == []
    c.receive(message(ACK, 69, mid, token, b"\xff!"), "s")
    assert c.results[0][:3] == (RESPONSE, 69, b"!")
    c.receive(message(ACK, 69, mid, token, b"\xff!"), "s")
    assert len(c.results) == 1


def test_separate_response_after_empty_ack_is_acknowledged():
    network, c = client()
    ex = c.get("s", "t")
    token = bytes(ex.token)
    assert c.receive(message(ACK, 0, ex.mid), "s") == []
    network.run_for(20000)
    assert len(network.log) == 1  # no retransmission any more
    assert c.receive(message(CON, 69, 0x4242, token, b"\xffyes"), "s") == [(message(ACK, 0, 0x4242), "s")]
    assert c.results[0][:3] == (RESPONSE, 69, b"yes")
    # our ACK was lost: the repeat is acknowledged, and is no second response
    assert c.receive(message(CON, 69, 0x4242, token, b"\xffyes"), "s") == [(message(ACK, 0, 0x4242), "s")]
    assert len(c.results) == 1


def test_con_response_before_its_empty_ack():
    network, c = client()
    ex = c.get("s", "t")
    token = bytes(ex.token)
    mid = ex.mid
    assert c.receive(message(CON, 69, 1, token, b"\xffyes"), "s") == [(message(ACK, 0, 1), "s")]
    assert c.results[0][:3] == (RESPONSE, 69, b"yes")
    assert c.receive(message(ACK, 0, mid), "s") == []
    network.run_for(100000)
    assert len(network.log) == 1 and len(c.results) == 1


def test_non_response_to_a_con_request():
    network, c = client()
    ex = c.get("s", "t")
    assert c.receive(message(NON, 69, 1, bytes(ex.token), b"\xffyes"), "s") == []
    assert c.results[0][:3] == (RESPONSE, 69, b"yes")


def test_response_that_never_follows_its_ack_times_out():
    network, c = client()
    ex = c.get("s", "t")
    c.receive(message(ACK, 0, ex.mid), "s")
    network.run(lambda: c.results, 20)
    assert network.elapsed == 93000 and c.results[0][0] == TIMEOUT  # MAX_TRANSMIT_WAIT


def test_reset_ends_the_exchange():
    network, c = client()
    ex = c.get("s", "t")
    c.receive(message(RST, 0, ex.mid), "s")
    assert c.results[0][0] == RESET
    network.run_for(100000)
    assert len(network.log) == 1


def test_non_request_is_sent_once_and_answered():
    network, c = client()
    ex = c.request("s", 1, ("t",), confirmable=False)
    token = bytes(ex.token)
    assert network.log[0][3][0] == 0x58
    network.run_for(30000)
    assert len(network.log) == 1
    c.receive(message(NON, 69, 1, token, b"\xffyes"), "s")
    assert c.results[0][:3] == (RESPONSE, 69, b"yes")


def test_reset_of_a_non_request_ends_it():
    network, c = client()
    ex = c.request("s", 1, ("t",), confirmable=False)
    c.receive(message(RST, 0, ex.mid), "s")
    assert c.results[0][0] == RESET


def test_response_with_an_unknown_critical_option_is_rejected():
    network, c = client()
    ex = c.get("s", "t")
    token = bytes(ex.token)
    assert c.receive(message(ACK, 69, ex.mid, token, b"\x91x"), "s") == []
    assert c.results[0][0] == REFUSED
    ex = c.get("s", "t")
    token = bytes(ex.token)
    assert c.receive(message(CON, 69, 8, token, b"\x91x"), "s") == [(message(RST, 0, 8), "s")]
    assert c.results[1][0] == REFUSED
    network.run_for(100000)
    assert len(network.log) == 2 and len(c.results) == 2


def test_a_block_of_a_response_is_handed_up():
    # RFC 7959 2.1: whoever asked knows which one it is
    network, c = client()
    for value, event in (
        (b"\x0e", RESPONSE), (b"\x16", RESPONSE), (b"\0\x10\x06", RESPONSE), (b"", RESPONSE), (b"\0\0\0\0", REFUSED),
    ):  # fmt: skip
        ex = c.get("s", "t")
        option = bytes((0xD0 | len(value), 10)) + value
        c.receive(message(ACK, 69, ex.mid, bytes(ex.token), option + b"\xffpart"), "s")
        assert c.results[-1][0] == event, value


def test_more_options_than_the_table_holds_get_4_02():
    _, s = server(max_options=4)
    ((reply, _),) = s.receive(message(CON, 1, 5, b"", T + b"\x11a" * 4))
    assert reply[1] == 130 and reply.endswith(b"more than 4 options")
    assert s.receive(message(NON, 1, 6, b"", T + b"\x11a" * 4)) == []
    assert s.calls == []


def test_nstart_lets_one_request_a_peer_out_at_a_time():
    network, c = client()
    ex = c.get("s", "t")
    assert c.get("s", "u") is None
    assert c.get("other", "u") is not None
    c.endpoint.freed = False
    c.receive(message(ACK, 0, ex.mid), "s")
    assert c.endpoint.freed
    assert c.get("s", "u") is not None  # acknowledged: not outstanding any more


def test_slots_exhausted_make_the_caller_wait_and_release_frees_at_once():
    network, c = client(tx_slots=1)
    ex = c.get("x", "t")
    assert c.get("y", "t") is None
    c.endpoint.release(ex)
    assert c.endpoint.freed
    assert c.get("y", "t") is not None
    network.run_for(3000)
    assert [to for _, _, to, _ in network.log] == ["x", "y", "y"]


def test_released_exchange_gets_no_late_answer():
    network, c = client()
    ex = c.get("s", "t")
    token = bytes(ex.token)
    mid = ex.mid
    c.endpoint.release(ex)
    assert c.receive(message(ACK, 69, mid, token), "s") == []
    assert c.receive(message(CON, 69, 9, token), "s") == [(message(RST, 0, 9), "s")]
    assert c.results == []


def test_pong_answers_a_ping():
    network, c = client()
    ex = c.endpoint.open(c.network.now, "s", c.link)
    c.endpoint.begin(ex, 0)
    c.endpoint.send(network.now, ex)
    ((data, _),) = c.sent()
    assert data == message(CON, 0, ex.mid)
    c.receive(message(RST, 0, ex.mid), "s")
    assert c.results[0][:2] == (RESPONSE, 0)


def test_oversize_request_is_refused_before_it_is_sent():
    network, c = client(mtu=200)
    try:
        c.post("s", "t", b"x" * 190)
        raise AssertionError("it fitted")
    except ValueError as error:
        assert "mtu=200" in str(error)
    assert network.log == [] and c.get("s", "t") is not None


def test_round_trip_time_ignores_retransmitted_requests():
    network, c = client()
    ex = c.get("s", "t")
    network.run_for(4000)
    c.receive(message(ACK, 69, ex.mid, bytes(ex.token)), "s")
    assert c.endpoint.rtt_ms is None
    ex = c.get("s", "t")
    network.advance(70)
    c.receive(message(ACK, 69, ex.mid, bytes(ex.token)), "s")
    assert c.endpoint.rtt_ms == 70


def test_poll_timeout_is_never_more_than_an_hour():
    network, s = server()
    assert s.endpoint.poll_timeout(network.now) == -1
    s.receive(message(CON, 2, 5, b"", P))
    assert 0 < s.endpoint.poll_timeout(network.now) <= 3600000
    network.run_for(8000000)
    assert s.endpoint.poll_timeout(network.now) == -1
    assert not any(s.endpoint._duplicates._peers)


def test_a_transport_that_stalls_does_not_hold_up_another():
    network, c = client(tx_slots=4, exchanges=4)
    stalled = object()
    ex = c.endpoint.open(c.network.now, "x", stalled)
    c.endpoint.begin(ex, 1)
    c.endpoint.send(network.now, ex)
    c.get("y", "t")
    assert [to for _, _, to, _ in network.log] == ["y"]
    assert c.endpoint.poll_transmit(stalled) and len(c.endpoint.tx_buf) == 12 and c.endpoint.tx_peer == "x"


def test_requests_run_both_ways_between_two_endpoints():
    network, a, b = pair()

    def whoami(request, response):
        response.text("a host")

    a.serve("w", whoami)
    b.serve("w", whoami)
    a.get("b", "w")
    b.get("a", "w")
    network.run(lambda: a.results and b.results, 20)
    assert a.results[0][2] == b.results[0][2] == b"a host"
