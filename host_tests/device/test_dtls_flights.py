"""How the messages of a handshake travel: repeated, in fragments, out of order, malformed, or not at all.

RFC 6347 4.2.3, 4.2.4 and 4.2.8, RFC 7925 11.
"""

from dtls_net import (
    CHANGE,
    HANDSHAKE,
    connected,
    kept,
    kinds,
    message,
    pair,
    record,
    records,
    shake,
    talk,
)
from harness import BOARD
from net import Random

HELLO, SERVER_HELLO, VERIFY, DONE, EXCHANGE = 1, 2, 3, 14, 16
FINAL = [-CHANGE, -1]


def lost(times, *wanted):
    """A change that loses a datagram of these kinds so many times."""
    left = [times]

    def change(source, target, data):
        if kinds(data) == list(wanted) and left[0]:
            left[0] -= 1
            return ()
        return (data,)

    return change


def silence(*_):
    return ()


def times(wire, source, since=0):
    return [at for at, who, _, _ in wire.log[since:] if who == source]


def test_a_flight_without_answer_is_repeated_after_1_2_4_seconds_and_given_up_after_63():
    # RFC 6347 4.2.4.1, RFC 7925 11
    wire, c, s = pair()
    wire.change = silence
    a = c.layer.connect("s", (b"id", b"secret"))
    wire.run(lambda: a.error)
    assert times(wire, "c") == [0, 1000, 3000, 7000, 15000, 31000] and wire.elapsed == 63000
    assert a.error == "no answer" and c.changes == [(False, "no answer")]
    assert c.layer.retransmissions == 5 and c.layer.failed == 1 and c.layer.sessions == {}
    hellos = [data for _, _, _, data in wire.log]
    assert len({data[13:] for data in hellos}) == 1 and len({data[5:11] for data in hellos}) == 6  # in new records
    assert not wire.step()


def test_the_first_wait_can_be_chosen():
    # RFC 7925 11: 9 s for networks of things
    for first, expected in ((9000, [0, 9000, 27000]), (500, [0, 500, 1500, 3500, 7500, 15500, 31500])):
        wire, c, s = pair({"timeout_ms": first})
        wire.change = silence
        a = c.layer.connect("s", (b"id", b"secret"))
        wire.run(lambda: a.error)
        assert times(wire, "c") == expected and wire.elapsed >= 63000


def test_a_server_repeats_its_flight_and_gives_up():
    wire, c, s = pair()
    c.layer.connect("s", (b"id", b"secret"))
    wire.run(lambda: s.layer.acceptor.halves)
    del wire.hosts["c"]
    start = wire.elapsed
    wire.change = silence
    wire.run(lambda: not s.layer.acceptor.halves)
    assert times(wire, "s")[2:] == [start + 1000 * n for n in (1, 3, 7, 15, 31)] and wire.elapsed == start + 63000
    assert s.changes == [(False, "no answer")] and s.layer.failed == 1


def test_a_peer_that_falls_silent_at_its_proof_may_have_another_key():
    # some servers drop a Finished that they cannot read, and say nothing
    wire, c, s = pair()
    wire.change = lambda source, target, data: () if -1 in kinds(data) else (data,)
    a = c.layer.connect("s", (b"id", b"secret"))
    wire.run(lambda: a.error)
    assert a.error == "the peer fell silent when it had to prove its key: wrong key, or unknown identity?"


def test_each_flight_may_be_lost_and_is_repeated():
    for kind in ([HELLO], [VERIFY], [SERVER_HELLO, DONE], [EXCHANGE, -CHANGE, -1], FINAL):
        for n in (1, 3):
            wire, c, s = pair()
            wire.change = lost(n, *kind)
            a, b = shake(wire, c, s)
            assert a.up and b.up, kind
            assert wire.elapsed < (1000 << n), (kind, wire.elapsed)
            talk(wire, c, s, a, b)
            wire.run_for(300000)
            assert a.up and b.up and a.handshake is None is b.handshake


def test_each_flight_of_a_resumed_handshake_may_be_lost():
    for kind in ([HELLO], [VERIFY], [SERVER_HELLO, -CHANGE, -1], FINAL):
        wire, c, s, a, b = connected()
        c.layer.forget(a, "forgotten")
        wire.change = lost(2, *kind)
        a, b = shake(wire, c, s, resumption=a.resumption)
        assert a.up and b.up, kind
        talk(wire, c, s, a, b)


def test_a_repeated_last_flight_is_answered_while_it_may_be_needed():
    # RFC 6347 4.2.4: for at least twice the MSL of TCP
    wire, c, s, a, b = connected()
    flight = wire.log[4][3]
    for wait, n in ((0, 1), (100000, 1), (130000, 1), (20000, 0)):
        wire.run_for(wait)
        finished = kept(c, a, HANDSHAKE, message(20, 3, bytes(12)))  # in a new record, else it is a replay
        again = records(flight)[0] + records(flight)[1] + finished
        sent = s.answers(again, "c")
        assert [kinds(data) for _, data in sent] == [FINAL] * n, wait
    talk(wire, c, s, a, b)


def test_data_before_the_finished_waits_for_the_peer_to_send_it_again():
    wire, c, s = pair()
    wire.change = lost(1, *FINAL)
    a = c.layer.connect("s", (b"id", b"secret"))
    wire.run(lambda: s.layer.sessions)
    b = s.layer.sessions["c"]
    assert s.layer.send(b"\x40early", b)
    wire.run_for(10)
    assert c.got == [] and not a.up
    wire.run(lambda: a.up)
    talk(wire, c, s, a, b)


def test_every_message_may_be_a_datagram_of_its_own():
    wire, c, s = pair()
    wire.change = lambda source, target, data: records(data)
    a, b = shake(wire, c, s)
    assert a.up and c.layer.retransmissions == s.layer.retransmissions == 0
    talk(wire, c, s, a, b)


def test_records_of_a_flight_may_come_in_any_order():
    # RFC 6347 4.2.2; Finished before ChangeCipherSpec, too
    def turned(source, target, data):
        found = records(data)
        return found[:-2] + [found[-1], found[-2]] if len(found) > 2 else found[::-1]

    for change, repeats in ((turned, 0), (lambda source, target, data: records(data)[::-1], 2)):
        for resumption in (False, True):
            wire, c, s, a, b = connected()
            wire.change = change
            a, b = shake(wire, c, s, resumption=a.resumption if resumption else None)
            assert a.up and b.up
            assert c.layer.retransmissions + s.layer.retransmissions <= repeats
            talk(wire, c, s, a, b)


def test_a_finished_needs_no_change_cipher_spec():
    # It can be lost by itself: what has the keys is the epoch (RFC 6347 4.1)
    wire, c, s = pair()
    wire.change = lambda source, target, data: [r for r in records(data) if r[0] != CHANGE]
    a, b = shake(wire, c, s)
    assert a.up and b.up
    talk(wire, c, s, a, b)


def fragments(data, size, overlap, random):
    """The handshake messages of a datagram in fragments, each in a record of its own."""
    found = []
    for r in records(data):
        if r[4] or r[0] != HANDSHAKE or r[13] == HELLO:  # nothing is kept of parts of a ClientHello
            found.append(r)
            continue
        body = r[25:]
        seq = r[17] << 8 | r[18]
        at = 0
        while at < len(body) or not at:
            least = max(0, at - overlap)
            n = min(len(body), at + size) - least
            found.append(record(HANDSHAKE, message(r[13], seq, body, least, n)))
            at += size
    if random:
        for i in range(len(found)):
            j = random.below(len(found))
            found[i], found[j] = found[j], found[i]
    return found


def test_messages_come_in_fragments_of_any_size():
    # RFC 6347 4.2.3
    for size in (1, 7, 30) if BOARD else tuple(range(1, 60)):
        for overlap in (0,) if BOARD else (0, 1, 5):
            wire, c, s = pair(server={"hint": b"a hint"})
            wire.change = lambda source, target, data: fragments(data, size, overlap, None)
            a, b = shake(wire, c, s)
            assert a.up and b.up and c.layer.retransmissions == s.layer.retransmissions == 0, (size, overlap)
            talk(wire, c, s, a, b)


def test_fragments_come_in_any_order_and_overlap():
    for seed in range(2 if BOARD else 40):
        random = Random(seed)
        wire, c, s = pair(server={"hint": b"a hint"})
        wire.change = lambda source, target, data: fragments(data, 3 + seed % 20, seed % 4, random)
        a, b = shake(wire, c, s)
        assert a.up and b.up, seed
        talk(wire, c, s, a, b)


def test_several_fragments_may_be_in_one_record():
    wire, c, s = pair(server={"hint": b"a hint"})

    def change(source, target, data):
        if kinds(data)[0] != SERVER_HELLO:
            return (data,)
        return (record(HANDSHAKE, b"".join(r[13:] for r in fragments(data, 10, 2, None))),)

    wire.change = change
    a, b = shake(wire, c, s)
    assert a.up and c.layer.retransmissions == 0


def test_a_finished_may_be_in_fragments():
    wire, c, s = pair()

    def change(source, target, data):
        found = records(data)
        if found[-1][4] != 1 or source != "c":
            return (data,)
        session = c.layer.sessions["s"]
        whole = session.handshake._flight[-1]
        found.pop()
        for at in (5, 0, 9):
            found.append(
                kept_half(c, session, message(20, whole[4] << 8 | whole[5], whole[12:], at, 5 if at < 9 else 3))
            )
        return found

    wire.change = change
    a, b = shake(wire, c, s)
    assert a.up and b.up and c.layer.retransmissions == 0


def kept_half(host, session, content):
    n = session.handshake.keys.seal(host.layer.scratch, HANDSHAKE, content, len(content))
    return bytes(host.layer.scratch.sealed[:n])
