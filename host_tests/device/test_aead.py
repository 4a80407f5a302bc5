"""AES-128-CCM and -GCM of coaplet.dtls: RFC 3610's vectors, records of OpenSSL's, and a plain CCM of the tests' own."""

import gc

from coaplet.dtls.aead import Ccm, Work
from coaplet.dtls.gcm import Gcm
from ecb import ccm, gcm
from harness import BOARD, rounds
from helpers import raises, vectors
from net import Random

try:
    from micropython import heap_lock, heap_unlock
except ImportError:
    heap_lock = heap_unlock = lambda: None

KEY = bytes(range(16))
h = bytes.fromhex


def random_bytes(random, n):
    return bytes(random.bits(8) for _ in range(n))


def seal(work, cipher, nonce, aad, plain, pos=0):
    """Seal, with bytes around that must stay; return ciphertext and tag."""
    front = bytes(range(100, 100 + pos))
    buf = bytearray(front + plain + bytes(cipher.tag) + b"behind")
    cipher.seal(work, bytearray(nonce), bytearray(aad + b"more"), len(aad), buf, pos, len(plain))
    assert bytes(buf[:pos]) == front and bytes(buf[-6:]) == b"behind"
    return bytes(buf[pos:-6])


def unseal(work, cipher, nonce, aad, sealed, pos=0):
    """Open a copy; return the plaintext, or None where it is refused, having looked at what is left in out."""
    data = bytes(pos) + sealed + b"behind"
    n = len(sealed) - cipher.tag
    out = bytearray(b"\xa5" * (n + 5))
    opened = cipher.open(work, bytearray(nonce), bytearray(aad + b"more"), len(aad), data, pos, n, out)
    assert bytes(out[n:]) == b"\xa5" * 5 and data == bytes(pos) + sealed + b"behind"
    assert opened is True or opened is False
    if not opened:
        assert bytes(out[:n]) == bytes(n)  # wiped: RFC 5116 2.2 returns nothing but FAIL
    return bytes(out[:n]) if opened else None


def test_the_vectors_of_rfc_3610_are_sealed_and_opened():
    work = Work(64)
    for v in vectors("aes_ccm_rfc3610")["vectors"]:
        nonce, aad, plain, sealed = h(v["nonce"]), h(v["aad"]), h(v["plaintext"]), h(v["ciphertext_and_tag"])
        if v["tag_len"] in (8, 16):
            tx, rx = (Ccm(h(v["key"]), v["tag_len"], len(nonce)) for _ in range(2))
            for pos in range(5):
                assert seal(work, tx, nonce, aad, plain, pos) == sealed, v["n"]
                assert unseal(work, rx, nonce, aad, sealed, pos) == plain, v["n"]
        assert ccm(h(v["key"]), nonce, aad, plain, v["tag_len"]) == sealed, v["n"]


def records(name):
    """The records of a handshake with OpenSSL: (key, nonce, aad, plaintext, explicit nonce and what is sealed)."""
    d = vectors("dtls_psk_openssl3_" + name)
    keys = h(d["key_block"])
    for r in d["records"]:
        key = keys[:16] if r["dir"] == "c2s" else keys[16:32]
        yield key, h(r["nonce"]), h(r["aad"]), h(r["plaintext"]), h(r["fragment"])


def test_the_records_of_openssl_are_made_byte_for_byte():
    work = Work(64)
    for name, make in ("ccm8", lambda key: Ccm(key, 8)), ("gcm", Gcm):
        count = 0
        for key, nonce, aad, plain, fragment in records(name):
            assert seal(work, make(key), nonce, aad, plain, 8) == fragment[8:]
            assert unseal(work, make(key), nonce, aad, fragment[8:], 21) == plain
            count += 1
        assert count == 5


def test_each_length_about_a_block_or_a_part_is_that_of_a_plain_ccm():
    # With 13 bytes of additional data the scratch has 288 of the plaintext, with 62 of them 240; the key stream's 304
    random = Random(1)
    work = Work(2000)
    lengths = (0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 239, 240, 241, 255, 256, 257, 287, 288, 289, 303, 304, 305)
    for tag in (8,) if BOARD else (8, 16):
        tx, rx = Ccm(KEY, tag), Ccm(KEY, tag)
        for n in lengths + (319, 320, 321, 560, 561, 608, 609, 624, 625, 640, 641, 928, 929, 1152):
            for aad_len in (13,) if BOARD or n > 330 else (0, 1, 13, 14, 15, 23, 30, 31, 62):
                nonce, aad, plain = random_bytes(random, 12), random_bytes(random, aad_len), random_bytes(random, n)
                pos = random.below(9)
                sealed = ccm(KEY, nonce, aad, plain, tag)
                assert seal(work, tx, nonce, aad, plain, pos) == sealed, (n, aad_len, pos)
                assert unseal(work, rx, nonce, aad, sealed, pos) == plain, (n, aad_len, pos)
                if n == 0 or aad_len == 13:
                    assert unseal(work, rx, nonce, aad, sealed[:-1] + bytes((sealed[-1] ^ 1,)), pos) is None


def test_a_long_record_is_that_of_a_plain_ccm():
    plain = bytes(range(256)) * 16
    work = Work(0)
    sealed = ccm(KEY, bytes(12), b"additional da", plain, 8)
    assert seal(work, Ccm(KEY, 8), bytes(12), b"additional da", plain, 3) == sealed
    assert unseal(work, Ccm(KEY, 8), bytes(12), b"additional da", sealed, 3) == plain


def test_gcm_is_that_of_a_plain_one():
    random = Random(2)
    work = Work(500)
    tx, rx = Gcm(KEY), Gcm(KEY)
    for n in (0, 1, 16, 17, 305) if BOARD else (0, 1, 15, 16, 17, 32, 100, 303, 304, 305, 320, 650):
        for aad_len in (13,) if BOARD or n > 40 else (0, 13, 16, 40):
            nonce, aad, plain = random_bytes(random, 12), random_bytes(random, aad_len), random_bytes(random, n)
            pos = random.below(9)
            sealed = gcm(KEY, nonce, aad, plain)
            assert seal(work, tx, nonce, aad, plain, pos) == sealed, (n, aad_len, pos)
            assert unseal(work, rx, nonce, aad, sealed, pos) == plain, (n, aad_len, pos)


def test_sessions_that_share_the_scratch_do_not_disturb_each_other():
    random = Random(3)
    work = Work(400)
    keys = [random_bytes(random, 16) for _ in range(4)]
    tags = (8, 16, 8, 16)
    made = [(Ccm(keys[i], tags[i]), Ccm(keys[i], tags[i])) if i < 3 else (Gcm(keys[i]), Gcm(keys[i])) for i in range(4)]
    for _ in range(rounds(400)):
        i = random.below(4)
        tx, rx = made[i]
        nonce, aad, plain = random_bytes(random, 12), random_bytes(random, 13), random_bytes(random, random.below(400))
        sealed = seal(work, tx, nonce, aad, plain, random.below(4))
        if i < 3:
            assert sealed == ccm(keys[i], nonce, aad, plain, tags[i])
        what = random.below(3)
        if what == 0:
            forged = bytearray(sealed)
            forged[random.below(len(sealed))] ^= 1 << random.below(8)
            assert unseal(work, rx, nonce, aad, bytes(forged)) is None
        if what < 2:
            assert unseal(work, rx, nonce, aad, sealed, random.below(4)) == plain


def flips(data):
    for i in range(len(data) * 8):
        forged = bytearray(data)
        forged[i >> 3] ^= 1 << (i & 7)
        yield bytes(forged)


def test_every_single_bit_flip_is_rejected_and_the_record_itself_opens_afterwards():
    work = Work(64)
    for name, make in ("ccm8", lambda key: Ccm(key, 8)), ("gcm", Gcm):
        for key, nonce, aad, plain, fragment in records(name):
            if BOARD and len(plain) > 2:
                continue
            cipher = make(key)
            for forged in flips(fragment[8:]):
                assert unseal(work, cipher, nonce, aad, forged) is None
            for forged in flips(nonce):
                assert unseal(work, cipher, forged, aad, fragment[8:]) is None
            for forged in flips(aad):
                assert unseal(work, cipher, nonce, forged, fragment[8:]) is None
            assert unseal(work, cipher, nonce, aad[:-1], fragment[8:]) is None
            assert unseal(work, cipher, nonce, aad, fragment[8:]) == plain


def without_heap(make, lengths):
    work = Work(1152)
    tx, rx = make(KEY), make(KEY)
    nonce, aad = bytearray(12), bytearray(20)
    for n in lengths:
        buf = bytearray(21 + n + tx.tag)
        out = bytearray(n)
        tx.seal(work, nonce, aad, 13, buf, 21, n)
        sealed = bytes(buf)
        forged = sealed[:-1] + bytes((sealed[-1] ^ 1,))
        assert rx.open(work, nonce, aad, 13, sealed, 21, n, out)
        assert not rx.open(work, nonce, aad, 13, forged, 21, n, out)
        buf[21 : 21 + n] = bytes(n)
        gc.collect()
        heap_lock()
        try:
            tx.seal(work, nonce, aad, 13, buf, 21, n)
            opened = rx.open(work, nonce, aad, 13, sealed, 21, n, out)
            refused = rx.open(work, nonce, aad, 13, forged, 21, n, out)
        finally:
            heap_unlock()
        assert opened is True and refused is False and bytes(buf) == sealed


def test_ccm_allocates_nothing():
    without_heap(lambda key: Ccm(key, 8), (0, 1, 64, 256, 304, 305, 1000))
    without_heap(lambda key: Ccm(key, 16), (64,))


def test_gcm_as_machine_code_allocates_nothing():
    without_heap(Gcm, (0, 64, 400))


def test_more_additional_data_than_there_is_room_for_is_refused_and_changes_nothing():
    cipher = Ccm(KEY, 8)
    before = ccm(KEY, bytes(12), b"a" * 13, b"plain", 8)
    assert seal(Work(64), cipher, bytes(12), b"a" * 13, b"plain") == before
    raises(ValueError, cipher.seal, Work(64), bytearray(12), bytearray(63), 63, bytearray(30), 0, 5)
    assert seal(Work(64), cipher, bytes(12), b"a" * 13, b"plain") == before
