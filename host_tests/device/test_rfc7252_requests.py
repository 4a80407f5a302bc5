"""Rules of RFC 7252 5.2, 5.3, 5.5 and 5.9 that no other module tests: how a response comes, and what is made of it.

lib/coaplet/RFC7252.md lists every rule with its test.
"""

import asyncio

from coaplet import CoapError, Node, Reset
from coaplet.client import Remote
from coaplet.endpoint import RESET, RESPONSE
from helpers import ACK, CON, NON, RST, RawPeer, message, path, raises_async, read
from rfc7252_fixture import DELETE, FETCH, GET, POST, asked, on_each_endpoint, separate, serving
from site_fixture import Site

# 5.2: the ways of a response


@on_each_endpoint
def test_a_con_response_to_a_non_request_is_taken_and_acknowledged():
    _, c, _, token = asked(confirmable=False)
    assert c.receive(message(CON, 69, 7, token, [], b"yes"), "s") == [(message(ACK, 0, 7), "s")]
    assert c.results[0][:3] == (RESPONSE, 69, b"yes")


@on_each_endpoint
def test_a_piggybacked_response_to_a_non_request_is_none():
    # RFC 7252 5.2.1: it requires that the request was Confirmable
    _, c, mid, token = asked(confirmable=False)
    assert c.receive(message(ACK, 69, mid, token), "s") == [] and c.results == []


@on_each_endpoint
def test_a_non_response_after_the_empty_ack_is_taken_once():
    network, c, mid, token = asked()
    c.receive(message(ACK, 0, mid), "s")
    for _ in range(2):
        assert c.receive(message(NON, 69, 7, token, [], b"yes"), "s") == []
    assert [r[:3] for r in c.results] == [(RESPONSE, 69, b"yes")]
    network.run_for(100000)
    assert len(network.log) == 1


@on_each_endpoint
def test_a_response_ends_the_request_before_its_retransmission():
    # RFC 7252 4.2, 5.2.2: with or without the ACK, nothing is sent again
    for kind in (CON, NON):
        network, c, _, token = asked()
        c.receive(message(kind, 69, 7, token), "s")
        network.run_for(100000)
        assert len(network.log) == 1 and len(c.results) == 1


@on_each_endpoint
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


@on_each_endpoint
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


@on_each_endpoint
def test_an_ack_ends_a_separate_response_whatever_is_in_it():
    # RFC 7252 5.2.2: a code, options and payload in it are ignored
    for where, code in (("long", POST), ("slow", GET)):
        for token in (b"tk", b"", b"foreign"):
            s = serving()
            con = separate(s, where, code, 9)
            mid = con[2] << 8 | con[3]
            s.receive(message(ACK, 69, mid ^ 1, token))
            s.receive(message(ACK, 69, mid, token), "other")
            before = len(s.network.log)
            s.network.run_for(4000)
            assert len(s.network.log) == before + 1  # not acknowledged: once more
            assert s.receive(message(ACK, 69, mid, token, [(19, b"")], b"x")) == []
            s.network.run_for(100000)
            assert len(s.network.log) == before + 1 and s.results == [], (where, token)


@on_each_endpoint
def test_a_repeat_of_a_request_at_work_is_known_though_its_slot_was_taken():
    def crowd():
        for _ in range(20):
            s.mid += 1
            s.receive(message(CON, code, s.mid, b"", path("quick")), "crowd")

    for code in (GET, POST):
        s = serving()
        request = message(CON, code, 500, b"tk", path("slow"))
        s.receive(request)
        crowd()
        assert s.receive(request) == []  # its ACK is owed still
        s.network.run_for(300)
        assert s.network.log[-1][3] == message(ACK, 0, 500)
        for finished in (False, True):
            if finished:
                s.finish_task()
                assert read(s.network.log[-1][3])[:2] == (CON, 69 if code == GET else 68)
            crowd()
            assert s.receive(request) == [(message(ACK, 0, 500), "raw")]
        assert s.calls.count("slow") == 1 and s.tasks == []

        for mid, peer, tasks in ((500, "raw", 1), (501, "raw", 2), (500, "other", 2)):
            s = serving()
            request = message(NON, code, 500, b"tk", path("slow"))
            s.receive(request)
            crowd()
            assert s.receive(message(NON, code, mid, b"tk", path("slow")), peer) == []
            assert len(s.tasks) == tasks, (code, mid, peer)
            while s.tasks:
                s.finish_task()


@on_each_endpoint
def test_a_request_of_a_peer_that_has_just_ended_one_of_ours_is_served():
    # what became of ours is with its caller, who may not have looked yet
    s = serving()
    s.ask("slow")  # there are async handlers
    s.finish_task()
    ex = s.get("raw", "x")
    s.endpoint.handle_datagram(s.network.now, message(RST, 0, ex.mid), "raw", s.link)
    assert s.endpoint.poll_event() == RESET
    ex.message = Reset(0, "")  # as client.settle() does
    assert s.ask("quick") == (69, b"1")


@on_each_endpoint
def test_a_piggybacked_response_after_the_empty_ack_is_taken():
    # RFC 7252 5.3.2 matches it, though 5.2.2 forbids a server to send it
    _, c, mid, token = asked()
    c.receive(message(ACK, 0, mid), "s")
    for data, peer in ((message(ACK, 69, mid ^ 1, token), "s"), (message(ACK, 69, mid, token), "other")):
        assert c.receive(data, peer) == [] and c.results == []
    assert c.receive(message(ACK, 69, mid, token, [], b"yes"), "s") == []
    assert [r[:3] for r in c.results] == [(RESPONSE, 69, b"yes")]


# 5.3.1: tokens


@on_each_endpoint
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


def test_the_payload_of_a_get_or_delete_is_ignored():
    # RFC 7252 5.5
    s = Site()
    seen = []

    def plain(request, response):
        seen.append((request.payload, request.payload_size, request.copy_into(bytearray(9)), request.text()))

    async def slow(request, response):
        plain(request, response)

    s.serve("plain", plain, "GET POST DELETE FETCH")
    s.serve("slow", slow, "GET POST DELETE FETCH")
    for where in ("plain", "slow"):
        for code in (GET, DELETE, POST, FETCH):
            s.mid += 1
            s.receive(bytearray(message(CON, code, s.mid, b"", path(where), b"xy")))
            if s.tasks:
                s.finish_task()
            assert seen == [(b"", 0, 0, "") if code in (GET, DELETE) else (b"xy", 2, 2, "xy")], (where, code)
            seen.clear()


async def test_a_get_or_delete_is_not_sent_with_a_payload():
    async with Node() as node:
        remote = await node.connect("coap://127.0.0.1")
        for call in (
            remote.get("x", payload=b"y"), remote.get("x", json={}), remote.delete("x", payload=b""),
            remote.request(GET, "x", "y"),
        ):  # fmt: skip
            await raises_async(ValueError, call)
        assert node.counters.sent == 0


@on_each_endpoint
def test_unavailable_says_when_to_ask_again():
    # RFC 7252 5.9.3.4
    s = Site()

    async def slow(request, response):
        pass

    s.serve("slow", slow, etag=lambda request: b"v1")
    for _ in range(2):
        assert s.ask("slow") == (None, b"")
    assert s.ask("slow") == (163, b"") and s.options == [(14, b"\x05")]
    while s.tasks:
        s.finish_task()


async def test_the_payload_of_an_error_is_its_text_only_without_a_content_format():
    error = await raises_async(CoapError, answered(131, (), b"not you"))
    assert error.text == "not you"
    error = await raises_async(CoapError, answered(131, [(12, b"\x32")], b"{}"))
    assert error.text == "" and error.reply.payload == b"{}" and error.reply.content_format == 50
    error = await raises_async(CoapError, answered(131, (), b"\xff\xfe"))
    assert error.text == ""
