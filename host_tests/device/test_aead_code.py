"""The machine code of coaplet.dtls against plain Python: copying, XOR, counter blocks, GHASH. It needs no AES.

Where there is source, the same functions without their decorators are bytecode, and are held to the same.
"""

import sys
from array import array

from coaplet.dtls import kdf
from ecb import ghash
from harness import BOARD, rounds
from net import Random

# By CPython's own classes these modules are not used, but what they have beside them is the same
import coaplet.dtls.aead as aead  # isort: skip
import coaplet.dtls.gcm as gcm  # isort: skip

MICROPYTHON = sys.implementation.name == "micropython"
MACHINE_CODE = {"aead": "begin turn xor verify", "gcm": "ghash multiply", "kdf": "equal mix"}
NATIVE = {"aead": "_stream open seal", "gcm": "open seal", "kdf": ""}


def stripped(module):
    """The module's functions as bytecode, or None where there is no source."""
    if not module.__file__.endswith(".py") or BOARD:
        return None
    with open(module.__file__) as f:
        text = f.read()
    for decorator in ("viper", "native"):
        text = text.replace("@micropython." + decorator + "\n", "\n").replace("    \n    def", "    def")
    text = text.replace("from ..port", "from coaplet.port").replace("from .", "from coaplet.dtls.")
    names = {"__name__": "stripped"}
    exec(text, names)
    return names


def bodies(module, name):
    yield getattr(module, name)
    names = stripped(module)
    if names:
        yield names[name]


def random_bytes(random, n):
    return bytes(random.bits(8) for _ in range(n))


def test_xor_is_right_at_every_offset_and_length():
    random = Random(1)
    for xor in bodies(aead, "xor"):
        for _ in range(rounds(400)):
            n, at, i, j = random.below(70), random.below(9), random.below(9), random.below(9)
            a, s = random_bytes(random, i + n + 3), random_bytes(random, 336)
            d = bytearray(random_bytes(random, at + n + 3))
            expected = bytearray(d)
            for k in range(n):
                expected[at + k] = a[i + k] ^ s[j + k]
            xor(d, a, s, j << 16 | n, at, i)
            assert d == expected, (n, at, i, j)
        d = bytearray(500)
        xor(d, bytes(500), b"\1" * 336, 16 << 16 | 500, 0, 0)
        assert d == b"\1" * 304 + bytes(196)  # no key stream beyond
        d = bytearray(b"\1\2\3\4\5\6\7\x08\x09")
        xor(d, d, d, 9, 0, 0)
        assert d == bytes(9)


def test_what_cbc_gets_is_b0_and_padded_data():
    random = Random(2)
    for begin in bodies(aead, "begin"):
        for _ in range(rounds(200)):
            n, i, aad_len = random.below(400), random.below(9), random.below(63)
            nonce_bytes = 12 + random.below(2)
            state = random_bytes(random, 16) + bytes((24 | 14 - nonce_bytes,))
            nonce, aad, a = random_bytes(random, 13), random_bytes(random, 62), random_bytes(random, 420)
            d = bytearray(random_bytes(random, 336))
            front = bytes(d[:16])
            k = begin(d, a, n, i, state, nonce, aad, aad_len)
            flags = 24 | 14 - nonce_bytes | (64 if aad_len else 0)
            b0 = bytes((flags,)) + nonce[:nonce_bytes] + n.to_bytes(15 - nonce_bytes, "big")
            text = bytes(b0[j] ^ state[j] for j in range(16))
            if aad_len:
                text += bytes((0, aad_len)) + aad[:aad_len]
                text += bytes(-len(text) % 16)
            text += a[i : i + n]
            text += bytes(-len(text) % 16)
            assert k == len(text), (n, aad_len)
            assert bytes(d[:16]) == front and bytes(d[16 : 16 + min(k, 320)]) == text[:320], (n, i, aad_len)
            k = begin(d, a, n, i, state, nonce, aad, -1)
            text = a[i : i + n] + bytes(-n % 16)
            assert k == len(text) and bytes(d[16 : 16 + min(k, 320)]) == text[:320], (n, i)


def test_counter_blocks_are_those_of_ccm_and_of_gcm():
    random = Random(3)
    for turn in bodies(aead, "turn"):
        for _ in range(rounds(100)):
            n, first = 1 + random.below(20), random.below(300)
            d = bytearray(random_bytes(random, 336))
            before = bytes(d)
            nonce = random_bytes(random, 13)
            flags = random.below(3)
            state = bytearray(random_bytes(random, 16) + bytes((24 | flags,)))
            kept = bytes(state)
            i = 16 * random.below(21)
            turn(d, state, i, nonce, first << 8 | n)
            assert bytes(state) == (before[i : i + 16] if i else kept[:16]) + kept[16:]
            expected = b""
            for k in range(first, first + n):
                if flags:
                    expected += bytes((flags,)) + nonce[: 14 - flags] + k.to_bytes(1 + flags, "big")
                else:
                    expected += nonce[:12] + (k + 1).to_bytes(4, "big")
            assert bytes(d) == before[:16] + expected + before[16 + 16 * n :], (n, first, flags, i)


def test_a_tag_is_compared_to_its_last_bit_and_no_further():
    random = Random(4)
    for verify in bodies(aead, "verify"):
        for tag in 8, 16:
            for k in (16, 320):
                d, state = random_bytes(random, 336), bytearray(17)
                right = bytes(d[k + j] ^ d[j] for j in range(16))
                assert verify(d, b"..." + right, 3, state, k, tag) is True
                assert bytes(state) == d[k : k + 16] + b"\0"
                for bit in range(128):
                    a = bytearray(right)
                    a[bit >> 3] ^= 1 << (bit & 7)
                    assert verify(d, a, 0, state, k, tag) is (bit >= 8 * tag)


def table(value):
    """The table of GHASH for a key H, as gcm.py describes it."""
    t = array("I", bytes(336))
    for i in range(16):
        product = 0
        remainder = 0
        for k in range(4):
            if i >> k & 1:
                v = value
                for _ in range(3 - k):
                    v = v >> 1 ^ (0xE1 << 120 if v & 1 else 0)
                product ^= v
                remainder ^= 0xE1 << 21 + k
        for j in range(4):
            t[4 * i + j] = product >> 96 - 32 * j & 0xFFFFFFFF
        t[64 + i] = remainder
    return t


def test_ghash_is_that_of_the_definition():
    random = Random(5)
    for _ in range(1):
        key = int.from_bytes(random_bytes(random, 16), "big")
        t = table(key)
        for run in bodies(gcm, "ghash"):
            for aad_len, n in (0, 0), (0, 1), (13, 0), (13, 16), (16, 33), (17, 15), (60, 100):
                aad, text = random_bytes(random, aad_len + 3), random_bytes(random, n + 3)
                d = bytearray(336)
                run(t, aad, 1, aad_len, 0, d)
                assert d == bytes(336)
                run(t, text, 2, n, 0x1000000 | n << 8 | aad_len, d)
                assert d[320:] == ghash(key, aad[1 : 1 + aad_len], text[2 : 2 + n]), (aad_len, n)


def test_bytes_are_compared_and_wiped_alike():
    random = Random(6)
    for equal in bodies(kdf, "equal"):
        for n in range(20):
            a = random_bytes(random, 20)
            b = bytearray(a)
            assert equal(a, b, n) is True
            b[n] ^= 128
            assert equal(a, b, n) is True and equal(a, b, n + 1) is False
    for mix in bodies(kdf, "mix"):
        for keep, flip in (0, 0), (255, 0x36), (255, 0x6A):
            a = random_bytes(random, 70)
            b = bytearray(a)
            mix(b, 64, keep, flip)
            assert b == bytes(x & keep ^ flip for x in a[:64]) + a[64:]


def test_what_should_be_machine_code_is():
    # Written literally: an aliased decorator silently gives bytecode
    for module in aead, gcm, kdf:
        name = module.__name__.split(".")[-1]
        if module.__file__.endswith(".py"):
            with open(module.__file__) as f:
                lines = [line.strip() for line in f]
            for kind, names in ("viper", MACHINE_CODE), ("native", NATIVE):
                decorated = []
                for i in range(1, len(lines)):
                    if lines[i].startswith("def ") and lines[i - 1] == "@micropython." + kind:
                        decorated.append(lines[i][4:].split("(")[0])
                assert sorted(decorated) == sorted(names[name].split()), decorated
        if MICROPYTHON:
            for code in MACHINE_CODE[name].split():
                assert type(getattr(module, code)) is not type(table), code
            owner = {"aead": "Ccm", "gcm": "Gcm"}.get(name)
            for code in NATIVE[name].split():
                assert type(getattr(getattr(module, owner), code)) is not type(table), code
