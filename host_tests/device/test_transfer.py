"""Block-wise transfers (RFC 7959): what our client makes of each answer.

The figures are in test_rfc7959_flows.py, losses in test_transfer_lossy.py. The client is answered by a bare peer,
message by message, in virtual time.
"""

from coaplet.codes import CoapError, Timeout
from helpers import ACK, message, raises, read
from net import Network
from node_net import File, NetNode, blk, number_of, pattern, values

GET, POST, PUT, FETCH = 1, 2, 3, 5
CREATED, CHANGED, CONTENT, CONTINUE = 65, 68, 69, 95
BAD_REQUEST, NOT_FOUND, INCOMPLETE, TOO_LARGE, TOO_MANY, INTERNAL, UNAVAILABLE = 128, 132, 136, 141, 157, 160, 163
BLOCK2, BLOCK1, SIZE2, SIZE1, ETAG, MAX_AGE = 23, 27, 28, 60, 4, 14
LIFETIME_MS = 247000  # EXCHANGE_LIFETIME


# Our client


class Client(NetNode):
    """A client whose server, "s", is the test."""

    def __init__(self, **limits):
        super().__init__("c", Network(), **limits)
        self.remote_s = self.to("s")
        self.steps = []  # what progress was called with

    def progress(self, *args):
        self.steps.append(args)

    def asked(self):
        """The one request that was sent, as read() gives it."""
        ((_, _, to, data),) = self.network.log
        del self.network.log[:]
        return read(data)

    def answer(self, m, code, options=(), payload=b""):
        """A response arrives; what is sent then is in the network's log."""
        for data, to in self.receive(message(ACK, code, m[2], m[3], options, payload), "s"):
            self.network.send(data, "c", to)

    def part(self, m, whole, size=64, tag=b"tag"):
        """Answer a request with the part that it asks for, the first one if it does not say."""
        value = number_of(m, BLOCK2) or 0
        start = value >> 4 << 4 + (value & 7) if values(m, BLOCK2) else 0
        more = start + size < len(whole)
        options = [(ETAG, tag), (BLOCK2, blk(start // size, more, size))]
        self.answer(m, CONTENT, options, whole[start : start + size])

    def take(self, m, code=CONTINUE):
        """Take a block of an upload in."""
        self.answer(m, code, [(BLOCK1, values(m, BLOCK1)[0])])


def download(c, task, whole, size=64):
    """Serve a download to its end; returns the block numbers that were asked for."""
    numbers = []
    while not task.done:
        m = c.asked()
        numbers.append((number_of(m, BLOCK2) or 0) >> 4)
        c.part(m, whole, size)
    return numbers


def upload(c, task, code=CHANGED):
    """Take an upload to its end; returns what came."""
    got = b""
    while not task.done:
        m = c.asked()
        got += m[5]
        more = values(m, BLOCK1) and number_of(m, BLOCK1) & 8
        c.take(m, CONTINUE if more else code)
    return got


def test_a_client_does_not_notice_that_a_response_comes_in_blocks():
    c = Client()
    whole = pattern(300)
    task = c.start(c.remote_s.get("x"))
    assert download(c, task, whole) == [0, 1, 2, 3, 4]
    reply = task.get()
    assert reply.payload == whole and reply.code == CONTENT and reply.size == reply.payload_size == 300
    buf = bytearray(301)
    assert reply.copy_into(buf, 1) == 300 and bytes(buf[1:]) == whole


def test_a_response_goes_into_a_buffer_or_a_file():
    whole = pattern(300)
    for into in (bytearray(400), File()):
        c = Client()
        task = c.start(c.remote_s.get("x", into=into, progress=c.progress))
        download(c, task, whole)
        assert task.get().size == 300
        assert bytes(into if isinstance(into, bytearray) else into.data)[:300] == whole
        assert [step[0] for step in c.steps] == [64, 128, 192, 256, 300]
        assert all([step[2] is False for step in c.steps])


def test_a_buffer_that_is_too_short_is_an_error():
    c = Client()
    task = c.start(c.remote_s.get("x", into=bytearray(100)))
    download(c, task, pattern(300))
    assert "into=" in str(raises(CoapError, task.get))
    assert not [ex for ex in c.endpoint.exchanges if ex.state]


def test_a_download_goes_on_from_where_an_earlier_one_got():
    whole = pattern(300)
    for into in (None, File()):
        c = Client()
        task = c.start(c.remote_s.get("x", into=into, start=2, block=64))
        assert download(c, task, whole) == [2, 3, 4]
        reply = task.get()
        assert (reply.payload if into is None else bytes(into.data)) == whole[128:] and reply.size == 172


def test_more_than_16_kib_need_a_place_to_go():
    c = Client()
    task = c.start(c.remote_s.get("x"))
    download(c, task, bytes(17000), 1024)
    assert "into=" in str(raises(CoapError, task.get))


def test_a_client_asks_for_blocks_of_the_size_it_was_given():
    c = Client()
    task = c.start(c.remote_s.get("x", block=256))
    assert values(c.asked(), BLOCK2) == [blk(0, False, 256)]
    task2 = c.start(Client().remote_s.get("x", block=8))
    raises(ValueError, task2.get)
    assert not task.done


def test_smaller_blocks_than_asked_for_are_taken():
    # 2.4
    c = Client()
    whole = pattern(300)
    task = c.start(c.remote_s.get("x", block=256))
    assert download(c, task, whole, 32) == list(range(10))
    assert task.get().payload == whole


def test_a_server_may_change_to_smaller_blocks_on_the_way():
    c = Client()
    whole = pattern(300)
    task = c.start(c.remote_s.get("x"))
    c.part(c.asked(), whole, 128)
    m = c.asked()
    assert values(m, BLOCK2) == [blk(1, False, 128)]
    c.part(m, whole, 32)
    m = c.asked()
    assert values(m, BLOCK2) == [blk(5, False, 32)]
    c.part(m, whole, 32)
    download(c, task, whole, 32)
    assert task.get().payload == whole


def test_what_changes_on_the_way_is_fetched_anew():
    # 2.4: another ETag
    for into in (None, bytearray(300), File()):
        c = Client()
        old, new = pattern(300, 1), pattern(260, 2)
        task = c.start(c.remote_s.get("x", into=into))
        for _ in range(3):
            c.part(c.asked(), old, 64, b"old")
        c.part(c.asked(), new, 64, b"new")
        m = c.asked()
        assert values(m, BLOCK2) in ([blk(0, False, 64)], [])
        c.part(m, new, 64, b"new")
        while not task.done:
            c.part(c.asked(), new, 64, b"new")
        reply = task.get()
        got = reply.payload if into is None else bytes(into.data if isinstance(into, File) else into)
        assert got[:260] == new and reply.size == 260 and reply.option(ETAG) == b"new"


def test_what_changes_all_the_time_is_given_up():
    c = Client()
    task = c.start(c.remote_s.get("x"))
    n = 0
    while not task.done:
        n += 1
        assert n < 20
        c.part(c.asked(), pattern(300), 64, b"%d" % n)
    assert "changed" in str(raises(CoapError, task.get))


def test_a_block_nobody_asked_for_is_an_error():
    whole = pattern(300)
    for options, payload in (
        ([(BLOCK2, blk(2, True, 64))], whole[128:192]),  # another one
        ([], whole),  # none
        ([(BLOCK2, blk(1, True, 64))], whole[64:100]),  # not all of it
        ([(BLOCK2, b"\x1f")], whole[64:128]),  # of the reserved size
    ):
        c = Client()
        task = c.start(c.remote_s.get("x"))
        c.part(c.asked(), whole)
        c.answer(c.asked(), CONTENT, [(ETAG, b"tag")] + options, payload)
        raises(CoapError, task.get)
        assert c.network.log == []


def test_payloads_larger_than_a_datagram_are_sent_in_blocks():
    whole = pattern(2500)
    for payload in (whole, bytearray(whole), File(whole), (whole[i : i + 100] for i in range(0, 2500, 100))):
        c = Client()
        task = c.start(c.remote_s.put("x", payload, ct=42, progress=c.progress))
        first = read(c.network.log[0][3])
        known = isinstance(payload, (bytes, bytearray, File))
        assert first[4][1] == (12, b"\x2a") and number_of(first, SIZE1) == (2500 if known else None)
        assert values(first, BLOCK1) == [blk(0, True, 1024)]
        assert upload(c, task) == whole
        assert task.get().code == CHANGED
        steps = [step for step in c.steps if step[2]]
        assert steps == [(at, 2500 if known or at == 2500 else None, True) for at in (1024, 2048, 2500)]


def test_a_payload_that_ends_with_a_block_has_no_empty_one_behind_it():
    for payload in (bytes(2048), File(bytes(2048)), iter([bytes(2000), bytes(48)])):
        c = Client()
        task = c.start(c.remote_s.put("x", payload))
        c.take(c.asked())
        m = c.asked()
        assert values(m, BLOCK1) == [blk(1, False, 1024)] and len(m[5]) == 1024
        c.take(m, CHANGED)
        assert task.get().code == CHANGED


def test_iterators_may_give_text_and_nothing():
    for parts, wanted in ((["\u00e9", "", b"x"], b"\xc3\xa9x"), ([], b"")):
        c = Client()
        task = c.start(c.remote_s.put("x", iter(parts)))
        assert upload(c, task) == wanted and task.get().code == CHANGED


def test_smaller_blocks_are_sent_where_the_server_asks_for_them():
    # 2.9.3: a 4.13 with a smaller size. Other than in figure 9, it begins anew
    c = Client()
    whole = pattern(2000)
    task = c.start(c.remote_s.put("x", whole))
    m = c.asked()
    c.answer(m, TOO_LARGE, [(BLOCK1, blk(0, True, 256))])
    m = read(c.network.log[0][3])
    assert values(m, BLOCK1) == [blk(0, True, 256)]
    assert upload(c, task) == whole


def test_too_large_without_a_smaller_size_is_raised():
    for options in ([], [(SIZE1, b"\x64")], [(BLOCK1, blk(0, True, 1024))]):
        c = Client()
        task = c.start(c.remote_s.put("x", bytes(2000)))
        c.answer(c.asked(), TOO_LARGE, options)
        error = raises(CoapError, task.get)
        assert error.code == TOO_LARGE and c.network.log == []


def test_an_upload_the_server_has_lost_begins_anew():
    # 2.9.2: 4.08
    whole = pattern(3000)
    for payload in (whole, File(whole)):
        c = Client()
        task = c.start(c.remote_s.put("x", payload))
        c.take(c.asked())
        c.answer(c.asked(), INCOMPLETE)
        assert values(read(c.network.log[0][3]), BLOCK1) == [blk(0, True, 1024)]
        assert upload(c, task) == whole and task.get().code == CHANGED


def test_what_an_iterator_gave_cannot_be_sent_again():
    c = Client()
    task = c.start(c.remote_s.put("x", iter([bytes(1000)] * 4)))
    c.take(c.asked())
    c.answer(c.asked(), INCOMPLETE)
    raises(ValueError, task.get)
    assert not [ex for ex in c.endpoint.exchanges if ex.state]


def test_a_server_that_loses_every_upload_is_given_up():
    c = Client()
    task = c.start(c.remote_s.put("x", bytes(3000)))
    n = 0
    while not task.done:
        n += 1
        assert n < 20
        m = c.asked()
        if number_of(m, BLOCK1) >> 4:
            c.answer(m, INCOMPLETE)
        else:
            c.take(m)
    assert raises(CoapError, task.get).code == INCOMPLETE


def test_an_error_in_the_middle_ends_an_upload():
    c = Client()
    task = c.start(c.remote_s.put("x", bytes(3000)))
    c.take(c.asked())
    c.answer(c.asked(), 131, [], b"no")
    error = raises(CoapError, task.get)
    assert error.code == 131 and error.text == "no" and c.network.log == []


def test_a_server_without_room_is_asked_again_when_it_says():
    # RFC 7252 5.9.3.4: Max-Age says when
    for code in (UNAVAILABLE, TOO_MANY):
        c = Client()
        task = c.start(c.remote_s.put("x", bytes(1500)))
        c.take(c.asked())
        m = c.asked()
        since = c.network.elapsed
        c.answer(m, code, [(MAX_AGE, b"\x05")])
        assert c.network.log == []
        c.network.run(lambda: c.network.log)
        assert c.network.elapsed - since == 5000
        again = c.asked()
        assert again[4:] == m[4:] and again[2] != m[2]
        c.take(again, CHANGED)
        assert task.get().code == CHANGED


def test_a_server_that_has_us_wait_for_long_is_given_up():
    c = Client()
    task = c.start(c.remote_s.put("x", bytes(1500)))
    c.answer(c.asked(), UNAVAILABLE, [(MAX_AGE, b"\x03\xe8")])
    assert raises(CoapError, task.get).code == UNAVAILABLE
    c = Client()
    task = c.start(c.remote_s.put("x", bytes(1500)))
    n = 0
    while not task.done:
        n += 1
        assert n < 10
        c.answer(c.asked(), UNAVAILABLE, [(MAX_AGE, b"\x01")])
        c.network.run_for(1000)
    assert raises(CoapError, task.get).code == UNAVAILABLE and n == 3


def test_a_block_that_nobody_answers_is_sent_anew_with_another_message_id():
    c = Client()
    whole = pattern(1500)
    task = c.start(c.remote_s.put("x", whole))
    c.take(c.asked())
    mids = []
    c.network.run_for(93000 + 1000)
    for _, _, _, data in c.network.log:
        m = read(data)
        assert values(m, BLOCK1) == [blk(1, False, 1024)] and m[5] == whole[1024:]
        if m[2] not in mids:
            mids.append(m[2])
    assert len(mids) == 2 and len(c.network.log) == 6  # five times, and then another one
    del c.network.log[:-1]
    c.take(c.asked(), CHANGED)
    assert task.get().code == CHANGED


def test_a_block_that_nobody_answers_for_long_is_a_timeout():
    c = Client()
    task = c.start(c.remote_s.get("x", into=bytearray(300)))
    c.part(c.asked(), pattern(300))
    c.network.run_for(300000)
    raises(Timeout, task.get)
    assert len({read(data)[2] for _, _, _, data in c.network.log}) == 3
    assert not [ex for ex in c.endpoint.exchanges if ex.state]
