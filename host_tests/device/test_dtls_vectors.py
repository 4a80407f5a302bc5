"""Two handshakes of OpenSSL 3.0 (vectors/) done again by our client and our server, from their randoms.

One side of each is played from the record, message by message as it was sent. Ours is given the randoms, and where its
own hello would differ, in extensions that it does not have, that of OpenSSL; all else is its own work, and the same.
"""

from coaplet.dtls.hello import Hello
from coaplet.dtls.record import REPLAYED, Keys, Scratch
from dtls_net import ALERT, CHANGE, DATA, HANDSHAKE, Replaced, hello_verify, kinds, pair, record, records
from helpers import vectors

h = bytes.fromhex


class Vector:
    def __init__(self, name):
        d = vectors("dtls_psk_openssl3_" + name)
        self.psk = (d["psk_identity"].encode(), h(d["psk"]))
        self.suite = int(d["cipher_suite"], 16)
        self.messages = [h(m) for m in d["handshake"]]
        self.hello, self.answer, self.done, self.exchange, self.finish, self.ticket, self.finish_2 = self.messages
        self.randoms = (h(d["client_random"]), h(d["server_random"]))
        self.secrets = (h(d["session_hash"]), h(d["master_secret"]), h(d["key_block"]))
        self.records = []
        for r in d["records"]:
            fragment = h(r["fragment"])
            head = bytes((r["content_type"],)) + b"\xfe\xfd" + h(r["aad"])[:8] + len(fragment).to_bytes(2, "big")
            self.records.append((r["dir"] == "c2s", head + fragment, h(r["plaintext"])))

    def of(self, client):
        """(record, plaintext) of all that a side sealed."""
        return [r[1:] for r in self.records if r[0] == client]


def both():
    for name in "ccm8", "gcm":
        yield Vector(name)


def same_secrets(v, handshake):
    assert (handshake.digest(), handshake.master, bytes(handshake.keys.block)) == v.secrets


def same_record(v, sent, expected, plain):
    """A record of ours is OpenSSL's: all of it with CCM; with GCM OpenSSL's nonces begin at random (RFC 5288 3)."""
    assert len(sent) == len(expected) and sent[:13] == expected[:13]
    if v.suite != 0x00A8:
        assert sent == expected


def as_openssl(hello):
    hello.other = False  # it offers what it is answered with
    return hello


def test_our_client_does_the_handshakes_of_openssl():
    for v in both():
        replaced = Replaced(
            "client",
            random_bytes=lambda n: v.randoms[0],
            client_hello=lambda *_: v.hello[12:],
            Hello=lambda body, client: as_openssl(Hello(body, client)),
        )
        with replaced:
            wire, c, s = pair({"suites": (v.suite,)})
            session = c.layer.connect("s", v.psk)
            handshake = session.handshake
            ((to, again),) = c.answers(hello_verify(b"cookie"), "s")
            assert to == "s" and again[13:] == v.hello  # message_seq 1, as OpenSSL's
            sent = c.answers(record(HANDSHAKE, v.answer, 1) + record(HANDSHAKE, v.done, 2), "s")
            assert len(sent) == 1 and kinds(sent[0][1]) == [16, -CHANGE, -1]
            exchange, change, finished = records(sent[0][1])
            assert exchange[13:] == v.exchange and change[13:] == b"\1"
            same_secrets(v, handshake)
            assert handshake._flight[2] == v.finish  # verify_data (RFC 5246 7.4.9)
            same_record(v, finished, *v.of(True)[0])
            ours = v.of(False)
            assert c.answers(record(HANDSHAKE, v.ticket, 3) + record(CHANGE, b"\1", 4) + ours[0][0], "s") == []
            assert session.up and handshake._second is not None
            for expected, plain in v.of(True)[1:2]:
                sent = []
                wire.change = lambda a, b, data: sent.append(data) or ()
                c.layer.send(plain, session)
                same_record(v, sent[0], expected, plain)
            ((_, closing),) = c.answers(ours[1][0], "s")  # a close_notify is answered with one (RFC 5246 7.2.1)
            same_record(v, closing, *v.of(True)[2])
            assert session.error == "the peer ended the session: close_notify"
            assert c.layer.malformed == c.layer.forged == c.layer.failed == 0


def test_our_server_does_the_handshakes_of_openssl():
    for v in both():
        with Replaced("server", random_bytes=lambda n: v.randoms[1], server_hello=lambda *_: v.answer[12:]):
            wire, c, s = pair(
                server={"suites": (v.suite,), "find_key": lambda identity: {v.psk[0]: v.psk[1]}.get(identity)}
            )
            s.layer.acceptor._is_cookie = lambda now, hello, body: True  # OpenSSL's cookie was
            sent = s.answers(record(HANDSHAKE, v.hello, 1), "c")
            assert [r[13:] for r in records(sent[0][1])] == [v.answer, v.done]
            half = s.layer.acceptor.halves["c"]
            handshake = half.handshake
            assert s.answers(record(HANDSHAKE, v.exchange, 2) + record(CHANGE, b"\1", 3), "c") == []
            same_secrets(v, handshake)
            keys = handshake.keys

            def with_ticket(begin=handshake.begin_flight):
                # OpenSSL sends a NewSessionTicket before it (RFC 5077 3.3)
                handshake.note(v.ticket)
                handshake._sent += 1
                begin()

            handshake.begin_flight = with_ticket
            sent = s.answers(v.of(True)[0][0], "c")
            assert half.up and kinds(sent[0][1]) == [-CHANGE, -1]
            assert handshake._flight[1] == v.finish_2
            same_record(v, records(sent[0][1])[1], *v.of(False)[0])
            for data, plain in v.of(True)[1:2]:
                assert s.answers(data, "c") == [] and s.got[-1] == (plain, half)
                assert keys.open(s.layer.scratch, data, 0, len(data)) == REPLAYED
            ((_, closing),) = s.answers(v.of(True)[2][0], "c")
            same_record(v, closing, *v.of(False)[1])
            assert half.error == "the peer ended the session: close_notify"
            assert s.layer.malformed == s.layer.forged == s.layer.failed == 0


def test_every_record_of_openssl_is_opened_once_and_sealed_the_same():
    for v in both():
        scratch = Scratch(256)
        for client in True, False:
            keys = Keys(v.suite, v.secrets[2], client)
            for mine, data, plain in v.records:
                if mine == client:
                    n = keys.seal(scratch, data[0], plain, len(plain))
                    same_record(v, bytes(scratch.sealed[:n]), data, plain)
                    # with its nonce, the same also where that is random
                    sealed = bytearray(plain + bytes(16))
                    salt = v.secrets[2][32:36] if client else v.secrets[2][36:40]
                    aad = data[3:11] + data[:3] + len(plain).to_bytes(2, "big")
                    keys._sealer.seal(scratch.work, salt + data[13:21], aad, 13, sealed, 0, len(plain))
                    assert sealed[: len(plain) + keys._sealer.tag] == data[21:]
                else:
                    found = keys.open(scratch, data, 0, len(data))
                    assert found == data[0] | len(plain) << 8 and scratch.opened[: len(plain)] == plain
                    assert data[0] in (ALERT, HANDSHAKE, DATA)
                    assert keys.open(scratch, data, 0, len(data)) == REPLAYED
