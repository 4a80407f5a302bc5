"""Conditional requests: ETag and 2.03, If-Match, If-None-Match (RFC 7252 5.6.2, 5.10.6, 5.10.8, 5.4.3)."""

import asyncio

from coaplet import Node
from coaplet.codes import CoapError
from helpers import CON, NON, free_uri, message, path, raises_async, read
from site_fixture import Site

GET, POST, PUT, DELETE, FETCH, PATCH = 1, 2, 3, 4, 5, 6
CONTENT, CHANGED, DELETED, VALID = 69, 68, 66, 67
BAD_OPTION, NOT_FOUND, FAILED, INTERNAL = 130, 132, 140, 160
IF_MATCH, ETAG, IF_NONE_MATCH = 1, 4, 5
SUCCESS = {GET: CONTENT, POST: CHANGED, PUT: CHANGED, DELETE: DELETED, FETCH: CONTENT, PATCH: CHANGED}

TAG = b"\x01\x02"


class Tagged(Site):
    """Serves "plain" and "slow" (async) with the ETag in .tag: None where nothing is; "bare" has no hook."""

    def __init__(self, tag=TAG, **limits):
        super().__init__(**limits)
        self.tag = tag
        self.asked = []

        def etag(request):
            self.asked.append(request.path)
            if isinstance(self.tag, Exception):
                raise self.tag
            return self.tag

        def handler(request, response):
            self.calls.append(request.path)
            response.payload("body")

        async def slow(request, response):
            handler(request, response)

        methods = "GET POST PUT DELETE FETCH PATCH"
        self.serve("plain", handler, methods, etag=etag)
        self.serve("slow", slow, methods, etag=etag)
        self.serve("bare", handler, methods)

    def result(self, options, code=GET, where="plain", payload=b""):
        """(code, whether the handler was called); .options are the reply's, .payload its payload."""
        self.mid += 1
        self.calls.clear()
        sent = self.receive(message(CON, code, self.mid, b"tk", options + path(where), payload))
        if self.tasks:
            self.finish_task()
            sent = [(self.network.log.pop()[3], "raw")]
        ((data, _),) = sent
        _, status, mid, token, self.options, self.payload = read(data)
        assert token == b"tk" and mid == self.mid
        if status not in (CONTENT, CHANGED, DELETED):
            assert not self.calls, "the handler was called"
        return status, len(self.calls)

    def tags(self):
        return [value for number, value in self.options if number == ETAG]


BOTH = ("plain", "slow")


def check(rows, codes):
    """rows: (tag, options, code or None for the method's success)."""
    for where in BOTH:
        for code in codes:
            s = Tagged()
            for tag, options, status in rows:
                s.tag = tag
                expected = (status, 0) if status else (SUCCESS[code], 1)
                assert s.result(options, code, where) == expected, (where, code, tag, options)
                assert s.errors == []


WRITES = (PUT, POST, DELETE, PATCH)


def test_if_match_needs_one_of_its_values_or_existence():
    # RFC 7252 5.10.8.1
    check(
        (
            (TAG, [(IF_MATCH, TAG)], None),
            (TAG, [(IF_MATCH, b"other")], FAILED),
            (TAG, [(IF_MATCH, b"\x01")], FAILED),
            (TAG, [(IF_MATCH, b"\x01\x02\x00")], FAILED),
            (TAG, [(IF_MATCH, b"a"), (IF_MATCH, TAG)], None),
            (TAG, [(IF_MATCH, TAG), (IF_MATCH, b"a")], None),
            (TAG, [(IF_MATCH, b"a"), (IF_MATCH, b"b"), (IF_MATCH, b"c")], FAILED),
            (TAG, [(IF_MATCH, b"")], None),
            (TAG, [(IF_MATCH, b""), (IF_MATCH, b"other")], None),
            (None, [(IF_MATCH, TAG)], FAILED),
            (None, [(IF_MATCH, b"")], FAILED),
            (None, [(IF_MATCH, b""), (IF_MATCH, TAG)], FAILED),
            (b"12345678", [(IF_MATCH, b"12345678")], None),
            (b"\0", [(IF_MATCH, b"\0")], None),
            (b"\0", [(IF_MATCH, b"\0\0")], FAILED),
        ),
        WRITES + (GET, FETCH),
    )


def test_if_none_match_needs_nothing_to_be_there():
    # RFC 7252 5.10.8.2
    check(
        ((TAG, [(IF_NONE_MATCH, b"")], FAILED), (None, [(IF_NONE_MATCH, b"")], None)),
        WRITES + (GET, FETCH),
    )


def test_both_together_are_never_fulfilled():
    both = [(IF_MATCH, TAG), (IF_NONE_MATCH, b"")]
    check(((TAG, both, FAILED), (None, both, FAILED), (TAG, [(IF_MATCH, b"")] + both[1:], FAILED)), (PUT, GET))


def test_an_etag_that_is_still_right_gets_2_03_without_payload_and_with_the_etag():
    # RFC 7252 5.9.1.3: "the response MUST include an ETag Option and MUST NOT include a payload"
    for where in BOTH:
        for code in (GET, FETCH):
            s = Tagged()
            for options in ([(ETAG, TAG)], [(ETAG, b"old"), (ETAG, TAG)], [(ETAG, TAG), (ETAG, b"old")]):
                assert s.result(options, code, where) == (VALID, 0)
                assert s.tags() == [TAG] and s.payload == b""


def test_another_etag_gets_the_content_and_its_etag():
    for where in BOTH:
        for code in (GET, FETCH):
            s = Tagged()
            for options in ([], [(ETAG, b"old")], [(ETAG, b"\x01")], [(ETAG, b"\x01\x02\x03"), (ETAG, b"x")]):
                assert s.result(options, code, where) == (CONTENT, 1)
                assert s.tags() == [TAG] and s.payload == b"body"


def test_the_etag_option_means_nothing_to_other_methods():
    # RFC 7252 5.10.6.2 gives it a meaning in a GET, RFC 8132 2 in a FETCH
    check(((TAG, [(ETAG, TAG)], None),), WRITES)


def test_where_nothing_exists_no_etag_is_right_and_none_is_sent():
    for where in BOTH:
        s = Tagged(None)
        for options in ([], [(ETAG, TAG)], [(ETAG, b"")]):
            assert s.result(options, GET, where) == (CONTENT, 1) and s.tags() == []


def test_a_precondition_goes_before_validation():
    s = Tagged()
    for where in BOTH:
        assert s.result([(IF_MATCH, b"other"), (ETAG, TAG)], GET, where) == (FAILED, 0)
        assert s.result([(ETAG, TAG), (IF_NONE_MATCH, b"")], GET, where) == (FAILED, 0)
        assert s.result([(IF_MATCH, TAG), (ETAG, TAG)], GET, where) == (VALID, 0)


def test_a_failed_precondition_has_no_etag_of_another_representation_and_no_payload():
    s = Tagged()
    assert s.result([(IF_MATCH, b"other")], PUT) == (FAILED, 0) and s.payload == b"" and s.tags() == []


def test_an_if_match_of_more_than_8_bytes_is_an_unrecognized_critical_option():
    # RFC 7252 5.4.3
    for where in BOTH:
        s = Tagged()
        for options in ([(IF_MATCH, b"123456789")], [(IF_MATCH, TAG), (IF_MATCH, b"x" * 300)]):
            for code in (PUT, GET):
                assert s.result(options, code, where) == (BAD_OPTION, 0)
        assert s.asked == []


def test_an_if_none_match_with_a_value_or_twice_is_an_unrecognized_critical_option():
    # RFC 7252 5.4.3, 5.4.5
    for where in BOTH:
        for tag in (TAG, None):
            s = Tagged(tag)
            for options in (
                [(IF_NONE_MATCH, b"\0")],
                [(IF_NONE_MATCH, b"123456789")],
                [(IF_NONE_MATCH, b""), (IF_NONE_MATCH, b"")],
                [(IF_NONE_MATCH, b""), (IF_NONE_MATCH, b"x")],
            ):
                assert s.result(options, PUT, where) == (BAD_OPTION, 0), options
            assert s.asked == []


def test_an_etag_of_no_or_more_than_8_bytes_is_ignored():
    # elective: RFC 7252 5.4.1, 5.4.3
    for where in BOTH:
        s = Tagged(b"12345678")
        for value in (b"", b"123456789", b"12345678" * 40):
            assert s.result([(ETAG, value)], GET, where) == (CONTENT, 1)
            assert s.result([(ETAG, value), (ETAG, b"12345678")], GET, where) == (VALID, 0)


def test_a_non_with_what_is_not_understood_is_silently_rejected():
    s = Tagged()
    for options in ([(IF_MATCH, b"123456789")] + path("plain"), [(IF_NONE_MATCH, b"x")] + path("plain")):
        s.mid += 1
        assert s.receive(message(NON, PUT, s.mid, b"tk", options)) == []
    assert s.calls == []


def test_a_non_with_a_precondition_that_fails_is_told_so():
    s = Tagged()
    ((data, _),) = s.receive(message(NON, PUT, 1, b"tk", [(IF_MATCH, b"no")] + path("plain")))
    assert read(data)[:2] == (NON, FAILED) and s.calls == []


def test_a_resource_without_etag_does_not_understand_conditions():
    # its handler would be called although the condition may not be fulfilled (RFC 7252 5.10.8)
    s = Tagged()
    for options in ([(IF_MATCH, TAG)], [(IF_MATCH, b"")], [(IF_NONE_MATCH, b"")]):
        assert s.result(options, PUT, "bare") == (BAD_OPTION, 0)
    assert s.result([(ETAG, TAG)], GET, "bare") == (CONTENT, 1) and s.tags() == []


def test_other_errors_go_first_and_the_hook_is_not_asked():
    s = Tagged()
    for options, code, status in (
        ([], 7, 133),
        ([(IF_MATCH, b"no")], 7, 133),
        ([(IF_MATCH, b"no"), (9, b"")], PUT, 130),
    ):
        assert s.result(options, code) == (status, 0)
    assert s.result([], GET, "elsewhere") == (NOT_FOUND, 0)
    assert s.asked == []


def test_the_hook_is_asked_once_a_request_and_before_the_handler():
    for where in BOTH:
        s = Tagged()
        s.result([], GET, where)
        assert s.asked == [where] and s.calls == [where]
        s.result([(IF_MATCH, TAG)], PUT, where)
        assert s.asked == [where] * 2
        s.result([(ETAG, TAG)], GET, where)
        assert s.asked == [where] * 3


def test_a_hook_that_changes_its_mind_is_believed_the_first_time():
    # the code that the handler finds is its method's, and what was decided holds
    for second in (b"new", None, KeyError("gone"), b"too long a tag"):
        s = Tagged()
        answers = [TAG, second, second]

        def etag(request, answers=answers):
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        async def slow(request, response):
            assert response.code == CONTENT
            s.calls.append("slow")
            response.payload("body")

        s.serve("slow", slow, "GET", etag=etag)
        assert s.result([(ETAG, b"new")], GET, "slow") == (CONTENT, 1), second
        assert s.tags() == [TAG] and s.errors == []


def test_a_hook_that_fails_is_an_internal_error_with_one_line():
    for where in BOTH:
        for tag in (KeyError("secret"), b"", b"123456789", 7, "text", [1]):
            for code, options in ((GET, []), (GET, [(ETAG, TAG)]), (PUT, [(IF_MATCH, TAG)])):
                s = Tagged(tag)
                assert s.result(options, code, where) == (INTERNAL, 0), (where, tag, code)
                assert len(s.errors) == 1 and s.errors[0][0] == where, (where, tag, code, s.errors)
                assert s.tags() == [] and s.payload == b""
                assert not any([ex.state for ex in s.endpoint.handlers])
                s.tag = TAG
                assert s.result([], GET, where) == (CONTENT, 1)  # the server lives


def test_a_hook_may_answer_with_an_error_of_its_own():
    for where in BOTH:
        s = Tagged(CoapError(NOT_FOUND, "no such file"))
        assert s.result([], GET, where) == (NOT_FOUND, 0)
        assert s.payload == b"no such file" and s.errors == [] and s.tags() == []


def test_a_response_has_one_etag_though_the_handler_adds_its_own():
    # RFC 7252 5.10.6.1: "MUST NOT occur more than once in a response"
    s = Tagged()
    s.serve("plain", lambda request, response: response.option(ETAG, b"mine"), "GET", etag=lambda request: TAG)
    assert s.result([])[0] == CONTENT
    assert len(s.tags()) == 1


def test_an_error_of_the_handler_has_no_etag():
    # RFC 7252 5.10.6.1: "it would not be meaningful in a 4.04 or 4.00 response"
    s = Tagged()

    def missing(request, response):
        response.code = NOT_FOUND

    def raising(request, response):
        raise CoapError(NOT_FOUND)

    for handler in (raising, missing):
        s.serve("plain", handler, "GET", etag=lambda request: TAG)
        assert s.result([]) == (NOT_FOUND, 0) and s.tags() == [], handler


def test_a_put_has_no_etag_of_what_was_there_before():
    # RFC 7252 5.10.6.1: "the current value (i.e., after the request was processed)"
    for where in BOTH:
        for code in WRITES:
            s = Tagged()
            assert s.result([], code, where)[1] == 1 and s.tags() == []


def test_a_handler_that_turns_out_to_be_async_has_etag_and_conditions():
    s = Tagged()

    class Files:
        async def get(self, request, response):
            s.calls.append("method")
            response.payload("body")

    s.serve("method", Files().get, "GET PUT", etag=lambda request: TAG)
    for _ in range(2):
        assert s.result([], GET, "method") == (CONTENT, 1) and s.tags() == [TAG]
    assert s.result([(IF_MATCH, b"no")], PUT, "method") == (FAILED, 0)
    assert s.result([(ETAG, TAG)], GET, "method") == (VALID, 0)


def test_the_hook_sees_the_request_of_a_path_below():
    s = Tagged()
    seen = []

    def etag(request):
        seen.append(request.path)
        return request.path.encode()[-8:]

    s.serve("files/*", lambda request, response: response.payload("body"), "GET", etag=etag)
    assert s.result([], GET, "files/a") == (CONTENT, 0) and s.tags() == [b"files/a"]
    assert s.result([(ETAG, b"files/a")], GET, "files/b") == (CONTENT, 0) and s.tags() == [b"files/b"]
    assert s.result([(ETAG, b"files/b")], GET, "files/b") == (VALID, 0)
    assert seen == ["files/a", "files/b", "files/b"]


def test_a_repeat_of_a_failed_put_gets_the_same_answer_though_the_tag_changed():
    s = Tagged()
    data = message(CON, PUT, 9, b"tk", [(IF_MATCH, b"no")] + path("plain"))
    first = s.receive(data)
    s.tag = b"no"
    assert s.receive(data) == first and s.calls == [] and first[0][0][1] == FAILED


def test_a_group_is_not_told_of_a_failed_precondition():
    s = Tagged()
    assert s.receive(message(NON, GET, 9, b"tk", [(IF_NONE_MATCH, b"")] + path("plain")), multicast=True) == []
    assert s.calls == []


async def test_a_driver_serves_and_a_client_asks_with_conditions():
    node = Node(free_uri())
    state = {"tag": None, "body": b""}

    @node.resource("doc", methods="GET PUT", etag=lambda request: state["tag"])
    def doc(request, response):
        if request.method == PUT:
            state["body"] = request.payload
            state["tag"] = b"v" + request.payload[:7]
        else:
            response.payload(state["body"])

    @node.resource("slow", methods="GET PUT", etag=lambda request: state["tag"])
    async def slow(request, response):
        await asyncio.sleep(0.001)
        doc(request, response)

    async with node, Node() as client:
        remote = await client.connect("coap://" + node.address())
        for where in ("doc", "slow"):
            state["tag"] = None
            await remote.put(where, b"1", options=[(IF_NONE_MATCH, b"")])
            for options in ([(IF_NONE_MATCH, b"")], [(IF_MATCH, b"v0")]):
                error = await raises_async(CoapError, remote.put(where, b"2", options=options))
                assert error.code == FAILED and state["body"] == b"1"
            reply = await remote.get(where)
            assert reply.option(ETAG) == b"v1" and reply.payload == b"1"
            reply = await remote.get(where, options=[(ETAG, b"v1")])
            assert reply.code == VALID and reply.payload == b"" and reply.option(ETAG) == b"v1"
            await remote.put(where, b"2", options=[(IF_MATCH, reply.option(ETAG))])
            reply = await remote.get(where, options=[(ETAG, b"v1")])
            assert reply.code == CONTENT and reply.payload == b"2" and reply.option(ETAG) == b"v2"
