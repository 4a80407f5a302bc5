"""Messages of a handshake that are malformed, out of turn or too early: passed over, since anybody may have sent them.

RFC 5246 7.4, RFC 6347 4.1.2.7 and 4.2.3. A server's view of ClientHellos: test_dtls_acceptor.py.
"""

from dtls_net import ALERT, DATA, HANDSHAKE, kinds, message, pair, record, records, talk
from harness import BOARD

SERVER_HELLO, DONE, EXCHANGE = 2, 14, 16


def test_a_message_longer_than_any_is_not_kept():
    wire, c, s = pair()
    a = c.layer.connect("s", (b"id", b"secret"))
    for n in (1025, 65536, 0xFFFFFF):
        head = bytes((SERVER_HELLO,)) + n.to_bytes(3, "big") + b"\0\0\0\0\0\0\0\4"
        assert c.answers(record(HANDSHAKE, head + b"abcd"), "s") == []
        assert a.handshake._parts is None
    for at, size, n in ((5, 4, 8), (8, 1, 8), (0xFFFFFF, 4, 8)):  # beyond its end
        head = bytes((SERVER_HELLO,)) + n.to_bytes(3, "big") + b"\0\0" + at.to_bytes(3, "big") + size.to_bytes(3, "big")
        assert c.answers(record(HANDSHAKE, head + b"abcd"[:size]), "s") == [] and a.handshake._parts is None
    wire.run(lambda: a.up)


def test_little_is_kept_of_what_comes_too_early():
    wire, c, s = pair()
    a = c.layer.connect("s", (b"id", b"secret"))
    for seq in range(1, 300):
        assert c.answers(record(HANDSHAKE, message(DONE, seq, b"")), "s") == []
    assert len(a.handshake._early) <= 4
    wire.run(lambda: a.up or a.error)
    assert a.up


def hellos(answer):
    """ServerHellos that are none for us, made of one that is."""
    body = answer[25:]
    seq = answer[17] << 8 | answer[18]
    extensions = body[70 if body[34] == 32 else 38 + body[34] :]
    base = body[: len(body) - len(extensions)]
    for bad in (
        [body[:n] for n in range(len(body)) if n != len(base)]
        + [
            b"\xfe\xff" + body[2:],  # DTLS 1.0
            b"\xfe\xfc" + body[2:],
            b"\3\3" + body[2:],
            body[:34] + b"\x21" + bytes(33) + body[35 + body[34] :],  # a session id of 33 bytes
            base[:-3] + b"\xc0\xa9\0" + extensions,  # a suite that was not offered
            base[:-3] + b"\0\xff\0" + extensions,
            base[:-1] + b"\1" + extensions,  # compression
            body + b"\0",
            base + b"\0\5" + extensions[2:6] + b"x",
            base + b"\0\4\0\x16\0\0",  # encrypt_then_mac, which was not asked for (RFC 5246 7.4.1.4)
            base + b"\0\6\xff\1\0\2\1x",  # a renegotiation (RFC 5746 3.4)
            base + b"\0\5\0\x36\0\1\2",  # a Connection ID that ends too early
            base + b"\0\x26\0\x36\0\x22\x21" + bytes(33),  # and one of 33 bytes
        ]
    ):
        yield record(HANDSHAKE, message(SERVER_HELLO, seq, bad), 1)


def test_a_malformed_server_hello_is_passed_over():
    # Anybody may have sent it: the right one may come still
    wire, c, s = pair()
    a = c.layer.connect("s", (b"id", b"secret"))
    held = []

    def change(source, target, data):
        if not held and kinds(data)[0] == SERVER_HELLO:
            held.append(data)
            return ()
        return (data,)

    wire.change = change
    wire.run(lambda: held)
    tried = 0
    for bad in hellos(records(held[0])[0]):
        tried += 1
        assert c.answers(bad, "s") == [], bad
        assert a.handshake.suite == 0 and not a.error, bad
    c.take(held[0], "s")
    wire.run(lambda: a.up or a.error)
    assert a.up and c.layer.malformed >= tried > 40 and c.layer.retransmissions == 0


def test_messages_out_of_turn_are_passed_over():
    wire, c, s = pair()
    bodies = (b"", b"\0\0", b"\0\2id", bytes(12), b"\xfe\xfd" + bytes(36))

    held = []

    def disturb(source, target, data):
        host = wire.hosts[target]
        for kind in (0, 1, 2, 3, 4, 11, 12, 13, 14, 15, 16, 20, 22, 255):
            if kind in kinds(data) or (target == "s") == (kind in (12, 14)) or kind == EXCHANGE:
                # such a one could be the message that is to come; another identity shows at the Finished alone
                continue
            for seq in range(4):
                for body in bodies:
                    host.answers(record(HANDSHAKE, message(kind, seq, body)), source)
        host.answers(record(DATA, b"\x40plain"), source)
        host.answers(record(ALERT, b"\1\x28"), source)

    if BOARD:
        bodies = bodies[:2]
    wire.change = lambda *datagram: held.append(datagram) or ()
    a = c.layer.connect("s", (b"id", b"secret"))
    while held:
        source, target, data = held.pop(0)
        disturb(source, target, data)
        wire.hosts[target].take(data, source)
    b = s.layer.sessions["c"]
    assert a.up and b.up and not c.got and not s.got
    wire.change = None
    talk(wire, c, s, a, b)


def test_the_problem_with_the_last_answer_is_told():
    wire, c, s = pair()
    wire.change = lambda source, target, data: (record(HANDSHAKE, message(SERVER_HELLO, 0, b"\3\3")),)
    a = c.layer.connect("s", (b"id", b"secret"))
    c.take(record(HANDSHAKE, message(SERVER_HELLO, 0, b"\3\3")), "s")
    wire.run(lambda: a.error)
    assert a.error == "no answer that could be used: message 2: malformed"
