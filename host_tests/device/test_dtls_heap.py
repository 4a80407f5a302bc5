"""What a record costs in heap: nothing, sealed by Dtls.send() or opened by Dtls.receive(), under heap_lock, warmed up.

On CPython, which has no heap_lock, the same runs only show that the records come through. How much a session takes is
measured by `make size`.
"""

from dtls_net import CCM, CCM_8, DATA, GCM, Host, connected, kept, shake
from harness import BOARD
from test_heap import locked

TIMES = 14 if BOARD else 30  # ten of them to warm up


class Tape:
    """A transport that gives what is put in, and counts what is sent: it allocates nothing itself."""

    more = False

    def __init__(self):
        self.found = [b"", None]
        self.sent = 0

    def send(self, buf, address):
        self.sent += 1
        return True

    def receive(self):
        return self.found


def opens_for_nothing(c, s, a, b, contents):
    datagrams = [kept(c, a, DATA, content) for content in contents]
    tape = s.layer.lower = Tape()
    tape.found[1] = c.address
    now = s.wire.now
    s.layer.now = lambda: now
    lengths = []

    def receive(datagram):
        tape.found[0] = datagram
        found = s.layer.receive()
        assert found[1] is b
        lengths[0] += len(found[0])

    lengths.append(0)
    locked(receive, datagrams)
    assert lengths[0] == sum([len(content) for content in contents])
    s.layer.lower = s


def seals_for_nothing(c, a, contents):
    tape = c.layer.lower = Tape()

    def send(content):
        assert c.layer.send(content, a)

    locked(send, contents)
    assert tape.sent == len(contents)
    c.layer.lower = c


def test_sealing_and_opening_allocates_nothing():
    for cid in (None, 4) if BOARD else (None, 0, 1, 8):
        wire, c, s, a, b = connected({"cid": cid}, {"cid": cid})
        for n in (4, 200):
            contents = [bytes((0x40 + i,)) * n for i in range(TIMES)]
            opens_for_nothing(c, s, a, b, contents)
            opens_for_nothing(s, c, b, a, contents)
            seals_for_nothing(c, a, contents)


def test_every_suite_allocates_nothing():
    for suite in CCM_8, CCM, GCM:
        wire, c, s, a, b = connected({"cid": 0}, {"cid": 4, "suites": (suite,)})
        contents = [b"what is said %02d" % i for i in range(TIMES)]
        opens_for_nothing(c, s, a, b, contents)
        seals_for_nothing(s, b, contents)


def test_lengths_that_came_before_allocate_nothing():
    wire, c, s, a, b = connected({"cid": 0}, {"cid": 4})
    contents = [bytes(5 + i % 5) for i in range(TIMES)]
    opens_for_nothing(c, s, a, b, contents)
    seals_for_nothing(c, a, contents)


def test_what_is_dropped_allocates_nothing():
    # the flood of somebody without the key
    wire, c, s, a, b = connected({"cid": 0}, {"cid": 4})
    good = kept(c, a, DATA, b"\x40content")
    s.take(good, "c")
    plain = b"\x17\xfe\xfd\0\1" + good[5:11] + good[15:]
    tape = s.layer.lower = Tape()
    tape.found[1] = "c"
    now = wire.now
    s.layer.now = lambda: now

    def receive(datagram):
        tape.found[0] = datagram
        assert s.layer.receive() is None

    forged = good[:10] + b"\x7f" + good[11:]
    for bad in (
        good,
        forged,
        forged[:-1] + b"x",
        good[:-1],
        good[:5],
        b"\x17",
        b"",
        plain,
        b"\x15\xfe\xfd" + bytes(11),
    ):
        locked(receive, [bad] * TIMES)
    assert s.layer.replayed and s.layer.forged and s.layer.malformed and s.layer.unknown


def test_two_sessions_of_one_layer_allocate_nothing_without_connection_ids():
    wire, c, s, a, b = connected({"cid": None})
    d = Host(wire, "d", cid=None)
    e, f = shake(wire, d, s)
    contents = [b"%03d" % i for i in range(TIMES)]
    opens_for_nothing(c, s, a, b, contents)
    s.layer.lower = s
    datagrams = [(kept(c, a, DATA, content), "c") for content in contents]
    others = [(kept(d, e, DATA, content), "d") for content in contents]
    mixed = [pair for two in zip(datagrams, others) for pair in two]
    tape = s.layer.lower = Tape()

    def receive(pair):
        tape.found[0] = pair[0]
        tape.found[1] = pair[1]
        found = s.layer.receive()
        assert found[1] is (b if pair[1] == "c" else f)

    locked(receive, mixed)
