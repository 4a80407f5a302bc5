# AES-128-CCM (RFC 3610, 5116 5.3) with the tags of RFC 6655: 8 bytes or 16, on MicroPython's cryptolib.
#
# One record is sealed or opened by two passes over a scratch that all sessions share:
#
# - the MAC: a CBC call over B0, the additional data and the plaintext. The CBC object goes on from its last ciphertext
#   block for ever, and that block is known (`state`): XORed into the next B0 it takes itself away, so that each record
#   begins as with an IV of zeros and no object is made.
# - the key stream: an ECB call over the counter blocks A0 to Am, then XOR.
#
# A record that has more blocks than the scratch is worked on in parts, the key stream's from its end to its beginning,
# so that S0, for the tag, comes last. Nothing is allocated but by the constructors.
#
# The machine code takes bytes, eight a turn, since a record's payload is seldom aligned and ARMv6-M faults at words
# that are not; words only within the scratch. It checks no bounds: who calls has seen to lengths.
#
# CPython has no cryptolib: there the classes are those of aead_host.py.

from ..port import MICROPYTHON, const, micropython, ptr8, ptr32, uint
from .kdf import mix

try:
    from cryptolib import aes  # aes(key, 1) is ECB, aes(key, 2, iv) is CBC
except ImportError:
    aes = None

_BLOCKS = const(20)  # of the scratch: 256 bytes and their additional data in one part
_BYTES = const(320)
_AAD = const(62)  # with its length, in the 4 blocks behind B0


@micropython.viper
def begin(d: ptr8, a: ptr8, n: int, i: int, state: ptr8, nonce: ptr8, aad: ptr8, aad_len: int) -> int:
    """Write what CBC is to encrypt to d[16:]: B0, the additional data and a[i:i+n] (RFC 3610 2.2).

    B0 lacks what the CBC object will add to it. aad_len: -1 for a[i:i+n] alone. Returns the bytes of all, which are
    whole blocks; those beyond the scratch are not written.
    """
    k = 16
    if aad_len >= 0:
        if aad_len > _AAD:
            raise ValueError("additional data")
        flags = state[16]
        d[29] = n >> 16 & 255
        end = 14 - (flags & 7)
        k = 0
        while k < end:
            d[k + 17] = nonce[k]
            k += 1
        d[16] = flags | 64 if aad_len else flags
        d[30] = n >> 8 & 255
        d[31] = n & 255
        k = 0
        while k < 16:
            d[k + 16] ^= state[k]
            k += 1
        k = 32
        if aad_len:
            d[32] = 0
            d[33] = aad_len
            k = 0
            while k < aad_len:
                d[k + 34] = aad[k]
                k += 1
            k += 34
            while k & 15:
                d[k] = 0
                k += 1
    total = (k + n + 15 & -16) - 16
    if n > _BYTES + 16 - k:
        n = _BYTES + 16 - k
    end = k + n
    while end & 15:
        d[end] = 0
        end += 1
    if uint(d) != uint(1):
        d = ptr8(uint(d) + k)
        a = ptr8(uint(a) + i)
        k = i = 0
        while n >= 8:
            d[0] = a[0]
            d[1] = a[1]
            d[2] = a[2]
            d[3] = a[3]
            d[4] = a[4]
            d[5] = a[5]
            d[6] = a[6]
            d[7] = a[7]
            d = ptr8(uint(d) + 8)
            a = ptr8(uint(a) + 8)
            n -= 8
    while n:
        n -= 1
        d[k + n] = a[i + n]
    return total


@micropython.viper
def turn(d: ptr8, state: ptr8, i: int, nonce: ptr8, n: int):
    """Keep the last ciphertext block in state, then write counter blocks to d[16:] (RFC 3610 2.3).

    i: where CBC wrote the block to, or 0 if it did not. n: how many counter blocks, and in the upper bits the number
    of the first. With flags of 0 in state they are those of GCM, whose numbers begin with 1.
    """
    if i:
        k = 0
        while k < 16:
            state[k] = d[i + k]
            k += 1
    first = n >> 8
    end = (n & 255) + 1 << 4
    d[28] = d[29] = 0
    flags = state[16] & 7
    i = 16
    n = 28
    if flags:
        d[16] = flags
        i = 17
        n = 31 - flags
    else:
        first += 1
    k = i
    while i < n:
        d[i] = nonce[i - k]
        i += 1
    i = 16
    while True:
        d[i + 14] = first >> 8
        d[i + 15] = first & 255
        i += 16
        if i == end:
            break
        first += 1
        if uint(d) == uint(1):
            k = i
            while k < i + 14:
                d[k] = d[k - 16]
                k += 1
        else:
            p = ptr32(d)
            k = i >> 2
            p[k + 0] = p[k - 4]
            p[k + 1] = p[k - 3]
            p[k + 2] = p[k - 2]
            p[k + 3] = p[k - 1]


@micropython.viper
def xor(d: ptr8, a: ptr8, s: ptr8, n: int, k: int, i: int):
    """Write a[i:i+n] XOR s to d[k:], as far as the key stream goes; n has in its upper 16 bits where s begins."""
    j = n >> 16
    n &= 0xFFFF
    if n > _BYTES - j:
        n = _BYTES - j
    if uint(d) != uint(1):
        d = ptr8(uint(d) + k)
        a = ptr8(uint(a) + i)
        s = ptr8(uint(s) + j)
        i = j = k = 0
        while n >= 8:
            d[0] = a[0] ^ s[0]
            d[1] = a[1] ^ s[1]
            d[2] = a[2] ^ s[2]
            d[3] = a[3] ^ s[3]
            d[4] = a[4] ^ s[4]
            d[5] = a[5] ^ s[5]
            d[6] = a[6] ^ s[6]
            d[7] = a[7] ^ s[7]
            d = ptr8(uint(d) + 8)
            a = ptr8(uint(a) + 8)
            s = ptr8(uint(s) + 8)
            n -= 8
    while n:
        n -= 1
        d[k + n] = a[i + n] ^ s[j + n]


@micropython.viper
def verify(d: ptr8, a: ptr8, i: int, state: ptr8, k: int, tag: int) -> bool:
    """Keep the last ciphertext block, d[k:k+16], in state; tell whether it gives the tag at a[i:], with S0 in d[:16].

    The time does not depend on what is in them.
    """
    differ = 0
    n = 0
    while n < 16:
        state[n] = d[k + n]
        if n < tag:
            differ |= d[k + n] ^ d[n] ^ a[i + n]
        n += 1
    return differ == 0


class Work:
    """The scratch of one DTLS layer, shared by all of its sessions."""

    def __init__(self, size):
        """size: bytes of a record's plaintext at most. The scratch does not grow with it: 336 bytes, 21 memoryviews."""
        self.buf = bytearray(_BYTES + 16)
        mv = memoryview(self.buf)
        # By number of blocks, behind the place of S0; the first one is never used
        self.views = [mv[16 : 16 + (i << 4)] for i in range(_BLOCKS + 1)]


class Ccm:
    """AES-128-CCM, one direction of one session: it seals or it opens.

    key: 16 bytes-like; tag_bytes: 8 or 16; nonce_bytes: 12, or 13 for other protocols.
    Raises ImportError where there is no AES.
    """

    def __init__(self, key, tag_bytes, nonce_bytes=12):
        if aes is None:
            raise ImportError("coaps needs cryptolib, which is not on this board")
        self.tag = tag_bytes
        self.state = bytearray(17)
        self.state[16] = tag_bytes - 2 << 2 | 14 - nonce_bytes
        self.ecb = aes(key, 1).encrypt
        self.cbc = aes(key, 2, bytes(16)).encrypt

    @micropython.native
    def seal(self, work, nonce, aad, aad_len, buf, pos, n):
        """Encrypt buf[pos:pos+n] where it lies, and write the tag behind it.

        work: Work; nonce: bytearray of 12 bytes; aad: bytearray, its first aad_len bytes count, 62 at most; buf:
        bytearray that has room for the tag; n: 0 to 65,535. Raises ValueError: too much additional data.
        Allocates: nothing.
        """
        s = work.buf
        views = work.views
        state = self.state
        k = begin(s, buf, n, pos, state, nonce, aad, aad_len)
        if k > _BYTES:
            k = self._more(work, k, buf, pos, n)
        v = views[k >> 4]
        self.cbc(v, v)
        self._stream(work, k, nonce, buf, pos, n, buf, pos)
        xor(buf, state, s, self.tag, pos + n, 0)

    @micropython.native
    def open(self, work, nonce, aad, aad_len, data, pos, n, out):
        """Decrypt data[pos:pos+n], which its tag follows, to out[0:n]; tell whether the tag is right.

        data: bytes-like, not changed; n: bytes of ciphertext without the tag; out: bytearray, which is wiped, out[0:n],
        where the tag is wrong. The others are as for seal(). Returns True or False. Allocates: nothing.
        """
        s = work.buf
        views = work.views
        state = self.state
        self._stream(work, 0, nonce, data, pos, n, out, 0)
        k = begin(s, out, n, 0, state, nonce, aad, aad_len)
        if k > _BYTES:
            k = self._more(work, k, out, 0, n)
        v = views[k >> 4]
        self.cbc(v, v)
        if verify(s, data, pos + n, state, k, self.tag):
            return True
        mix(out, n, 0, 0)
        return False

    def _more(self, work, k, buf, pos, n):
        """Encrypt all parts of a long record, k bytes, but the last one, which is loaded. Returns its bytes."""
        s = work.buf
        v = work.views[_BLOCKS]
        state = self.state
        end = pos + n
        pos += _BYTES + (n + 15 & -16) - k
        while k > _BYTES:
            self.cbc(v, v)
            begin(s, buf, end - pos, pos, state, s, s, -1)
            pos += _BYTES
            k -= _BYTES
        return k

    @micropython.native
    def _stream(self, work, k, nonce, buf, pos, n, out, at):
        """Write buf[pos:pos+n] XOR the key stream to out[at:], and leave S0 in the scratch (RFC 3610 2.3).

        k: where the scratch has the last ciphertext block, or 0 (see turn).
        """
        s = work.buf
        views = work.views
        state = self.state
        m = n + 31 >> 4
        if m > _BLOCKS:
            first = (m - 1) // _BLOCKS * _BLOCKS
            m -= first
            while first:
                turn(s, state, k, nonce, first << 8 | m)
                self.ecb(views[m], s)
                k = first - 1 << 4
                xor(out, buf, s, n - k, at + k, pos + k)
                n = k
                k = 0
                m = _BLOCKS
                first -= m
        turn(s, state, k, nonce, m)
        self.ecb(views[m], s)
        xor(out, buf, s, 0x100000 | n, at, pos)


if not MICROPYTHON and aes is None:
    from .aead_host import Ccm, Work  # noqa: F401
