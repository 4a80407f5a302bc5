"""Connection IDs: agreed on in each direction by itself, and an address that changes under them (RFC 9146)."""

from coaplet.dtls.record import Keys
from dtls_net import CID, DATA, Host, connected, kept, kinds, message, record, records, shake, state, talk
from harness import BOARD

LENGTHS = (0, 1, 32) if BOARD else (0, 1, 2, 7, 8, 16, 31, 32)


def test_connection_ids_of_every_length_are_used_each_way():
    # RFC 9146 3: a side sends what the other one asked for; of zero bytes: no Connection ID in that direction
    for ours in LENGTHS:
        for theirs in LENGTHS:
            wire, c, s, a, b = connected({"cid": ours}, {"cid": theirs})
            assert len(a.keys.cid_in) == ours and len(b.keys.cid_in) == theirs
            assert a.keys.cid_out == b.keys.cid_in and b.keys.cid_out == a.keys.cid_in
            since = len(wire.log)
            talk(wire, c, s, a, b)
            for (_, _, _, data), keys in zip(wire.log[since:], (b.keys, a.keys)):
                assert data[0] == (CID if keys.cid_in else DATA)
                assert data[11 : 11 + len(keys.cid_in)] == keys.cid_in
            assert c.layer.unknown == s.layer.unknown == 0


def test_without_both_there_is_none():
    for ours, theirs in ((None, 4), (4, None), (None, None)):
        wire, c, s, a, b = connected({"cid": ours}, {"cid": theirs})
        assert a.keys.cid_in == a.keys.cid_out == b.keys.cid_in == b.keys.cid_out == b""
        assert not c.layer._by_cid and not s.layer._by_cid and a.cid == b.cid == b""
        talk(wire, c, s, a, b)


def test_every_session_has_a_connection_id_of_its_own_and_gives_it_back():
    wire, c, s, a, b = connected({"cid": 2}, {"cid": 2, "sessions": 4})
    hosts = [Host(wire, "c%d" % i, cid=2) for i in range(3)]
    sessions = [shake(wire, host, s)[1] for host in hosts] + [b]
    assert len({session.cid for session in sessions}) == 4 == len(s.layer._by_cid)
    for session in sessions:
        s.layer.end(session, "enough")
    assert s.layer._by_cid == {} == s.layer.sessions


def test_connection_ids_of_failed_handshakes_are_given_back():
    wire, c, s, a, b = connected({"cid": 2}, {"cid": 2})
    for psk in ((b"id", b"wrong"), (b"who", b"secret")):
        host = Host(wire, "other", cid=2)
        assert shake(wire, host, s, psk)[0].error
        assert host.layer._by_cid == {} and list(s.layer._by_cid.values()) == [b]


def test_a_record_without_the_connection_id_is_dropped():
    # RFC 9146 3: once agreed on, every record of the epoch has it
    wire, c, s, a, b = connected({"cid": 0}, {"cid": 4})
    plain = Keys(a.keys.suite, bytes(a.keys.block), True)
    plain.next = 10
    n = plain.seal(c.layer.scratch, DATA, b"\x40x", 2)
    before = state(b)
    assert s.answers(bytes(c.layer.scratch.sealed[:n]), "c") == []
    assert state(b) == before and not s.got and s.layer.unknown == 1


def test_a_record_with_a_connection_id_nobody_asked_for_is_dropped():
    for theirs in (None, 0, 4):
        wire, c, s, a, b = connected({"cid": 0}, {"cid": theirs})
        for cid in (b"x", b"1234"):
            keys = Keys(a.keys.suite, bytes(a.keys.block), True, cid)
            keys.next = 10
            n = keys.seal(c.layer.scratch, DATA, b"\x40x", 2)
            data = bytes(c.layer.scratch.sealed[:n])
            before = state(b)
            assert s.answers(data, "c") == [] and s.answers(bytes((CID,)) + data[1:], "c") == []
            assert state(b) == before and not s.got


def test_zeros_behind_the_type_are_padding():
    # RFC 9146 4
    wire, c, s, a, b = connected({"cid": 0}, {"cid": 4})
    for n in (0, 1, 2, 30):
        s.take(kept(c, a, 0, b"\x40ab\0" + bytes((DATA,)) + bytes(n)), "c")
        assert s.got.pop() == (b"\x40ab\0", b)
    for n in (0, 1, 30):  # and nothing but zeros has no type
        assert s.answers(kept(c, a, 0, bytes(n)), "c") == []
        assert b.up and not s.got


def moved(server=4):
    """A pair whose client has got another address, and a datagram from there."""
    wire, c, s, a, b = connected({"cid": 0}, {"cid": server})
    talk(wire, c, s, a, b)
    c.move("c2")
    return wire, c, s, a, b, kept(c, a, DATA, b"\x40moved")


def ping_of(c, s, data, source):
    """Have the server take a datagram from another address; returns the MID of its ping there."""
    ((to, sealed),) = s.answers(data, source)
    assert to == source and kinds(sealed) == [-1] and len(sealed) < len(data)
    c.got.clear()
    c.take(sealed, "s")
    ping = c.got.pop()[0]
    assert len(ping) == 4 and ping[:2] == b"\x40\0"
    return ping[2:]


def test_an_address_moves_when_it_answers_a_ping():
    # RFC 9146 6: authenticated, newer than any, and reachable there
    wire, c, s, a, b, data = moved()
    mid = ping_of(c, s, data, "c2")
    assert s.got[-1] == (b"\x40moved", b) and b.address == "c"  # not yet
    assert s.answers(kept(c, a, DATA, b"\x70\0" + mid), "c2") == []
    assert b.address == "c2" and s.layer.sessions == {"c2": b} and b.moving is None
    assert s.got[-1] == (b"\x40moved", b)  # the answer is nobody else's
    talk(wire, c, s, a, b)


def test_an_address_does_not_move_for_what_is_old_or_forged():
    wire, c, s, a, b, data = moved()
    s.take(kept(c, a, DATA, b"\x40new"), "c")
    before = state(b)[3]
    assert s.answers(data, "c2") == []  # taken, since nobody has seen it, but not newer (condition 2)
    assert s.got[-1] == (b"\x40moved", b) and b.moving is None and b.address == "c"
    assert s.answers(data, "c2") == [] and s.answers(data[:-1] + bytes((data[-1] ^ 1,)), "c3") == []
    assert b.moving is None and b.address == "c" and state(b)[3] != before
    talk_back(wire, s, b)


def talk_back(wire, s, b):
    """What the server sends goes to the address that the session has."""
    since = len(wire.log)
    s.layer.send(b"\x40x", b)
    assert [target for _, _, target, _ in wire.log[since:]] == [b.address]


def test_another_answer_or_one_from_elsewhere_moves_nothing():
    wire, c, s, a, b, data = moved()
    mid = ping_of(c, s, data, "c2")
    other = bytes((mid[0] ^ 1, mid[1]))
    for answer in (b"\x70\0" + other, b"\x60\0" + mid, b"\x70\1" + mid, b"\x70\0" + mid + b"x"):
        mid = ping_of(c, s, kept(c, a, DATA, answer), "c2")  # asked again, with another MID
        assert b.address == "c"
    assert len(s.answers(kept(c, a, DATA, b"\x70\0" + mid), "c3")) == 1 and b.address == "c"
    # and from its own address it stays where it is
    assert s.answers(kept(c, a, DATA, b"\x40home"), "c") == [] and b.address == "c"
    talk_back(wire, s, b)


def test_what_somebody_else_sends_on_first_moves_nothing():
    # RFC 9146 6, 10: an observer in the middle races ahead with a record from its own address
    wire, c, s, a, b, data = moved()
    c.move("c")
    mid = ping_of(c, s, data, "thief")
    assert s.answers(data, "c") == [] and s.layer.replayed == 1
    assert b.address == "c" and len(mid) == 2
    talk(wire, c, s, a, b)


def test_without_a_connection_id_another_address_is_another_peer():
    wire, c, s, a, b = connected({"cid": None}, {"cid": 4})
    before = state(b)
    assert s.answers(kept(c, a, DATA, b"\x40moved"), "c2") == []
    assert state(b) == before and s.layer.unknown == 1 and not s.got


def test_an_address_that_another_session_had_leaves_nothing_behind():
    # Behind one NAT, a client gets the port that another one had
    wire, c, s, a, b = connected({"cid": 0}, {"cid": 4})
    other = Host(wire, "c2", cid=0)
    first, second = shake(wire, other, s)
    assert second.up
    other.move("gone")
    c.move("c2")
    mid = ping_of(c, s, kept(c, a, DATA, b"\x40moved"), "c2")
    s.take(kept(c, a, DATA, b"\x70\0" + mid), "c2")
    assert b.address == "c2" and s.layer.sessions == {"c2": b}
    assert not second.up and second.keys is None and list(s.layer._by_cid.values()) == [b]
    talk(wire, c, s, a, b)


def test_a_client_follows_no_server_that_moves():
    # It keeps to the address that it looked up
    wire, c, s, a, b = connected({"cid": 4}, {"cid": 4})
    sealed = kept(s, b, DATA, b"\x40moved")
    assert c.answers(sealed, "elsewhere") == [] and a.address == "s" and a.moving is None
    talk(wire, c, s, a, b)


def test_hellos_and_records_may_share_a_datagram():
    wire, c, s, a, b = connected({"cid": 3}, {"cid": 5})
    one, two = kept(c, a, DATA, b"\x40one"), kept(c, a, DATA, b"\x40two")
    s.take(one + record(22, message(20, 9, b"x")) + two, "c")
    assert s.got == [(b"\x40one", b), (b"\x40two", b)] and len(records(one + two, 5)) == 2
