"""Requests on their way to a handler and back (RFC 7252 5.1-5.5, 5.8-5.10), endpoint and server driven by hand."""

from coaplet.codes import CoapError
from coaplet.wire import path_hash, path_key
from helpers import ACK, CON, NON, message, path, raises, read
from site_fixture import Site

GET, POST, PUT, DELETE = 1, 2, 3, 4
NOT_FOUND, NOT_ALLOWED, TOO_LARGE = 132, 133, 141
INTERNAL, UNAVAILABLE = 160, 163


def test_a_path_is_served_by_the_resource_of_just_that_path():
    s = Site("a", "a/", "a/b", "\u00e4/\u20ac", "x" * 255)
    for text in ("a", "a/", "a/b", "\u00e4/\u20ac", "x" * 255):
        assert s.served(text) == text
    for text in ("b", "A", "ab", "a/b/", "a//b", "/a", "a/b/c", ".well-known", "x" * 254):
        assert s.served(text) is None, text


def test_the_root_is_the_request_without_a_path():
    s = Site()
    assert s.ask([])[0] == NOT_FOUND
    s.add("")
    assert s.ask([])[0] == 69 and s.ask([(15, b"q")])[0] == 69
    assert s.ask([(11, b"")])[0] == NOT_FOUND  # not what coap://host/ is made of
    s = Site("/")
    assert s.ask([])[0] == 69


def test_a_slash_in_front_of_a_pattern_means_nothing():
    s = Site("/a/b")
    assert s.served("a/b") == "/a/b"
    assert s.server.remove("a/b") and s.served("a/b") is None


def test_below_a_prefix_the_longest_one_serves_and_an_exact_path_goes_first():
    s = Site("files/*", "files/deep/*", "files/deep/exact", "f/*")
    for text, pattern in (
        ("files/a", "files/*"), ("files/", "files/*"), ("files/a/b", "files/*"), ("files/deep", "files/*"),
        ("files/deep/a", "files/deep/*"), ("files/deep/", "files/deep/*"), ("files/deep/exact", "files/deep/exact"),
        ("files/deep/exact/a", "files/deep/*"), ("files", None), ("file/a", None), ("filesystem", None), ("f/x", "f/*"),
    ):  # fmt: skip
        assert s.served(text) == pattern, text


def test_all_paths_can_be_served():
    s = Site("/*")
    assert s.served("a") == "/*" and s.served("a/b") == "/*"
    assert s.ask([])[0] == NOT_FOUND
    assert s.server.remove("/*") and s.served("a") is None


def test_a_removed_path_is_not_found_and_a_replaced_one_has_the_new_handler():
    s = Site("a", "b", "c/*")
    assert s.server.remove("a") and not s.server.remove("a") and not s.server.remove("nothing")
    assert s.served("a") is None and s.served("b") == "b"
    assert s.server.remove("/c/*") and s.served("c/x") is None
    s.serve("b", lambda request, response: response.text("new"))
    assert s.served("b") == "new"


def test_a_replacement_that_is_refused_leaves_the_old_resource():
    s = Site("a")
    raises(ValueError, s.serve, "a", None, "FLY")
    assert s.served("a") == "a"


def test_paths_that_share_a_hash_are_served_apart():
    groups = {}
    for a in "abcdef":
        for b in range(48, 127):
            key = path_key(a + chr(b))
            groups.setdefault(path_hash(key, len(key)), []).append(a + chr(b))
    group = max(groups.values(), key=len)
    assert len(group) > 2
    s = Site(*group)
    for text in group:
        assert s.served(text) == text
    s.server.remove(group[1])
    for text in group:
        assert s.served(text) == (None if text == group[1] else text)
    s.add(group[1])
    s.server.remove(group[0])
    for text in group:
        assert s.served(text) == (None if text == group[0] else text)


def test_success_has_the_code_of_its_method():
    s = Site()
    s.add("a", methods="GET POST PUT DELETE FETCH PATCH IPATCH")
    assert [s.ask("a", code)[0] for code in range(1, 8)] == [69, 68, 68, 66, 69, 68, 68]


def test_a_method_without_handler_is_not_allowed():
    s = Site("a")
    s.add("b", methods="PUT DELETE")
    for code in (POST, PUT, DELETE, 5, 6, 7, 8, 20, 31):
        assert s.ask("a", code)[0] == NOT_ALLOWED
    assert s.ask("b", GET)[0] == NOT_ALLOWED and s.ask("b", PUT)[0] == 68
    assert s.calls == ["b"]
    assert s.ask("nothing", 31)[0] == NOT_ALLOWED  # RFC 7252 5.8


def test_a_handler_that_raises_is_an_internal_error_with_a_line_and_the_server_lives():
    s = Site("a")

    def broken(request, response):
        response.option(14, 5)
        response.text("half done")
        raise KeyError("secret")

    s.serve("broken", broken, "GET POST")
    for code in (GET, POST):
        assert s.ask("broken", code) == (INTERNAL, b"") and s.options == []
        ((where, error),) = s.errors
        assert where == "broken" and isinstance(error, KeyError)
        s.errors.clear()
    assert s.served("a") == "a"


def test_a_coap_error_is_answered_with_its_code_and_text():
    s = Site()
    raised = []

    def refuse(request, response):
        response.text("half done")
        raise raised[0]

    s.serve("a", refuse)
    for error, expected in (
        (CoapError(131, "not you"), (131, b"not you")),
        (CoapError(NOT_FOUND), (NOT_FOUND, b"")),
        (CoapError(UNAVAILABLE, "sp\u00e4ter"), (UNAVAILABLE, "sp\u00e4ter".encode())),
    ):
        raised[:] = [error]
        assert s.ask("a") == expected and s.options == []
    assert s.errors == []
    raised[:] = [CoapError(0, "an upstream timeout")]
    assert s.ask("a")[0] == INTERNAL and len(s.errors) == 1


def test_the_text_of_an_error_never_keeps_it_from_being_sent():
    s = Site(mtu=200)
    raised = []

    def refuse(request, response):
        raise raised[0]

    s.serve("a", refuse)
    for text in ("x" * 1000, "\u20ac" * 1000, None, 42):
        raised[:] = [CoapError(131, text)]
        assert s.ask("a")[0] == 131, text


def test_a_code_that_is_none_is_an_internal_error():
    s = Site()

    def wrong(request, response):
        response.code = 404

    s.serve("a", wrong)
    assert s.ask("a")[0] == INTERNAL and len(s.errors) == 1


def test_a_response_larger_than_mtu_goes_out_in_blocks():
    # RFC 7959 2.2, 2.4: Block2 0/1/128, and how much there is
    s = Site(mtu=200, replay_bytes=200)
    text = "".join([chr(65 + i % 26) for i in range(200)])
    s.serve("long", lambda request, response: response.text(text), methods="GET POST PUT")
    for code, wanted in ((GET, 69), (POST, 68), (PUT, 68)):
        assert s.ask("long", code) == (wanted, text[:128].encode())
        assert [o for o in s.options if o[0] in (12, 23, 28)] == [(12, b""), (23, b"\x0b"), (28, b"\xc8")]
        assert s.ask(path("long") + [(23, b"\x13")], code) == (wanted, text[128:].encode()), code
        assert (23, b"\x13") in s.options
    assert s.errors == []


def test_an_error_larger_than_mtu_is_an_internal_error():
    s = Site(mtu=200)

    def long(request, response):
        response.code = 131
        response.text("x" * 200)

    s.serve("long", long)
    assert s.ask("long") == (INTERNAL, b"")
    assert len(s.errors) == 1 and isinstance(s.errors.pop()[1], ValueError)


def test_options_larger_than_mtu_are_an_internal_error():
    s = Site(mtu=200)

    def options(request, response):
        response.text("x" * 100)
        for _ in range(8):
            response.option(8, b"y" * 20)

    s.serve("options", options)
    s.serve("many", lambda request, response: [response.option(8, b"") for _ in range(25)])
    for where in ("options", "many"):
        assert s.ask(where) == (INTERNAL, b""), where
        assert len(s.errors) == 1 and isinstance(s.errors.pop()[1], ValueError)


def test_a_truncated_request_is_too_large_and_says_what_would_fit():
    s = Site(mtu=200)
    s.add("a", methods="POST")
    header = len(message(CON, POST, 1, b"tk", path("a"))) + 1
    assert s.ask("a", POST, payload=bytes(200 - header))[0] == 68
    assert s.ask("a", POST, payload=bytes(201 - header))[0] == TOO_LARGE
    assert s.options == [(60, bytes((200 - header,)))]
    assert s.calls == ["a"]
    assert s.ask("nothing", POST, payload=bytes(201 - header))[0] in (NOT_FOUND, TOO_LARGE)


def test_group_requests_are_answered_with_success_or_not_at_all():
    s = Site("a")
    for i, (where, code, answered) in enumerate(
        (("a", GET, True), ("b", GET, False), ("a", POST, False), ("a", 31, False))
    ):
        sent = s.receive(message(NON, code, i, b"t", path(where)), multicast=True)
        assert bool(sent) == answered, where
    assert s.receive(message(CON, GET, 9, b"t", path("a")), multicast=True) == []


def test_an_async_handler_gets_a_copy_and_answers_when_it_is_done():
    s = Site()

    async def slow(request, response):
        response.text(request.path + request.payload.decode())

    s.serve("slow", slow, "POST")
    data = bytearray(message(CON, POST, 9, b"tk", path("slow"), b"1"))
    assert s.receive(data) == []
    data[:] = bytes(len(data))
    s.network.hosts.clear()
    coroutine, _ = s.tasks.pop()
    raises(StopIteration, coroutine.send, None)
    ((reply, peer),) = s.sent()
    assert read(reply) == (ACK, 68, 9, b"tk", [(12, b"")], b"slow1") and peer == "raw"


def finished(host):
    """Run the oldest async handler to its end; the reply, read."""
    coroutine, _ = host.tasks.pop(0)
    raises(StopIteration, coroutine.send, None)
    ((reply, _),) = host.sent()
    return read(reply)


def code_and_payload(reply):
    return reply[1], reply[5]


def test_async_handlers_fail_as_plain_ones_do():
    s = Site(mtu=200)
    raised = []

    async def broken(request, response):
        response.text("x")
        if raised:
            raise raised[0]
        response.text("x" * 130)
        for _ in range(8):
            response.option(8, b"y" * 20)

    s.serve("a", broken)
    assert s.ask("a")[0] is None
    assert finished(s)[1] == INTERNAL and len(s.errors) == 1
    raised.append(CoapError(131, "not you"))
    s.ask("a")
    assert code_and_payload(finished(s)) == (131, b"not you")
    raised[0] = OSError(5)
    s.ask("a")
    assert finished(s)[1] == INTERNAL and len(s.errors) == 2


def test_more_async_requests_than_slots_are_unavailable():
    s = Site()

    async def slow(request, response):
        response.text("done")

    s.serve("slow", slow, async_slots=2)
    assert [s.ask("slow")[0] for _ in range(4)] == [None, None, UNAVAILABLE, UNAVAILABLE]
    assert len(s.tasks) == 2 and s.endpoint.counters.refused == 2
    assert finished(s)[1] == 69
    assert s.ask("slow")[0] is None
    assert finished(s)[1] == finished(s)[1] == 69


class Lamp:
    def __init__(self):
        self.runs = 0

    async def switch(self, request, response):
        self.runs += 1
        response.text("lamp %d" % self.runs)


def test_an_async_method_or_closure_runs_once_a_request():
    # what the interpreter may not know to be async before it is called
    for make in (lambda lamp: lamp.switch, lambda lamp: lambda request, response: lamp.switch(request, response)):
        s = Site()
        lamp = Lamp()
        s.serve("lamp", make(lamp), "GET PUT")
        for i in (1, 2, 3):
            assert s.ask("lamp", PUT)[0] is None
            assert lamp.runs == i - 1
            assert code_and_payload(finished(s)) == (68, b"lamp %d" % i)
        assert s.errors == []
