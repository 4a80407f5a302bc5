"""Rules of sending that mutation found untested (RFC 7252 4.2, 4.7, 4.8): parameters, slots given back, deadlines."""

from coaplet.endpoint import RESPONSE, TIMEOUT, Endpoint
from coaplet.transmission import Exchange, Parameters
from helpers import ACK, CON, NON, RST, message, path, raises
from net import Host, Network

GET, POST, CONTENT = 1, 2, 69


def least(bits):
    return 0


def most(bits):
    return (1 << bits) - 1


def client(**limits):
    return Host("c", Network(), **limits)


def server(**limits):
    host = Host("s", Network(), **limits)

    def long(request, response):
        response.payload(b"x" * 90)  # too long to be kept for repeats: a separate response

    async def slow(request, response):
        response.text("at last")

    host.serve("long", long, "POST")
    host.serve("slow", slow)
    return host


def mid_of(data):
    return data[2] << 8 | data[3]


def times(c):
    return [at for at, _, _, _ in c.network.log]


# Parameters


def test_the_defaults_are_rfc_7252_s():
    p = Parameters()
    assert (p.ack_timeout_ms, p.jitter_ms, p.max_retransmit, p.nstart) == (2000, 1000, 4, 1)
    assert (p.leisure_ms, p.probing_rate) == (5000, 1)
    # RFC 7252 4.8.2, table 3
    assert (p.max_transmit_span_ms, p.max_transmit_wait_ms) == (45000, 93000)
    assert (p.exchange_lifetime_ms, p.non_lifetime_ms) == (247000, 145000)


def test_parameters_out_of_range_are_refused():
    for name, least_value in (
        ("ack_timeout_ms", 1), ("nstart", 1), ("ack_random_percent", 0), ("max_retransmit", 0), ("leisure_ms", 0),
        ("probing_rate", 0),
    ):  # fmt: skip
        for value in (least_value, least_value + 1):
            assert getattr(Parameters(**{name: value}), name, value) == value
        for value in (least_value - 1, -2):
            raises(ValueError, Parameters, **{name: value})


def test_no_wait_is_longer_than_the_clock_of_a_board_can_tell():
    # ticks compare within 2 ** 29 ms, and the last wait is half of MAX_TRANSMIT_WAIT
    for timeout, percent, retries in ((0x7FFFFFF, 0, 0), (0x3FFFFFF, 100, 0), (1000, 100, 16), (1, 0, 26)):
        p = Parameters(ack_timeout_ms=timeout, ack_random_percent=percent, max_retransmit=retries)
        assert p.max_transmit_wait_ms <= p.exchange_lifetime_ms < 0x20000000
        for more in ((timeout + 1, percent, retries), (timeout, percent, retries + 1)):
            if (more[0] * (100 + percent) // 100) << more[2] > 0x7FFFFFF:
                names = ("ack_timeout_ms", "ack_random_percent", "max_retransmit")
                raises(ValueError, Parameters, **dict(zip(names, more)))


def test_exchange_lifetime_is_that_of_the_last_wait_where_it_is_longer_than_the_span():
    # RFC 7252 4.8.2 takes MAX_LATENCY to be longer than the last wait, of which it need not be
    p = Parameters(ack_timeout_ms=100000)
    assert (p.max_transmit_span_ms, p.max_transmit_wait_ms) == (2250000, 4650000)
    assert (p.exchange_lifetime_ms, p.non_lifetime_ms) == (4650000 + 200000, 2350000)
    raises(AttributeError, getattr, p, "max_rtt")


def test_the_default_limits_are_the_documented_ones():
    endpoint = Endpoint()
    assert (endpoint.mtu, endpoint.spare, len(endpoint.exchanges), endpoint.handlers) == (1152, 2, 3, [])
    assert not endpoint.freed and not endpoint.due and not endpoint.ended and not endpoint._probing
    assert endpoint.deadline is None and endpoint.poll_timeout(0) == -1 and endpoint.rtt_ms is None


def test_a_new_exchange_has_all_its_attributes():
    c = client()
    new = Exchange()
    assert (new.state, new.mid, new.retries, new.timeout_ms, new.size) == (0, 0, 0, 0, 0)
    assert (new.deadline, new.first, new.expires) == (0, 0, 0) and new.token == bytes(8)
    assert new.out is None and new.peer is None and new.transport is None and new.message is None
    before = sorted(new.__dict__)
    ex = c.get("s", "t")
    c.receive(message(ACK, CONTENT, ex.mid, bytes(ex.token)), "s")
    assert sorted(ex.__dict__) == before
    assert ex.peer is None and ex.transport is None and ex.message is None  # it keeps nothing alive


# Retransmission


def test_the_first_timeout_is_ack_timeout_to_its_random_factor():
    # RFC 7252 4.2: between ACK_TIMEOUT and ACK_TIMEOUT * ACK_RANDOM_FACTOR
    for random, first in ((least, 2000), (most, 2996)):
        c = client(random=random)
        c.get("s", "t")
        c.network.run(lambda c=c: c.results, 50)
        assert times(c) == [0, first, 3 * first, 7 * first, 15 * first]
        assert c.network.elapsed == 31 * first


def test_max_retransmit_counts_whatever_the_random_factor():
    # with a factor of 3 and luck, all tries and the last wait are over before MAX_TRANSMIT_SPAN
    for retries in (0, 1, 2, 5):
        c = client(random=least, ack_random_percent=200, max_retransmit=retries)
        c.get("s", "t")
        c.network.run(lambda c=c: c.results, 50)
        assert times(c) == [2000 * ((1 << i) - 1) for i in range(retries + 1)]


def test_a_try_is_made_when_a_ms_is_left_and_none_when_there_is_none():
    for timeout, tries in ((1999, 1), (2000, 1), (2001, 2), (6000, 2), (6001, 3)):
        c = client(random=least)
        c.request("s", GET, ("t",), timeout_ms=timeout)
        c.network.run(lambda c=c: c.results, 50)
        assert c.network.elapsed == timeout and len(times(c)) == tries, timeout
        assert c.results[0][0] == TIMEOUT


def test_who_wakes_at_the_end_of_max_transmit_span_tries_once_more_and_after_it_not():
    # RFC 7252 4.2, 4.8.2
    for late, tries in ((45000, 2), (45001, 1)):
        c = client()
        c.get("s", "t")
        c.network.advance(late)
        c.network.step()
        assert len(times(c)) == tries, late


def test_a_retransmission_that_nobody_fetched_is_one_datagram():
    c = client()
    ex = c.endpoint.open(c.network.now, "s", c.link)
    c.endpoint.begin(ex, GET)
    c.endpoint.send(c.network.now, ex)
    for _ in range(2):
        c.network.advance(7000)
        c.endpoint.handle_timeout(c.network.now)
    assert c.endpoint.due == 1 and c.endpoint.counters.retransmissions == 2
    assert len(c.sent()) == 1 and c.endpoint.due == 0


def test_the_round_trip_time_is_smoothed_by_an_eighth():
    c = client()
    for ms, expected in ((80, 80), (160, 90), (10, 80), (720, 160)):
        ex = c.get("s", "t")
        c.network.advance(ms)
        c.receive(message(ACK, CONTENT, ex.mid, bytes(ex.token)), "s")
        assert c.endpoint.rtt_ms == expected


# Deadlines and counts


def test_the_longest_wait_is_an_hour():
    c = client()
    c.request("s", GET, ("t",), confirmable=False, timeout_ms=3600001)
    assert c.endpoint.poll_timeout(c.network.now) == 3600000
    c.network.advance(2)
    assert c.endpoint.poll_timeout(c.network.now) == 3599999
    c.network.advance(10000000)
    assert c.endpoint.poll_timeout(c.network.now) == 0


def test_what_is_sent_and_what_is_overwritten_is_counted():
    c = client()
    c.get("s", "t")
    c.network.run(lambda: c.results, 50)
    assert c.endpoint.counters.sent == 5
    for count in (0, 1, 2):  # replies that no transport fetches
        c.endpoint.handle_datagram(c.network.now, message(CON, 0, count), "s", c.link)
        assert c.endpoint.counters.overwritten == count and c.endpoint.ready_at is c.link and c.endpoint.counts[22]
    assert c.sent() == [(message(RST, 0, 2), "s")] and c.endpoint.counters.sent == 6
    s = server()
    for count in (0, 1, 2):
        s.endpoint.handle_datagram(s.network.now, message(CON, GET, count, b"", path("nothing")), "p", s.link)
        s.events()
        assert s.endpoint.counters.overwritten == count and s.endpoint.ready_at is s.link and s.endpoint.counts[22]
    ((data, _),) = s.sent()
    assert data[:4] == b"\x60\x84\0\2" and not s.endpoint.counts[22]


def test_a_reply_and_a_request_of_ours_keep_their_bytes_and_peers_whichever_transport_stalls():
    s = server(probing_rate=0)
    s.serve("t", lambda request, response: response.text("hi"))
    stalled = object()

    def asked(mid):
        s.endpoint.handle_datagram(s.network.now, message(CON, GET, mid, b"", path("t")), "p", stalled)
        s.events()

    def fetched(transport):
        assert s.endpoint.poll_transmit(transport)
        return bytes(s.endpoint.tx_buf), s.endpoint.tx_peer

    for mid in (0, 10):
        asked(mid)
        ex = s.endpoint.open(s.network.now, "other", s.link)
        s.endpoint.begin(ex, GET).option(11, b"theirs")
        s.endpoint.send(s.network.now, ex)
        data, peer = fetched(s.link)  # while the reply waits
        assert peer == "other" and data.endswith(b"theirs")
        data, peer = fetched(stalled)
        assert peer == "p" and data[:4] == bytes((0x60, CONTENT, 0, mid)) and data.endswith(b"hi")
        for n in (1, 2):
            asked(mid + n)
            assert fetched(stalled)[1] == "p"
        s.network.advance(100000)  # what was asked of "other" is sent again, or given up: another datagram in between
        s.endpoint.handle_timeout(s.network.now)
        s.events()
        s.endpoint.release(ex)
        s.sent()
        asked(mid + 3)
        assert fetched(stalled)[1] == "p" and not s.endpoint.poll_transmit(stalled)


def test_a_reply_goes_to_who_asked_after_a_request_of_ours_to_another():
    s = server(probing_rate=0)
    s.serve("t", lambda request, response: response.text("hi"))
    for mid in (1, 2, 3):
        ((data, peer),) = s.receive(message(CON, GET, mid, b"", path("t")), "p")
        assert peer == "p" and data[3] == mid
        ex = s.get("other", "t")
        assert s.network.log[-1][2] == "other"
        s.endpoint.release(ex)


# Slots given back


def test_a_request_that_does_not_fit_gives_its_slot_back():
    c = client(exchanges=1, tx_slots=1, mtu=100)
    for confirmable in (True, False, True):
        ex = c.endpoint.open(c.network.now, "s", c.link, confirmable)
        out = c.endpoint.begin(ex, GET)
        out.option(11, bytes(60))
        out.write(bytes(36))
        raises(ValueError, c.endpoint.send, c.network.now, ex)
        assert (
            c.endpoint.spare == 1
            and not c.endpoint.full()
            and not c.endpoint.due
            and not c.endpoint.counts[22]
            and c.sent() == []
        )


def test_a_request_that_is_given_up_before_it_is_sent_leaves_no_trace():
    c = client(exchanges=1, tx_slots=1)
    ex = c.request("other", GET, ("t",), confirmable=False, timeout_ms=1000)  # which is not answered
    c.network.run_for(100000)
    for confirmable in (False, True):
        for written in (False, True):
            ex = c.endpoint.open(c.network.now, "s", c.link, confirmable)
            if written:
                c.endpoint.begin(ex, GET)
            c.endpoint.release(ex)
            assert c.endpoint.spare == 1 and not c.endpoint.full() and not c.endpoint._probing
    ex = c.endpoint.open(c.network.now, "s", c.link)
    c.endpoint.begin(ex, GET)
    c.endpoint.send(c.network.now, ex)
    c.endpoint.release(ex)
    assert c.endpoint.due == 0 and not c.endpoint.counts[22] and c.sent() == []
    assert c.get("next", "t") is ex and c.network.log[-1][2] == "next"  # whoever has the slot then is sent


def test_a_request_that_is_being_written_counts_for_nstart():
    c = client()
    assert c.endpoint.open(c.network.now, "s", c.link) is not None
    assert c.endpoint.open(c.network.now, "s", c.link) is None
    assert c.endpoint.open(c.network.now, "other", c.link) is not None


def test_an_exchange_released_twice_is_free_once():
    c = client()
    ex = c.get("s", "t")
    for _ in range(3):
        c.endpoint.release(ex)
    opened = [c.endpoint.open(c.network.now, "p%d" % i, c.link, False) for i in range(4)]
    assert opened[3] is None and len(set(id(ex) for ex in opened[:3])) == 3


def test_a_silent_peer_s_exchange_released_twice_holds_it_back_still():
    c = client()
    ex = c.request("s", GET, ("t",), confirmable=False, timeout_ms=1000)
    ex.message = "what became of it"
    c.network.run_for(1000)  # its owner releases it
    c.endpoint.release(ex)
    assert c.endpoint._probing == 1 and c.get("s", "t") is None and ex.message is None
    c.endpoint.freed = False
    c.network.run_for(12999)
    assert c.get("s", "t") is None
    c.network.run_for(1)
    assert c.endpoint.freed and c.endpoint._probing == 0 and c.endpoint.poll_timeout(c.network.now) == -1


def test_probing_rate_is_in_bytes_a_second():
    for rate, ms in ((1, 14000), (2, 7000), (28, 500)):
        c = client(probing_rate=rate)
        ex = c.request("s", GET, ("t",), confirmable=False)
        c.endpoint.release(ex)
        assert c.endpoint.probing_ms(c.network.now, "s", c.link) == ms
        c.network.advance(ms + 1)  # the timer is late
        assert c.endpoint.probing_ms(c.network.now, "s", c.link) == 0


def test_what_is_asked_of_a_silent_peer_beside_each_other_counts_together():
    # RFC 7252 4.7: 14 bytes each, at one byte a second
    c = client(nstart=3)
    for i in range(3):
        c.request("s", GET, ("t",), confirmable=False, timeout_ms=2000 + i)
    c.network.run(lambda: len(c.results) == 3, 20)
    assert c.endpoint.probing_ms(c.network.now, "s", c.link) == 3 * 14000 - 2002
    c.network.run_for(3 * 14000 - 2003)
    assert c.get("s", "t") is None and c.endpoint._probing == 1
    c.network.run_for(1)
    assert c.get("s", "t") is not None and c.endpoint._probing == 0
    # what was sent when the former debt was paid already begins anew
    c = client(nstart=2)
    first = c.request("s", GET, ("t",), confirmable=False, timeout_ms=100000)
    c.network.advance(20000)
    second = c.request("s", GET, ("t",), confirmable=False, timeout_ms=100000)
    c.endpoint.release(first)
    c.endpoint.release(second)
    assert c.endpoint.probing_ms(c.network.now, "s", c.link) == 14000
    assert not c.endpoint.full() and c.endpoint.poll_timeout(c.network.now) <= 14000


def test_a_non_that_took_a_con_s_slot_is_a_non_s():
    c = client(exchanges=1)
    c.get("gone", "t")
    c.network.run(lambda: c.results, 50)
    c.request("s", GET, ("t",), confirmable=False, timeout_ms=1000)
    c.network.run(lambda: len(c.results) == 2, 50)
    assert c.endpoint.probing_ms(c.network.now, "s", c.link) == 13000  # 14 bytes that were sent once


def test_giving_up_an_acknowledged_request_lets_others_try():
    c = client()
    ex = c.get("s", "t")
    c.receive(message(ACK, 0, ex.mid), "s")
    c.endpoint.freed = False
    c.endpoint.release(ex)
    assert c.endpoint.freed


def test_an_event_that_is_released_before_it_is_polled_does_not_come():
    for ending in (lambda ex: None, lambda ex: message(RST, 0, ex.mid)):
        c = client()
        ex = c.get("s", "t")
        data = ending(ex)
        if data:
            c.endpoint.handle_datagram(c.network.now, data, "s", c.link)
        else:
            c.network.advance(100000)
            c.endpoint.handle_timeout(c.network.now)
        assert c.endpoint.ended == 1
        c.endpoint.release(ex)
        assert c.endpoint.ended == 0 and c.endpoint.poll_event() == 0


def test_a_request_that_timed_out_holds_no_buffer():
    c = client(tx_slots=1)
    c.get("gone", "t")
    c.network.advance(100000)
    c.endpoint.handle_timeout(c.network.now)
    assert c.endpoint.poll_event() == TIMEOUT  # its owner has not given it back yet
    assert c.get("s", "t") is not None


def test_exchanges_come_back_in_any_order():
    c = client(tx_slots=3, probing_rate=0)
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)):
        opened = [c.get("p%d" % i, "t") for i in range(3)]
        assert None not in opened and c.endpoint.full() and c.get("other", "t") is None
        for i in order:
            c.endpoint.release(opened[i])
        assert c.endpoint.spare == 3


def test_a_non_outlives_the_buffer_it_was_sent_from():
    s = server(exchanges=3, tx_slots=2)
    for mid in range(3):
        ex = s.request("p", GET, ("t",), confirmable=False)
        con = s.receive(message(CON, POST, mid, b"", path("long")))[1][0]  # buffers change places
        s.receive(message(ACK, 0, mid_of(con)))
        s.receive(message(NON, CONTENT, mid, bytes(ex.token)), "p")
        assert s.results[-1][0] == RESPONSE and not s.endpoint.full()
    assert None not in [s.endpoint.open(s.network.now, "p%d" % i, s.link, False) for i in range(3)]


def test_without_a_free_exchange_a_long_reply_is_piggybacked():
    s = server(exchanges=1, tx_slots=3)
    s.get("gone", "t")
    ((reply, _),) = s.receive(message(CON, POST, 5, b"", path("long")))
    assert reply[0] >> 4 == 6 and len(reply) > 90


def test_an_async_slot_is_no_request_s_and_serves_one_at_a_time():
    s = server(exchanges=1, tx_slots=3)
    for mid in (1, 2):
        assert s.receive(message(NON, GET, mid, b"", path("slow"))) == []
    ((reply, _),) = s.receive(message(NON, GET, 3, b"", path("slow")))
    assert reply[1] == 163  # both slots are taken
    s.finish_task()
    s.finish_task()
    assert [data[1] for _, _, _, data in s.network.log] == [CONTENT] * 2
    assert s.get("p", "t") is not None and s.get("q", "t") is None


def test_an_async_handler_that_is_cancelled_gives_its_slot_back():
    for kind in (CON, NON):
        s = server()
        for mid in range(5):
            assert s.receive(message(kind, GET, mid, b"", path("slow"))) == []
            coroutine, ex = s.tasks.pop()
            coroutine.close()
            s.endpoint.release(ex)
        s.network.run_for(10000)
        assert s.network.log == [] and s.endpoint.counters.refused == 0


def test_a_separate_response_may_have_message_id_0():
    s = server()
    s.endpoint.mid = 0xFFFF
    con = s.receive(message(CON, POST, 5, b"", path("long")))[1][0]
    assert mid_of(con) == 0 and s.endpoint.counters.no_mids == 0


def test_who_waits_for_a_message_id_is_woken():
    # RFC 7252 4.4: 32,768 of them last for EXCHANGE_LIFETIME
    c = client()
    c.endpoint.mid = 0x7FFF
    c.endpoint.release(c.endpoint.open(c.network.now, "s", c.link))
    assert c.endpoint.poll_timeout(c.network.now) == 247000


def test_the_first_message_id_is_random():
    asked = []

    def random(bits):
        asked.append(bits)
        return 0x1234

    c = client(random=random)
    assert asked[0] == 16 and c.get("s", "t").mid == 0x1235
