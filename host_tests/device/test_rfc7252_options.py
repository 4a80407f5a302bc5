"""Rules of RFC 7252 5.4, 5.6 and 5.10 that no other module tests: options, formats, ETags, conditions.

lib/coaplet/RFC7252.md lists every rule with its test.
"""

from coaplet import CoapError, Node
from coaplet.endpoint import REFUSED, RESPONSE
from coaplet.forward import cache_key
from helpers import ACK, CON, NON, RST, message, path, raises, raises_async, read
from rfc7252_fixture import FETCH, GET, POST, PUT, asked, on_each_endpoint, tagged
from site_fixture import Site

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


@on_each_endpoint
def test_an_unknown_elective_option_of_a_response_is_ignored():
    _, c, mid, token = asked()
    c.receive(
        message(ACK, 69, mid, token, [(4, bytes(9)), (14, bytes(5)), (23, b""), (60000, b"x" * 300)], b"yes"), "s"
    )
    assert c.results[0][:3] == (RESPONSE, 69, b"yes")


@on_each_endpoint
def test_a_non_response_with_an_unknown_critical_option_is_not_taken():
    _, c, _, token = asked()
    assert c.receive(message(NON, 69, 7, token, [(19, b"")], b"no"), "s") == []
    assert [r[:3] for r in c.results] == [(REFUSED, 0, b"")]


@on_each_endpoint
def test_a_response_with_an_option_of_requests_is_rejected():
    # RFC 7252 5.4: it is unrecognized there; table 4 has the critical ones
    for number in (1, 3, 5, 7, 11, 15, 17, 35, 39):
        for options in ([(number, b"x")], [(number, b"")], [(4, b"e"), (number, b"x"), (60, b"")]):
            for kind in (ACK, NON, CON):
                _, c, mid, token = asked()
                mid = mid if kind == ACK else 7
                sent = c.receive(message(kind, 69, mid, token, sorted(options), b"no"), "s")
                assert sent == ([(message(RST, 0, 7), "s")] if kind == CON else []), (number, kind)
                assert [r[:3] for r in c.results] == [(REFUSED, 0, b"")], (number, kind)


def test_a_proxy_option_of_a_wrong_length_is_unrecognized():
    # RFC 7252 5.4.3, 5.10.2
    s = Site("a")
    for number, longest in ((35, 1034), (39, 255)):
        for n, code in ((0, 130), (1, 165), (longest, 165), (longest + 1, 130)):
            assert s.ask([(number, bytes(n))])[0] == code, (number, n)


def test_what_no_option_can_say_is_refused_where_it_is_written():
    # RFC 7252 5.10.3: a Content-Format has 16 bits
    s = Site()
    for ct in (-1, 65536, (0, 65536)):
        raises(ValueError, s.add, "a", ct=ct)
    s.add("a", ct=(0, 65535))
    s.serve("b", lambda request, response: response.payload(b"", 65536))
    assert s.ask("b")[0] == 160 and isinstance(s.errors[0][1], ValueError)


async def test_what_no_request_can_say_is_refused_before_it_is_sent():
    # RFC 7252 6.4, step 4, and 5.10.4
    async with Node() as node:
        remote = await node.connect("coap://127.0.0.1")
        for call in (
            remote.get("a#b"), remote.get("#"), remote.get("a?b#c"), remote.get(b"a#"), remote.get("a", accept=-1),
            remote.get("a", accept=65536), remote.post("a", b"x", ct=65536), remote.post("a", b"x", ct=-1),
        ):  # fmt: skip
            await raises_async(ValueError, call)
        assert node.counters.sent == 0
        await raises_async(ValueError, node.connect("coap://127.0.0.1/a#b"))


@on_each_endpoint
def test_a_response_in_another_format_than_was_asked_for_is_not_acceptable():
    # RFC 7252 5.10.4: whatever was declared, what the handler wrote counts
    def plain(request, response):
        response.option(14, 9)
        if request.query:
            raise CoapError(131, "no")
        response.text("1")

    async def slow(request, response):
        plain(request, response)

    def formatless(request, response):
        response.write("1")

    for ct in (None, (0, 50)):
        s = Site()
        s.serve("plain", plain, "GET POST FETCH", ct=ct)
        s.serve("slow", slow, "GET POST FETCH", ct=ct)
        s.serve("formatless", formatless, ct=ct)
        for where in ("plain", "slow"):
            for code, query, accept, expected in (
                (GET, [], [], (69, b"1")), (GET, [], [(17, b"")], (69, b"1")), (GET, [], [(17, b"\0\0")], (69, b"1")),
                (GET, [], [(17, b"\x32")], (134, b"")), (FETCH, [], [(17, b"\x32")], (134, b"")),
                (GET, [(15, b"q")], [(17, b"\x32")], (131, b"no")), (POST, [], [(17, b"\x32")], (68, b"1")),
            ):  # fmt: skip
                s.mid += 1
                sent = s.receive(message(CON, code, s.mid, b"t", path(where) + query + accept))
                if s.tasks:
                    s.finish_task()
                    sent = [(s.network.log[-1][3], None)]
                reply = read(sent[0][0])
                assert (reply[1], reply[5]) == expected, (where, code, accept)
                if reply[1] == 134:
                    assert reply[4] == []
        assert s.ask(path("formatless") + [(17, b"\x32")]) == (69, b"1")


def test_a_method_that_is_not_allowed_goes_before_an_accept_that_does_not_fit():
    s = Site()
    s.add("a", ct=0)
    for code in (POST, PUT, FETCH, 31):
        assert s.ask(path("a") + [(17, b"\x32")], code) == (133, b""), code


def test_an_option_is_not_taken_for_payload_by_the_cache_key():
    # RFC 7252 5.6
    s = Site()
    keys = []
    s.serve("a", lambda request, response: keys.append(cache_key(request)), "FETCH")
    for options, payload in (
        ([], b""), ([(12, b"x")], b""), ([], b"\x0c\0\1x\0"), ([], b"\0\x0c\0\1x\0"), ([], b"\0\0\5"),
        ([(12, b"")], b""), ([(12, b"\0")], b""), ([(12, b"")], b"\0\0\5"),
        ([(12, b"\0\x0fz")], b""), ([(12, b""), (15, b"z")], b""),
    ):  # fmt: skip
        s.ask(path("a") + options, FETCH, payload=payload)
    assert len(keys) == len(set(keys)) == 10


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


def test_conditions_where_there_is_no_etag():
    # RFC 7252 5.10.8: nothing is there to compare with; 5.4.1: a resource that knows no ETag does not know them
    s = Site("a")
    for options in ([(1, b"v1")], [(1, b"")], [(5, b"")], [(1, b"v1"), (1, b"v2")]):
        assert s.ask(options + path("nothing"), PUT) == (132, b""), options
        assert s.ask(options + path("a"))[0] == 130, options
    assert s.calls == []


@on_each_endpoint
def test_the_etag_is_asked_for_once_a_request():
    # the response has the one that the conditions were compared with
    s = Site()
    count = []

    def etag(request):
        count.append(1)
        return b"v%d" % len(count)

    def plain(request, response):
        response.text("x")

    async def slow(request, response):
        response.text("x")

    s.serve("plain", plain, etag=etag)
    s.serve("slow", slow, etag=etag)
    assert s.ask("plain") == (69, b"x") and s.options == [(4, b"v1"), (12, b"")]
    assert s.ask([(4, b"v2")] + path("slow")) == (67, b"") and s.options == [(4, b"v2")]
    s.ask("slow")
    s.finish_task()
    assert read(s.network.log[-1][3])[4:] == ([(4, b"v3"), (12, b"")], b"x") and len(count) == 3


def test_conditions_of_a_wrong_length_or_number_are_unrecognized():
    s = tagged([None])
    for options in ([(1, bytes(9))], [(5, b"x")], [(5, b""), (5, b"")]):
        assert s.ask(options + path("a"), PUT)[0] == 130, options
    assert s.calls == []
