# Key derivation: HMAC (RFC 2104), the pseudorandom function of TLS 1.2 (RFC 5246 5) and HKDF (RFC 5869), all with
# SHA-256; comparing and wiping of what is secret.
#
# A key's two pads are made once for all HMACs of a derivation, and wiped behind it. What is returned is the caller's:
# bytes, which cannot be wiped. hashlib keeps copies of its own until they are collected.

from hashlib import sha256

from ..port import micropython, ptr8


@micropython.viper
def equal(a: ptr8, b: ptr8, n: int) -> bool:
    """Compare the first n bytes of two buffers, in a time that does not depend on what is in them.

    a, b: bytes-like, of n bytes at least, which is not checked. Allocates: nothing.
    """
    differ = 0
    while n > 0:
        n -= 1
        differ |= a[n] ^ b[n]
    return differ == 0


@micropython.viper
def mix(buf: ptr8, n: int, keep: int, flip: int):
    """AND the first n bytes of a bytearray with one value and XOR them with another."""
    while n > 0:
        n -= 1
        buf[n] = buf[n] & keep ^ flip


def wipe(buf):
    """Overwrite a bytearray with zeros. Allocates: nothing."""
    mix(buf, len(buf), 0, 0)


class Hmac:
    """HMAC-SHA-256 with one key (RFC 2104), for as many messages as are wanted. key: bytes-like, of any length."""

    def __init__(self, key):
        if len(key) > 64:
            key = sha256(key).digest()
        self.inner = bytearray(64)
        self.inner[: len(key)] = key
        mix(self.inner, 64, 255, 0x36)
        self.outer = bytearray(self.inner)
        mix(self.outer, 64, 255, 0x36 ^ 0x5C)

    def digest(self, *parts):
        """Return the 32 bytes of a message, given in parts."""
        inner = sha256(self.inner)
        for part in parts:
            inner.update(part)
        outer = sha256(self.outer)
        outer.update(inner.digest())
        return outer.digest()

    def wipe(self):
        """Wipe the pads, which give the key away."""
        wipe(self.inner)
        wipe(self.outer)


def hmac(key, *parts):
    """Return the 32 bytes of HMAC-SHA-256 (RFC 2104) of a message, given in parts."""
    one = Hmac(key)
    digest = one.digest(*parts)
    one.wipe()
    return digest


def prf(secret, label, seed, n):
    """Return n bytes of the pseudorandom function of TLS 1.2 (RFC 5246 5).

    secret, label, seed: bytes-like; n: 1 and more.
    """
    one = Hmac(secret)
    a = one.digest(label, seed)
    out = one.digest(a, label, seed)
    while len(out) < n:
        a = one.digest(a)
        out += one.digest(a, label, seed)
    one.wipe()
    return out[:n]


def hkdf_extract(salt, ikm):
    """Return the pseudorandom key, 32 bytes (RFC 5869 2.2). salt: b"" where there is none; ikm: bytes-like."""
    return hmac(salt, ikm)


def hkdf_expand(prk, info, n):
    """Return n bytes of output keying material (RFC 5869 2.3). prk, info: bytes-like; n: 1 to 8,160."""
    one = Hmac(prk)
    out = block = one.digest(info, b"\1")
    i = 1
    while len(out) < n:
        i += 1
        block = one.digest(block, info, bytes((i,)))
        out += block
    one.wipe()
    return out[:n]
