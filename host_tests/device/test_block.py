"""Block-wise transfers (RFC 7959): what our server makes of each block. The client is test_transfer.py's.

The figures are in test_rfc7959_flows.py, losses in test_transfer_lossy.py. The server is asked by bare peers,
message by message, in virtual time; at last by our client.
"""

import gc
from binascii import crc32

from coaplet.codes import CoapError
from fuzzing import EMULATED, allocated
from harness import BOARD
from helpers import ACK, CON, NON, message, path, raises, read
from net import Network
from node_net import Brief, File, NetNode, blk, number_of, pattern, two, values

GET, POST, PUT, FETCH = 1, 2, 3, 5
CREATED, CHANGED, CONTENT, CONTINUE = 65, 68, 69, 95
BAD_REQUEST, NOT_FOUND, INCOMPLETE, TOO_LARGE, TOO_MANY, INTERNAL, UNAVAILABLE = 128, 132, 136, 141, 157, 160, 163
BLOCK2, BLOCK1, SIZE2, SIZE1, ETAG, MAX_AGE = 23, 27, 28, 60, 4, 14
LIFETIME_MS = 247000  # EXCHANGE_LIFETIME


class Server(NetNode):
    """A server of what the tests need; .taken are the uploads that were handled."""

    def __init__(self, network=None, **limits):
        limits.setdefault("replay_bytes", 1152)  # an answer is piggybacked, however long
        super().__init__("s", network or Network(), **limits)
        self.whole = pattern(1000)
        self.calls = 0
        self.taken = []
        self.files = []

        @self.resource("x", methods="GET FETCH POST PUT", body=bytearray(3000))
        def x(request, response):
            self.calls += 1
            self.taken.append(request.payload)
            if request.method != PUT:
                response.payload(self.whole, 42)

        @self.resource("small", methods="PUT")
        def small(request, response):
            self.taken.append(request.payload)

        @self.resource("each", methods="PUT", body=True)
        def each(request, response):
            self.taken.append((request.offset, request.more, request.payload))

        def new_file(request):
            self.files.append(File(full=self.full))
            return self.files[-1]

        self.full = None

        @self.resource("file", methods="PUT POST", body=new_file)
        def file(request, response):
            assert not request.body.closed
            self.taken.append(bytes(request.body.data))
            request.body.close()
            response.code = CREATED

    def upload(self, number, more, part, where="x", size=64, method=PUT, options=(), **kwargs):
        """Send a block; returns the reply."""
        return self.ask(method, where, [(BLOCK1, blk(number, more, size))] + list(options), part, **kwargs)

    def block(self, number, size, where="x", method=GET, **kwargs):
        return self.ask(method, where, [(BLOCK2, blk(number, False, size))], **kwargs)


# Our server: responses


def test_any_block_of_any_size_can_be_asked_for_in_any_order():
    s = Server()
    for size in (16, 32, 64, 128, 256, 512, 1024):
        last = 999 // size
        for number in (last, 0, last // 2, last // 3, 1 if last else 0):
            m = s.block(number, size)
            assert m[1] == CONTENT and m[5] == s.whole[number * size : (number + 1) * size]
            assert values(m, BLOCK2) == [blk(number, number < last, size)]


def test_a_block_behind_the_end_is_a_bad_request():
    s = Server()
    for n, size, number, code in (
        (1000, 64, 15, CONTENT), (1000, 64, 16, BAD_REQUEST), (1000, 64, 1 << 19, BAD_REQUEST),
        (128, 64, 1, CONTENT), (128, 64, 2, BAD_REQUEST), (0, 64, 0, CONTENT), (0, 64, 1, BAD_REQUEST),
    ):  # fmt: skip
        s.whole = pattern(n)
        assert s.block(number, size)[1] == code, (n, number)


def test_blocks_are_no_larger_than_mtu_allows_whatever_is_asked_for():
    # 2.4: the answer says the smaller size, at the same place
    s = Server(mtu=192)
    for number, size, answered in ((0, 1024, 0), (1, 512, 4), (1, 256, 2), (3, 128, 3), (5, 64, None)):
        m = s.block(number, size)
        if answered is None:
            assert values(m, BLOCK2) == [blk(number, True, size)] and len(m[5]) == size
        else:
            assert values(m, BLOCK2) == [blk(answered, True, 128)]
            assert m[5] == s.whole[answered * 128 : answered * 128 + 128]


def test_the_first_block_says_how_much_there_is():
    # 4: Size2
    s = Server()
    assert number_of(s.block(0, 64), SIZE2) == 1000
    assert values(s.block(3, 64), SIZE2) == []
    s.whole = b"short"
    assert values(s.block(0, 64), SIZE2) == []


def test_all_blocks_of_a_state_have_one_etag_and_another_state_has_another():
    # 2.4
    s = Server()
    tags = {values(s.block(number, 64), ETAG)[0] for number in range(16)}
    assert len(tags) == 1
    s.whole = pattern(1000, 1)
    assert values(s.block(3, 64), ETAG)[0] not in tags


def test_a_resource_with_etags_has_those():
    s = Server()
    tag = [b"one"]

    @s.resource("tagged", etag=lambda request: tag[0])
    def tagged(request, response):
        response.payload(pattern(300))

    for number in range(5):
        assert values(s.block(number, 64, "tagged"), ETAG) == [b"one"]


def test_what_is_written_bit_by_bit_is_the_same():
    s = Server(mtu=192)

    @s.resource("bits")
    def bits(request, response):
        for i in range(0, 1000, 7):
            response.write(s.whole[i : min(i + 7, 1000)])

    @s.resource("str")
    def text(request, response):
        for i in range(100):
            response.write("\u00e9%02d " % i)

    got = b"".join([s.block(number, 128, "bits")[5] for number in range(8)])
    assert got == s.whole
    wanted = "".join(["\u00e9%02d " % i for i in range(100)]).encode()
    assert b"".join([s.block(number, 64, "str")[5] for number in range(8)]) == wanted
    # without being asked for blocks, it is the first one; ETags are the same
    for where in ("bits", "str"):
        m = s.ask(GET, where)
        assert values(m, BLOCK2) == [blk(0, True, 128)]
        assert values(m, ETAG) == values(s.block(1, 128, where), ETAG)


def test_a_second_payload_replaces_the_first():
    s = Server(mtu=192)

    @s.resource("twice")
    def twice(request, response):
        response.payload(pattern(500, 3))
        response.payload(s.whole)

    assert b"".join([s.block(number, 128, "twice")[5] for number in range(8)]) == s.whole
    assert s.ask(GET, "twice")[5] == s.whole[:128]
    s.whole = b"short"
    assert s.ask(GET, "twice")[5] == b"short"


def test_files_and_iterators_are_streamed():
    s = Server(mtu=192)
    f = File(pattern(1000, 7))

    @s.resource("stream")
    def stream(request, response):
        response.stream(f, 42)

    @s.resource("parts")
    def parts(request, response):
        response.stream((b"%03d," % i for i in range(250)), 42)

    wanted = {"stream": bytes(f.data), "parts": b"".join([b"%03d," % i for i in range(250)])}
    for where in ("stream", "parts"):
        for size, last in ((128, 7), (16, 62)):
            for number in (last, 1, 0):
                m = s.block(number, size, where)
                assert m[5] == wanted[where][number * size : (number + 1) * size], (where, number)
                assert values(m, 12) == [b"\x2a"] and values(m, BLOCK2) == [blk(number, number < last, size)]
        m = s.ask(GET, where)
        assert m[5] == wanted[where][:128] and values(m, BLOCK2) == [blk(0, True, 128)]
        assert s.block(8, 128, where)[1] == BAD_REQUEST
    assert max(f.reads) <= 128  # no more than a block at a time


def test_a_non_gets_blocks_as_well():
    s = Server()
    m = s.ask(GET, "x", [(BLOCK2, blk(2, False, 64))], kind=NON)
    assert m[0] == NON and m[5] == s.whole[128:192]


def test_async_handlers_answer_in_blocks():
    s = Server(mtu=192)

    @s.resource("slow", methods="GET POST")
    async def slow(request, response):
        s.calls += 1
        await s.sleep(10)
        response.payload(s.whole)

    for i, method in enumerate((GET, POST)):
        s.calls = 0
        got = b""
        for number in range(8):
            options = path("slow") + ([(BLOCK2, blk(number, False, 128))] if number else [])
            found = s.receive(message(CON, method, 100 * i + number, b"tk", options))
            if not found:
                found = [(data, to) for _, who, to, data in s.network.log] if not s.network.run_for(20) else []
                del s.network.log[:]
                found = found or s.sent()
            con = [read(data) for data, _ in found if read(data)[1]]
            assert len(con) == 1, (method, number)
            if con[0][0] == CON:
                s.receive(message(ACK, 0, con[0][2]))
            assert values(con[0], BLOCK2) == [blk(number, number < 7, 128)]
            got += con[0][5]
        assert got == s.whole
        assert s.calls == (8 if method == GET else 1)
    assert s.errors == []


# Our server: the rest of an answer to another method (2.7)


def test_the_rest_of_an_answer_is_kept_and_its_handler_runs_once():
    for method, code in ((POST, CHANGED), (FETCH, CONTENT)):
        s = Server(mtu=192)
        m = s.ask(method, "x", [], b"in")
        assert m[1] == code and m[5] == s.whole[:128] and values(m, BLOCK2) == [blk(0, True, 128)]
        whole = s.whole
        s.whole = pattern(1000, 9)  # it is the answer to that request
        for number in (1, 2, 3, 2, 5, 4, 6, 7):
            m = s.block(number, 128, method=method)
            assert m[1] == code and m[5] == whole[number * 128 : number * 128 + 128], number
            assert values(m, 12) == [b"\x2a"] and values(m, BLOCK2) == [blk(number, number < 7, 128)], number
        assert s.calls == 1
        assert s.block(1, 128, method=method)[1] == INCOMPLETE  # the last one was fetched


def test_the_rest_is_the_askers_for_a_time_and_of_that_request():
    s = Server(mtu=192)
    s.ask(POST, "x", [], b"in")
    for kwargs in ({"peer": "other"}, {"method": FETCH}, {"where": "file"}):
        given = {"method": POST}
        given.update(kwargs)
        assert s.block(1, 128, **given)[1] == INCOMPLETE, kwargs
    assert s.ask(POST, "x", [(15, b"q"), (BLOCK2, blk(1, False, 128))])[1] == INCOMPLETE
    assert s.block(1, 128, method=POST)[1] == CHANGED
    s.network.run_for(LIFETIME_MS - 1000)
    assert s.block(2, 128, method=POST)[1] == CHANGED
    s.network.run_for(LIFETIME_MS + 1000)
    assert s.block(3, 128, method=POST)[1] == INCOMPLETE
    assert s.calls == 1


def test_another_answer_replaces_the_one_before():
    s = Server(mtu=192)
    s.ask(POST, "x", [], b"in")
    s.whole = pattern(1000, 5)
    s.ask(POST, "x", [], b"in")
    assert s.block(1, 128, method=POST)[5] == s.whole[128:256]


def test_an_answer_that_would_take_too_much_is_an_internal_error():
    s = Server(mtu=192)
    s.whole = bytes(16385)
    assert s.ask(POST, "x")[1] == INTERNAL and isinstance(s.errors[0], ValueError)
    s.whole = bytes(16384)
    assert s.ask(POST, "x")[1] == CHANGED


# Our server: uploads


def send(s, whole, where="x", size=64, **kwargs):
    """Upload all; returns the last reply."""
    last = (len(whole) - 1) // size
    for number in range(last + 1):
        m = s.upload(number, number < last, whole[number * size : (number + 1) * size], where, size, **kwargs)
        if number < last:
            assert m[1] == CONTINUE and values(m, BLOCK1) == [blk(number, True, size)] and m[5] == b"", number
    assert m[1] > 127 or values(m, BLOCK1) == [blk(last, False, size)]
    return m


def test_blocks_are_put_together_in_a_buffer():
    s = Server()
    for n in (65, 128, 1000, 3000):
        assert send(s, pattern(n, n & 7))[1] == CHANGED
        assert s.taken == [pattern(n, n & 7)]
        del s.taken[:]
    assert s.upload(0, False, b"short")[1] == CHANGED and s.taken == [b"short"]
    assert s.ask(PUT, "x", (), b"plain")[1] == CHANGED and s.taken == [b"short", b"plain"]


def test_what_was_put_together_is_a_payload_like_any_other():
    s = Server()
    seen = []

    @s.resource("json", methods="PUT", body=bytearray(300))
    def json(request, response):
        buf = bytearray(300)
        n = request.copy_into(buf, 10)
        seen.append((request.payload_size, n, bytes(buf[10 : 10 + n]), request.text(), request.json()))

    whole = b'"' + b"j" * 150 + b'"'
    for part in (whole, b'"short"'):
        assert send(s, part, "json")[1] == CHANGED
        n = len(part)
        assert seen.pop() == (n, n, part, part.decode(), part[1:-1].decode())
    raises(ValueError, s.endpoint.rx.copy_into, bytearray(0), 1)


def test_what_was_put_together_is_gone_whatever_its_handler_does():
    s = Server()

    @s.resource("fails", methods="PUT", body=bytearray(300))
    def fails(request, response):
        s.taken.append(request.payload)
        if len(request.payload) > 10:
            raise CoapError(BAD_REQUEST, "too long")

    assert send(s, pattern(200), "fails")[1] == BAD_REQUEST
    for where in ("fails", "x", "small"):
        assert s.ask(PUT, where, (), b"new")[1] == CHANGED
        assert s.taken.pop() == b"new", where


def test_a_file_that_no_handler_gets_is_closed():
    s = Server(async_slots=1)
    opened = []

    def new_file(request):
        opened.append(File())
        return opened[-1]

    @s.resource("slow", methods="PUT", body=new_file)
    async def slow(request, response):
        await s.sleep(1000)
        request.body.close()

    for peer in ("a", "b"):
        s.receive(message(CON, PUT, 7, b"t", path("slow") + [(BLOCK1, blk(0, True, 64))], bytes(64)), peer)
        sent = s.receive(message(CON, PUT, 8, b"t", path("slow") + [(BLOCK1, blk(1, False, 64))], b"end"), peer)
    assert read(sent[0][0])[1] == UNAVAILABLE and [f.closed for f in opened] == [False, True]
    s.network.run_for(2000)
    assert [f.closed for f in opened] == [True, True] and bytes(opened[0].data) == bytes(64) + b"end"


def test_blocks_are_handed_on_one_by_one():
    s = Server()
    whole = pattern(200)
    assert send(s, whole, "each")[1] == CHANGED
    assert s.taken == [(at, at < 192, whole[at : at + 64]) for at in range(0, 200, 64)]


def test_blocks_are_written_to_a_file():
    s = Server()
    assert send(s, pattern(5000), "file", 512)[1] == CREATED
    assert s.taken == [pattern(5000)] and len(s.files) == 1 and s.files[0].closed
    assert s.ask(PUT, "file", (), b"in one")[1] == CREATED
    assert s.taken[1] == b"in one" and s.files[1].closed


def test_what_has_no_payload_opens_no_file():
    s = Server()
    opened = []

    @s.resource("both", methods="GET PUT DELETE", body=opened.append)
    def both(request, response):
        assert request.body is None
        response.text("read")

    assert s.ask(GET, "both")[5] == s.block(0, 64, "both")[5] == b"read"
    assert s.ask(4, "both")[1] == 66
    assert opened == []


def test_a_block_out_of_order_is_incomplete():
    # 2.9.2
    for where in ("x", "each", "file"):
        s = Server()
        assert s.upload(1, True, bytes(64), where)[1] == INCOMPLETE  # of nothing that was begun
        s.upload(0, True, bytes(64), where)
        assert s.upload(2, True, bytes(64), where)[1] == INCOMPLETE
        assert s.upload(1, True, bytes(64), where)[1] == CONTINUE  # what was there still is
        assert s.upload(2, False, bytes(10), where)[1] in (CHANGED, CREATED)
        assert s.upload(3, False, bytes(10), where)[1] == INCOMPLETE


def test_a_block_that_comes_again_is_taken_once():
    # with the same Message ID it is a duplicate, with another one it was sent anew: the answer was lost
    for where in ("x", "each", "file"):
        s = Server()
        whole = pattern(200)
        for number in range(3):
            part = whole[number * 64 : number * 64 + 64]
            for mid in (100 + number, 100 + number, 200 + number):
                m = s.upload(number, True, part, where, mid=mid)
                assert m[1] == CONTINUE and m[2] == mid, (where, number, mid)
        s.upload(3, False, whole[192:], where)
        taken = b"".join([one[2] for one in s.taken[-4:]]) if where == "each" else s.taken[0]
        assert taken == whole, where
        assert where != "each" or len(s.taken) <= 5  # the first one may begin anew


def test_an_upload_begins_anew_with_its_first_block():
    for where in ("x", "file"):
        s = Server()
        for number in range(3):
            s.upload(number, True, b"?" * 64, where)
        send(s, pattern(300), where)
        assert s.taken == [pattern(300)]
        assert where == "x" or [f.closed for f in s.files] == [True, True]


def test_smaller_blocks_may_follow_larger_ones():
    s = Server()
    whole = pattern(300)
    assert s.upload(0, True, whole[:128], size=128)[1] == CONTINUE
    for number in range(4, 9):
        assert s.upload(number, True, whole[number * 32 : number * 32 + 32], size=32)[1] == CONTINUE
    assert s.upload(9, False, whole[288:], size=32)[1] == CHANGED
    assert s.taken == [whole]


def test_a_block_of_another_size_than_it_says_is_a_bad_request():
    s = Server()
    for number, more, n in ((0, True, 63), (0, True, 65), (0, True, 0), (0, False, 65)):
        assert s.upload(number, more, bytes(n))[1] == BAD_REQUEST, (number, more, n)
    assert s.taken == []


def test_what_takes_no_upload_says_what_would_fit():
    # 2.9.3: 4.13 with Size1
    s = Server()
    for number, more in ((0, True), (1, True), (1, False)):
        m = s.upload(number, more, bytes(64), "small")
        assert m[1] == TOO_LARGE and number_of(m, SIZE1) == 1152 - 64
    assert s.upload(0, False, bytes(64), "small")[1] == CHANGED and s.taken == [bytes(64)]


def test_more_than_a_buffer_holds_is_too_large():
    s = Server()
    m = s.upload(0, True, bytes(64), options=[(SIZE1, b"\x0b\xb9")])  # 3,001 are announced
    assert m[1] == TOO_LARGE and number_of(m, SIZE1) == 3000
    for number in range(2):
        assert s.upload(number, True, bytes(1024), size=1024)[1] == CONTINUE
    m = s.upload(2, True, bytes(1024), size=1024)
    assert m[1] == TOO_LARGE and number_of(m, SIZE1) == 3000
    assert s.upload(3, False, b"x", size=1024)[1] == INCOMPLETE and s.taken == []
    assert send(s, pattern(3000), size=1024)[1] == CHANGED


def test_a_datagram_larger_than_mtu_is_told_which_blocks_would_fit():
    # 2.9.3: 4.13 with a smaller SZX
    s = Server(mtu=192)
    for where in ("x", "each", "file"):
        m = s.upload(0, True, bytes(1024), where, size=1024)
        assert m[1] == TOO_LARGE and values(m, BLOCK1) == [blk(0, True, 128)], where
    m = s.upload(0, True, bytes(1024), "small", size=1024)
    assert m[1] == TOO_LARGE and values(m, BLOCK1) == []
    assert s.taken == [] and all([f.closed for f in s.files])


def test_another_path_query_format_or_peer_is_another_upload():
    s = Server()
    s.upload(0, True, bytes(64), "file")
    for kwargs in ({"peer": "b"}, {"options": [(15, b"q")]}, {"options": [(12, b"")]}, {"method": POST}):
        assert s.upload(1, True, bytes(64), "file", **kwargs)[1] == INCOMPLETE, kwargs
    assert s.upload(1, True, bytes(64), "file", token=b"another")[1] == CONTINUE  # which tells nothing (2.5)


def test_two_uploads_at_a_time_do_not_mix():
    s = Server()
    wholes = {"a": pattern(700, 1), "b": pattern(700, 2)}
    for number in range(11):
        for peer in ("a", "b"):
            m = s.upload(number, number < 10, wholes[peer][number * 64 : number * 64 + 64], "file", peer=peer)
            assert m[1] == (CONTINUE if number < 10 else CREATED)
    assert s.taken == [wholes["a"], wholes["b"]]


def test_one_buffer_takes_one_upload_at_a_time():
    s = Server()
    for number in range(2):
        s.upload(number, True, pattern(2048)[number * 1024 :][:1024], size=1024, peer="a")
    m = s.upload(0, True, bytes(64), peer="b")
    assert m[1] == UNAVAILABLE and number_of(m, MAX_AGE) > 0 and s.counters.refused == 1
    s.upload(2, False, b"end", size=1024, peer="a")
    assert s.taken == [pattern(2048) + b"end"]
    assert s.upload(0, True, bytes(64), peer="b")[1] == CONTINUE


def test_uploads_are_as_many_as_there_is_room_for():
    s = Server(transfers=2)
    for peer in ("a", "b"):
        for number in range(2):
            assert s.upload(number, True, bytes(1024), "file", 1024, peer=peer)[1] == CONTINUE
    m = s.upload(0, True, bytes(64), "file", peer="c")
    assert m[1] == UNAVAILABLE and number_of(m, MAX_AGE) > 0 and s.counters.refused == 1
    assert len(s.files) == 2
    assert s.upload(2, False, b"end", "file", 1024, peer="a")[1] == CREATED
    assert s.upload(0, True, bytes(64), "file", peer="c")[1] == CONTINUE


def test_what_was_begun_and_left_is_forgotten_and_its_file_closed():
    # 2.5: after EXCHANGE_LIFETIME
    s = Server()
    s.upload(0, True, bytes(64), "file")
    s.network.run_for(LIFETIME_MS - 1000)
    assert s.upload(1, True, bytes(64), "file")[1] == CONTINUE and not s.files[0].closed
    s.network.run_for(LIFETIME_MS + 1000)
    assert s.files[0].closed and len(s.files) == 1
    assert s.upload(2, True, bytes(64), "file")[1] == INCOMPLETE
    assert all([slot.peer is None and slot.sink is None for slot in s.server.blocks()._slots])
    s.network.run_for(3 * 3600000)
    assert s.endpoint.poll_timeout(s.now()) == -1  # there is nothing to wait for


def test_a_file_that_is_full_is_an_internal_error_and_closed():
    s = Server()
    s.full = 100
    assert s.upload(0, True, bytes(64), "file")[1] == CONTINUE
    assert s.upload(1, True, bytes(64), "file")[1] == INTERNAL
    assert s.files[0].closed and isinstance(s.errors[0], OSError)
    assert s.upload(2, True, bytes(64), "file")[1] == INCOMPLETE


def test_spoofed_first_blocks_leave_an_honest_peer_served():
    s = Server(transfers=2)
    whole = pattern(4000)
    spoofed = 0
    for number in range(4):
        m = s.upload(number, number < 3, whole[number * 1024 :][:1024], "file", 1024, peer="honest")
        assert m[1] == (CONTINUE if number < 3 else CREATED), number
        for _ in range(1 if number == 0 else 10):  # a slot is an honest peer's from its second block on
            spoofed += 1
            m = s.upload(0, True, bytes(1024), "file", 1024, peer="spoofed%d" % spoofed)
            assert m[1] in (CONTINUE, UNAVAILABLE)
    assert s.taken == [whole]
    assert len([f for f in s.files if not f.closed]) <= 2  # and none is left open for ever
    s.network.run_for(LIFETIME_MS + 1000)
    assert all([f.closed for f in s.files])


def test_ten_thousand_spoofed_peers_leave_memory_at_its_limits_and_an_honest_one_served():
    # 7.1, RFC 7641 7; fewer on slow machines
    n = 100 if BOARD else 500 if EMULATED else 10000
    s = Server(transfers=2, observers=4)

    @s.resource("o", observe=True)
    def o(request, response):
        response.text("state")

    observers = s.server.observers
    sizes = []
    for i in range(n):
        peer = "spoofed%d" % i
        s.ask(GET, "o", [(6, b"")], peer=peer)
        assert s.upload(0, True, bytes(1024), "file", 1024, peer=peer)[1] in (CONTINUE, UNAVAILABLE)
        s.files = [f for f in s.files if not f.closed]
        assert observers.count() <= 4 and len(s.files) <= 2
        if i % (n // 5) == n // 5 - 1:
            gc.collect()
            gc.collect()
            sizes.append(allocated())
    assert max(sizes[1:]) <= sizes[0] + 2048, sizes
    assert s.ask(GET, "o", peer="honest")[5] == b"state"
    whole = pattern(2000)
    for number in (0, 1):
        m = s.upload(number, number < 1, whole[number * 1024 :][:1024], "file", 1024, peer="honest")
        assert m[1] == (CREATED if number else CONTINUE)
    assert s.taken == [whole]
    s.changed("o")  # who acknowledges nothing makes room
    s.network.log = Brief()
    s.network.run_for(100000)
    assert observers.count() == 0 and values(s.ask(GET, "o", [(6, b"")], peer="honest"), 6)


def test_an_answer_to_an_upload_comes_in_blocks():
    # 3.3
    s = Server(mtu=192)
    m = send(s, pattern(500), size=128, method=POST)
    assert m[5] == s.whole[:128] and values(m, BLOCK2) == [blk(0, True, 128)]
    for number in range(1, 8):
        assert s.block(number, 128, method=POST)[5] == s.whole[number * 128 :][:128]
    assert s.calls == 1


# Both ends


def test_large_payloads_go_both_ways():
    network, c, _ = two()
    s = Server(network)
    remote = c.to("s")
    for n in (0, 1, 1024, 1025, 2048, 3000):
        s.whole = pattern(n, 1)
        assert c.call(remote.get("x")).payload == s.whole
        assert c.call(remote.put("x", pattern(n, 2))).code == CHANGED
        assert s.taken.pop() == pattern(n, 2)
        reply = c.call(remote.post("x", pattern(n, 3)))
        assert reply.payload == s.whole and s.taken.pop() == pattern(n, 3)
        reply = c.call(remote.fetch("x", b"what"))
        assert reply.payload == s.whole and reply.code == CONTENT
    c.call(remote.put("file", pattern(5000)))
    assert s.taken.pop() == pattern(5000)
    source, sink = File(pattern(3000)), File()
    c.call(remote.put("x", source, block=32))
    c.call(remote.get("x", into=sink, block=32))
    assert pattern(3000) in s.taken and bytes(sink.data) == s.whole
    assert s.errors == []


def test_ends_with_little_room_understand_each_other():
    for small in ("c", "s"):
        network, c, _ = two(client={"mtu": 160} if small == "c" else {})
        s = Server(network, **({"mtu": 160} if small == "s" else {}))
        remote = c.to("s")
        assert c.call(remote.get("x", block=64)).payload == s.whole, small
        c.call(remote.put("x", pattern(700), block=256))  # a server with less room asks for smaller ones
        assert s.taken[-1] == pattern(700), small
        c.call(remote.put("x", pattern(1500)))
        assert s.taken[-1] == pattern(1500), small


def test_an_unknown_path_is_told_at_once_whatever_is_sent():
    network, c, _ = two()
    Server(network)
    error = raises(CoapError, c.call, c.to("s").put("nothing", bytes(5000)))
    assert error.code == NOT_FOUND and network.carried == 2


def test_crc32_is_the_etag():
    # what the ETag of a payload in blocks is made of, so that it need not be kept
    s = Server()
    assert int.from_bytes(values(s.block(0, 64), ETAG)[0], "big") == crc32(s.whole) & 0xFFFFFFFF
