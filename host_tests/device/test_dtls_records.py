"""Records of an established session: each taken once, altered ones never, alerts, and the end of the numbers.

RFC 6347 4.1, RFC 5246 7.2, RFC 6655 3, RFC 5288 3.
"""

from coaplet.dtls.layer import alert_text
from coaplet.dtls.record import FORGED, LAST_RECORD, REPLAYED, Keys, Scratch
from coaplet.port import MICROPYTHON
from dtls_net import (
    ALERT,
    CCM,
    CCM_8,
    CHANGE,
    CID,
    DATA,
    GCM,
    HANDSHAKE,
    MTU,
    connected,
    kept,
    kinds,
    message,
    pair,
    record,
    records,
    state,
    talk,
)
from harness import BOARD
from net import Random

SUITES = (CCM_8, CCM, GCM)
BLOCK = bytes(range(40))


def ends(suite=CCM_8, cid_out=b"", cid_in=b""):
    """Keys of a client and of a server, and a scratch."""
    return Keys(suite, BLOCK, True, cid_out, cid_in), Keys(suite, BLOCK, False, cid_in, cid_out), Scratch(64)


def sealed(keys, scratch, content, kind=DATA):
    n = keys.seal(scratch, kind, content, len(content))
    return bytes(scratch.sealed[:n])


def opened(keys, scratch, data):
    """The content of a record of data, or what is wrong with it."""
    found = keys.open(scratch, data, 0, len(data))
    if found < 0:
        return found
    assert found & 0xFF == DATA
    return bytes(scratch.opened[: found >> 8])


def jump(keys, seq):
    """The next record will have that number, of 48 bits."""
    keys._seal_nonce[6] = seq >> 40
    keys._seal_nonce[7] = seq >> 32 & 0xFF
    keys.next = seq & 0xFFFFFFFF


def test_content_of_every_length_comes_through_with_every_suite():
    for suite in SUITES:
        for cid in b"", b"c", b"12345678":
            a, b, scratch = ends(suite, cid)
            for n in range(0, 65, 1 if suite == CCM_8 and not BOARD else 7):
                content = bytes(range(n))
                data = sealed(a, scratch, content)
                assert data[0] == (CID if cid else DATA) and data[1:3] == b"\xfe\xfd" and data[3:5] == b"\0\1"
                assert opened(b, scratch, data) == content, (suite, n)


def test_each_record_is_taken_once_and_63_behind_the_newest():
    # RFC 6347 4.1.2.6, against a set of numbers
    a, b, scratch = ends()
    numbers = 300 if BOARD else 3000
    all_of_them = [sealed(a, scratch, bytes((i >> 8, i & 255))) for i in range(numbers)]
    random = Random(1)
    seen = set()
    newest = -1
    for i in range(numbers):
        for _ in range(2):
            seq = min(numbers - 1, max(0, i + random.below(160) - 80 if random.below(40) else random.below(numbers)))
            expected = bytes((seq >> 8, seq & 255))
            if seq in seen or seq <= newest - 64:
                expected = REPLAYED
            assert opened(b, scratch, all_of_them[seq]) == expected, (seq, newest)
            seen.add(seq)
            newest = max(newest, seq)
    assert b.last == newest > numbers - 300


def test_the_window_has_64_records_exactly():
    a, b, scratch = ends()
    first = sealed(a, scratch, b"0")
    second = sealed(a, scratch, b"1")
    for last, expected in ((64, REPLAYED), (63, b"0")):
        for start in 0, 1000:  # a leap of more than the window too
            b.last = -1
            b.window[:] = bytes(64)
            a.next = last
            assert opened(b, scratch, sealed(a, scratch, b"n")) == b"n"
            assert opened(b, scratch, first) == expected
            assert opened(b, scratch, second) == b"1"
            a.next = last + 1 + start
            assert opened(b, scratch, sealed(a, scratch, b"m")) == b"m"
            assert opened(b, scratch, second) == REPLAYED


def test_the_window_moves_for_nothing_unauthenticated():
    # RFC 6347 4.1.2.6: MUST NOT be updated until the MAC verification succeeds
    a, b, scratch = ends()
    all_of_them = [sealed(a, scratch, bytes((i,))) for i in range(10)]
    assert opened(b, scratch, all_of_them[5]) == b"\5"
    before = b.last, bytes(b.window)
    for seq in (6, 9, 100, 1 << 20, 1 << 40, (1 << 48) - 1):
        forged = all_of_them[6][:5] + seq.to_bytes(6, "big") + all_of_them[6][11:]
        if seq != 6:
            assert opened(b, scratch, forged) == FORGED
        assert opened(b, scratch, forged[:-1] + bytes((forged[-1] ^ 1,))) == FORGED
        assert (b.last, bytes(b.window)) == before
    for i in range(10):
        assert opened(b, scratch, all_of_them[i]) == (REPLAYED if i == 5 else bytes((i,)))


def test_numbers_of_48_bits_are_understood():
    # RFC 6347 4.1: of whoever sends so many
    for suite in SUITES:
        a, b, scratch = ends(suite)
        for seq in (1 << 28, (1 << 30) - 1, 1 << 30, (1 << 32) - 1, 1 << 32, (1 << 40) + 5, (1 << 48) - 1):
            jump(a, seq)
            data = sealed(a, scratch, b"x")
            assert int.from_bytes(data[5:11], "big") == seq
            assert opened(b, scratch, data) == b"x" and b.last == seq
            assert opened(b, scratch, data) == REPLAYED


def test_a_session_ends_before_its_numbers_do():
    # RFC 6347 4.1: MUST NOT be allowed to wrap. Small ints of 31 bits end first
    wire, c, s, a, b = connected()
    a.keys.next = LAST_RECORD
    assert c.layer.send(b"\x40last", a)
    wire.run(lambda: s.got)
    assert s.got[0] == (b"\x40last", b) and a.up
    assert not c.layer.send(b"\x40more", a)
    assert not a.up and a.error == "its records are used up" and a.keys is None
    wire.run(lambda: not b.up)
    assert b.error == "the peer ended the session: close_notify" and len(s.got) == 1


def test_a_number_is_used_once():
    wire, c, s, a, b = connected()
    for _ in range(20):
        talk(wire, c, s, a, b)
    for source in "c", "s":
        numbers = [r[3:11] for _, who, _, data in wire.log if who == source for r in records(data)]
        assert len(numbers) == len(set(numbers))


def test_explicit_nonces_may_be_any():
    # RFC 6655 3, RFC 5288 3: the sender chooses them
    for suite in SUITES:
        a, b, scratch = ends(suite)
        random = Random(suite)
        for i in range(10):
            nonce = bytes([random.bits(8) for _ in range(8)])
            head = b"\x17\xfe\xfd\0\1\0\0\0\0\0" + bytes((i,))
            buf = bytearray(b"content" + bytes(16))
            aad = bytearray(head[3:] + head[:3] + b"\0\7")
            a._sealer.seal(scratch.work, bytearray(BLOCK[32:36] + nonce), aad, 13, buf, 0, 7)
            body = nonce + bytes(buf[: 7 + a._sealer.tag])
            assert opened(b, scratch, head + len(body).to_bytes(2, "big") + body) == b"content"


def test_every_altered_bit_of_a_record_is_noticed():
    for suite in SUITES[:1] if BOARD else SUITES:
        for cid in (4,) if BOARD else (None, 4):
            wire, c, s, a, b = connected({"cid": 0}, {"cid": cid, "suites": (suite,)}, mtu=64)
            data = kept(c, a, DATA, b"\x40\1ab")
            before = state(b)
            for i in range(len(data)):
                for bit in range(8):
                    altered = bytearray(data)
                    altered[i] ^= 1 << bit
                    # a ClientHello it cannot become: nothing is answered
                    assert s.answers(bytes(altered), "c") == [], (i, bit)
                    assert state(b) == before and not s.got, (i, bit)
            layer = s.layer  # a number of the Finished is replayed
            assert layer.forged + layer.malformed + layer.unknown + layer.replayed >= 8 * len(data)
            layer.replayed = 0
            assert s.answers(data, "c") == [] and s.got == [(b"\x40\1ab", b)]
            assert s.answers(data, "c") == [] and len(s.got) == 1 and s.layer.replayed == 1


def test_a_shortened_record_is_noticed():
    wire, c, s, a, b = connected()
    data = kept(c, a, DATA, b"\x40\1ab")
    before = state(b)
    for n in range(len(data)):
        short = data[:n]
        assert s.answers(short, "c") == [] and state(b) == before
        if n >= 13:
            fitting = data[:11] + (n - 13).to_bytes(2, "big") + data[13:n]
            assert s.answers(fitting, "c") == [] and state(b) == before
    assert s.answers(data + data[:20], "c") == [] and s.got == [(b"\x40\1ab", b)]  # what is behind it is dropped


def test_a_record_longer_than_any_is_dropped():
    wire, c, s, a, b = connected(mtu=64)
    before = state(b)
    for n in (64 + 71, 400, 2000):
        data = b"\x17\xfe\xfd\0\1\0\0\0\0\0\x09" + (n + 16).to_bytes(2, "big") + bytes(n + 16)
        assert s.answers(data, "c") == [] and state(b) == before
    assert s.layer.forged == 3
    assert not c.layer.send(bytes(65), a) and c.layer.send(bytes(64), a)
    wire.run(lambda: s.got)
    assert s.got == [(bytes(64), b)]


def test_other_epochs_and_versions_are_no_records_of_the_session():
    wire, c, s, a, b = connected()
    before = state(b)
    data = kept(c, a, DATA, b"\x40\1ab")
    for epoch in b"\0\0", b"\0\2", b"\1\1", b"\xff\xff", b"\1\0":
        assert s.answers(data[:3] + epoch + data[5:], "c") == []
    for version in b"\3\3", b"\1\0", b"\xff\xfd":
        assert s.answers(data[:1] + version + data[3:], "c") == []
    for kind in (CHANGE, HANDSHAKE, DATA, 0, 24):
        assert s.answers(record(kind, b"\1abcdefghijklmnop"), "c") == []
    assert state(b) == before and not s.got


def test_several_records_of_a_datagram_are_all_taken():
    wire, c, s, a, b = connected()
    one, two, three = [kept(c, a, DATA, b"\x40" + bytes((i,))) for i in range(3)]
    forged = two[:-1] + bytes((two[-1] ^ 1,))
    assert s.answers(one + forged + record(DATA, b"plain") + two + one + three, "c") == []
    assert [data for data, session in s.got] == [b"\x40\0", b"\x40\1", b"\x40\2"]
    assert not s.layer.more


def test_a_fatal_alert_of_the_peer_ends_the_session():
    # RFC 5246 7.2.2
    for number, name in ((10, "unexpected_message"), (20, "bad_record_mac"), (80, "internal_error"), (99, "alert 99")):
        wire, c, s, a, b = connected(mtu=64)
        s.take(kept(c, a, ALERT, bytes((2, number))), "c")
        assert (
            not b.up
            and b.error == "the peer ended the session: " + name == "the peer ended the session: " + alert_text(number)
        )
        assert s.layer.sessions == {} and s.changes[-1] == (False, b.error)


def test_a_warning_and_what_is_no_alert_end_nothing():
    wire, c, s, a, b = connected()
    for content in (b"\1\x5a", b"\1\x64", b"\0\x28", b"", b"\2", b"\2\x28\0"):
        s.take(kept(c, a, ALERT, content), "c")
        assert b.up, content
    for kind, content in ((CHANGE, b"\1"), (HANDSHAKE, b"\0" * 12), (99, b"x"), (0, b"x")):
        s.take(kept(c, a, kind, content), "c")
        assert b.up and not s.got
    talk(wire, c, s, a, b)


def test_nobody_without_the_key_ends_a_session():
    # RFC 6347 4.1.2.7: invalid records SHOULD be silently discarded
    wire, c, s, a, b = connected()
    before = state(a), state(b)
    for level in (0, 1, 2, 255):
        for number in (0, 10, 20, 40, 49, 51, 80, 115, 255):
            alert = record(ALERT, bytes((level, number)))
            for version in alert, alert[:2] + b"\xff" + alert[3:], alert[:4] + b"\1" + alert[5:]:
                assert c.answers(version, "s") == [] and s.answers(version, "c") == []
    for kind in (0, 1, 2, 3, 4, 12, 14, 16, 20):
        for seq in (0, 1, 3, 65535):
            forged = record(HANDSHAKE, message(kind, seq, b"\xfe\xfd" + bytes(40)))
            assert c.answers(forged, "s") == [] and s.answers(forged, "c") == []
    assert (state(a), state(b)) == before
    talk(wire, c, s, a, b)


def test_close_notify_is_answered_and_ends_both():
    # RFC 5246 7.2.1
    for first in 0, 1:
        wire, c, s, a, b = connected()
        ends = ((c, a), (s, b))
        host, session = ends[first]
        other, its = ends[1 - first]
        sent = len(wire.log)
        keys = session.keys
        host.layer.end(session, "enough")
        assert session.error == "enough" and not host.layer.send(b"x", session)
        wire.run(lambda: not its.up)
        assert its.error == "the peer ended the session: close_notify"
        wire.run_for(1000)
        assert [kinds(data) for _, _, _, data in wire.log[sent:]] == [[-1], [-1]]  # and no answer to the answer
        assert bytes(keys.block) == bytes(40)  # wiped
        assert c.layer.sessions == {} == s.layer.sessions


def test_the_tables_of_gcm_are_wiped_with_the_session():
    wire, c, s, a, b = connected({"suites": (GCM,)}, {"suites": (GCM,)})
    talk(wire, c, s, a, b)
    ends = [end for session in (a, b) for end in (session.keys._sealer, session.keys._opener)]
    tables = [end.table for end in ends if hasattr(end, "table")]  # CPython's lie in the package cryptography
    assert (len(tables) == 4 or not MICROPYTHON) and all(any(table) for table in tables)
    s.layer.end(b, "enough")
    wire.run(lambda: not a.up)
    assert not any(any(table) for table in tables)


def test_a_layer_that_is_closed_says_goodbye_to_all():
    wire, c, s, a, b = connected()
    s.layer.close()
    assert b.error == "the node was stopped" and s.layer.sessions == {}
    wire.run(lambda: not a.up)
    assert a.error == "the peer ended the session: close_notify"


def test_records_of_nobody_are_counted():
    wire, c, s = pair()
    data = b"\x17\xfe\xfd\0\1\0\0\0\0\0\0\0\x18" + bytes(24)
    assert s.answers(data, "stranger") == [] and s.layer.unknown == 1
    for bad in (b"", b"\x17", b"\0" * 40, data[:-1], b"\x19" + data[1:]):
        assert s.answers(bad, "stranger") == []
    assert s.layer.sessions == {} and s.layer.mtu == MTU
