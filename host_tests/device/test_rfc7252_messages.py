"""Rules of RFC 7252 3 and 4 that no other module tests: types and codes, Message IDs, late timers, PROBING_RATE.

lib/coaplet/RFC7252.md lists every rule with its test.
"""

from coaplet.endpoint import REFUSED, RESET, RESPONSE, TIMEOUT, Endpoint
from coaplet.many import ManyEndpoint
from helpers import ACK, CON, NON, RST, message, path, raises, read
from net import Host, Network
from rfc7252_fixture import GET, POST, asked, client, on_each_endpoint, separate, serving

# 3, 4.2, 4.3: which type may carry what, and what it is answered with


def test_each_type_with_each_code_is_answered_as_table_1_says():
    s = serving()
    mid = 0
    for kind in (CON, NON, ACK, RST):
        for code in range(256):
            mid += 1
            request = 0 < code < 32
            sent = s.receive(message(kind, code, mid, b"", path("quick") if code else ()))
            if kind > NON:
                assert sent == [], (kind, code)
            elif request:
                ((data, _),) = sent
                reply = read(data)
                assert reply[0] == (ACK if kind == CON else NON) and reply[1] >> 5 in (2, 4), (kind, code)
                assert (reply[2] == mid) == (kind == CON)
            elif kind == CON:  # a ping, a reserved class, a response that nobody waits for
                assert sent == [(message(RST, 0, mid), "raw")], code
            else:
                assert sent == [], code
            for data, _ in sent:
                assert data[0] >> 6 == 1 and data[0] & 15 <= 8
    assert s.calls == ["quick"] * 4


def test_a_rejected_con_that_is_repeated_is_rejected_again():
    # RFC 7252 4.5: the same Acknowledgement or Reset
    s = serving()
    for data in (message(CON, GET, 5, b"", [], b"\xff")[:5], message(CON, 0, 6), message(CON, 69, 7, b"t")):
        first = s.receive(data)
        assert len(first) == 1 and first[0][0][0] >> 4 & 3 == RST
        assert s.receive(data) == first


@on_each_endpoint
def test_a_refused_response_that_is_repeated_is_rejected_again():
    _, c, _, token = asked()
    for _ in range(2):
        assert c.receive(message(CON, 69, 9, token, [(19, b"")]), "s") == [(message(RST, 0, 9), "s")]
    assert [r[0] for r in c.results] == [REFUSED]


@on_each_endpoint
def test_acks_and_resets_that_are_none_change_nothing():
    # RFC 7252 4.2: rejected by being ignored, so the request is still outstanding
    network, c, mid, token = asked()
    for kind, code in ((ACK, GET), (ACK, 0x3F), (ACK, 0xC5), (RST, GET), (RST, 69), (RST, 0xE0)):
        assert c.receive(message(kind, code, mid, token), "s") == []
    for kind in (ACK, RST):
        assert c.receive(message(kind, 0, mid) + b"\xff", "s") == []
        assert c.receive(message(kind, 0, mid) + b"\x00", "s") == []
    assert c.receive(message(ACK, 69, mid, token)[:-1], "s") == []
    assert c.receive(message(ACK, 69, mid, token) + b"\xff", "s") == []
    assert c.results == []
    network.run_for(10000)
    assert len(network.log) == 3
    c.receive(message(ACK, 69, mid, token), "s")
    assert c.results[0][:2] == (RESPONSE, 69)


def test_a_reserved_class_is_no_response_even_where_one_is_waited_for():
    for code in (0x20, 0x21, 0x3F, 0xC0, 0xC5, 0xFF):
        network, c, mid, token = asked()
        assert c.receive(message(ACK, code, mid, token), "s") == []
        assert c.receive(message(NON, code, 7, token), "s") == []
        assert c.receive(message(CON, code, 8, token), "s") == [(message(RST, 0, 8), "s")]
        assert c.results == []
        c.receive(message(ACK, 69, mid, token), "s")
        assert c.results[0][:2] == (RESPONSE, 69)


# 4.4: matching an ACK or RST


@on_each_endpoint
def test_an_empty_ack_or_reset_matches_by_mid_peer_and_transport():
    for kind in (ACK, RST):
        network, c, mid, _ = asked()
        c.receive(message(kind, 0, mid ^ 1), "s")
        c.receive(message(kind, 0, mid), "other")
        c.endpoint.handle_datagram(network.now, message(kind, 0, mid), "s", object())
        c.events()
        network.run_for(10000)
        assert len(network.log) == 3 and c.results == []
        c.receive(message(kind, 0, mid), "s")
        network.run_for(40000)
        assert len(network.log) == 3
        assert [r[0] for r in c.results] == ([] if kind == ACK else [RESET])


@on_each_endpoint
def test_an_empty_ack_does_not_end_the_wait_for_a_non_request():
    # RFC 7252 4.3: a NON is not acknowledged
    network, c, mid, token = asked(confirmable=False)
    c.receive(message(ACK, 0, mid), "s")
    c.receive(message(NON, 69, 1, token), "s")
    assert c.results[0][:2] == (RESPONSE, 69)


@on_each_endpoint
def test_the_first_message_id_is_random():
    values = [0x1234, 0xFFFF, 0]
    for value in values:
        c = Host("c", Network(), random=lambda bits, value=value: value & ((1 << bits) - 1))
        ex = c.get("s", "t")
        assert ex.mid == (value + 1) & 0xFFFF
    asked_for = []
    Endpoint(random=lambda bits: asked_for.append(bits) or 1)
    assert asked_for[0] == 16


@on_each_endpoint
def test_messages_of_all_types_to_a_peer_have_message_ids_of_their_own():
    # RFC 7252 4.3: the MIDs of NON come from the same numbers as those of CON
    s = serving(probing_rate=0)
    mids = set()
    for _ in range(20):
        for kind, where in ((NON, "quick"), (CON, "long")):
            s.mid += 1
            reply = s.receive(message(kind, POST, s.mid, b"t", path(where)), "p")[-1][0]
            mids.add(read(reply)[2])
            s.receive(message(ACK, 0, read(reply)[2]), "p")
        for confirmable in (True, False):
            ex = s.request("p", GET, ("t",), confirmable=confirmable)
            mids.add(ex.mid)
            s.endpoint.release(ex)
        ex = s.endpoint.open(s.network.now, "p", s.link)
        s.endpoint.begin(ex, 0)
        s.endpoint.send(s.network.now, ex)
        mids.add(ex.mid)
        s.endpoint.release(ex)
    assert len(mids) == 100


def count_from(c, mid):
    """Go on with the Message ID after `mid`, as if all before it had been used at once."""
    if isinstance(c.endpoint, ManyEndpoint):
        c.endpoint._mids["s", c.link][0] = mid
    else:
        c.endpoint.mid = mid


@on_each_endpoint
def test_message_ids_come_again_after_exchange_lifetime_at_the_earliest():
    # RFC 7252 4.4: the 32,768 IDs of one half are used while those of the other grow old
    network, c = client(random=lambda bits: 0x7FF0 & (1 << bits) - 1)

    def used(first, last):
        mids = []
        while not mids or mids[-1] != last:
            ex = c.endpoint.open(network.now, "s", c.link)
            mids.append(ex.mid)
            c.endpoint.release(ex)
        assert mids[0] == first

    used(0x7FF1, 0x8005)
    for first, last in ((0xFFF0, 0xFFFF), (0x7FF0, 0x7FFF)):
        count_from(c, first - 1)
        used(first, last)
        c.endpoint.freed = False
        assert c.endpoint.open(network.now, "s", c.link) is None
        network.run_for(246999)
        assert c.endpoint.open(network.now, "s", c.link) is None and not c.endpoint.freed
        network.run_for(1)
        assert c.endpoint.freed  # whoever waits may try again
        used((last + 1) & 0xFFFF, (last + 5) & 0xFFFF)


@on_each_endpoint
def test_message_ids_are_free_again_however_long_it_runs():
    # what is noted of a use must not be compared with ticks that have wrapped since
    for busy in (False, True):
        for days in (1, 4, 7, 10, 13):
            network, c = client(random=lambda bits: 0x7FF0 & (1 << bits) - 1)
            for _ in range(16):
                c.endpoint.release(c.endpoint.open(network.now, "s", c.link))
            for _ in range(24 * days):
                network.advance(3600000)
                if c.endpoint.poll_timeout(network.now) == 0:
                    c.endpoint.handle_timeout(network.now)
                if busy:
                    c.receive(message(NON, GET, 1, b"", path("x")))
            count_from(c, 0xFFFF)
            assert c.endpoint.open(network.now, "s", c.link).mid == 0, (busy, days)


def test_each_of_many_peers_has_message_ids_of_its_own():
    # RFC 7252 4.4: "to the same endpoint"; peers beyond the table's size share one count
    network = Network()
    many = ManyEndpoint(exchanges=3, duplicates=1, random=network.random.bits)
    used = {}
    for i in range(300):
        peer = i * i % 7
        ex = many.open(network.now, peer, "link")
        mids = used.setdefault(peer, [])
        assert ex.mid not in mids, (i, peer)
        mids.append(ex.mid)
        many.release(ex)
        network.advance(1000 * (i % 3))
    many._mids[0, "link"][0] = 0xFFFF
    many._mids[0, "link"][1] = many._time + 100000
    assert many.open(network.now, 0, "link") is None
    assert many.open(network.now, 1, "link") is not None


# 4.7: NSTART


@on_each_endpoint
def test_a_separate_response_that_waits_for_its_ack_keeps_no_request_waiting():
    # an interaction is one of ours as a client: see the table
    for where, code in (("long", POST), ("slow", GET)):
        s = serving(tx_slots=4)
        separate(s, where, code, 9)
        assert s.get("raw", "x") is not None and s.get("raw", "x") is None


# 4.7: PROBING_RATE


@on_each_endpoint
def test_who_answered_nothing_is_left_alone_for_as_long_as_probing_rate_says():
    network, c = client(probing_rate=1)
    ex = c.request("s", POST, ("t",), b"x" * 185, confirmable=False, timeout_ms=1000)
    size = len(network.log[0][3])
    assert size == 200 and bytes(ex.token)
    network.run_for(2000)
    assert c.results[0][0] == TIMEOUT
    assert c.get("s", "t") is None and c.get("other", "t") is not None
    network.run_for(1000 * size - 2001)
    assert c.get("s", "t") is None
    network.run_for(2)
    assert c.get("s", "t") is not None


@on_each_endpoint
def test_an_acknowledged_request_without_a_response_counts_against_probing_rate():
    network, c = client(probing_rate=1)
    ex = c.post("s", "t", b"x" * 185)
    c.receive(message(ACK, 0, ex.mid), "s")
    network.run_for(94000)
    assert c.results[0][0] == TIMEOUT and c.get("s", "t") is None
    assert 105000 < c.endpoint.probing_ms(network.now, "s", c.link) <= 106000
    network.run_for(106000)
    assert c.get("s", "t") is not None


@on_each_endpoint
def test_a_con_that_is_given_up_counts_each_time_it_was_sent():
    for timeout_ms, times in ((1000, 1), (4000, 2)):
        network, c = client(probing_rate=1, ack_random_percent=0)
        c.request("s", GET, ("t",), timeout_ms=timeout_ms)
        network.run_for(timeout_ms)
        assert len(network.log) == times and c.results[0][0] == TIMEOUT
        network.run_for(1000 * len(network.log[0][3]) * times - timeout_ms - 1)
        assert c.get("s", "t") is None
        network.run_for(1)
        assert c.get("s", "t") is not None


@on_each_endpoint
def test_a_con_that_is_given_up_keeps_its_peer_waiting_for_max_transmit_wait_at_most():
    network, c = client(probing_rate=1)
    c.endpoint.release(c.post("s", "t", b"x" * 500))  # cancelled
    network.run_for(92999)
    assert c.get("s", "t") is None
    network.run_for(1)
    assert c.get("s", "t") is not None


@on_each_endpoint
def test_what_a_peer_owes_under_probing_rate_is_forgotten_when_others_need_its_exchange():
    # a deviation: memory
    network, c = client(probing_rate=1, exchanges=1)
    c.request("s", GET, ("t",), timeout_ms=1000)
    network.run_for(2000)
    assert c.get("s", "t") is None and c.get("other", "t") is not None


@on_each_endpoint
def test_whoever_says_something_is_asked_again_at_once():
    network, c = client(probing_rate=1)
    c.request("s", GET, ("t",), confirmable=False, timeout_ms=1000)
    network.run_for(2000)
    assert c.get("s", "t") is None
    c.receive(message(NON, 69, 1, b"late"), "s")
    assert c.get("s", "t") is not None


# 4.8: parameters


def test_the_parameters_have_the_defaults_of_tables_2_and_3():
    p = Endpoint().parameters
    assert (p.ack_timeout_ms, p.jitter_ms) == (2000, 1000)
    assert (p.max_retransmit, p.nstart, p.leisure_ms, p.probing_rate) == (4, 1, 5000, 1)
    assert (p.max_transmit_span_ms, p.max_transmit_wait_ms) == (45000, 93000)
    assert (p.exchange_lifetime_ms, p.non_lifetime_ms) == (247000, 145000)


def test_other_parameters_change_what_derives_from_them():
    p = Endpoint(ack_timeout_ms=1000, ack_random_percent=100, max_retransmit=2).parameters
    assert (p.max_transmit_span_ms, p.max_transmit_wait_ms) == (6000, 14000)
    assert (p.exchange_lifetime_ms, p.non_lifetime_ms) == (207000, 106000)
    # RFC 7252 4.8.2: the short formula holds while the last wait, here 120 s, is below MAX_LATENCY
    p = Endpoint(ack_timeout_ms=5000).parameters
    assert p.exchange_lifetime_ms > p.max_transmit_span_ms + 2 * 100000 + 5000
    assert p.exchange_lifetime_ms >= p.max_transmit_wait_ms + 100000


def test_parameters_that_rfc_7252_forbids_are_refused():
    for limits in (
        {"ack_random_percent": -1}, {"ack_timeout_ms": 0}, {"nstart": 0}, {"max_retransmit": -1}, {"max_retransmit": 30}
    ):  # fmt: skip
        raises(ValueError, Endpoint, **limits)


# 4.2: the number of transmissions, and late timers


@on_each_endpoint
def test_a_con_is_sent_max_retransmit_times_again():
    for most in (0, 1, 4, 6):
        for percent in (50, 300):  # where the span would leave time for more
            network, c = client(max_retransmit=most, ack_random_percent=percent)
            c.get("gone", "t")
            network.run(lambda: c.results, 50)
            assert len(network.log) == 1 + most and c.results[0][0] == TIMEOUT


def test_a_late_retransmission_keeps_the_least_spacing():
    network, c, _, _ = asked()
    network.advance(7000)  # the first one was due after 2 to 3 s, the second after 6 to 9
    network.run(lambda: len(network.log) == 3, 20)
    assert network.log[1][0] == 7000 and network.log[2][0] - 7000 >= 2000


@on_each_endpoint
def test_however_late_the_timer_no_transmission_leaves_max_transmit_span():
    for late in (0, 1000, 3000, 7000, 20000, 44000, 46000):
        network, c, _, _ = asked()
        while not c.results:
            wait = c.endpoint.poll_timeout(network.now)
            network.advance(wait + late)
            c.endpoint.handle_timeout(network.now)
            c.events()
            network.collect(c)
        assert c.results[0][0] == TIMEOUT
        assert max(at for at, _, _, _ in network.log) <= 45000, late
