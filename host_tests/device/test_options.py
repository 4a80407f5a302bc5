"""What a server does with the options of a request (RFC 7252 5.4, 5.10), endpoint and server driven by hand."""

from helpers import NON, message, path
from site_fixture import Site

GET, POST = 1, 2
BAD_OPTION, NOT_ACCEPTABLE, NO_PROXYING = 130, 134, 165


def test_an_unknown_critical_option_is_refused_before_the_handler_runs():
    s = Site()
    s.add("a", methods="GET POST")
    for number in (1, 5, 9, 13, 19, 65535):
        options = sorted(path("a") + [(number, b"v")])
        for code in (GET, POST):
            answer, text = s.ask(options, code)
            assert answer == BAD_OPTION and str(number) in text.decode(), number
    assert s.calls == []


def test_an_unknown_critical_option_is_refused_wherever_the_request_goes():
    # RFC 7252 5.4.1: in a Confirmable request it MUST cause the return of a 4.02
    s = Site("a")
    assert s.ask(path("nothing") + [(19, b"")])[0] == BAD_OPTION
    assert s.ask(path("a") + [(19, b"")], POST)[0] == BAD_OPTION
    assert s.ask(path("a") + [(19, b"")], 31)[0] == BAD_OPTION


def test_a_non_with_an_unknown_critical_option_is_rejected():
    # RFC 7252 5.4.1, 4.3: MUST be rejected: a Reset or silence, but no response
    s = Site("a")
    for data, _ in s.receive(message(NON, GET, 7, b"tk", path("a") + [(19, b"")])):
        assert data == message(3, 0, 7)
    assert s.calls == []


def test_an_option_that_a_resource_declares_reaches_its_handler():
    s = Site()
    s.serve("a", lambda request, response: response.write(request.option(19)), options=(19,))
    assert s.ask(path("a") + [(19, b"value")]) == (69, b"value")
    assert s.ask(path("a") + [(19, b"value"), (21, b"")])[0] == BAD_OPTION


def test_elective_options_are_ignored():
    s = Site("a")
    assert s.ask([(4, bytes(9)), (6, b"")] + path("a") + [(14, b"12345"), (60, b""), (65534, b"?")]) == (69, b"a")


def test_host_and_port_may_be_given_once_and_in_their_lengths():
    s = Site("a")
    assert s.ask([(3, b"example.net"), (7, b"\x16\x33")] + path("a"))[0] == 69
    assert s.ask([(3, b"x" * 255), (7, b"")] + path("a"))[0] == 69
    for options in ([(3, b"a"), (3, b"a")], [(7, b"\1"), (7, b"\1")], [(3, b"")], [(3, b"x" * 256)], [(7, b"\0\0\1")]):
        assert s.ask(options + path("a"))[0] == BAD_OPTION, options
    assert s.calls == ["a", "a"]


def test_segments_and_queries_longer_than_255_bytes_are_refused():
    s = Site("a", "a/*")
    assert s.ask(path("a") + [(15, b"q" * 255)])[0] == 69
    assert s.ask(path("a") + [(15, b"q" * 256)])[0] == BAD_OPTION
    assert s.ask(path("a") + [(11, b"p" * 256)])[0] == BAD_OPTION
    assert s.calls == ["a"]


def test_a_long_segment_is_refused_where_no_resource_is_found_too():
    assert Site().ask([(11, b"p" * 256)])[0] == BAD_OPTION


def test_accept_is_compared_with_what_the_resource_can_give():
    s = Site("any")
    s.add("one", ct=0)

    def two(request, response):
        response.payload(b"[]", request.uint(17, 0))

    s.serve("two", two, ct=(0, 50))
    s.serve("careless", lambda request, response: response.text("x"), ct=(0, 50))
    for where, value, code in (
        ("any", b"", 69), ("any", b"\x32", NOT_ACCEPTABLE), ("any", b"\0\0\x32", BAD_OPTION),
        ("one", b"", 69), ("one", b"\0\0", 69), ("one", b"\x32", NOT_ACCEPTABLE),
        ("two", b"\x32", 69), ("two", b"\0\x32", 69), ("two", b"\x3c", NOT_ACCEPTABLE),
        ("two", b"\1\x32", NOT_ACCEPTABLE), ("two", b"\0\0\x32", BAD_OPTION),
        ("careless", b"", 69), ("careless", b"\x32", NOT_ACCEPTABLE),
    ):  # fmt: skip
        assert s.ask(path(where) + [(17, value)])[0] == code, (where, value)
    assert s.ask(path("two") + [(17, b""), (17, b"")])[0] == BAD_OPTION


def test_a_request_to_a_proxy_is_told_that_there_is_none():
    s = Site("a")
    for option in ((35, b"coap://example.net/x"), (39, b"http")):
        assert s.ask(path("a") + [option])[0] == NO_PROXYING
        # RFC 7252 5.10.2: Proxy-Uri comes without a Uri-Path; whether there is a root resource does not matter
        assert s.ask([option])[0] == NO_PROXYING
        assert s.ask(path("nothing") + [option])[0] == NO_PROXYING
        assert s.ask([option], POST)[0] == NO_PROXYING
    assert s.calls == []
