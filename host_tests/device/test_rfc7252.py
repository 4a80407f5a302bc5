"""Rules of RFC 7252 that no other module tests: what a message may be answered with, matching, late timers.

lib/coaplet/RFC7252.md lists every rule with its test.
"""

import asyncio

from coaplet import CoapError, Node
from coaplet.client import Remote
from coaplet.driver import Driver
from coaplet.endpoint import REFUSED, RESET, RESPONSE, TIMEOUT, Endpoint
from helpers import ACK, CON, NON, RST, RawPeer, message, path, raises, raises_async, read
from net import Host, Network, Random
from site_fixture import Site

GET, POST, PUT = 1, 2, 3


def client(**limits):
    network = Network()
    return network, Host("c", network, **limits)


def asked(confirmable=True):
    """(network, client, mid, token) of a GET to "s" that waits for its answer."""
    network, c = client()
    ex = c.request("s", GET, ("t",), confirmable=confirmable)
    return network, c, ex.mid, bytes(ex.token)


def serving(**limits):
    """A site with a resource for each way to answer: "quick", "long" (of a POST: a separate response) and "slow"."""
    s = Site(**limits)

    def quick(request, response):
        s.calls.append("quick")
        response.text("1")

    def long(request, response):
        s.calls.append("long")
        response.text("x" * 200)

    async def slow(request, response):
        s.calls.append("slow")
        response.text("1")

    s.serve("quick", quick, "GET POST")
    s.serve("long", long, "POST")
    s.serve("slow", slow, "GET POST")
    return s


def separate(s, where, code, mid, token=b"tk"):
    """Ask for an answer that comes as a separate response; returns the CON that carries it."""
    sent = s.receive(message(CON, code, mid, token, path(where)))
    if where == "slow":
        s.network.run_for(300)
        sent = [(s.network.log[-1][3], None)]
        s.finish_task()
        sent.append((s.network.log[-1][3], None))
    (ack, _), (con, _) = sent
    assert ack == message(ACK, 0, mid)
    return con


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


def test_a_refused_response_that_is_repeated_is_rejected_again():
    _, c, _, token = asked()
    for _ in range(2):
        assert c.receive(message(CON, 69, 9, token, [(19, b"")]), "s") == [(message(RST, 0, 9), "s")]
    assert [r[0] for r in c.results] == [REFUSED]


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


def test_an_empty_ack_does_not_end_the_wait_for_a_non_request():
    # RFC 7252 4.3: a NON is not acknowledged
    network, c, mid, token = asked(confirmable=False)
    c.receive(message(ACK, 0, mid), "s")
    c.receive(message(NON, 69, 1, token), "s")
    assert c.results[0][:2] == (RESPONSE, 69)


def test_the_first_message_id_is_random():
    values = [0x1234, 0xFFFF, 0]
    for value in values:
        c = Host("c", Network(), random=lambda bits, value=value: value & ((1 << bits) - 1))
        ex = c.get("s", "t")
        assert ex.mid == (value + 1) & 0xFFFF
    asked_for = []
    Endpoint(random=lambda bits: asked_for.append(bits) or 1)
    assert asked_for[0] == 16


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
        c.endpoint._mid = first - 1  # as if all before it had been used at once
        used(first, last)
        c.endpoint.freed = False
        assert c.endpoint.open(network.now, "s", c.link) is None
        network.run_for(246999)
        assert c.endpoint.open(network.now, "s", c.link) is None and not c.endpoint.freed
        network.run_for(1)
        assert c.endpoint.freed  # whoever waits may try again
        used((last + 1) & 0xFFFF, (last + 5) & 0xFFFF)


# 4.7: PROBING_RATE


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


def test_an_acknowledged_request_without_a_response_counts_against_probing_rate():
    network, c = client(probing_rate=1)
    ex = c.post("s", "t", b"x" * 185)
    c.receive(message(ACK, 0, ex.mid), "s")
    network.run_for(94000)
    assert c.results[0][0] == TIMEOUT and c.get("s", "t") is None
    assert 105000 < c.endpoint.probing_ms(network.now, "s", c.link) <= 106000
    network.run_for(106000)
    assert c.get("s", "t") is not None


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
    assert (p.max_transmit_span_ms, p.max_transmit_wait_ms, p.max_latency_ms) == (45000, 93000, 100000)
    assert (p.processing_delay_ms, p.max_rtt_ms) == (2000, 202000)
    assert (p.exchange_lifetime_ms, p.non_lifetime_ms) == (247000, 145000)


def test_other_parameters_change_what_derives_from_them():
    p = Endpoint(ack_timeout_ms=1000, ack_random_percent=100, max_retransmit=2).parameters
    assert (p.max_transmit_span_ms, p.max_transmit_wait_ms, p.processing_delay_ms) == (6000, 14000, 1000)
    assert (p.exchange_lifetime_ms, p.non_lifetime_ms) == (207000, 106000)
    # RFC 7252 4.8.2: the short formula holds while the last wait, here 120 s, is below MAX_LATENCY
    p = Endpoint(ack_timeout_ms=5000).parameters
    assert p.exchange_lifetime_ms > p.max_transmit_span_ms + 2 * p.max_latency_ms + p.processing_delay_ms
    assert p.exchange_lifetime_ms >= p.max_transmit_wait_ms + p.max_latency_ms


def test_parameters_that_rfc_7252_forbids_are_refused():
    for limits in (
        {"ack_random_percent": -1}, {"ack_timeout_ms": 0}, {"nstart": 0}, {"max_retransmit": -1}, {"max_retransmit": 30}
    ):  # fmt: skip
        raises(ValueError, Endpoint, **limits)


# 4.2: the number of transmissions, and late timers


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


# 5.2: the ways of a response


def test_a_con_response_to_a_non_request_is_taken_and_acknowledged():
    _, c, _, token = asked(confirmable=False)
    assert c.receive(message(CON, 69, 7, token, [], b"yes"), "s") == [(message(ACK, 0, 7), "s")]
    assert c.results[0][:3] == (RESPONSE, 69, b"yes")


def test_a_piggybacked_response_to_a_non_request_is_none():
    # RFC 7252 5.2.1: it requires that the request was Confirmable
    _, c, mid, token = asked(confirmable=False)
    assert c.receive(message(ACK, 69, mid, token), "s") == [] and c.results == []


def test_a_non_response_after_the_empty_ack_is_taken_once():
    network, c, mid, token = asked()
    c.receive(message(ACK, 0, mid), "s")
    for _ in range(2):
        assert c.receive(message(NON, 69, 7, token, [], b"yes"), "s") == []
    assert [r[:3] for r in c.results] == [(RESPONSE, 69, b"yes")]
    network.run_for(100000)
    assert len(network.log) == 1


def test_a_response_ends_the_request_before_its_retransmission():
    # RFC 7252 4.2, 5.2.2: with or without the ACK, nothing is sent again
    for kind in (CON, NON):
        network, c, _, token = asked()
        c.receive(message(kind, 69, 7, token), "s")
        network.run_for(100000)
        assert len(network.log) == 1 and len(c.results) == 1


def test_a_separate_response_stops_at_an_ack_or_reset_of_its_own():
    for where, code in (("long", POST), ("slow", GET), ("slow", POST)):
        for kind in (ACK, RST):
            s = serving()
            con = separate(s, where, code, 9)
            mid = con[2] << 8 | con[3]
            s.receive(message(kind, 0, mid ^ 1))
            s.receive(message(kind, 0, mid), "other")
            before = len(s.network.log)
            s.network.run_for(4000)
            assert s.network.log[before][3] == con  # not acknowledged: once more
            before = len(s.network.log)
            assert s.receive(message(kind, 0, mid)) == []
            s.network.run_for(100000)
            assert len(s.network.log) == before, (where, kind)


def test_the_empty_ack_is_sent_again_after_the_separate_response_was_acknowledged():
    # RFC 7252 4.2: the state to create the ACK is retained; 5.2.2: the response never follows in another ACK
    for where, code in (("long", POST), ("slow", GET), ("slow", POST)):
        s = serving()
        con = separate(s, where, code, 9)
        s.receive(message(ACK, 0, con[2] << 8 | con[3]))
        for _ in range(3):
            s.network.run_for(20000)
            assert s.receive(message(CON, code, 9, b"tk", path(where))) == [(message(ACK, 0, 9), "raw")]
        assert len(s.calls) == 1 and s.tasks == []


# 5.3.1: tokens


def test_a_token_of_any_length_comes_back_in_any_response():
    for n in range(9):
        token = bytes((255, 0, 1, 0x80, 255, 0, 9, 8)[:n])
        s = serving()
        for kind, code, options in (
            (CON, GET, path("quick")), (NON, GET, path("quick")), (CON, GET, path("nothing")),
            (CON, GET, path("quick") + [(19, b"")]), (CON, 31, path("quick")), (CON, GET, [(35, b"coap://x")]),
            (NON, POST, path("long")), (CON, GET, path("long")),
        ):  # fmt: skip
            s.mid += 1
            ((data, _),) = s.receive(message(kind, code, s.mid, token, options))
            assert read(data)[3] == token, (kind, code, options)
        for where, code in (("long", POST), ("slow", GET)):
            s.mid += 1
            assert read(separate(s, where, code, s.mid, token))[3] == token
        s.mid += 1
        first = s.receive(message(CON, POST, s.mid, token, path("quick")))
        assert read(first[0][0])[3] == token == read(s.receive(message(CON, POST, s.mid, b"", path("quick")))[0][0])[3]


def test_tokens_differ_in_forty_bits_from_one_connection_to_the_next():
    tokens = [Remote(None, None, None, None, "")._token for _ in range(50)]
    for i in range(40):
        assert len(set(token[i // 8] >> i % 8 & 1 for token in tokens)) == 2, i


# 5.2, 5.5, 5.9: what a client makes of codes and payloads


async def answered(code, options=(), payload=b"", method=GET):
    """What a request comes to that is answered so."""
    peer = RawPeer()
    try:
        async with Node() as node:
            remote = await node.connect(peer.uri)
            task = asyncio.create_task(remote.request(method, "x", timeout_ms=5000))
            seen = await peer.receive()
            peer.send(message(ACK, code, seen[2], seen[3], options, payload))
            return await task
    finally:
        peer.close()


async def test_a_success_that_nobody_knows_is_a_success():
    for code in (64, 70, 94, 95):
        assert (await answered(code)).code == code


async def test_an_error_that_nobody_knows_is_an_error_of_its_class():
    for code, text in ((128, "4.00 Bad Request"), (159, "4.31"), (160, "5.00 Internal Server Error"), (191, "5.31")):
        error = await raises_async(CoapError, answered(code))
        assert error.code == code and str(error) == text


async def test_valid_in_reply_to_a_post_is_a_success():
    # not what RFC 7252 5.9.1.3 means it for; Golioth answers so
    reply = await answered(67, [(4, b"\0\0\0\0\0\0\xca\x0c"), (12, b"")], b"OK", POST)
    assert reply.code == 67 and reply.payload == b"OK"


async def test_the_payload_of_an_error_is_its_text_only_without_a_content_format():
    error = await raises_async(CoapError, answered(131, (), b"not you"))
    assert error.text == "not you"
    error = await raises_async(CoapError, answered(131, [(12, b"\x32")], b"{}"))
    assert error.text == "" and error.reply.payload == b"{}" and error.reply.content_format == 50
    error = await raises_async(CoapError, answered(131, (), b"\xff\xfe"))
    assert error.text == ""


# 5.4, 5.10: options


def test_strings_are_compared_byte_by_byte():
    # RFC 7252 3.2: no normalization; percent-encoding has no place in an option (5.10.1)
    s = Site("\u00e9", "a b")
    assert s.served("\u00e9") == "\u00e9" and s.served("a b") == "a b"
    for text in ("e\u0301", "\u00c9", "%C3%A9", "a%20b", "a+b"):
        assert s.served(text) is None, text


def test_a_request_for_another_host_or_port_is_served():
    # RFC 7252 5.10.1: both name the resource; who hosts one server alone looks neither up
    s = Site("a")
    assert s.ask([(3, b"other.example"), (7, b"\x27\x0f")] + path("a")) == (69, b"a")


def test_elective_options_beside_a_critical_one_are_ignored():
    s = Site("a")
    assert s.ask([(3, b"h"), (4, b""), (6, b"\0")] + path("a") + [(14, bytes(5)), (14, b""), (60000, b"x")]) == (
        69,
        b"a",
    )


def test_an_unknown_elective_option_of_a_response_is_ignored():
    _, c, mid, token = asked()
    c.receive(
        message(ACK, 69, mid, token, [(4, bytes(9)), (14, bytes(5)), (23, b""), (60000, b"x" * 300)], b"yes"), "s"
    )
    assert c.results[0][:3] == (RESPONSE, 69, b"yes")


def test_a_non_response_with_an_unknown_critical_option_is_not_taken():
    _, c, _, token = asked()
    assert c.receive(message(NON, 69, 7, token, [(19, b"")], b"no"), "s") == []
    assert [r[:3] for r in c.results] == [(REFUSED, 0, b"")]


def test_not_acceptable_has_no_payload():
    # RFC 7252 5.9.2.7
    s = Site()
    s.add("a", ct=0)
    assert s.ask(path("a") + [(17, b"\x32")]) == (134, b"") and s.options == [] and s.calls == []


def test_max_age_is_60_where_it_is_absent():
    for options, age in (((), 60), ([(14, b"")], 0), ([(14, b"\1\0")], 256), ([(14, bytes(5))], 60)):
        _, c, mid, token = asked()
        seen = []
        c.endpoint.handle_datagram(c.network.now, message(ACK, 69, mid, token, options), "s", c.link)
        seen.append(c.endpoint.rx.max_age)
        assert seen == [age], options


# 5.9.1.3, 5.10.6, 5.10.8: ETags and conditions


def tagged(tags):
    """A site with a resource "a" whose ETag is tags[0], None where it does not exist."""
    s = Site()

    def handler(request, response):
        s.calls.append(request.method)
        response.text("x")

    s.serve("a", handler, "GET PUT DELETE", etag=lambda request: tags[0])
    return s


def test_a_get_with_the_right_etag_gets_valid_with_that_etag_and_no_payload():
    s = tagged([b"v2"])
    for options in ([(4, b"v2")], [(4, b"v1"), (4, b"v2")], [(4, bytes(9)), (4, b"v2")]):
        assert s.ask(options + path("a")) == (67, b"") and s.options == [(4, b"v2")]
    assert s.calls == []


def test_a_get_without_the_right_etag_gets_the_content_with_the_etag():
    s = tagged([b"v2"])
    for options in ([], [(4, b"v1")], [(4, b"v")], [(4, b"")], [(4, b"v22")]):
        assert s.ask(options + path("a")) == (69, b"x") and s.options == [(4, b"v2"), (12, b"")]
    assert s.ask([(4, b"v2")] + path("a"), PUT)[0] == 68  # an ETag is no condition there


def test_if_match_lets_pass_what_has_one_of_the_etags_or_exists():
    tags = [b"v2"]
    s = tagged(tags)
    for values, passes, passes_without in (
        ([b"v2"], True, False), ([b"v1", b"v2"], True, False), ([b""], True, False), ([b"v1"], False, False),
        ([b"v1", b"v3"], False, False), ([b"v"], False, False), ([], True, True),
    ):  # fmt: skip
        for tag, expected in ((b"v2", passes), (None, passes_without)):
            tags[0] = tag
            s.calls.clear()
            code = s.ask([(1, value) for value in values] + path("a"), PUT)[0]
            assert code == (68 if expected else 140) and len(s.calls) == expected, (values, tag)


def test_if_none_match_lets_pass_only_where_nothing_exists():
    tags = [b"v2"]
    s = tagged(tags)
    assert s.ask([(5, b"")] + path("a"), PUT)[0] == 140 and s.calls == []
    tags[0] = None
    assert s.ask([(5, b"")] + path("a"), PUT)[0] == 68 and s.calls == [PUT]
    tags[0] = b"v2"
    assert s.ask([(1, b"v2"), (5, b"")] + path("a"), PUT)[0] == 140  # never fulfilled together


def test_conditions_of_a_wrong_length_or_number_are_unrecognized():
    s = tagged([None])
    for options in ([(1, bytes(9))], [(5, b"x")], [(5, b""), (5, b"")]):
        assert s.ask(options + path("a"), PUT)[0] == 130, options
    assert s.calls == []


# 6.2, 7.1: schemes and ports


async def test_coaps_is_never_sent_in_the_clear():
    async with Node() as node:
        for uri in ("coaps://127.0.0.1", "COAPS://127.0.0.1:5683/x"):
            await raises_async(ValueError, node.connect(uri))
    raises(ValueError, Node, "coaps://127.0.0.1")


def test_without_a_port_a_node_listens_at_5683():
    assert [Driver(uri)._transports[0]._port for uri in ("coap://0.0.0.0", "coap://[::]:", "coap://[::]:61616")] == [
        5683, 5683, 61616,
    ]  # fmt: skip


# 8: groups


def test_a_group_request_of_any_fault_is_met_with_silence():
    s = serving()
    for i, (kind, code, options) in enumerate(
        (
            (CON, GET, path("quick")), (CON, 0, ()), (NON, 0, ()), (NON, 0x21, ()), (NON, GET, path("nothing")),
            (NON, 9, path("quick")), (NON, GET, path("quick") + [(19, b"")]), (NON, GET, [(35, b"coap://x")]),
            (NON, 69, ()), (CON, 69, ()), (ACK, 0, ()), (RST, 0, ()),
        )
    ):  # fmt: skip
        assert s.receive(message(kind, code, i, b"", options), multicast=True) == [], i
    assert s.calls == []


def test_a_group_request_that_an_async_handler_fails_is_met_with_silence():
    s = Site()

    async def fails(request, response):
        raise CoapError(131)

    s.serve("fails", fails)
    assert s.receive(message(NON, GET, 1, b"", path("fails")), multicast=True) == []
    s.finish_task()
    assert s.network.log == [] and not any(ex.state for ex in s.endpoint.handlers)


def test_a_group_request_is_answered_some_time_within_the_leisure():
    waits = []
    for seed in range(20):
        s = Site("a", leisure_ms=5000, random=Random(seed).bits)
        assert s.receive(message(NON, GET, 1, b"t", path("a")), multicast=True) == []
        s.network.run_for(5000)
        ((at, _, to, data),) = s.network.log
        assert to == "raw" and read(data)[:2] == (NON, 69)
        waits.append(at)
    assert min(waits) < 1500 and max(waits) > 3500
