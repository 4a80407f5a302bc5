"""Who may begin a handshake with a server, what it keeps of whom, and which session leaves when there are too many.

RFC 6347 4.2.1 and 4.2.8.
"""

import gc

from coaplet.dtls.hello import Hello, client_hello
from dtls_net import (
    ALERT,
    CCM,
    CCM_8,
    HANDSHAKE,
    Host,
    connected,
    kinds,
    message,
    pair,
    record,
    records,
    shake,
    state,
    talk,
)
from harness import BOARD

RANDOM = bytes(range(32))
VERIFY, SERVER_HELLO, DONE = 3, 2, 14


def hello(cookie=b"", random=RANDOM, session_id=b"", suites=(CCM_8,), seq=0, cid=None):
    body = client_hello(random, session_id, cookie, suites, cid)
    return record(HANDSHAKE, message(1, seq, body), seq)


def cookie_of(host, source, **kwargs):
    ((to, answer),) = host.answers(hello(**kwargs), source)
    assert to == source and kinds(answer) == [VERIFY]
    return answer[28:]


def kept_of(layer):
    """How much a layer keeps."""
    acceptor = layer.acceptor
    return len(layer.sessions), len(acceptor.halves), len(acceptor._kept), len(layer._by_cid), layer.deadline


def test_a_hello_without_its_cookie_gets_one_shorter_answer_and_leaves_nothing():
    wire, c, s = pair()
    nothing = kept_of(s.layer)
    for cid, cookie in (
        (None, b""),
        (32, b""),
        (0, bytes(16)),
        (None, bytes(15)),
        (None, bytes(17)),
        (None, bytes(255)),
    ):
        cid = cid if cid is None else bytes(cid)
        question = hello(cookie, cid=cid)
        ((to, answer),) = s.answers(question, "c")
        assert to == "c" and kinds(answer) == [VERIFY] and len(answer) < len(question)
        assert kept_of(s.layer) == nothing
    # the shortest one there is (RFC 5246 7.4.1.2)
    body = b"\xfe\xfd" + RANDOM + b"\0\0\0\2\xc0\xa8\1\0"
    question = record(HANDSHAKE, message(1, 0, body))
    ((to, answer),) = s.answers(question, "c")
    assert len(answer) < len(question) and kept_of(s.layer) == nothing


def test_a_hundred_thousand_spoofed_hellos_leave_nothing():
    # RFC 6347 4.2.1. On slow machines 10,000 and fewer
    from fuzzing import ARCH, EMULATED, allocated

    n = 100 if BOARD else 1000 if EMULATED else (100000, 10000, 10000)[ARCH]
    wire, c, s, a, b = connected()
    before = state(b), kept_of(s.layer)
    question = bytearray(hello())
    sent = [0, 0]

    def count(buf, address):
        sent[0] += 1
        sent[1] += len(buf)

    s.send = count
    sizes = []
    for i in range(n + 1):
        question[27] = i >> 8 & 255
        question[28] = i & 255
        s.take(bytes(question), "spoofed %d" % (i % 1000))
        if i % (n // 5) == 0:
            gc.collect()
            gc.collect()
            sizes.append(allocated())
    assert sent[0] == n + 1 and sent[1] < sent[0] * len(question) and s.layer.acceptor.cookies == n + 1 + 1
    assert (state(b), kept_of(s.layer)) == before
    assert min(sizes[3:]) <= max(sizes[:3]) + 512, sizes


def test_a_cookie_is_good_for_what_it_was_given_for():
    # the address and the parameters of the hello (RFC 6347 4.2.1)
    wire, c, s = pair()
    cookie = cookie_of(s, "c")
    nothing = kept_of(s.layer)
    for source, other in (
        ("c2", hello(cookie)),
        ("c", hello(cookie, random=bytes(32))),
        ("c", hello(cookie, session_id=b"x")),
        ("c", hello(cookie, suites=(CCM,))),
        ("c", hello(cookie, suites=(CCM_8, CCM))),
        ("c", hello(cookie[:-1] + bytes((cookie[-1] ^ 1,)))),
        ("c", hello(cookie[:-1])),
        ("c", hello(cookie + b"\0")),
    ):
        ((to, answer),) = s.answers(other, source)
        assert to == source and kinds(answer) == [VERIFY] and kept_of(s.layer) == nothing
    ((to, answer),) = s.answers(hello(cookie, seq=1), "c")
    assert to == "c" and kinds(answer) == [SERVER_HELLO, DONE]


def test_every_bit_of_a_cookie_counts():
    wire, c, s = pair()
    cookie = cookie_of(s, "c")
    for i in range(16):
        for bit in (0, 7) if BOARD else range(8):
            wrong = bytearray(cookie)
            wrong[i] ^= 1 << bit
            ((_, answer),) = s.answers(hello(bytes(wrong)), "c")
            assert kinds(answer) == [VERIFY] and not s.layer.acceptor.halves


def test_cookies_expire():
    # RFC 6347 4.2.1: the secret changes, and the one before is good for a while still
    for wait, good in ((0, True), (299, True), (301, True), (601, False), (100000, False)):
        wire, c, s = pair()
        cookie = cookie_of(s, "c")
        for _ in range(min(wait // 100, 20)):
            wire.advance(100000)
            cookie_of(s, "another")
        wire.advance(wait * 1000 - wire.elapsed)
        cookie_of(s, "another")
        ((_, answer),) = s.answers(hello(cookie, seq=1), "c")
        assert (kinds(answer) == [SERVER_HELLO, DONE]) == good, wait
        if BOARD and wait == 601:
            break


def test_malformed_hellos_are_not_answered():
    wire, c, s = pair()
    whole = hello(cookie_of(s, "c"), cid=b"cid", seq=1)
    body = whole[25:]
    nothing = kept_of(s.layer)
    n = s.layer.acceptor.cookies

    def passed_over(data):
        return s.answers(data, "c") == [] and kept_of(s.layer) == nothing

    for i in range(len(body)):
        if i != len(body) - 14:  # there the extensions begin, which may be missing
            assert passed_over(record(HANDSHAKE, message(1, 1, body[:i]), 1)), i
    at = len(body) - 12
    for bad in (
        body + b"\0",
        b"\3\3" + body[2:],
        b"\xfe\xfe" + body[2:],  # DTLS 1.0 and 1.1 are not done
        body.replace(b"\1\0\0\x0c", b"\1\1\0\x0c"),  # without null compression
        body.replace(b"\0\x36\0\4\3cid", b"\0\x36\0\4\2cid"),
        body.replace(b"\0\x36\0\4\3cid", b"\0\x36\0\5\3cid"),
        body[: at - 2] + b"\0\5\xff\1\0\1\1",  # RFC 5746 3.6: of a renegotiation
        body[: at - 2] + b"\0\4\0\x17\0\1",
    ):
        assert bad != body and passed_over(record(HANDSHAKE, message(1, 1, bad), 1)), bad
    for at, size in ((0, 20), (1, None), (20, 30)):  # in parts: kept from nobody without a cookie
        assert passed_over(record(HANDSHAKE, message(1, 1, body, at, size), 1))
    assert s.layer.acceptor.cookies == n and s.layer.malformed > len(body)
    ((_, answer),) = s.answers(whole, "c")
    assert kinds(answer) == [SERVER_HELLO, DONE]


def test_extensions_nobody_knows_are_passed_over():
    # RFC 5246 7.4.1.4
    wire, c, s = pair()
    c.layer.connect("s", (b"id", b"secret"))
    for extra in (b"", b"\0\0\0\0", b"\xab\xcd\0\3abc", b"\0\x0d\0\2\4\3\0\x16\0\0\0\x23\0\0"):
        body = client_hello(RANDOM, b"", b"", (CCM_8,), b"cid")
        body = body[:-14] + (12 + len(extra)).to_bytes(2, "big") + body[-12:] + extra
        assert Hello(body, True).cid == b"cid" and Hello(body, True).ems and Hello(body, True).other == bool(extra)
        ((_, answer),) = s.answers(record(HANDSHAKE, message(1, 0, body)), "c")
        assert kinds(answer) == [VERIFY]


def test_a_hello_that_comes_again_is_answered_by_the_timer_alone():
    wire, c, s = pair()
    again = hello(cookie_of(s, "c"), seq=1)
    assert len(s.answers(again, "c")) == 1
    for _ in range(20):
        assert s.answers(again, "c") == [] and len(s.layer.acceptor.halves) == 1
    wire.advance(300)
    assert len(s.answers(again, "c")) == 1  # a while later, it may have been lost (RFC 6347 4.2.4)


def test_half_open_handshakes_are_limited_and_counted():
    wire, c, s = pair(server={"half_open": 2})
    hellos = [(hello(cookie_of(s, name), seq=1), name) for name in ("c1", "c2", "c3")]
    for i, (data, name) in enumerate(hellos):
        assert len(s.answers(data, name)) == (i < 2)
    assert s.layer.acceptor.limited == 1 and sorted(s.layer.acceptor.halves) == ["c1", "c2"]
    wire.run(lambda: not s.layer.acceptor.halves)
    data, name = hello(cookie_of(s, "c3"), seq=1), "c3"
    assert len(s.answers(data, name)) == 1


def test_handshakes_a_second_are_limited_and_counted():
    wire, c, s = pair(server={"half_open": 100, "handshakes": 3})
    for second in range(3):
        for i in range(5):
            name = "c%d%d" % (second, i)
            assert len(s.answers(hello(cookie_of(s, name), seq=1), name)) == (i < 3)
        assert s.layer.acceptor.limited == 2 * (second + 1)
        wire.run_for(1001)


def test_a_client_that_restarts_replaces_its_session_when_it_has_proved_itself():
    # RFC 6347 4.2.8
    wire, c, s, a, b = connected()
    c = Host(wire, "c")  # with nothing left of before
    new = c.layer.connect("s", (b"id", b"secret"))
    while not new.handshake.keys:
        assert s.layer.sessions == {"c": b} and b.up
        wire.step()
    assert s.layer.sessions == {"c": b} and b.up
    wire.run(lambda: new.up)
    after = s.layer.sessions["c"]
    assert after is not b and not b.up and b.error == "the peer began another session"
    talk(wire, c, s, new, after)


def test_a_client_without_the_key_replaces_nobody():
    for psk in (b"id", b"wrong"), (b"who", b"secret"):
        wire, c, s, a, b = connected()
        before = state(b)
        other = Host(wire, "c")
        new = other.layer.connect("s", psk)
        wire.run(lambda: new.error)
        wire.hosts["c"] = c
        assert state(b) == before and s.layer.sessions == {"c": b}
        talk(wire, c, s, a, b)
        wire.run_for(70000)
        assert not s.layer.acceptor.halves and b.up


def test_a_session_goes_on_while_somebody_begins_anew_at_its_address():
    wire, c, s, a, b = connected()
    assert len(s.answers(hello(cookie_of(s, "c"), seq=1), "c")) == 1 and "c" in s.layer.acceptor.halves
    talk(wire, c, s, a, b)
    wire.run_for(70000)
    assert b.up and not s.layer.acceptor.halves
    talk(wire, c, s, a, b)


def test_the_session_that_was_idle_longest_makes_room():
    wire, c, s, a, b = connected(server={"sessions": 2})
    others = [Host(wire, name) for name in ("d", "e")]
    wire.advance(1000)
    first, its = shake(wire, others[0], s)
    wire.advance(1000)
    talk(wire, c, s, a, b)
    shake(wire, others[1], s)
    assert sorted(s.layer.sessions) == ["c", "e"] and s.layer.evicted == 1
    assert its.error == "it made room for another"
    wire.run(lambda: not first.up)
    assert first.error == "the peer ended the session: close_notify"  # and it is told
    talk(wire, c, s, a, b)


def test_an_idle_session_ends_when_its_time_is_over():
    wire, c, s, a, b = connected(server={"idle_ms": 600000})
    for _ in range(3):
        wire.run_for(500000)
        talk(wire, c, s, a, b)
    start = wire.elapsed
    wire.run(lambda: not b.up)
    assert b.error == "it was idle" and s.layer.evicted == 1 and 599000 <= wire.elapsed - start <= 600000
    wire.run(lambda: not a.up)


def test_a_hello_of_dtls_1_0_is_told_that_there_is_none():
    # RFC 5246 E.1: protocol_version, under a version that it knows; no state, and no larger than the question
    wire, c, s, a, b = connected()
    before = state(b), kept_of(s.layer)
    body = b"\xfe\xff" + RANDOM + b"\0\0\0\2\0\x8c\1\0"
    for seq, source in (0, "old"), (300, "old"), (7, "c"):
        question = record(HANDSHAKE, message(1, 0, body), seq, b"\xfe\xff")
        ((to, answer),) = s.answers(question, source)
        assert to == source and answer == record(ALERT, b"\2\x46", seq, b"\xfe\xff")
        assert len(answer) < len(question) and (state(b), kept_of(s.layer)) == before
    # a part of one, and what has another length than it says, get no answer
    for part in message(1, 0, body, 0, 20), message(1, 0, body)[:-1], message(1, 0, body) + b"\0":
        assert s.answers(record(HANDSHAKE, part, 0, b"\xfe\xff"), "old") == []
    shake(wire, c, s)
    talk(wire, c, s, *shake(wire, c, s))


def test_records_of_answers_go_on_with_the_numbers_of_the_hello():
    # RFC 6347 4.2.1: so that the client sees no number twice
    wire, c, s = pair()
    for seq in (1, 5, 255, 300):
        body = client_hello(RANDOM, b"", b"", (CCM_8,), None)
        ((_, answer),) = s.answers(record(HANDSHAKE, message(1, seq, body), seq), "c%d" % seq)
        assert int.from_bytes(answer[5:11], "big") == seq and int.from_bytes(answer[17:19], "big") == seq
        body = client_hello(RANDOM, b"", answer[28:], (CCM_8,), None)
        ((_, answer),) = s.answers(record(HANDSHAKE, message(1, seq + 1, body), seq + 1), "c%d" % seq)
        assert [int.from_bytes(r[5:11], "big") for r in records(answer)] == [seq + 1, seq + 2]
        assert [int.from_bytes(r[17:19], "big") for r in records(answer)] == [seq + 1, seq + 2]
        s.layer.acceptor.halves.clear()


def test_a_client_may_number_as_it_likes():
    # no number of its choice is an error of ours, or leaves a handshake that never ends
    wire, c, s = pair()
    for seq in (0xFFFE, 0xFFFF):
        question = hello(cookie_of(s, "c%d" % seq), seq=seq)
        ((_, answer),) = s.answers(question, "c%d" % seq)
        assert kinds(answer) == [SERVER_HELLO, DONE]
    wire.run(lambda: not s.layer.acceptor.halves)
