# AES-128-GCM (RFC 5116 5.1, 5288 3; NIST SP 800-38D), for peers without CCM. The file may be left out.
#
# The key stream is made as that of CCM is, with other counter blocks. GHASH goes by nibbles: a table of a key holds the
# 16 multiples of H and the 16 remainders, in words whose first bit is the field's first: with the state behind them,
# 336 bytes a direction, beside 304 of the one AES object. As bytecode it is some 40 times slower, and its words beyond
# 2**30 are allocated.

from array import array

from ..port import MICROPYTHON, micropython, ptr8, ptr32
from .aead import Ccm, aes, mix, verify, xor


@micropython.viper
def ghash(t: ptr32, a: ptr8, i: int, n: int, ends: int, d: ptr8):
    """Take a[i:i+n] into the state, t[80:84], the last block filled up with zeros (SP 800-38D 6.4).

    ends: 0 where a new state begins; else the lengths to be taken in behind, of the additional data in the lower 8
    bits, of the ciphertext in 16 above them, and one bit more: the result goes to d[320:].
    """
    result = ends
    if not ends:
        t[80] = 0
        t[81] = 0
        t[82] = 0
        t[83] = 0
    while True:
        k = 0
        if n > 0:
            while k < n and k < 16:
                t[80 + (k >> 2)] ^= a[i + k] << (24 - ((k & 3) << 3))
                k += 1
            n -= 16
            i += 16
        elif ends:
            t[81] ^= (ends & 255) << 3
            t[83] ^= (ends & 0xFFFF00) >> 5
            ends = 0
        else:
            break
        z0 = z1 = z2 = z3 = 0
        k = 0
        while k < 32:
            r = z3 & 15
            z3 = z3 >> 4 & 0x0FFFFFFF | (z2 & 15) << 28
            z2 = z2 >> 4 & 0x0FFFFFFF | (z1 & 15) << 28
            z1 = z1 >> 4 & 0x0FFFFFFF | (z0 & 15) << 28
            z0 = z0 >> 4 & 0x0FFFFFFF ^ t[64 + r]
            r = (t[83 - (k >> 3)] >> ((k & 7) << 2) & 15) << 2
            z0 ^= t[r + 0]
            z1 ^= t[r + 1]
            z2 ^= t[r + 2]
            z3 ^= t[r + 3]
            k += 1
        t[80] = z0
        t[81] = z1
        t[82] = z2
        t[83] = z3
    if result:
        k = 0
        while k < 16:
            d[320 + k] = t[80 + (k >> 2)] >> (24 - ((k & 3) << 3)) & 255
            k += 1


@micropython.viper
def multiply(t: ptr32):
    """Make the table of a key from H, which lies at t[32:36]: the multiple by 8, since the first bit is the lowest."""
    rest = 0x3FFFFFFF
    rest = rest << 1 | 1
    k = 8
    shift = 24
    while k:
        # x**128 is 1 + x + x**2 + x**7: 0xE1 where the field begins
        t[64 + k] = 0xE1 << shift
        if k > 1:
            i = k << 2
            z0 = t[i + 0]
            z1 = t[i + 1]
            z2 = t[i + 2]
            z3 = t[i + 3]
            i >>= 1
            t[i + 3] = z3 >> 1 & rest | (z2 & 1) << 31
            t[i + 2] = z2 >> 1 & rest | (z1 & 1) << 31
            t[i + 1] = z1 >> 1 & rest | (z0 & 1) << 31
            z0 = z0 >> 1 & rest
            if z3 & 1:
                z0 ^= t[72]
            t[i + 0] = z0
        k >>= 1
        shift -= 1
    i = 3
    while i < 16:
        k = i & (0 - i)
        if i != k:
            t[64 + i] = t[64 + k] ^ t[64 + i - k]
            z0 = 4
            while z0:
                z0 -= 1
                t[(i << 2) + z0] = t[(k << 2) + z0] ^ t[(i - k << 2) + z0]
        i += 1


class Gcm(Ccm):
    """AES-128-GCM, one direction of one session, as Ccm is. key: 16 bytes-like; the tag has 16 bytes."""

    def __init__(self, key):
        if aes is None:
            raise ImportError("coaps needs cryptolib, which is not on this board")
        self.tag = 16
        self.state = bytearray(17)
        self.ecb = aes(key, 1).encrypt
        self.table = t = array("I", bytes(336))
        h = self.ecb(bytes(16))
        for i in range(4):
            t[32 + i] = int.from_bytes(h[4 * i : 4 * i + 4], "big")
        multiply(t)

    def wipe(self):
        """Forget what the key gives away, as far as it lies in words of ours."""
        for i in range(84):
            self.table[i] = 0

    @micropython.native
    def seal(self, work, nonce, aad, aad_len, buf, pos, n):
        """As Ccm.seal."""
        s = work.buf
        t = self.table
        self._stream(work, 0, nonce, buf, pos, n, buf, pos)
        ghash(t, aad, 0, aad_len, 0, s)
        ghash(t, buf, pos, n, 0x1000000 | n << 8 | aad_len, s)
        xor(buf, s, s, 16, pos + n, 320)

    @micropython.native
    def open(self, work, nonce, aad, aad_len, data, pos, n, out):
        """As Ccm.open."""
        s = work.buf
        t = self.table
        self._stream(work, 0, nonce, data, pos, n, out, 0)
        ghash(t, aad, 0, aad_len, 0, s)
        ghash(t, data, pos, n, 0x1000000 | n << 8 | aad_len, s)
        if verify(s, data, pos + n, self.state, 320, 16):
            return True
        mix(out, n, 0, 0)
        return False


if not MICROPYTHON and aes is None:
    from .aead_host import Gcm  # noqa: F401
