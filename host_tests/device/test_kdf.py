"""Key derivation of coaplet.dtls: HMAC, the PRF of TLS 1.2, HKDF; a whole handshake's secrets from its PSK."""

from hashlib import sha256

from coaplet.dtls.kdf import Hmac, equal, hkdf_expand, hkdf_extract, hmac, prf, wipe
from helpers import vectors

h = bytes.fromhex


def test_hmac_is_that_of_its_definition():
    # RFC 2104 2: a key beyond a block is hashed first, a shorter one filled up with zeros
    for n in (0, 1, 20, 63, 64, 65, 200):
        key = bytes(range(n))
        k = key if n <= 64 else sha256(key).digest()
        k += bytes(64 - len(k))
        inner = sha256(bytes(b ^ 0x36 for b in k) + b"what is said").digest()
        expected = sha256(bytes(b ^ 0x5C for b in k) + inner).digest()
        assert hmac(key, b"what is said") == expected
        assert hmac(key, b"what ", b"", b"is said") == expected
        one = Hmac(key)
        assert one.digest(b"what is said") == one.digest(b"what", b" is said") == expected


def test_the_pads_of_a_key_are_wiped():
    one = Hmac(b"key")
    one.wipe()
    assert one.inner == bytes(64) == one.outer


def test_the_vectors_of_the_prf_come_out():
    for v in vectors("tls12_prf")["vectors"]:
        out = h(v["output"])
        assert prf(h(v["secret"]), v["label"].encode(), h(v["seed"]), len(out)) == out, v["id"]
        for n in (1, 12, 31, 32, 33, 48):
            if n < len(out):
                assert prf(h(v["secret"]), v["label"].encode(), h(v["seed"]), n) == out[:n]


def test_the_vectors_of_hkdf_come_out():
    for v in vectors("hkdf_rfc5869")["vectors"]:
        prk = hkdf_extract(h(v["salt"] or ""), h(v["ikm"]))
        assert prk == h(v["prk"]), v["n"]
        assert hkdf_expand(prk, h(v["info"] or ""), v["L"]) == h(v["okm"]), v["n"]


def test_a_handshake_of_openssl_has_these_secrets_and_finished():
    for name in "ccm8", "gcm":
        d = vectors("dtls_psk_openssl3_" + name)
        psk = h(d["psk"])
        n = len(psk).to_bytes(2, "big")
        premaster = n + bytes(len(psk)) + n + psk  # RFC 4279 2
        assert premaster == h(d["premaster_secret"])
        handshake = [h(message) for message in d["handshake"]]
        hashed = [sha256(b"".join(handshake[:i])).digest() for i in range(len(handshake))]
        client = [m[0] for m in handshake].index(20)
        server = len(handshake) - 1
        assert handshake[server][0] == 20 and server > client
        master = prf(premaster, b"extended master secret", hashed[client], 48)  # RFC 7627 4
        assert hashed[client] == h(d["session_hash"]) and master == h(d["master_secret"])
        seed = h(d["server_random"]) + h(d["client_random"])
        assert prf(master, b"key expansion", seed, 40) == h(d["key_block"])  # RFC 5246 6.3
        for label, at in (b"client finished", client), (b"server finished", server):  # RFC 5246 7.4.9
            assert prf(master, label, hashed[at], 12) == handshake[at][12:]


def test_equal_sees_each_bit_and_nothing_behind_n():
    a = bytes(range(20))
    for n in range(20):
        assert equal(a, bytearray(a), n) is True
        for i in range(20):
            for bit in range(8):
                b = bytearray(a)
                b[i] ^= 1 << bit
                assert equal(a, b, n) is (i >= n)


def test_wipe_leaves_zeros():
    for n in (0, 1, 7, 64):
        buf = bytearray(b"\xff" * n)
        wipe(buf)
        assert buf == bytes(n)
