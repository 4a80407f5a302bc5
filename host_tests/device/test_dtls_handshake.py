"""Handshakes between our two ends: in full and resumed, with each suite, and those that must fail, and what they say.

RFC 4279, 5246 7.3 and 7.4, 5746, 6347 4.2, 7627, 7925 4. NewSessionTickets: test_dtls_vectors.py.
"""

from coaplet.dtls.hello import Hello, client_hello
from dtls_net import (
    CCM,
    CCM_8,
    CHANGE,
    GCM,
    HANDSHAKE,
    Replaced,
    connected,
    hello_verify,
    kept,
    kinds,
    message,
    pair,
    records,
    shake,
    talk,
)
from harness import BOARD

HELLO, SERVER_HELLO, VERIFY, HINT, DONE, EXCHANGE = 1, 2, 3, 12, 14, 16
FULL = [[HELLO], [VERIFY], [HELLO], [SERVER_HELLO, DONE], [EXCHANGE, -CHANGE, -1], [-CHANGE, -1]]
RESUMED = [[HELLO], [VERIFY], [HELLO], [SERVER_HELLO, -CHANGE, -1], [-CHANGE, -1]]


def said(wire, since=0):
    return [kinds(data) for _, _, _, data in wire.log[since:]]


def test_a_full_handshake_takes_six_datagrams():
    # RFC 6347 4.2.4, RFC 4279 2
    wire, c, s, a, b = connected()
    assert said(wire) == FULL
    assert a.client and not b.client and b.identity == b"id" == a.identity
    assert bytes(a.keys.block) == bytes(b.keys.block) and a.keys.suite == CCM_8
    assert c.changes == s.changes == [(True, "")]
    assert c.layer.succeeded == s.layer.succeeded == 1 and s.layer.acceptor.halves == {}
    assert c.layer.retransmissions == s.layer.retransmissions == c.layer.malformed == s.layer.malformed == 0
    talk(wire, c, s, a, b)


def test_a_resumed_handshake_takes_five_datagrams_and_makes_other_keys():
    # RFC 5246 7.3
    wire, c, s, a, b = connected()
    for _ in range(2):
        resumption = a.resumption
        block = bytes(a.keys.block)
        since = len(wire.log)
        c.layer.forget(a, "forgotten")  # the server is not told: its session is replaced
        a, b = shake(wire, c, s, resumption=resumption)
        assert said(wire, since) == RESUMED
        assert bytes(a.keys.block) == bytes(b.keys.block) != block
        assert a.resumption == resumption and b.identity == b"id" and len(s.layer.sessions) == 1
        talk(wire, c, s, a, b)


def test_a_session_that_the_server_has_forgotten_is_made_in_full():
    wire, c, s, a, b = connected(server={"resumable": 1})
    resumption = a.resumption
    a, b = shake(wire, c, s)
    since = len(wire.log)
    a, b = shake(wire, c, s, resumption=resumption)
    assert said(wire, since + 1)[-1] == [-CHANGE, -1] and [SERVER_HELLO, DONE] in said(wire, since)
    assert a.resumption[0] != resumption[0]
    talk(wire, c, s, a, b)


def test_a_server_that_keeps_none_gives_no_session_id():
    wire, c, s, a, b = connected(server={"resumable": 0})
    assert a.resumption is None
    talk(wire, c, s, a, b)


def test_a_session_is_not_resumed_without_its_master_secret():
    wire, c, s, a, b = connected()
    name, master, suite = a.resumption
    c.layer.forget(a, "forgotten")
    bad, after = shake(wire, c, s, resumption=(name, bytes(48), suite))
    # it is the server that proves first: the client never believes it
    assert not bad.up and b.up and bad.error


def test_a_suite_taken_is_the_first_of_the_client_that_the_server_has():
    # RFC 7925 4.2: CCM_8 is the one that all have
    for ours, theirs, taken in (
        ((CCM_8, CCM, GCM), (GCM, CCM, CCM_8), CCM_8),
        ((CCM,), (CCM_8, CCM), CCM),
        ((GCM, CCM_8), (CCM, CCM_8, GCM), GCM),
        ((0x1301, GCM, CCM), (CCM,), CCM),
    ):
        wire, c, s, a, b = connected({"suites": ours}, {"suites": theirs})
        assert a.keys.suite == taken == b.keys.suite
        talk(wire, c, s, a, b)


def test_without_a_common_suite_it_says_so():
    wire, c, s = pair({"suites": (GCM,)}, {"suites": (CCM_8, CCM)})
    a, b = shake(wire, c, s)
    assert a.error == "the peer refused: it takes none of our cipher suites (handshake_failure)"
    assert b is None and not s.layer.acceptor.halves and s.layer.failed == c.layer.failed == 1
    assert said(wire)[:3] == [[HELLO], [VERIFY], [HELLO]]  # nobody is refused before his cookie is seen


def test_a_hint_is_sent_and_passed_over():
    # RFC 4279 5.2: and without one, no ServerKeyExchange
    for hint in b"", b"a hint", bytes(128):
        wire, c, s, a, b = connected(server={"hint": hint})
        assert said(wire)[3] == [SERVER_HELLO, HINT, DONE]
        assert wire.log[3][3].count(len(hint).to_bytes(2, "big") + hint)
        talk(wire, c, s, a, b)


def without_ems(random, session_id, cookie, suites, cid):
    body = client_hello(random, session_id, cookie, suites, None)
    assert body[-6:] == b"\0\4\0\x17\0\0"
    return body[:-6]  # and so without extensions, as RFC 5246 7.4.1.2 allows


def test_a_client_without_extended_master_secret_is_served_and_not_resumed():
    # RFC 7627 5.3
    with Replaced("client", client_hello=without_ems):
        wire, c, s, a, b = connected()
    assert a.resumption is None and not s.layer.acceptor._kept
    talk(wire, c, s, a, b)
    assert bytes(a.keys.block) == bytes(b.keys.block)


def test_a_server_without_extended_master_secret_is_talked_to():
    def read(body, client):
        hello = Hello(body, client)
        hello.ems = False
        return hello

    with Replaced("acceptor", Hello=read):
        wire, c, s, a, b = connected()
    assert a.resumption is None
    talk(wire, c, s, a, b)


def test_a_wrong_key_and_an_unknown_identity_look_the_same():
    # RFC 4279 2: nobody learns from us which identities there are
    seen = []
    for psk in (b"id", b"wrong!"), (b"no", b"secret"), (b"id", b"s" * 64), (b"no", b""):
        wire, c, s = pair()
        a, b = shake(wire, c, s, psk)
        assert a.error == "the peer refused: wrong key, or unknown identity (decrypt_error)"
        assert s.changes == [(False, "wrong key" if psk[0] == b"id" else "unknown identity")] and b is None
        assert s.layer.failed == 1 and not s.layer.acceptor.halves and not s.layer.acceptor._kept
        seen.append([(kinds(data), len(data), at) for at, _, _, data in wire.log])
        a, b = shake(wire, c, s)  # and the right one is let in
        assert a.up and b.up
    assert seen[1:] == seen[:-1]


def test_keys_and_identities_of_every_length_are_taken():
    # RFC 4279 5.3
    for n in (1, 16, 63, 64):
        for m in (1, 40, 128):
            if BOARD and n not in (16, 64):
                continue
            psk = (bytes(m), b"k" * n)
            wire, c, s = pair(server={"find_key": lambda identity: psk[1] if identity == psk[0] else None})
            a, b = shake(wire, c, s, psk)
            assert a.up and b.identity == psk[0]
            talk(wire, c, s, a, b)


def test_cookies_of_every_length_are_sent_back():
    # RFC 6347 4.2.1: 1 to 255 bytes
    for n in (1, 2, 32, 64, 255) if BOARD else range(1, 256):
        wire, c, s = pair()
        c.layer.connect("s", (b"id", b"secret"))
        cookie = bytes([7 * i & 255 for i in range(n)])
        ((_, again),) = c.answers(hello_verify(cookie), "s")
        hello = Hello(again[25:], True)
        assert kinds(again) == [HELLO] and hello.cookie == cookie
        first = wire.log[0][3]  # the same in all else
        assert again[25:60] == first[25:60] and again[61 + n :] == first[61:]


def test_an_empty_cookie_and_a_cut_one_are_no_cookies():
    wire, c, s = pair()
    a = c.layer.connect("s", (b"id", b"secret"))
    whole = hello_verify(b"cookie")
    for n in range(len(whole)):
        assert c.answers(whole[:n], "s") == []
    assert c.answers(hello_verify(b""), "s") == [] and c.layer.malformed > 0
    wire.run(lambda: a.up)


def test_a_server_may_ask_for_its_cookie_again():
    # RFC 6347 4.2.1: when its secret has turned, for instance
    wire, c, s = pair()
    a = c.layer.connect("s", (b"id", b"secret"))
    for i in range(1, 5):
        ((_, again),) = c.answers(hello_verify(b"cookie%d" % i, i), "s")
        assert Hello(again[25:], True).cookie == b"cookie%d" % i
        assert again[17:19] == i.to_bytes(2, "big")  # message_seq
        assert c.answers(hello_verify(b"cookie%d" % i, i), "s") == []  # the same twice is answered once
    c.layer.forget(a, "enough")
    wire, c, s = pair()
    first = [hello_verify(b"other")]
    wire.change = lambda source, target, data: (first.pop(),) if kinds(data) == [VERIFY] and first else (data,)
    a, b = shake(wire, c, s)
    assert a.up and said(wire)[:6] == [[HELLO], [VERIFY]] * 2 + [[HELLO], [SERVER_HELLO, DONE]]
    talk(wire, c, s, a, b)


def test_record_versions_of_dtls_1_0_are_taken_in_a_handshake():
    # RFC 6347 4.2.1: until the version is agreed on
    for version in b"\xff", b"\xfd":

        def change(source, target, data, version=version):
            out = b""
            for r in records(data):
                out += r if r[4] or r[0] != HANDSHAKE else r[:2] + version + r[3:]
            return (out,)

        wire, c, s = pair()
        wire.change = change
        a, b = shake(wire, c, s)
        assert a.up and said(wire) == FULL
        talk(wire, c, s, a, b)


def test_renegotiation_is_answered_as_secure_and_never_done():
    # RFC 5746 3.3 and 3.6: the SCSV is in each ClientHello, the empty extension in the answer
    wire, c, s, a, b = connected()
    assert 0x00FF in Hello(wire.log[0][3][25:], True).suites
    answer = Hello(records(wire.log[3][3])[0][25:], False)
    assert answer.renegotiation and answer.ems and answer.cid is not None
    for kind in (0, 1):  # HelloRequest, ClientHello
        sealed = kept(s, b, HANDSHAKE, message(kind, 5, wire.log[0][3][25:] if kind else b""))
        assert c.answers(sealed, "s") == [] and a.up
        sealed = kept(c, a, HANDSHAKE, message(kind, 5, wire.log[0][3][25:] if kind else b""))
        assert s.answers(sealed, "c") == [] and b.up
    talk(wire, c, s, a, b)


def test_what_was_altered_on_the_way_gives_no_session():
    # RFC 5246 7.4.9: both Finished cover all that was said; suites taken away would be a downgrade
    def weaker(source, target, data):
        return (data.replace(b"\xc0\xa8\xc0\xa4", b"\xc0\xa4\xc0\xa4"),)

    def other_random(source, target, data):
        at = 13 + 12 + 2
        if kinds(data)[0] == SERVER_HELLO:
            data = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        return (data,)

    def no_ems(source, target, data):
        return (data.replace(b"\0\x17\0\0", b"\x77\x17\0\0") if data[13] == HELLO else data,)

    for change in weaker, other_random, no_ems:
        wire, c, s = pair()
        wire.change = change
        a, b = shake(wire, c, s)
        assert not a.up and a.error and b is None and not s.layer.sessions
